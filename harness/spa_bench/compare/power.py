"""`spa-bench power`: the difference between two samplers that a number of problems can show, before they are run.

The numbers are those of metrics/power.py, whose docstring says what is left out. The spread over problems comes from
rates that the user guesses, or from a pilot: runs of two samplers on the same problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from spa_bench.errors import StoreError, UsageError
from spa_bench.metrics.missing import with_nan
from spa_bench.metrics.power import (
    MOST_PROBLEMS,
    power_at,
    problems_needed,
    seeds_suffice,
    smallest_difference,
    spread_of_pilot,
    spread_of_rates,
)
from spa_bench.metrics.suite import ALIASES, depends_on_n, is_of_all, is_rate
from spa_bench.runs.find import opened, run_paths
from spa_bench.runs.folder import RunFolder, check_place, group_hash, is_run, open_run
from spa_bench.support.text import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Design:
    """How two samplers will be compared."""

    spread: float  # standard deviation over problems of the paired difference
    seeds: int = 1  # training seeds of each sampler
    seed_spread: float | None = None  # standard deviation over seeds of the mean difference
    confidence: float = 0.95
    power: float = 0.8  # chance that a difference is shown
    source: str = ""  # where the spread comes from, in words
    most: float | None = None  # the largest possible difference: 1 between rates; None: unknown


@dataclass(frozen=True, kw_only=True)
class PowerOptions:
    """A user's facts about two samplers to compare; None where the user gives none."""

    problems: Sequence[int] = ()  # numbers of problems, each with a row
    task: str | None = None  # the task whose number of problems counts
    rate: float | None = None  # share of right answers
    draws: int | None = None  # answers a problem
    correlation: float | None = None  # of answers of the two samplers on one problem, 0 to 1
    agreement: float | None = None  # of two answers of one sampler on one problem
    pilot: Sequence[Path] = ()  # two runs, or two folders with the seeds of each
    metric: str | None = None  # the metric of the pilot
    seeds: int | None = None  # training seeds of each sampler
    seed_spread: float | None = None  # standard deviation over seeds of the mean difference
    confidence: float = 0.95
    power: float = 0.8  # chance that a difference is shown


@dataclass(frozen=True, kw_only=True)
class PowerRow:
    """The differences that one number of problems shows."""

    problems: int
    smallest_difference: float | None  # shown with the design's power; None: no possible difference is
    difference: float | None = None  # the difference that the user asks about
    power: float | None = None  # the chance that it is shown
    problems_needed: int | None = None  # to show it; None: `reason` says why
    reason: str | None = None  # why no number of problems shows it: "too few seeds" or "more than 10 million"


@dataclass(frozen=True)
class Pilot:
    """Scores of two samplers on the same problems."""

    a: NDArray[np.float64]  # (S, P)
    b: NDArray[np.float64]
    problems: int
    seeds: int


def of_rates(rate: float | None, draws: int | None, correlation: float | None, agreement: float | None) -> tuple[float, str]:
    """(spread, its source in words) of guessed rates. Raises UsageError.

    None stands for the rate 0.5, 1 draw, the correlation 0, and an agreement equal to the correlation.
    """
    p, n, c = 0.5 if rate is None else rate, 1 if draws is None else draws, 0.0 if correlation is None else correlation
    try:
        spread = spread_of_rates(p, draws=n, correlation=c, agreement=agreement)
    except ValueError as error:
        raise UsageError(str(error)) from error
    own = "" if agreement is None else f", agreement {agreement:g}"
    return spread, f"rate {p:g}, {n} draw{'s' * (n > 1)}, correlation {c:g}{own}"


def read_pilot(first: Path, second: Path, metric: str) -> Pilot:
    """Scores of `metric` of two runs, or of two folders that each hold the seeds of one sampler.

    Raises UsageError when the two have other problems or numbers of seeds, other numbers of answers where the metric depends on
    them, or no such metric; StoreError for no runs.
    """
    if first.resolve() == second.resolve():
        raise UsageError(f"--pilot has {first} on both sides; a sampler does not differ from itself, give runs of two")
    (problems, a, answers), (others, b, other_answers) = _scores(first, metric), _scores(second, metric)
    if problems != others:
        raise UsageError(f"{first} and {second} are runs on other problems; a pilot needs the same for both samplers")
    if answers != other_answers:
        raise UsageError(
            f"{metric} is of all answers to a problem, {answers} in {first} and {other_answers} in {second}; a pilot needs as "
            "many for both"
        )
    if len(a) != len(b):
        raise UsageError(f"{first} has {len(a)} seeds of its sampler and {second} {len(b)}; a pilot needs as many for both")
    for place, side in ((first, a), (second, b)):
        if np.isnan(side).all():
            raise UsageError(
                f"{place} has no value of {metric} for any problem; give --metric with one that it has, such as diversity_score"
            )
    return Pilot(a, b, a.shape[1], len(a))


def of_pilot(pilot: Pilot) -> tuple[float, float | None]:
    """(spread over problems, spread over seeds or None) of a pilot. Raises UsageError where it has too few problems."""
    try:
        return spread_of_pilot(pilot.a, pilot.b)
    except ValueError as error:
        raise UsageError(str(error)) from error


def design_of(options: PowerOptions) -> tuple[Design, list[int]]:
    """The design that the options of `power` ask for, and the numbers of problems that a pilot suggests.

    Raises UsageError for options that contradict each other or have no effect, and for a spread that cannot be computed.
    """
    guessed = {
        "--rate": options.rate,
        "--draws": options.draws,
        "--correlation": options.correlation,
        "--agreement": options.agreement,
    }
    pilot_runs = _pilot_runs(options.pilot)
    if pilot_runs and (both := [name for name, value in guessed.items() if value is not None]):
        raise UsageError(f"--pilot and {both[0]} both say what the spread is; give one of them")
    if options.metric and not pilot_runs:
        raise UsageError("--metric is that of a pilot; give --pilot RUN_A RUN_B with it")
    if not (pilot_runs or options.problems or options.task):
        raise UsageError("how many problems? give --problems N, --task NAME or --pilot RUN_A RUN_B")
    if pilot_runs:
        metric = options.metric or "pass@1"
        pilot = read_pilot(*pilot_runs, metric)
        spread, over_seeds = of_pilot(pilot)
        source = f"{metric} of a pilot of {pilot.problems} problems and {pilot.seeds} seed{'s' * (pilot.seeds > 1)}"
        counts, seeds = [pilot.problems], pilot.seeds if options.seeds is None else options.seeds
        most = 1.0 if is_rate(ALIASES.get(metric, metric)) else None
    else:
        (spread, source), over_seeds = of_rates(options.rate, options.draws, options.correlation, options.agreement), None
        counts, seeds, most = [], 1 if options.seeds is None else options.seeds, 1.0
    if options.seed_spread is not None and seeds == 1:
        raise UsageError("--seed-spread has no effect with 1 seed; give --seeds 2 or more with it")
    seed_spread = over_seeds if options.seed_spread is None else options.seed_spread
    return Design(
        spread=spread,
        seeds=seeds,
        seed_spread=seed_spread,
        confidence=options.confidence,
        power=options.power,
        source=source,
        most=most,
    ), counts


def _pilot_runs(given: Sequence[Path]) -> tuple[Path, Path] | None:
    """The two sides of a pilot; None for none. Raises UsageError for another number."""
    if given and len(given) != 2:
        raise UsageError(
            f"power compares two samplers on the same problems: give two runs, or two folders with the seeds of each, RUN_A "
            f"RUN_B; got {len(given)}: {', '.join(map(str, given))}"
        )
    return (given[0], given[1]) if given else None


def rows(design: Design, problems: Sequence[int], difference: float | None) -> list[PowerRow]:
    """A row for each number of problems. Raises UsageError for numbers that cannot be."""
    if difference is not None and not math.isfinite(difference):
        raise UsageError(f"--difference is {difference}; it must be finite")
    if difference is not None and design.most is not None and abs(difference) > design.most:
        raise UsageError(f"--difference is {difference:g}; two rates differ by at most {design.most:g}")
    test = {"spread": design.spread, "confidence": design.confidence}
    seeds, between = design.seeds, design.seed_spread
    table_rows = []
    try:
        for count in problems:
            least: float | None = smallest_difference(count, power=design.power, seeds=seeds, seed_spread=between, **test)
            if least is not None and design.most is not None and least > design.most:
                least = None
            if difference is None:
                table_rows.append(PowerRow(problems=count, smallest_difference=least))
                continue
            chance = power_at(difference, count, seeds=seeds, seed_spread=between, **test)
            needed = problems_needed(difference, power=design.power, seeds=seeds, seed_spread=between, **test)
            table_rows.append(
                PowerRow(
                    problems=count,
                    smallest_difference=least,
                    difference=difference,
                    power=chance,
                    problems_needed=needed,
                    reason=_reason(design, difference) if needed is None else None,
                )
            )
    except ValueError as error:
        raise UsageError(str(error).replace("seed_spread", "--seed-spread")) from error
    return table_rows


def _reason(design: Design, difference: float) -> str:
    """The reason why no number of problems up to the most that are tried shows `difference`."""
    test = {"confidence": design.confidence, "power": design.power}
    if seeds_suffice(difference, seeds=design.seeds, seed_spread=design.seed_spread, **test):
        return f"more than {MOST_PROBLEMS // 10**6} million"
    return "too few seeds"


def notes(design: Design, table_rows: Sequence[PowerRow]) -> list[str]:
    """Warnings against reading more, or less, into the rows than they say."""
    said = []
    if design.spread == 0:
        left = "only seeds are" if design.seeds > 1 and design.seed_spread else "any difference is shown, for nothing is"
        said.append(f"the spread over problems is taken to be 0 ({design.source}): {left} left to chance")
    if few := [str(r.problems) for r in table_rows if r.smallest_difference is None]:
        said.append(
            f"impossible: {', '.join(few)} problems show no difference up to {design.most:g}, the most between two rates"
        )
    return said


def table(design: Design, table_rows: Sequence[PowerRow]) -> str:
    """The rows as a table, with their assumptions below it."""
    heads = ["problems", "smallest difference shown"]
    body = [[r.problems, "none" if r.smallest_difference is None else f"{r.smallest_difference:.3f}"] for r in table_rows]
    if table_rows and table_rows[0].difference is not None:
        shown = f"{table_rows[0].difference:g}"
        heads += [f"chance to show {shown}", f"problems to show {shown}"]
        for row, r in zip(body, table_rows, strict=True):
            row += [f"{r.power:.2f}", r.reason if r.problems_needed is None else r.problems_needed]
    seeds = f"{design.seeds} training seeds, spread over seeds {design.seed_spread:.3f}" if design.seeds > 1 else "one seed"
    return "\n".join(
        [
            tabulate(body, heads, disable_numparse=True, colalign=["right"] * len(heads)),
            "",
            f"paired by problem, {100 * design.confidence:.4g}% confidence, shown with chance {design.power:g}; "
            f"spread over problems {design.spread:.3f} ({design.source}), {seeds}",
            "this is for one comparison; give --confidence the value of 1 - 0.05 / m for m samplers against a reference, "
            "and of 1 - 0.1 / (m (m - 1)) for the best of m, which may be any of them",
            *notes(design, table_rows),
        ]
    )


def content(design: Design, table_rows: Sequence[PowerRow]) -> dict[str, object]:
    """The content that --json prints."""
    return {**asdict(design), "rows": [asdict(r) for r in table_rows], "notes": notes(design, table_rows)}


def _scores(path: Path, metric: str) -> tuple[tuple[str, list[str]], NDArray[np.float64], int | None]:
    """((hash of the task's problems, their ids), scores (S, P) in order of the seeds, answers) of the runs of one sampler.

    The last is the number of answers to a problem that the metric depends on, which for pass@K is k; None where it does not.
    """
    runs = _runs(path)
    by_seed = {int(run.spec["seed"]): run for run in runs}
    if len({group_hash(run.spec) for run in runs}) > 1 or len(by_seed) < len(runs):
        raise UsageError(f"{path} holds runs that differ in more than the seed; a side of a pilot is one sampler")
    results = [run.metrics() for _, run in sorted(by_seed.items())]
    name = ALIASES.get(metric, metric)
    if name not in results[0]["values"]:
        raise UsageError(f"{path} has no metric {metric!r}{did_you_mean(metric, results[0]['values'])}")
    scores = with_nan([measured["values"][name] for measured in results])
    key = "k" if name.startswith("pass@K") else "size" if depends_on_n(name) or is_of_all(name) else None
    answers = None if key is None else int(results[0][key])
    return (runs[0].spec["task"]["problems_hash"], results[0]["problems"]), scores, answers


def _runs(path: Path) -> list[RunFolder]:
    check_place(path)
    folders = [open_run(path)] if is_run(path) else opened(run_paths(path))
    if not folders:
        raise StoreError(f"no runs in {path}")
    return folders
