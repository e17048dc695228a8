"""`spa-bench verify --references`: the numbers of a run against the libraries that the field takes them from.

`verify` asks whether a run's numbers are those that this code gives. Here the numbers that the run *keeps* are compared with
those of other people's code: vendi-score, sacrebleu, evalplus, lm-eval and scipy. What is computed problem by problem is
compared on a seeded part of the problems, whose seed follows from the spec; estimates are compared for the whole run. No
program of a model runs: of evalplus only the estimator of pass@k is used, because its grading is no sandbox.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from spa_bench.runs.folder import RunFolder
from spa_bench.runs.measure import samples_of
from spa_bench.runs.references import passes, statistics, texts
from spa_bench.runs.references.part import Comparison, Part
from spa_bench.support.seeds import derive_seed
from spa_bench.tasks.base import Task

__all__ = ["CHECKS", "PROBLEMS", "Comparison", "Part", "compared", "part_of"]

PROBLEMS = 20
CHECKS = (
    texts.vendi,
    texts.self_bleu,
    passes.pass_at_k,
    passes.own_scores,
    statistics.means,
    statistics.bootstrap,
    statistics.wilson,
    statistics.choices,
)
"""What is compared, in the order of the table."""
NOT_COMPARED = (
    "verdicts: evalplus grades without a sandbox; `spa-bench export --to evalplus` makes the file that it grades",
    "divergences between tokens: a run keeps their sums and no distributions; tests/metrics compare them with scipy",
)
"""What no reference is asked for, and why."""


def compared(folder: RunFolder, task: Task, *, problems: int = PROBLEMS) -> list[Comparison]:
    """A row for each of CHECKS. Raises StoreError or DataError where the run is not graded, damaged or unfinished."""
    part = part_of(folder, task, problems=problems)
    return [check(part) for check in CHECKS]


def part_of(folder: RunFolder, task: Task, *, problems: int = PROBLEMS) -> Part:
    """The numbers of a run that are compared; the same part of the same run each time. Raises as `compared`."""
    content = folder.metrics()
    samples = samples_of(folder, task)
    chosen = random.Random(derive_seed("references", folder.hash)).sample(range(len(samples)), min(problems, len(samples)))
    return Part(folder=folder, task=task, content=content, samples=samples, chosen=sorted(chosen))


def table(rows: Sequence[Comparison]) -> list[list[str]]:
    """The cells of the rows that compared something, below their heads."""
    cells = [["what", "reference", "numbers", "largest difference", "tolerance", "ok"]]
    for row in rows:
        if row.largest is not None:
            where = f" ({row.worst})" if row.worst and row.largest > 0 else ""
            difference, tolerance = f"{row.largest:.2g}{where}", f"{row.tolerance:g} {row.unit}"
            cells.append([row.what, row.reference, str(row.numbers), difference, tolerance, "yes" if row.ok else "NO"])
    return cells
