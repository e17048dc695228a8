"""Rates against evalplus' estimator of pass@k, and scores of lm-eval's tasks against lm-eval."""

from __future__ import annotations

import re
from collections.abc import Iterator

from spa_bench.errors import SpaBenchError
from spa_bench.runs.references.part import Comparison, Differences, Part, absent

_PASS = re.compile(r"pass@(\d+)")


def pass_at_k(part: Part) -> Comparison:
    """pass@k of exchangeable draws; of several members only pass@1, because no library has pass@k over members."""
    try:
        from evalplus.eval import estimate_pass_at_k
    except ImportError as error:
        return absent("pass@k", "evalplus", error, "'spa-bench[evalplus]'")
    found = Differences()
    names = [(name, int(match[1])) for name in part.content["values"] if (match := _PASS.fullmatch(name))]
    for place in part.chosen:
        samples = part.samples[place]
        n, correct = len(samples.passed), sum(samples.passed)
        for name, k in names:
            kept = part.kept(name, place)
            if kept is not None and (k == 1 or samples.members == 1):
                found.pair(f"{name} of {samples.problem}", kept, float(estimate_pass_at_k([n], [correct], k)[0]))
    return found.outcome("pass@k (estimator)", "evalplus", tolerance=1e-9, unit="relative", none="no problem has a value")


def own_scores(part: Part) -> Comparison:
    """lm-eval's scores of each member, from the answers and log-probabilities of the whole run."""
    what, kept = "own[...] (scores of lm-eval)", part.content.get("own_scores")
    if kept is None:
        return Comparison(what=what, library="lm-eval", why=f"{part.task.name} is no task of lm-eval")
    folder, members = part.folder, int(part.content["members"])
    try:
        records, choices = folder.record_log.rows(), folder.choice_log.rows()
        again = part.task.own_scores(records, choices, len(part.samples[0].texts), members)
    except SpaBenchError as error:
        return Comparison(what=what, library="lm-eval", why=str(error))
    found, ours = Differences(), dict(_numbers(kept["members"]))
    theirs = dict(_numbers([] if again is None else again["members"]))
    for name in sorted({*ours, *theirs}):
        found.pair(name, ours.get(name), theirs.get(name))
    return found.outcome(what, "lm-eval", tolerance=1e-7, unit="relative", none="lm-eval gives no number for it")


def _numbers(members: object) -> Iterator[tuple[str, float]]:
    """(name, value) of each number in a list of tables of scores."""
    for member, tables in enumerate(members if isinstance(members, list) else []):
        for task, scores in tables.items():
            for metric, value in scores.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield f"{task},{metric} of member {member}", float(value)
