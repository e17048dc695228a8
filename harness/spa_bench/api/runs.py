"""`Run` and `Runs`: what runs have measured, as tables, pictures, comparisons and verdicts. They only read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from spa_bench.api import frames, values
from spa_bench.api.shown import Check, Comparison, Leaderboard, html_of, text_of
from spa_bench.api.sources import SeedOfResult, Source, pooled
from spa_bench.compare.gate import check_rows, compare_rows, rules
from spa_bench.compare.leaderboard import LeaderboardRow, LogFacts, build_rows, row_of
from spa_bench.compare.leaderboard.results import read_all
from spa_bench.errors import SpaBenchError, StoreError, UsageError
from spa_bench.runs.find import given_files, nothing_in, run_paths, without_copies
from spa_bench.runs.folder import RESULTS, RunFolder, check_place, open_run
from spa_bench.support.text import as_seen, did_you_mean
from spa_bench.types import Estimate

if TYPE_CHECKING:
    from pandas import DataFrame

Backend = Literal["altair", "matplotlib"]
Kind = Literal["quality-diversity", "divergence"]
QUALITY, DIVERSITY = "pass@1", "effective_diversity[ast,correct]"


class Measured:
    """What `Run` and `Runs` share. Content is read when it is first asked for; `load` again for what was written since."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)

    # tables --------------------------------------------------------------------------------------------------------

    def to_pandas(self) -> DataFrame:
        """A row for each run and metric, tidy: task, sampler, model, seed, metric, value, low, high, n, at_n, problems, ....

        `low` and `high` are the 95 % interval over problems. `n` is the number of answers to a problem; a metric that depends
        on it is at `at_n`, the largest number that all runs of its task have. `problems` is how many are behind the value, and
        `reason` why there is no value or no interval. `run` is the folder.
        """
        return frames.tidy(self._finished(), self._rows, self._facts)

    def samples(self) -> DataFrame:
        """A row for each sample: task, sampler, model, seed, problem, member, draw, text, verdict, message, ....

        `text` is what was graded, `raw` what the model wrote, `tokens` its new tokens (none of samples from elsewhere); halves
        of surrogate pairs are U+FFFD. A sample that is not graded has no verdict. Raises UsageError for results from a file,
        which hold no samples.
        """
        return frames.samples([self._folder_of(source) for source in self._sources], self._labels)

    def problems(self) -> DataFrame:
        """A row for each run and problem: task, sampler, model, seed, problem, and a column for each metric, at the run's n."""
        return frames.problems(self._finished(), self._rows)

    def leaderboard(self, *, reference: str | None = None) -> Leaderboard:
        """The table of `spa-bench leaderboard`: a row a sampler, seeds pooled; with paired differences of `reference`."""
        values.check_texts(reference=reference)
        if reference is not None:
            row_of(self._rows, reference)
        return Leaderboard(self._rows, reference=reference)

    # comparisons ---------------------------------------------------------------------------------------------------

    def check(
        self,
        baseline: str | Path | Measured,
        *,
        tolerance: float | str | dict[str, float | str] | None = None,
        alpha: float = rules.ALPHA,
        metrics: Sequence[str] | None = None,
    ) -> Check:
        """The verdict of `spa-bench check`: did a metric fall below `baseline`, runs or a result file?

        `tolerance` is 0.02, "5%" or {"pass@1": 0.03}; `alpha` the chance that all of it is red when nothing changed but the
        seeds; `metrics` those that are judged (None: all). Raises UsageError where the two cannot be compared.
        """
        other = baseline if isinstance(baseline, Measured) else load(baseline)
        words = [metrics] if isinstance(metrics, str) else metrics
        named = str(baseline) if isinstance(baseline, str | Path) else "the baseline"
        verdict = check_rows(self._rows, other._rows, named, tolerance=rules.as_words(tolerance), alpha=alpha, metrics=words)
        return Check(verdict)

    # pictures ------------------------------------------------------------------------------------------------------

    def plot(
        self,
        kind: Kind = "quality-diversity",
        *,
        quality: str = QUALITY,
        diversity: str = DIVERSITY,
        divergence: str = "kl",
        backend: Backend = "altair",
    ) -> Any:
        """A chart of the report: an Altair chart, or a matplotlib Figure for papers.

        `quality-diversity`: a point a sampler, `quality` upwards over `diversity`, with 95 % intervals and the front, of runs
        of one task. `divergence`: the K × K matrix of one run, of the kind that `divergence` names. Raises UsageError for runs
        that one chart cannot show, and where the backend is not installed.
        """
        from spa_bench.api import pictures

        if kind == "divergence":
            source = self._only("divergence")
            return pictures.heat(frames.divergence(source, divergence, None), divergence, backend)
        if kind != "quality-diversity":
            raise UsageError(f"plot shows 'quality-diversity' or 'divergence'; got {kind!r}")
        tables = {row.table_key for row in self._rows}
        if len(tables) > 1:
            there = ", ".join(dict.fromkeys(row.task for row in self._rows))
            raise UsageError(
                f"one chart shows one task on the same problems, and these runs are of {len(tables)} tables ({there}): "
                "choose with where(task=...)"
            )
        return pictures.plane(self._rows, quality, diversity, backend)

    def _repr_html_(self) -> str:
        """The main table, for a notebook."""
        return html_of(self._rows_there, self._left())

    def __repr__(self) -> str:
        return "\n\n".join([*text_of(self._rows_there), *self._left()]) or f"{type(self).__name__}()"

    # what the rest stands on ---------------------------------------------------------------------------------------

    @cached_property
    def _rows(self) -> list[LeaderboardRow]:
        """The rows of a leaderboard. Raises StoreError where no run is graded, with the way on."""
        self._finished()
        return self._rows_there

    @cached_property
    def _rows_there(self) -> list[LeaderboardRow]:
        return build_rows(pooled([source for source in self._sources if _is_finished(source)], self._facts))

    @cached_property
    def _facts(self) -> dict[str, LogFacts]:
        """What the logs of finished runs hold: they are read once."""
        folders = [source for source in self._sources if isinstance(source, RunFolder) and _is_finished(source)]
        return {folder.hash: LogFacts.of(folder) for folder in folders}

    @cached_property
    def _labels(self) -> dict[str, str]:
        """The group of runs -> its name in tables."""
        return {row.result["group_hash"]: row.label for row in self._rows_there}

    def _finished(self) -> list[Source]:
        """The sources with metrics; a warning names the others. Raises StoreError where there is none."""
        finished = [source for source in self._sources if _is_finished(source)]
        if not finished:
            raise StoreError(self._left()[0] if self._left() else "there are no runs here")
        for line in self._left():
            warnings.warn(line, stacklevel=3)
        return finished

    def _left(self) -> list[str]:
        """A sentence on the runs that are in no table; none where all are finished."""
        left = [source for source in self._sources if isinstance(source, RunFolder) and not _is_finished(source)]
        if not left:
            return []
        [first, *others] = left
        more = f" (and {len(others)} more runs that are not finished)" if others else ""
        return [first.ungraded() + more]

    def _only(self, what: str) -> RunFolder:
        """The one run of which `what` is asked. Raises UsageError where there are several, or it is of a result file."""
        several = [source for source in self._sources if not isinstance(source, RunFolder) or _has_members(source)]
        if len(several) != 1:
            raise UsageError(f"{what} is of one run with several members, and {len(several)} are here: choose one, as runs[0]")
        return self._folder_of(several[0])

    @staticmethod
    def _folder_of(source: Source) -> RunFolder:
        if isinstance(source, SeedOfResult):
            raise UsageError(
                f"the result file of {source.result['sampler']} on {source.result['task']} holds no samples and no matrices; "
                "load the run folders"
            )
        return source


class Run(Measured):
    """One run: one sampler on one task with one seed."""

    def __init__(self, source: Source):
        super().__init__([source])
        self._source = source

    @property
    def path(self) -> Path | None:
        """The run folder; None for a seed of a result file."""
        return self._source.path if isinstance(self._source, RunFolder) else None

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that can change a number of the run."""
        if isinstance(self._source, RunFolder):
            return self._source.spec
        return {**self._source.result["spec"], "seed": self.seed}

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.spec["task"]["name"])

    @property
    def sampler(self) -> str:
        """The sampler's name."""
        return str(self.spec["sampler"]["name"])

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.spec["model"]["name"])

    @property
    def seed(self) -> int:
        """The seed of training and sampling."""
        return int(self._source.spec["seed"] if isinstance(self._source, RunFolder) else self._source.seed)

    @property
    def n(self) -> int | None:
        """Answers to each problem; None: not the same for all."""
        n = self.spec["n"] if isinstance(self._source, RunFolder) else self._source.result["n"]
        return None if n is None else int(n)

    @cached_property
    def metrics(self) -> dict[str, Estimate]:
        """Name -> value with its 95 % interval over problems, at the run's own n; short names (`vendi`) too."""
        self._finished()
        return frames.estimates_of(self._source, self._facts)

    def divergence(self, kind: str = "kl", *, problem: str | None = None) -> DataFrame:
        """How far apart the members are: K × K, from member (row) to member (column), mean over problems or of `problem`.

        `kind` is kl, js, tv, renyi[...] or another that was measured; nats a token, but for tv and for choices (nats). Raises
        UsageError for a run of one member, or a kind that is not there.
        """
        return frames.divergence(self._folder_of(self._source), kind, problem)

    def compare(self, other: Measured) -> Comparison:
        """`other` minus this run, paired by problem."""
        return compared(self, other)


class Runs(Measured, Sequence[Run]):
    """Several runs: a sequence of `Run`, and the tables of all of them together."""

    def __init__(self, runs: Sequence[Run | RunFolder]):
        super().__init__([one._source if isinstance(one, Run) else one for one in runs])
        self._each = tuple(map(Run, self._sources))

    @overload
    def __getitem__(self, place: int) -> Run: ...

    @overload
    def __getitem__(self, place: slice) -> Runs: ...

    def __getitem__(self, place: int | slice) -> Run | Runs:
        return Runs(self._each[place]) if isinstance(place, slice) else self._each[place]

    def __len__(self) -> int:
        return len(self._each)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._each)

    def __add__(self, other: Run | Runs) -> Runs:
        """The runs of both, each once."""
        mine = {run.path or id(run._source) for run in self}
        more = [other] if isinstance(other, Run) else list(other)
        return Runs([*self, *(run for run in more if (run.path or id(run._source)) not in mine)])

    def where(
        self,
        *,
        task: str | None = None,
        sampler: str | None = None,
        model: str | None = None,
        seed: int | None = None,
    ) -> Runs:
        """The runs with that task, sampler (its name, or its label in tables), model and seed.

        Raises UsageError where there is none, with the closest name.
        """
        values.check_texts(task=task, sampler=sampler, model=model)
        [seed] = values.whole_or_none(seed=seed)
        wanted = {"task": task, "sampler": sampler, "model": model, "seed": seed}
        kept = list(self)
        for key, value in wanted.items():
            if value is None:
                continue
            there = {name for run in kept for name in self._names(run, key)}
            kept = [run for run in kept if value in self._names(run, key)]
            if not kept:
                hint = did_you_mean(value, sorted(map(str, there))) if isinstance(value, str) else ""
                raise UsageError(
                    f"no run has {key} {value!r}{hint or '; there are ' + ', '.join(map(str, sorted(there, key=str)))}"
                )
        return Runs(kept)

    def _names(self, run: Run, key: str) -> set[object]:
        own: set[object] = {getattr(run, key)}
        if key == "sampler":
            own |= {label for group, label in self._labels.items() if group == frames.group_of(run._source)}
        return own

    def divergence(self, run: Run | int | str | None = None, kind: str = "kl", *, problem: str | None = None) -> DataFrame:
        """The K × K matrix of one of the runs, as `Run.divergence`: `run` is the run, its place, or its sampler's name.

        None: the only one that has several members. Raises UsageError for the name of a sampler of several runs, and as
        `Run.divergence`.
        """
        if run is None:
            return frames.divergence(self._only("divergence"), kind, problem)
        if isinstance(run, str):
            named = self.where(sampler=run)
            if len(named) > 1:
                raise UsageError(f"{len(named)} runs are of {run}: say which, as runs.where(sampler={run!r})[0]")
            run = named[0]
        return (run if isinstance(run, Run) else self[values.whole("run", run)]).divergence(kind, problem=problem)

    def compare(self, a: str | Measured, b: str | Measured) -> Comparison:
        """B minus A, paired by problem; each is a sampler's name here, or runs of one sampler."""
        sides = [self.where(sampler=side) if isinstance(side, str) else side for side in (a, b)]
        return compared(*sides)


def compared(a: Measured, b: Measured) -> Comparison:
    """B minus A. Raises UsageError unless each side is one sampler on one task, on problems that both have."""
    for name, side in (("A", a), ("B", b)):
        if not isinstance(side, Measured):
            raise UsageError(
                f"side {name} of a comparison is {as_seen(side)}; give runs, as runs[0], or runs.where(sampler=...)"
            )
        if len(side._rows) != 1:
            there = ", ".join(f"{row.label} on {row.task}" for row in side._rows)
            raise UsageError(f"side {name} of a comparison is one sampler on one task; there are {there}")
    [one], [other] = a._rows, b._rows
    if one.result["runs"] == other.result["runs"]:
        raise UsageError(f"both sides are the same {one.label}; a sampler does not differ from itself")
    return Comparison(compare_rows(one, other))


def load(paths: str | Path | Sequence[str | Path] = "runs", *, unreadable: Literal["raise", "warn"] = "raise") -> Runs:
    """The runs at `paths`: run folders, result files, or folders of either, searched three levels deep.

    Runs that are not finished are there too: they have samples, and are in no table. `unreadable`: what is done about a run or
    a file that cannot be read, such as one of another schema. Raises UsageError or StoreError where nothing is found.
    """
    given = values.paths(paths, "run folders, result files, or folders of either")
    if unreadable not in ("raise", "warn"):
        raise UsageError(f"unreadable is {unreadable!r}; it is 'raise' or 'warn'")
    found: list[RunFolder] = []
    results: list[SeedOfResult] = []
    for path in given:
        check_place(path, RESULTS)
        runs, files = ([] if path.is_file() else run_paths(path)), given_files(path)
        if not runs and not files:
            raise StoreError(nothing_in(path))
        for place in runs:
            found += _readable(lambda place=place: [open_run(place)], unreadable)  # type: ignore[misc]
        for file in files:
            results += _readable(lambda file=file: _seeds(file), unreadable)  # type: ignore[misc]
    return Runs([*map(Run, without_copies(found)), *map(Run, results)])


def _seeds(file: Path) -> list[SeedOfResult]:
    return [SeedOfResult(result, place) for result in read_all(file) for place in range(len(result["runs"]))]


def _readable(read: Callable[[], list[Any]], unreadable: str) -> list[Any]:
    try:
        return read()
    except SpaBenchError as error:
        if unreadable == "raise":
            raise StoreError(f'{error}; load(..., unreadable="warn") leaves it out') from error
        warnings.warn(f"left out: {error}", stacklevel=3)
        return []


def _is_finished(source: Source) -> bool:
    return isinstance(source, SeedOfResult) or (source.path / "metrics.json").exists()


def _has_members(folder: RunFolder) -> bool:
    return int(folder.spec["sampler"].get("members", 1)) > 1
