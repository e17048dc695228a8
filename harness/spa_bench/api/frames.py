"""The tables of runs as pandas has them. pandas is loaded when the first is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spa_bench.api.sources import Facts, SeedOfResult, Source, part_of
from spa_bench.compare.leaderboard import LeaderboardRow, from_runs
from spa_bench.compare.leaderboard.schema import as_estimate, as_stored
from spa_bench.errors import UsageError
from spa_bench.metrics.missing import with_nan
from spa_bench.metrics.suite import ALIASES
from spa_bench.publish.report.runs import mean_matrices
from spa_bench.runs.folder import ADDED, RunFolder, from_elsewhere, group_hash
from spa_bench.support.text import did_you_mean, utf8
from spa_bench.types import Estimate

if TYPE_CHECKING:
    from pandas import DataFrame

RUN = ("task", "sampler", "model", "seed")
TIDY = (*RUN, "metric", "value", "low", "high", "n", "at_n", "problems", "reason", "run")
POOLED = ("task", "sampler", "model", "seeds", *TIDY[4:-1])
SAMPLE = (*RUN, "problem", "member", "draw", "text", "verdict", "message", "raw", "tokens", "run")
_WHOLE = ("seed", "n", "at_n", "problems", "member", "draw", "tokens")  # columns of whole numbers, which may lack some
_NUMBERS = ("value", "low", "high", "a", "b", "difference", "p", "adjusted_p", "before", "now", "tolerance", "visible")


def pandas() -> ModuleType:
    """The package. Raises UsageError where it is not installed."""
    try:
        return import_module("pandas")
    except ImportError as error:
        raise UsageError("tables of runs need pandas: pip install pandas") from error


def frame(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> DataFrame:
    """A DataFrame of `rows`; whole numbers stay whole where some are missing.

    Halves of surrogate pairs, in a text or in the name of a folder that is no UTF-8, are U+FFFD: pandas cannot hold them.
    """
    cells = [[utf8(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    made: DataFrame = pandas().DataFrame(cells, columns=list(columns))
    for name in _WHOLE:
        if name in made:
            made[name] = made[name].astype("Int64")
    for name in _NUMBERS:  # pandas would make a column of objects where all are missing
        if name in made:
            made[name] = made[name].astype("float64")
    return made


def tidy(sources: Sequence[Source], rows: Sequence[LeaderboardRow], facts: Facts) -> DataFrame:
    """A row for each run and metric; `rows` are those of the leaderboard, which say at which n metrics are compared."""
    body: list[list[object]] = []
    for source in sources:
        pooled = row_of_source(source, rows)
        one = LeaderboardRow(result_of(source, facts), pooled.label, pooled.size)
        where = str(source.path) if isinstance(source, RunFolder) else one.result["runs"][0]["run"]
        for cells in _estimates(one):
            body.append([one.task, one.label, one.result["model"], one.seeds[0], *cells, where])
    return frame(TIDY, body)


def of_rows(rows: Sequence[LeaderboardRow]) -> DataFrame:
    """A row for each row of a leaderboard and metric."""
    body: list[list[object]] = []
    for row in rows:
        body += [[row.task, row.label, row.result["model"], tuple(row.seeds), *cells] for cells in _estimates(row)]
    return frame(POOLED, body)


def _estimates(row: LeaderboardRow) -> list[list[object]]:
    """metric, value, low, high, n, at_n, problems, reason: for each metric once, under its whole name, at the table's n."""
    found = []
    for name in row.metrics:
        if name in ALIASES:
            continue
        e, at = row.compared(name)
        found.append([name, e.value, e.low, e.high, row.result["n"], at, e.n, e.reason])
    return found


def row_of_source(source: Source, rows: Sequence[LeaderboardRow]) -> LeaderboardRow:
    """The row of the leaderboard in which a run is."""
    return next(row for row in rows if row.result["group_hash"] == group_of(source))


def group_of(source: Source) -> str:
    """The hash that runs share which differ in the seed alone."""
    return str(source.result["group_hash"]) if isinstance(source, SeedOfResult) else group_hash(source.spec)


def result_of(source: Source, facts: Facts) -> dict[str, Any]:
    """The result of one run alone, with the metrics of the user's own, those that were added later too."""
    if isinstance(source, SeedOfResult):
        return part_of(source.result, [source.place])
    [result] = from_runs([source], facts)
    added = source.read_json(ADDED) or {}
    written = {**source.metrics()["estimates"], **added.get("estimates", {})}
    result["metrics"] |= {name: as_stored(Estimate(**values)) for name, values in written.items()}
    return result


def estimates_of(source: Source, facts: Facts) -> dict[str, Estimate]:
    """Name -> estimate of one run, at its own n."""
    return {name: as_estimate(stored) for name, stored in result_of(source, facts)["metrics"].items()}


def samples(folders: Sequence[RunFolder], labels: Mapping[str, str]) -> DataFrame:
    """A row for each sample of `folders`; `labels` are the names of groups of runs in tables.

    Of samples from elsewhere the tokens are not known.
    """
    body: list[list[object]] = []
    for folder in folders:
        spec, grades = folder.spec, folder.grades()
        label = labels.get(group_hash(spec), spec["sampler"]["name"])
        fixed = [spec["task"]["name"], label, spec["model"]["name"], spec["seed"]]
        for record in folder.record_log.rows():
            grade = grades.get(record.key)
            verdict = None if grade is None else str(grade.verdict)
            message = (grade.message if grade else "") or record.failure
            tokens = None if from_elsewhere(spec) else record.tokens
            body.append([*fixed, *record.key, record.graded, verdict, message, record.raw, tokens, str(folder.path)])
    return frame(SAMPLE, body)


def problems(sources: Sequence[Source], rows: Sequence[LeaderboardRow]) -> DataFrame:
    """A row for each run and problem, a column for each metric that is known problem by problem."""
    parts = []
    for source in sources:
        row = row_of_source(source, rows)
        if isinstance(source, SeedOfResult):
            ids, values, seed = source.result["problems"], source.result["runs"][source.place]["values"], source.seed
        else:
            content, added = source.metrics(), source.read_json(ADDED) or {}
            ids, values = content["problems"], {**content["values"], **added.get("values", {})}
            seed = source.spec["seed"]
        fixed = {"task": row.task, "sampler": utf8(row.label), "model": utf8(row.result["model"]), "seed": seed}
        columns = {name: with_nan(each) for name, each in values.items()}
        parts.append(pandas().DataFrame({**fixed, "problem": ids, **columns}))
    whole: DataFrame = pandas().concat(parts, ignore_index=True)
    return whole.astype({"seed": "Int64"})


def divergence(folder: RunFolder, kind: str, problem: str | None) -> DataFrame:
    """The K × K matrix of one kind: the mean over the problems, or that of one. Raises UsageError where it is not there."""
    rows, choices = folder.divergence_log.rows(), folder.choice_log.rows()
    if problem is not None:
        known = [*dict.fromkeys([*(d.problem for d in rows), *(c.problem for c in choices)])]
        if problem not in known:
            raise UsageError(f"{folder.path} has no divergence of problem {problem!r}{did_you_mean(problem, known)}")
        rows = [d for d in rows if d.problem == problem]
        choices = [c for c in choices if c.problem == problem]
    found = mean_matrices(rows, choices)
    if found is None:
        why = folder.spec.get("unable", {}).get("divergence")
        members = int(folder.spec["sampler"].get("members", 1))
        said = f"not measured: {why}" if why else "it has one member" if members < 2 else "not measured yet"
        raise UsageError(f"no divergence between the members of {folder.path}: {said}")
    if kind not in found.means:
        raise UsageError(f"kind is {kind!r}{did_you_mean(kind, found.means)}; measured are {', '.join(found.means)}")
    matrix = found.means[kind]
    names = [f"member {k}" for k in range(len(matrix))]
    made: DataFrame = pandas().DataFrame(matrix, index=names, columns=names)
    made.index.name, made.columns.name = "from", "to"
    return made
