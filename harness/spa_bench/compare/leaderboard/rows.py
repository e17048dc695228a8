"""Rows of a table: results of one task that may be compared, at equal n."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard.migrate import SCHEMA
from spa_bench.compare.leaderboard.ranges import is_open, runs_code
from spa_bench.compare.leaderboard.results import Result
from spa_bench.compare.leaderboard.schema import KEPT_AT_SIZES, OPEN_KEPT_AT_SIZES, as_estimate, as_stored
from spa_bench.metrics.missing import with_nan, with_none
from spa_bench.metrics.rarefaction import has_size
from spa_bench.metrics.suite import ALIASES, depends_on_n, estimates, is_of_all, known
from spa_bench.mini.embedded import pairs_name
from spa_bench.runs.folder import flat, group_hash
from spa_bench.sandbox.none import NoSandbox
from spa_bench.tasks.shuffled import how_drawn
from spa_bench.types import Estimate

MADE_UP = "; made-up answers (engine mock): these numbers say nothing about any model"
_AT_SIZES = frozenset((*KEPT_AT_SIZES, *OPEN_KEPT_AT_SIZES))
_MOST_SAID, _LONGEST_SAID = 3, 60  # settings in a label, and the characters of one
_UNKEPT = "it depends on n, and is not kept at n = {}, the largest that all rows have"


@dataclass(frozen=True)
class LeaderboardRow:
    """One sampler on one task, over its seeds."""

    result: Result
    label: str  # the sampler's name, with the settings that tell it from others of that name in its table
    size: int | None = None  # the n at which the rows of its table are compared; None: its own

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.result["task"])

    @property
    def version(self) -> str:
        """The task's name and the version of its data."""
        version = self.result["spec"]["task"].get("version")
        return f"{self.task} {version}" if version else self.task

    @property
    def title(self) -> str:
        """The task, the version of its data and the number of problems, because a benchmark's name does not say these."""
        return f"{self.version}, {self.covered}"

    @property
    def covered(self) -> str:
        """The number of problems, which part of the task they are, and whether the answers are made up."""
        task, problems = self.result["spec"]["task"], len(self.result["problems"])
        whole, limit = task["problems_n"], self.result["spec"].get("limit")
        made = MADE_UP if self.made_up else ""
        if problems == whole:
            return f"{whole} problems{made}"
        return f"{problems} of {whole} problems{'' if limit is None else how_drawn(task)}{made}"

    @property
    def model(self) -> str:
        """The model's name, and what was done to its weights before the run."""
        weights = self.result["spec"]["model"].get("weights")
        return f"{self.result['model']} ({weights})" if weights else str(self.result["model"])

    @property
    def made_up(self) -> bool:
        """Whether the answers are of no model: those of the engine mock."""
        return bool(self.result["spec"]["model"].get("made_up"))

    @property
    def pairs(self) -> str:
        """The pairs on which the sampler was trained; "" for none, and for tasks that come with pairs of their own."""
        examples = self.result["spec"]["data"].get("examples")
        return pairs_name(str(examples)) if examples and not self.task.startswith("mini-") else ""

    @property
    def table_key(self) -> tuple[str, str]:
        """The key that rows of one table share: the task and its problems. Rows of a table are paired by place.

        Made-up answers are in no table with those of a model.
        """
        spec, problems = self.result["spec"], self.result["problems"]
        names = hashlib.blake2b(json.dumps(problems).encode(), digest_size=8).hexdigest()
        made = "-made-up" if self.made_up else ""
        return self.task, f"{spec['task']['problems_hash']}-{spec['limit']}-{len(problems)}-{names}{made}"

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Estimates by name, at the row's own n."""
        return {name: as_estimate(e) for name, e in self.result["metrics"].items()}

    @property
    def own(self) -> list[str]:
        """The names of the user's own metrics."""
        return [name for name in self.result["metrics"] if not known(name) and not name.startswith("own[")]

    @property
    def measured_by(self) -> str:
        """Who measured it, in a line; "" where nobody says."""
        return str(self.result["measured_by"])

    @property
    def seeds(self) -> list[int]:
        """The seeds of training and sampling."""
        return [run["seed"] for run in self.result["runs"]]

    @property
    def seconds(self) -> float:
        """Seconds of a run, mean over seeds; stages that came from the cache count as 0."""
        return round(float(np.mean([run["cost"].get("seconds", 0.0) for run in self.result["runs"]])), 1)

    @property
    def open_ended(self) -> bool:
        """Whether answers are neither right nor wrong, so that pass@1 has no value."""
        return any(is_open(run) for run in self.result["runs"])

    @property
    def unsafe(self) -> bool:
        """Whether some of the programs were judged without a sandbox."""
        return any(NoSandbox.name in run["judged"] for run in self.result["runs"])

    def scores(self, name: str, size: int | None = None) -> NDArray[np.float64]:
        """Values (S, P) of a metric that is kept problem by problem, NaN where there is none.

        With `size`, metrics that depend on n are taken at that many samples.
        """
        whole = size is None or size == self.result["size"] or name not in _AT_SIZES
        tables = [run["values"] if whole else run["values_at"][str(size)] for run in self.result["runs"]]
        return with_nan([table[name] for table in tables])

    def estimate(self, name: str, size: int | None = None) -> Estimate:
        """The estimate of a metric; with `size`, a metric that depends on n is taken at that many samples.

        `name` may be the short name of a metric.
        """
        name = ALIASES.get(name, name)
        if size is None or size == self.result["size"] or not (depends_on_n(name) or name in _AT_SIZES):
            stored = self.result["metrics"].get(name)
            return Estimate.missing("this result does not have it") if stored is None else as_estimate(stored)
        values = with_none(self.scores(name, size))
        return estimates({name: values}, size=self.result["size"] if size is None else size)[name]

    def compared(self, name: str, size: int | None = None) -> tuple[Estimate, int | None]:
        """(the estimate of a metric, the n that it is at): at `size` samples, or at the n of the row's table.

        The n is None for a metric that does not depend on n. What is not kept at that n is missing, with the reason.
        """
        name, wanted, own = ALIASES.get(name, name), self.size if size is None else size, self.result["size"]
        if not depends_on_n(name) and not is_of_all(name):
            return self.estimate(name), None
        if wanted is None or wanted == own:
            return self.estimate(name), own
        if name in _AT_SIZES:
            return self.estimate(name, wanted), wanted
        if name in self.result["metrics"]:
            return Estimate.missing(_UNKEPT.format(wanted)), wanted
        return self.estimate(name), wanted

    def sizes(self) -> set[int]:
        """The numbers of samples at which metrics that depend on n are known."""
        n, members = self.result["n"], self.result["members"]
        kept = {self.result["size"], *map(int, self.result["runs"][0]["values_at"])}
        designed = n is not None and members > 1 and n % members == 0  # K members give some numbers of draws alone
        return {size for size in kept if has_size(n, members, size)} if designed else kept

    def to_json(self) -> dict[str, Any]:
        """The row that every `--json` prints. Metrics that depend on n are at the n of the row's table; `at_n` says it."""
        result = self.result
        metrics = {}
        for name in result["metrics"]:
            estimate, at = self.compared(name)
            metrics[name] = {**as_stored(estimate), "at_n": at}
        return {
            "schema_version": SCHEMA,
            "task": self.task, "task_version": result["spec"]["task"].get("version") or "", "problems": len(result["problems"]),
            "sampler": result["sampler"], "model": result["model"], "n": result["n"], "k": result["k"],
            "seeds": self.seeds, "spec_hash": result["runs"][0]["spec_hash"], "group_hash": result["group_hash"],
            "seconds": self.seconds, "measured_by": self.measured_by, "metrics": metrics,
        }  # fmt: skip


def build_rows(results: Sequence[Result]) -> list[LeaderboardRow]:
    """A row for each result, sorted by task and effective diversity, best first.

    Where answers are not programs they are sorted by pass@1, and where they are neither right nor wrong by utility_k or, where
    no quality is judged, by distinct_k.
    """
    rows = [LeaderboardRow(result, result["sampler"]) for result in results]
    ordered = []
    for _, each in sorted(by_table(rows).items()):
        size = common_size(each)
        mine = [replace(row, size=size) for row in _told_apart(each)]
        ordered += sorted(mine, key=lambda r: (-_effective(r, size), -_accuracy(r, size), r.label))
    return ordered


def by_table(rows: Sequence[LeaderboardRow]) -> dict[tuple[str, str], list[LeaderboardRow]]:
    """The key of each table -> its rows; tables and rows in the order of `rows`."""
    tables: dict[tuple[str, str], list[LeaderboardRow]] = {}
    for row in rows:
        tables.setdefault(row.table_key, []).append(row)
    return tables


def common_size(rows: Sequence[LeaderboardRow]) -> int | None:
    """The largest number of samples at which all of `rows` can be compared; None when there is none."""
    shared = set.intersection(*(row.sizes() for row in rows)) if rows else set()
    return max(shared, default=None)


def _effective(row: LeaderboardRow, size: int | None) -> float:
    value = row.estimate("effective_diversity[ast,correct]", size).value
    return -1.0 if value is None else value


def _accuracy(row: LeaderboardRow, size: int | None) -> float:
    """The value that decides the order where answers are not programs."""
    if row.open_ended:
        utility = row.estimate("utility_k[class]", size).value
        return (row.estimate("distinct_k[class]", size).value or 0.0) if utility is None else utility
    return 0.0 if runs_code(row.result["spec"]) else row.estimate("pass@1").value or 0.0


def _told_apart(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """The rows with distinct labels: rows of one name get the settings that differ, or the start of their hash."""
    labelled = []
    for row in rows:
        twins = [other for other in rows if other.label == row.label]
        labelled.append(row if len(twins) == 1 else replace(row, label=f"{row.label}[{_difference(row, twins)}]"))
    labels = [row.label for row in labelled]
    return [
        row if labels.count(row.label) == 1 else replace(row, label=f"{row.label}@{row.result['group_hash'][:6]}")
        for row in labelled
    ]


def _difference(row: LeaderboardRow, twins: Sequence[LeaderboardRow]) -> str:
    """Text such as `temperature=0.5`, from the few keys of the specs that matter to a reader and in which twins differ.

    Of models that have other names it is the name. Where sampler, n, model and grading are the same, it is what else differs:
    prompt, pairs or numerics. What has no short text is the start of a hash.
    """
    names = {other.result["model"] for other in twins}
    model = () if len(names) > 1 else ("model",)
    for parts in (("sampler", "n", *model, "grading"), ("task", "data", "numerics", "limit")):
        own, *others = (flat({k: one.result["spec"].get(k) for k in parts}) for one in (row, *twins))
        keys = [k for k in own if len({json.dumps(other.get(k)) for other in others}) > 1]
        said = [f"model={row.model}"] if len(names) > 1 else []
        said += [f"{key.rpartition('.')[2]}={own[key]}" for key in keys]
        if said:
            short = len(said) <= _MOST_SAID and all(len(text) <= _LONGEST_SAID and text.isprintable() for text in said)
            return ",".join(said) if short else group_hash(row.result["spec"])[:6]
    return group_hash(row.result["spec"])[:6]
