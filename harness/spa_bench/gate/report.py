"""What the gate says as text: for a terminal, and as Markdown for a pull request or the summary of a CI job."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from tabulate import tabulate

from spa_bench.gate.comparing import Comparison
from spa_bench.gate.specs import Change
from spa_bench.gate.verdict import Line, Subject, Verdict
from spa_bench.types import Estimate

_LONGEST = 70  # characters of a value of a spec that are shown
_MOST_NAMED = 12  # metrics of one outcome and reason that are named one by one
_HEAD = ["metric", "baseline", "now", "difference", "tolerance", "would see", "verdict"]

Format = Callable[[Sequence[Sequence[str]], Sequence[str]], str]


def plain(verdict: Verdict) -> str:
    """For a terminal."""
    parts = [headline(verdict)]
    for subject in verdict.subjects:
        parts.append(f"{_title(subject)}\n\n{_body(subject, verdict, _plain_table, _changes)}")
    return "\n\n".join([*parts, *verdict.notes, _legend(verdict)])


def markdown(verdict: Verdict) -> str:
    """For $GITHUB_STEP_SUMMARY: the verdict in the first line; everything that runs say is escaped."""
    colour, rest = headline(verdict).split(": ", 1)
    parts = [f"**{colour}**: {_escaped(rest)}"]
    for subject in verdict.subjects:
        parts.append(f"### {_escaped(_title(subject))}\n\n{_body(subject, verdict, _markdown_table, _folded)}")
    return "\n\n".join([*parts, *map(_escaped, verdict.notes), f"<sub>{_escaped(_legend(verdict))}</sub>"]) + "\n"


def headline(verdict: Verdict) -> str:
    """The verdict in one line, with what is wrong."""
    checked = ", ".join(f"{subject.label} on {subject.task}" for subject in verdict.subjects)
    if verdict.ok:
        return f"GREEN: {checked} against {verdict.against}: nothing is lost, and no drop passes its tolerance and its interval"
    wrong = [f"{subject.label}: {_wrong(subject)}" for subject in verdict.subjects if subject.red]
    return f"RED: against {verdict.against}: {'. '.join(wrong)}"


def _wrong(subject: Subject) -> str:
    said = [f"{line.metric} fell by {_fell(line)}" for line in subject.red if line.outcome == "drop"]
    for outcome, words in (("lost", "lost"), ("differs", "not what the same spec gave")):
        names = [line.metric for line in subject.red if line.outcome == outcome]
        said += [f"{words}: {_named(names)}"] if names else []
    return "; ".join(said)


def _fell(line: Line) -> str:
    assert line.difference is not None
    assert line.difference.value is not None
    return f"{_number(-line.difference.value)} (more than {_number(line.tolerance)})"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _title(subject: Subject) -> str:
    seeds = f"{_seeds(subject.seeds)} against {_seeds(subject.baseline_seeds)} of the baseline"
    return f"{subject.label} on {subject.task}: {seeds}, {_problems(subject.problems)}"


def _problems(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _body(subject: Subject, verdict: Verdict, table: Format, spec: Callable[[Sequence[Change], Format], str]) -> str:
    judged = [line for line in subject.lines if line.difference is not None]
    others = [line for line in subject.lines if line.difference is None]
    parts = [table([_cells(line) for line in judged], _HEAD)] if judged else []
    if others:
        parts.append(table(_grouped(others), ["also", "verdict", "why"]))
    parts += [table([[note] for note in subject.notes if note], ["note"])] if any(subject.notes) else []
    parts.append(spec(subject.changes, table))
    return "\n\n".join(parts)


def _cells(line: Line) -> list[str]:
    tolerance = "-" if line.tolerance is None else _number(line.tolerance)
    return [
        line.metric, _number(line.before), _number(line.now), _difference(line.difference), tolerance, _number(line.visible),
        f"{line.said}: {line.note}" if line.note else line.said,
    ]  # fmt: skip


def _grouped(lines: Sequence[Line]) -> list[list[str]]:
    """Lines of one outcome and reason as one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        groups.setdefault((line.said, line.note), []).append(line.metric)
    return [[_named(names), verdict, note] for (verdict, note), names in groups.items()]


def _difference(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "-"
    value = f"{_number(estimate.value)}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float | None) -> str:
    """Three decimals, more for a small number, so that a KL does not read as 0."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.05 or value == 0 else f"{value:.4f}"


def _legend(verdict: Verdict) -> str:
    if not verdict.tests:
        return "Runs of one spec, seed included, are compared exactly: there is no tolerance and no chance."
    level, alpha = f"{100 * verdict.confidence:.4g} %", f"{100 * verdict.alpha:g} %"
    judged = sum(line.outcome in {"held", "drop"} for subject in verdict.subjects for line in subject.lines)
    tests = f"{judged} metric{' was' if judged == 1 else 's were'}"
    return (
        f"A drop is red when it passes its tolerance and its interval excludes zero. {tests} judged: "
        f"intervals are at {level}, so that the whole check is red by chance at most {alpha} of the time when nothing changed "
        "but the seeds. Would see: the smallest true drop that is red with 80 % chance."
    )


def _changes(found: Sequence[Change], table: Format) -> str:
    if not found:
        return "specs: nothing differs but the seed"
    return table([[c.key, _short(c.before), _short(c.after)] for c in found], ["spec", "before", "after"])


def _folded(found: Sequence[Change], table: Format) -> str:
    if not found:
        return _changes(found, table)
    said = f"What differs in the specs: {len(found)} key{'s' * (len(found) > 1)}"
    return f"<details><summary>{said}</summary>\n\n{_changes(found, table)}\n\n</details>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _plain_table(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate(body, head, tablefmt="simple", disable_numparse=True)


def _markdown_table(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate([[_escaped(cell) for cell in row] for row in body], head, tablefmt="github", disable_numparse=True)


def _escaped(text: str) -> str:
    """Nothing in it is read as Markdown or HTML, whoever wrote the spec."""
    for sign in "\\`*_[]|~$@#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(html.escape(text, quote=False).split())


# compare -------------------------------------------------------------------------------------------------------------


def compared_plain(found: Comparison) -> str:
    """For a terminal."""
    return "\n\n".join([_compared_title(found), *_compared(found, _plain_table, _changes)])


def compared_markdown(found: Comparison) -> str:
    """For a page."""
    return "\n\n".join([f"### {_escaped(_compared_title(found))}", *_compared(found, _markdown_table, _folded)]) + "\n"


def _compared_title(found: Comparison) -> str:
    sides = [
        f"{name} = {row.label} ({_seeds(row.seeds)}, n = {row.result['n']})" for name, row in (("A", found.a), ("B", found.b))
    ]
    return f"{found.a.version}: {sides[0]}, {sides[1]}; {_problems(found.problems)}, paired"


def _compared(found: Comparison, table: Format, spec: Callable[[Sequence[Change], Format], str]) -> list[str]:
    body = []
    for line in found.metrics:
        decision = line.decision
        if decision.difference.value is None:
            said = decision.difference.reason
        elif decision.resolved:
            said = "resolved: B is " + ("higher" if decision.difference.value > 0 else "lower")
        else:
            said = "not resolved"
        p = "-" if decision.adjusted is None else f"{decision.adjusted:.3g}"
        body.append([line.metric, _number(line.a), _number(line.b), _difference(decision.difference), p, said])
    parts = [table(body, ["metric", "A", "B", "B minus A, 95 %", "p (Holm)", "verdict"])]
    parts += [table([[note] for note in found.notes], ["note"])] if found.notes else []
    return [*parts, spec(found.changes, table)]
