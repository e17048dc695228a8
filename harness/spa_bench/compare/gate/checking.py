"""`spa-bench check` compares runs with a baseline; a drop is red when it passes the tolerance and its interval excludes zero.

A drop is judged paired by problem: the mean over problems of (candidate's mean over its seeds - baseline's). Its interval
adds two parts in quadrature, as everywhere (metrics/intervals.py): whole problems resampled, and training seeds by t. Here the
spread over seeds is that of both sides together, s sqrt(1/S_c + 1/S_b) with S_c + S_b - 2 degrees of freedom, so that a
candidate of one seed is compared with what one more seed of the baseline would give. All intervals of a check are at
Bonferroni's level over all metrics and samplers. docs/how-to/gate.md says what this promises, and has the simulation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.gate import exact, rules
from spa_bench.compare.gate.rules import Tolerance
from spa_bench.compare.gate.sides import Shared, baseline_of, shared, shared_means
from spa_bench.compare.gate.specs import changes
from spa_bench.compare.gate.verdict import GateVerdict, Line, Subject, confidence_of
from spa_bench.compare.leaderboard import build_rows, find_results
from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.errors import UsageError
from spa_bench.metrics.intervals import nan_means, paired_difference, resolved
from spa_bench.metrics.power import smallest_difference
from spa_bench.metrics.problem_part import ALIKE
from spa_bench.metrics.student import normal_quantile, pooled_error
from spa_bench.metrics.suite import ALIASES, is_rate
from spa_bench.runs.folder import RESULTS, check_place, from_elsewhere
from spa_bench.types import Estimate

POWER = 0.8
LOST_SHARE = 0.05  # of the problems, in the mean over seeds: a metric is lost that has no value on more of them than this
LOST_CONFIDENCE = 0.99  # where seeds of the baseline lack values too, of the interval that says how many more these runs lack
_TAIL = 20  # number of resamples beyond each end of an interval
_LEAST_RESAMPLES, _MOST_RESAMPLES = 2000, 200_000


def check(
    runs: str | Path | Sequence[str | Path],
    against: str | Path,
    *,
    tolerance: float | str | Mapping[str, float | str] | None = None,
    alpha: float = rules.ALPHA,
    metrics: str | Sequence[str] | None = None,
) -> GateVerdict:
    """The verdict on `runs` (run folders, result files, or folders of them) `against` a result file or folder of results.

    `tolerance` is 0.02, "5%" or {"pass@1": 0.03, "vendi": "5%"}; a metric without one keeps its default (gate/rules.py).
    `alpha` is the chance that the whole check is red when nothing changed but the seeds. `metrics` limits the judgement to
    these. Raises UsageError or StoreError, in a sentence, when the two cannot be compared.
    """
    places = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not places:
        raise UsageError("no runs to check; give run folders, a result file, or a folder of either")
    names = rules.words_of(metrics) if isinstance(metrics, str) else metrics
    return check_places(places, Path(against), tolerance=rules.as_words(tolerance), alpha=alpha, metrics=names)


def check_places(
    runs: Sequence[Path], against: Path, *, tolerance: Sequence[str], alpha: float, metrics: Sequence[str] | None
) -> GateVerdict:
    """`check` with tolerances in the form of the command line. Raises UsageError or StoreError, as `check`."""
    rules.check_alpha(alpha)
    tolerances, looked_at = rules.tolerances_of(tolerance), rules.chosen(metrics)  # what is wrong is said before reading
    for place in (*runs, against):
        check_place(place, RESULTS)
    base = against.resolve()
    for place in (run.resolve() for run in runs):
        if base in (place, place.parent) or place == base.parent:
            how = "is both what is checked and the baseline" if place == base else "and what is checked are in one another"
            raise UsageError(f"{against} {how}; give runs that were made since")
    candidates, baselines = build_rows(find_results(runs)), build_rows(find_results([against]))
    return judge(candidates, baselines, str(against), tolerances=tolerances, alpha=float(alpha), metrics=looked_at)


def check_rows(
    candidates: Sequence[LeaderboardRow],
    baselines: Sequence[LeaderboardRow],
    against: str,
    *,
    tolerance: Sequence[str] = (),
    alpha: float = rules.ALPHA,
    metrics: Sequence[str] | None = None,
) -> GateVerdict:
    """`check_places` of rows that have been read; `against` names the baseline in messages."""
    rules.check_alpha(alpha)
    tolerances, looked_at = rules.tolerances_of(tolerance), rules.chosen(metrics)
    return judge(candidates, baselines, against, tolerances=tolerances, alpha=float(alpha), metrics=looked_at)


def judge(
    candidates: Sequence[LeaderboardRow],
    baselines: Sequence[LeaderboardRow],
    against: str,
    *,
    tolerances: Mapping[str, Tolerance],
    alpha: float,
    metrics: Sequence[str],
) -> GateVerdict:
    """The verdict on rows that have been read; `tolerances` and `metrics` have whole names.

    Raises UsageError where no metric can be judged, and where the baseline does not suit the rows.
    """
    plans = [_plan(row, baseline_of(row, baselines, against), metrics) for row in candidates]
    tests = sum(len(plan.judged(tolerances)) for plan in plans)
    confidence = confidence_of(alpha, tests)
    subjects = [_subject(plan, tolerances, confidence) for plan in plans]
    lines = [line for subject in subjects for line in subject.lines]
    if all(line.outcome in {"not compared", "reported"} for line in lines):
        why = dict.fromkeys(f"{line.metric}: {line.note}" for line in lines if line.outcome == "not compared")
        raise UsageError(
            f"nothing of these runs can be judged against {against}: {'; '.join(why) or 'no metric that both have'}"
        )
    unused = [row.label for row in baselines if all(plan.shared.before is not row for plan in plans)]
    notes = [f"in the baseline and not checked: {', '.join(unused)}"] if unused else []
    return GateVerdict(subjects=subjects, against=against, alpha=alpha, tests=tests, notes=notes)


@dataclass(frozen=True)
class _Scores:
    """One metric on both sides, on the problems that both have."""

    now: NDArray[np.float64]  # (S_c, P); the candidate's seeds that have no twin in the baseline
    before: NDArray[np.float64]  # (S_b, P)


@dataclass(frozen=True)
class _Plan:
    """What is compared of one candidate, before anything is judged, because the number of tests decides the level."""

    shared: Shared
    new: list[int]  # rows of the candidate that have no twin of the same spec in the baseline
    scores: dict[str, _Scores]
    said: list[Line]  # exact comparisons, and metrics that are lost or cannot be compared

    def judged(self, tolerances: Mapping[str, Tolerance]) -> list[str]:
        return [name for name in self.scores if name in tolerances]


def _plan(after: LeaderboardRow, before: LeaderboardRow, looked_at: Sequence[str]) -> _Plan:
    both = shared(before, after)
    same = exact.twins(before.result, after.result)
    known = {run["seed"] for _, run in same}
    new = [i for i, run in enumerate(after.result["runs"]) if run["seed"] not in known]
    said = [line for pair in same for line in _exact(*pair, both.problems)]
    by_name = set(looked_at) != set(rules.RULES)  # the user chose metrics
    scores: dict[str, _Scores] = {}
    if new:
        _check_seeds(before, after)
        for name in looked_at:
            outcome = _scores(both, name, new)
            if isinstance(outcome, _Scores):
                scores[name] = outcome
            elif outcome is not None:
                said.append(outcome)
            elif by_name:
                said.append(Line(metric=name, outcome="not compared", note="neither side has it"))
    if not by_name:
        said += _lost(before, after)
    return _Plan(both, new, scores, said)


def _exact(before: exact.Run, after: exact.Run, problems: list[str]) -> list[Line]:
    seed = after["seed"]
    differing = exact.differences(before, after, problems)
    if not differing:
        return [
            Line(
                metric=f"everything, seed {seed}",
                outcome="same",
                note="same spec: texts, verdicts and values are the baseline's",
            )
        ]
    return [
        Line(metric=f"{what}, seed {seed}", outcome="differs", note=f"same spec, so it must be the same: {how}")
        for what, how in differing
    ]


def _check_seeds(before: LeaderboardRow, after: LeaderboardRow) -> None:
    if len(before.seeds) < rules.FEWEST_SEEDS:
        count = f"{len(before.seeds)} training seed{'s' * (len(before.seeds) > 1)}"
        if from_elsewhere(before.result["spec"]):
            raise UsageError(
                f"the baseline of {after.label} is {len(before.seeds)} of the {rules.FEWEST_SEEDS} batches of answers that it "
                "takes to know how far one lies from the next: score them with --seed 0 to 4"
            )
        raise UsageError(
            f"the baseline of {after.label} has {count}, and not the specs and seeds of these runs; it takes "
            f"{rules.FEWEST_SEEDS} to know how far one seed lies from the next: run it with --seeds 0,1,2,3,4"
        )


def _scores(both: Shared, metric: str, new: Sequence[int]) -> _Scores | Line | None:
    """The scores of `metric` on both sides; a line where they cannot be compared; None where neither side has the metric."""
    before, now = both.scores(both.before, metric), both.scores(both.after, metric)
    ks = [row.result["k"] for row in (both.before, both.after)]
    if before is None and now is None:
        if both.lacks_n(metric):
            said = "no number of answers is known on both sides: n = {} and n = {}"
            return Line(metric=metric, outcome="not compared", note=said.format(*both.sizes))
        return None
    if before is None:
        return Line(metric=metric, outcome="not compared", note="the baseline does not have it")
    if metric == "pass@K" and ks[0] != ks[1]:
        note = f"k is {ks[0]} in the baseline and {ks[1]} now"
        return Line(metric=metric, outcome="lost" if ks[1] < ks[0] else "not compared", note=note)
    if both.at_other_n(metric):
        said = "it is of all answers to a problem, and n is {} in the baseline and {} now"
        return Line(metric=metric, outcome="not compared", note=said.format(*both.sizes))
    if now is None:
        reason = both.after.estimate(metric).reason
        return Line(metric=metric, outcome="lost", note=f"the baseline has it, these runs have no value ({reason})")
    now = now[list(new)]
    there = ~np.isnan(before).any(axis=0)
    missing = np.isnan(now) & there
    if missing.sum() > LOST_SHARE * len(now) * there.sum() and _more_missing(now, before):
        gone = missing.any(axis=0)
        first = both.problems[int(np.flatnonzero(gone)[0])]
        several = f", {missing.sum()} of {len(now) * there.sum()} values of all seeds" if len(now) > 1 else ""
        return Line(
            metric=metric,
            outcome="lost",
            note=f"no value on {gone.sum()} of {there.sum()} problems that have one in the baseline{several}: {first}, ...",
        )
    return _Scores(now, before)


def _more_missing(now: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """Whether these seeds lack more values than the baseline's, which themselves may lack some by chance."""
    without = [np.isnan(side).astype(float) for side in (now, before)]
    if not without[1].any():
        return True
    more = paired_difference(*without, rate=True, seeds="alike", confidence=LOST_CONFIDENCE)
    return more.low is not None and more.low > 0


def _lost(before: LeaderboardRow, after: LeaderboardRow) -> list[Line]:
    """Lines on metrics that only one side has, among those of which a result keeps only the estimate."""
    skip = {*rules.RULES, *ALIASES}
    have = [{n for n, e in row.metrics.items() if e.value is not None and n not in skip} for row in (before, after)]
    lines = [
        Line(
            metric=name,
            outcome="lost",
            before=before.metrics[name].value,
            note=f"the baseline has it, these runs have not ({after.estimate(name).reason})",
        )
        for name in before.metrics
        if name in have[0] - have[1]
    ]
    return lines + [
        Line(metric=name, outcome="not compared", now=after.metrics[name].value, note="the baseline does not have it")
        for name in after.metrics
        if name in have[1] - have[0]
    ]


def _subject(plan: _Plan, tolerances: Mapping[str, Tolerance], confidence: float) -> Subject:
    after, before = plan.shared.after, plan.shared.before
    lines = [_line(name, scores, tolerances.get(name), confidence) for name, scores in plan.scores.items()]
    notes = [same] if plan.new and (same := _seeds_note(plan)) else []
    if partial := plan.shared.partial("the baseline has", "these runs"):
        notes.append(partial)
    if len({row.result["size"] for row in (after, before)}) > 1 and plan.shared.size:
        notes.append(f"metrics that depend on n are compared at n = {plan.shared.size}")
    result = after.result
    return Subject(
        label=after.label,
        task=after.task,
        model=result["model"],
        seeds=after.seeds,
        baseline_seeds=before.seeds,
        problems=len(plan.shared.problems),
        spec_hash=result["runs"][0]["spec_hash"],
        group_hash=result["group_hash"],
        baseline_group=before.result["group_hash"],
        n=result["n"],
        k=result["k"],
        lines=[*lines, *plan.said],
        changes=changes(before.result["spec"], result["spec"]),
        notes=notes,
    )


def _seeds_note(plan: _Plan) -> str:
    """The runs whose numbers are the baseline's although their specs differ: the change did not affect them."""
    after, before = plan.shared.after.result["runs"], {run["seed"]: run for run in plan.shared.before.result["runs"]}
    fresh = [after[i] for i in plan.new]
    equal = [str(run["seed"]) for run in fresh if run["seed"] in before and run["values"] == before[run["seed"]]["values"]]
    if equal:
        return f"seed {', '.join(equal)}: every value is that of the baseline's own seed, under another spec"
    return ""


def _line(metric: str, scores: _Scores, tolerance: Tolerance | None, confidence: float) -> Line:
    tail = (1 - confidence) / 2
    difference = paired_difference(
        scores.now,
        scores.before,
        rate=is_rate(metric),
        seeds="alike",
        confidence=confidence,
        resamples=min(max(_LEAST_RESAMPLES, math.ceil(_TAIL / tail)), _MOST_RESAMPLES),
    )
    before, now = shared_means(scores.before, scores.now)
    line = Line(metric=metric, outcome="reported", before=before, now=now, difference=difference)
    if before is None:
        return replace(line, outcome="not compared", note=difference.reason)
    if tolerance is None:
        return replace(line, note=rules.RULES[metric].why)
    allowed = tolerance.of(before)
    line = replace(line, tolerance=allowed, visible=_visible(scores, difference, allowed, confidence))
    return replace(line, **_judged(difference, allowed))  # type: ignore[arg-type]


def _judged(difference: Estimate, allowed: float) -> dict[str, str]:
    """The outcome and its reason, from a difference and the largest drop that is allowed."""
    if difference.value is None or difference.high is None:
        return {"outcome": "not compared", "note": difference.reason}
    beyond, excludes = difference.value < -allowed - ALIKE * max(1.0, allowed), difference.high < 0
    if beyond and excludes:
        return {"outcome": "drop", "note": ""}
    if beyond:
        return {"outcome": "held", "note": "more than the tolerance, not resolved"}
    if excludes:
        return {"outcome": "held", "note": "resolved, within the tolerance"}
    return {"outcome": "held", "note": "resolved, higher" if resolved(difference) else ""}


def _visible(scores: _Scores, found: Estimate, allowed: float, confidence: float) -> float | None:
    """The smallest true drop that is red with chance `POWER`: it must pass the interval and the tolerance.

    Where all problems have one value there is no spread to tell it from, and the interval that was `found` says the least.
    """
    difference = nan_means(scores.now, axis=0) - nan_means(scores.before, axis=0)
    difference = difference[~np.isnan(difference)]
    if len(difference) < 2 or found.value is None or found.high is None:
        return None
    of_seeds = [nan_means(side, axis=1) for side in (scores.now, scores.before)]
    error, df = pooled_error(*(means[~np.isnan(means)] for means in of_seeds))
    spread, n = float(difference.std(ddof=1)), len(difference)
    # `smallest_difference` expects S seeds a side: an error with df degrees of freedom is that of df + 1 seeds
    as_seeds = {"seeds": df + 1, "seed_spread": error * math.sqrt(df + 1)} if df else {}
    passes = smallest_difference(n, spread=spread, confidence=confidence, power=POWER, **as_seeds)  # type: ignore[arg-type]
    return max(passes, found.high - found.value, allowed + normal_quantile(POWER) * math.hypot(spread / math.sqrt(n), error))
