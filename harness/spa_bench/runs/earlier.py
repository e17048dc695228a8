"""Earlier parts of the runs of a command, for models whose calls cost money: found by what is known before a model is asked.

A run's folder is named by a hash that also covers what a server says of itself. To ask it costs money, so a run that is done is
looked for by the rest, and what its earlier parts cost is counted before the first call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path

from spa_bench.cards.task import TaskCard
from spa_bench.errors import StoreError
from spa_bench.models.base import Spending
from spa_bench.runs.folder import RunFolder, is_run, open_run, plain, problem_count
from spa_bench.runs.job import Job, load_task, noise_problems, prompted, run_name, said_spec
from spa_bench.runs.noise_floor import rows_for
from spa_bench.runs.timing import spent_on
from spa_bench.support.files import file_safe
from spa_bench.types import Json

_ASKED = ("model", "data", "numerics", "engines", "unable", "noise_floor", "task")
"""Keys of a spec of which a model has to be asked, or that are compared apart."""


def earlier_runs(jobs: Sequence[Job], card: TaskCard, known: Mapping[str, object], out: Path) -> list[RunFolder | None]:
    """For each of `jobs` its folder in `out`, where there is one: of several the newest.

    All jobs have the task of `card`. `known` is the part of the model's description that its engine gives without a call.
    Damaged folders are left out: whoever opens them to resume says what is wrong.
    """
    tasks = [load_task(one) for one in prompted(card)]
    found: list[RunFolder | None] = []
    for job in jobs:
        wanted = [plain(said_spec(job, task)) for task in tasks]
        folders = _folders(out, file_safe(run_name(job, tasks[0])))
        found.append(next((f for f in folders if any(_is_of(f.spec, one, job, known) for one in wanted)), None))
    return found


def _folders(out: Path, name: str) -> Iterator[RunFolder]:
    """Run folders whose names begin with `name`, or `out` itself; the newest first."""
    paths = [out] if is_run(out) else sorted(out.glob(f"{escape(name)}-*/"), key=lambda path: -path.stat().st_mtime)
    for path in paths:
        try:
            yield open_run(path)
        except StoreError:
            continue


def _is_of(spec: Json, wanted: Json, job: Job, known: Mapping[str, object]) -> bool:
    model: Json = spec["model"]
    if any(model.get(key) != value for key, value in known.items()) or spec["task"] != wanted["task"]:
        return False
    if spec.get("noise_floor") != noise_problems(job, problem_count(spec), lambda: False):
        return False
    return _rest(spec) == _rest(wanted)


def _rest(spec: Mapping[str, object]) -> str:
    return json.dumps({key: value for key, value in spec.items() if key not in _ASKED}, sort_keys=True)


def is_drawn(folder: RunFolder) -> bool:
    """Whether everything of a run is there that a model gives: samples, divergence or the word that there is none, noise."""
    problems, n = problem_count(folder.spec), int(folder.spec["n"])
    return (
        len(folder.record_log.keys()) >= problems * n
        and len(folder.divergence_log.rows()) >= problems
        and len(folder.noise_log.keys()) >= rows_for(folder.spec["noise_floor"], problems, n)
    )


def spent_before(folders: Iterable[RunFolder | None]) -> Spending:
    """What these runs have taken so far."""
    total = Spending()
    for folder in folders:
        total = total if folder is None else total.plus(spent_on(folder))
    return total
