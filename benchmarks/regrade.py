"""Grade the records of finished runs again with the code of today, and list each verdict that changes.

    SPA_BENCH_DATA=DATA python benchmarks/regrade.py RUN [RUN ...] [--sanitiser NAME ...]

RUN is a run folder of a code task, or a folder of run folders; nothing in it is changed. Each answer is graded as its record
has it, which shows what grading changed since, and once more for each sanitiser from what the model wrote.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import real_data

from spa_bench.cards.task import TaskCard
from spa_bench.grading import Grader, Grading
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import task_card_of
from spa_bench.sandbox import choose
from spa_bench.tasks.base import Task
from spa_bench.types import Completion, Grade, Record


def folders(paths: Sequence[Path]) -> Iterator[RunFolder]:
    """The finished runs of code tasks among the paths and in them."""
    for path in paths:
        for place in [path] if (path / "spec.json").exists() else sorted(path.glob("*/")):
            if (place / "metrics.json").exists():
                folder = open_run(place)
                if folder.spec["task"]["kind"] == "code":
                    yield folder


def recorded(task: Task, record: Record) -> Record:
    """The record that the task's sanitiser makes of the same answer."""
    completion = Completion(
        key=record.key,
        text=record.raw,
        tokens=record.tokens,
        finish=record.finish,
        seed=record.seed,
        failure=record.failure,
        spent=record.spent,
        choice=record.choice,
    )
    return task.record(completion)


def grades(task: Task, records: Sequence[Record], cache: Path, grading: str) -> dict[object, Grade]:
    """Verdicts by key."""
    grader = Grader(sandbox=choose(), cache=cache, grading=Grading(grading), limits=task.limits)
    return {grade.key: grade for grade in task.score(records, grader, ())}


def main() -> None:
    """Print the changes of each run, and their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--sanitiser", action="append", default=[], help="also from what the model wrote")
    arguments = parser.parse_args()
    real_data.data_folder()
    tasks: dict[TaskCard, Task] = {}
    total, changes = 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="regrade-") as cache:
        for folder in folders(arguments.runs):
            card, records = task_card_of(folder), folder.record_log.rows()
            before = {row.key: row for row in folder.grade_log.rows()}
            total += len(records)
            for name in ["", *arguments.sanitiser]:
                own = replace(card, sanitiser=name) if name else card
                if own not in tasks:
                    tasks[own] = load_task(own)
                answers = [recorded(tasks[own], record) for record in records] if name else records
                found = grades(tasks[own], answers, Path(cache), folder.spec["grading"])
                how = f"sanitiser {name}" if name else "as recorded"
                for key, old in before.items():
                    new = found[key]
                    if old.verdict != new.verdict:
                        changes[f"{how}: {old.verdict} to {new.verdict}"] += 1
                        print(f"{folder.path.name}, {how}: {key.problem}, member {key.member}, draw {key.draw}: ", end="")
                        print(f"{old.verdict} ({old.message}) to {new.verdict} ({new.message})", flush=True)
    print(f"{total} answers; verdicts that changed: {dict(changes) or 'none'}")


if __name__ == "__main__":
    main()
