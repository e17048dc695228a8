"""The report of a synthesis: what each filter got and kept, why drafts fell, and what was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from spa_bench.spa.data.sets import hash_examples
from spa_bench.spa.synthesize.pipeline import ENDS, Made

_MEANT = {
    "readable": "a pair can be read from it",
    "text": "neither part is empty",
    "fits": "it is not too long",
    "code": "its program does what is wanted",
    "exact": "it is no target and no earlier pair",
    "near": "it is not alike to one",
    "overlap": "it overlaps no problem of the task",
}
_REASONS = 5  # for each filter, in a table
_SHOWN = 300  # characters of a fact that the method gave


def of(made: Made, told: Mapping[str, object]) -> dict[str, object]:
    """The report of what was made; `told` is what is known before: method, targets, model, limits."""
    return {
        **told,
        "pairs": len(made.pairs),
        "pairs_hash": hash_examples(made.pairs),
        "drafts": made.funnel.drafts,
        "surplus": made.funnel.surplus,
        "rounds": made.rounds,
        "tokens": made.tokens,
        "ended": ENDS[made.ended],
        "filters": made.funnel.rows(),
        "fell": made.funnel.said(),
        "prepared": made.prepared,
    }


def line(report: Mapping[str, Any]) -> str:
    """A report in one line."""
    fell = f"; fell: {report['fell']}" if report["fell"] else ""
    return (
        f"synthesis ({report['method']}): {report['pairs']} of {report['wanted']} pairs from {report['drafts']} drafts in "
        f"{report['rounds']} rounds{fell}"
    )


def markdown(report: Mapping[str, Any]) -> str:
    """A report as a page of Markdown."""
    rows = [
        [
            row["filter"],
            _MEANT[row["filter"]],
            row["got"],
            row["kept"],
            "" if row["share"] is None else f"{row['share']:.1%}",
            "; ".join(f"{n} {why}" for why, n in list(row["fell"].items())[:_REASONS]),
        ]
        for row in report["filters"]
    ]
    head = ["filter", "keeps a draft where", "got", "kept", "share", "why others fell"]
    facts = [
        f"- targets: {report['targets']}, {report['targets_n']} of them (hash {report['targets_hash']})",
        f"- model: {report['model']}; seed {report['seed']}",
        f"- pairs: {report['pairs']} of {report['wanted']} that are wanted (hash {report['pairs_hash']})",
        f"- drafts: {report['drafts']} in {report['rounds']} rounds, {report['tokens']} tokens drawn; {report['ended']}",
        f"- code: {report['code']}",
        f"- limit: {report['limit']}",
        f"- compared with: {report['compared_with']}",
    ]
    facts += [f"- {name}: {str(value)[:_SHOWN]}" for name, value in report["prepared"].items()]
    if report["surplus"]:
        facts.append(f"- surplus: {report['surplus']} drafts of the last round were valid and not needed")
    table = tabulate(rows, headers=head, tablefmt="github", disable_numparse=True)
    return f"# Synthesis by {report['method']}\n\n" + "\n".join(facts) + f"\n\n{table}\n"
