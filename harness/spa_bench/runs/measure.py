"""metrics.json from the content of a run folder: values problem by problem, estimates, and counts of failures."""

from __future__ import annotations

import ast
import math
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np

from spa_bench.cards.guard import called
from spa_bench.cards.source import ELSEWHERE, check_packages, hashes
from spa_bench.errors import DataError, UsageError
from spa_bench.metrics.distribution_table import DIVERGENCES
from spa_bench.metrics.novelty import PATIENCE
from spa_bench.metrics.suite import Samples, estimates, measure_samples
from spa_bench.runs import embeddings, noise_floor
from spa_bench.runs.folder import RunFolder, from_elsewhere
from spa_bench.runs.own_metrics import load_metrics, values_of
from spa_bench.runs.partial import covered, partial_fault
from spa_bench.tasks.base import Task, has_text
from spa_bench.types import Behaviour, Choices, Divergence, Estimate, Grade, Json, Key, Problem, Record

_Row = TypeVar("_Row", Record, Behaviour)


def measure(folder: RunFolder, task: Task, *, own: bool = True) -> Json:
    """Content of metrics.json. The same folder and code give the same bytes. Raises DataError when samples are missing.

    Without `own` the user's own metrics are left out: nothing that the spec names is imported.
    """
    if own:
        check_packages(folder.spec, str(folder.path), "metric")
    metrics = load_metrics(folder.spec.get("metrics", {}) if own else ())
    spec, rows, grades = folder.spec, folder.record_log.rows(), folder.grades()
    samples = _samples_of(folder, task, rows, grades)
    first = samples[0]
    counted = counts(rows, grades, task, str(spec["task"]["kind"]))
    own_scores = _own_scores(folder, task, first, rows)
    del rows, grades  # of a million samples they take more memory than what is measured
    measured = measure_samples(samples, workers=len(os.sched_getaffinity(0)))
    values = measured.values | {metric.name: values_of(metric, samples) for metric in metrics}
    estimated = estimates({name: [row] for name, row in values.items()}, metrics, size=measured.size)
    if why := spec.get("unable", {}).get("divergence"):
        missing = [name for name in DIVERGENCES if name in estimated and estimated[name].value is None]
        estimated |= {name: Estimate.missing(f"not measured: {why}") for name in missing}
    if noise_floor.too_few(spec["noise_floor"]):
        estimated[noise_floor.METRIC] = Estimate.missing(noise_floor.TOO_FEW)
    return {
        "spec_hash": folder.hash,
        "n": spec["n"],
        "k": first.k,
        "members": first.members,
        "design": design(spec),
        "size": measured.size,
        "problems": [s.problem for s in samples],
        **counted,
        "values": values,
        "values_at": {str(size): values for size, values in measured.at.items()},
        "estimates": {name: asdict(e) for name, e in estimated.items()},
        **own_scores,
    }


def _own_scores(folder: RunFolder, task: Task, first: Samples, rows: Sequence[Record]) -> Json:
    """The scores that the library behind the task gives each member; empty where there is no library."""
    if from_elsewhere(folder.spec):
        return {}
    choices, kind = folder.choice_log.rows(), str(folder.spec["task"]["kind"])
    own_scores = called(kind, "own_scores", lambda: task.own_scores(rows, choices, len(first.texts), first.members))
    return {} if own_scores is None else {"own_scores": own_scores}


def own_means(found: Json) -> dict[str, float]:
    """`own[NAME,METRIC]` -> mean over members, for each metric of own_scores that is a number for every member."""
    each: dict[str, list[float | str | None]] = {}
    for member in found["members"]:
        for name, scores in member.items():
            for metric, value in scores.items():
                each.setdefault(f"own[{name},{metric}]", []).append(value)
    numbers = {name: [v for v in values if isinstance(v, int | float) and math.isfinite(v)] for name, values in each.items()}
    whole = {name: values for name, values in numbers.items() if len(values) == len(each[name]) == len(found["members"])}
    return {name: math.fsum(values) / len(values) for name, values in whole.items()}  # exact for one member


def own_estimates(content: Json) -> dict[str, Estimate]:
    """`own[NAME,METRIC]` -> estimate, from the content of metrics.json: the library's own scores, without an interval of ours.

    `n` is how many problems the library says that it scored for NAME, which may be one task of several.
    """
    if "own_scores" not in content:
        return {}
    means, every = own_means(content["own_scores"]), len(content["problems"])
    said = f"by {content['own_scores']['harness']}'s own scoring: no interval of ours"
    of = {name: means.get(f"{name.partition(',')[0]},sample_len]", every) for name in means}
    return {name: Estimate(value=value, n=int(of[name]), reason=said) for name, value in means.items()}


def is_own_score(name: str) -> bool:
    """Whether `own[NAME,METRIC]` is a score: not a count of problems, nor a standard error, which is of a single member."""
    return name.startswith("own[") and "_stderr" not in name and not name.endswith(",sample_len]")


def measure_added(folder: RunFolder, task: Task, names: Mapping[str, str]) -> Json:
    """Content of added.json: metrics of the user's own (name -> hash of the source) that are not in the run's spec.

    Raises UsageError for a metric whose source has another hash on this machine.
    """
    if other := [name for name, digest in hashes(names).items() if digest != names[name]]:
        raise UsageError(f"metric {other[0]!r} has another source here; run `spa-bench grade --metric` to compute it with that")
    own = load_metrics([*folder.spec.get("metrics", {}), *names])[-len(names) :]
    samples = samples_of(folder, task)
    values = {metric.name: values_of(metric, samples) for metric in own}
    estimated = estimates({name: [row] for name, row in values.items()}, own)
    return {"metrics": dict(names), "values": values, "estimates": {name: asdict(e) for name, e in estimated.items()}}


def samples_of(folder: RunFolder, task: Task) -> list[Samples]:
    """The samples of a run as metrics read them, problem by problem. Raises DataError when samples are missing."""
    return _samples_of(folder, task, folder.record_log.rows(), folder.grades())


def _samples_of(folder: RunFolder, task: Task, records: Sequence[Record], grades: Mapping[Key, Grade]) -> list[Samples]:
    samples = collect_samples(
        task,
        records,
        grades,
        spec=folder.spec,
        divergence=folder.divergence_log.rows(),
        behaviours=folder.behaviour_log.rows(),
        noise=folder.noise_log.rows(),
        choices=folder.choice_log.rows(),
    )
    if vectors := embeddings.read(folder, records):
        samples = [replace(s, embeddings=np.stack([vectors[text] for text in s.texts])) for s in samples]
    return samples


def design(spec: Json) -> str:
    """How a run's draws were made, in words: the meaning of pass@k depends on it."""
    members, n = int(spec["sampler"].get("members", 1)), spec["n"]
    if members > 1:
        return f"{n // members if n else 'r'} draw{'s' * (n != members)} from each of {members} members"
    independent = spec["sampler"].get("kind", "mixture") in {"mixture", "merge", ELSEWHERE}  # the others may look at all draws
    return "exchangeable draws" if independent else "chosen together, not exchangeable"


def counts(records: Sequence[Record], grades: Mapping[Key, Grade], task: Task, kind: str) -> dict[str, dict[str, int]]:
    """Counts of samples: by verdict, mark, end of generation, cause of failure and note, and of texts that are no program.

    `kind` is that of the task's card.
    """
    verdicts = Counter(str(grade.verdict) for grade in grades.values())
    marks = Counter(grade.mark for grade in grades.values() if grade.mark)
    finishes = Counter[str](record.finish for record in records)
    failures = Counter(record.failure for record in records if record.failure)
    programs = Counter(_programs(task, kind, [r for r in records if task.runs_code and not r.failure]))
    invalid = sum(count for program, count in programs.items() if not _parses(program))
    odd = {
        "samples": len(records),
        "failed": sum(failures.values()),
        "truncated": finishes["length"],
        "refused": verdicts["refused"],
        "timed out": verdicts["timeout"],
        "out of memory": verdicts["memory"],
        "crashed": verdicts["crashed"],
        "invalid": invalid,
    }
    notes = Counter(record.note for record in records if record.note)
    tables = {
        "verdicts": verdicts,
        "marks": marks,
        "finish": finishes,
        "failures": failures,
        **({"notes": notes} if notes else {}),
    }
    return {"counts": odd, **{name: dict(sorted(table.items())) for name, table in tables.items()}}


def collect_samples(
    task: Task,
    records: Sequence[Record],
    grades: Mapping[Key, Grade],
    *,
    spec: Json,
    divergence: Sequence[Divergence] = (),
    behaviours: Sequence[Behaviour] = (),
    noise: Sequence[Record] = (),
    choices: Sequence[Choices] = (),
) -> list[Samples]:
    """Samples problem by problem in the task's order.

    Raises DataError when a problem does not have n samples, or when a sample is not graded.
    """
    grouped, behaved, noisy = _grouped(records), _grouped(behaviours), _grouped(noise)
    problems = covered(spec, task.problems, grouped)
    if fault := partial_fault(spec, [p.id for p in problems]):
        raise DataError(f"{fault}; run the same command again to finish the run")
    members, n = int(spec["sampler"].get("members", 1)), spec["n"]
    least = min((len(grouped.get(p.id, [])) for p in problems), default=0)
    spread = {d.problem: d for d in divergence if d.tokens}
    choices_of = {c.problem: c for c in choices}
    drawn = not from_elsewhere(spec)
    patience = float((spec["task"].get("options") or {}).get("patience", PATIENCE))
    known = any(grade.quality is not None for grade in grades.values())
    samples = []
    for problem in problems:
        mine = grouped.get(problem.id, [])
        _check_whole(problem.id, mine, grades, n)
        digests, qualities = behaved.get(problem.id), [grades[r.key].quality for r in mine]
        judged = all(grades[r.key].verdict != "unjudged" for r in mine)
        samples.append(
            Samples(
                problem=problem.id,
                texts=[r.graded.strip() for r in mine],
                programs=_programs(task, str(spec["task"]["kind"]), mine) if task.runs_code else None,
                passed=[grades[r.key].verdict == "passed" for r in mine],
                # where there is no right answer, an empty text would look like one more way to answer
                failed=[bool(r.failure) if judged else not has_text(r) for r in mine],
                members=members,
                k=members if members > 1 else least,
                tokens=[r.tokens for r in mine] if drawn else (),
                spent=[r.tokens if r.spent is None else r.spent for r in mine] if drawn else (),
                divergence=spread.get(problem.id),
                behaviours=digests if digests and len(digests) == len(mine) else None,
                noise=[r.graded.strip() for r in noisy[problem.id]] if problem.id in noisy else None,
                choices=problem.choices,
                passed_base=_passed_base(problem, [grades[r.key] for r in mine]),
                preferences=choices_of.get(problem.id),
                right=problem.right,
                judged=judged,
                qualities=qualities if known else (),
                patience=patience,
            )
        )
    return samples


def _check_whole(problem: str, records: Sequence[Record], grades: Mapping[Key, Grade], n: int | None) -> None:
    """Raises DataError where samples of a problem are missing, or one of them is not graded."""
    if not records or (n is not None and len(records) != n):
        raise DataError(
            f"problem {problem} has {len(records)} samples, the run has n = {n}; run the same command again to finish it"
        )
    if ungraded := [r.key for r in records if r.key not in grades]:
        first = ungraded[0]
        raise DataError(
            f"sample {first.problem}, member {first.member}, draw {first.draw} is not graded; finish the run with "
            f"`spa-bench grade`"
        )


def _programs(task: Task, kind: str, records: Sequence[Record]) -> list[str]:
    return called(kind, "program", lambda: [task.program(record) for record in records])


def _passed_base(problem: Problem, grades: Sequence[Grade]) -> list[bool] | None:
    """Which samples passed the base suite; None where no suite follows one of that name. Suites run until one fails."""
    later = [s.name for s in problem.suites][1:]
    if not later or problem.suites[0].name != "base":
        return None
    return [g.verdict == "passed" or g.suite in later for g in grades]


def _grouped(rows: Sequence[_Row]) -> dict[str, list[_Row]]:
    by_problem: dict[str, list[_Row]] = {}
    for row in sorted(rows, key=lambda r: (r.member, r.draw)):
        by_problem.setdefault(row.problem, []).append(row)
    return by_problem


def _parses(program: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
