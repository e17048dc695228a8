"""Completions that somebody else generated, in a format of runs.sample_shapes, as a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spa_bench.cards.objects import unhashed
from spa_bench.cards.source import ELSEWHERE, code_of, hashes
from spa_bench.cards.task import TaskCard
from spa_bench.errors import DataError, StoreError
from spa_bench.runs.folder import RunFolder, create
from spa_bench.runs.job import described, remember_places
from spa_bench.runs.partial import PARTIAL, partial_entry, partial_name
from spa_bench.runs.sample_answers import GivenAnswer, names
from spa_bench.runs.sample_files import SampleFile, find_files, parse, samples_hash
from spa_bench.runs.sample_shapes import shape_of
from spa_bench.runs.spec import RunSpec
from spa_bench.support import provenance
from spa_bench.tasks.base import TextsTask
from spa_bench.types import Completion, Key, Record

_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Read:
    """Samples as records, problem by problem in the task's order."""

    records: list[Record]
    hash: str  # of the files
    told: tuple[str, ...]  # for each file, what it was read as


def read_files(given: Path | Sequence[Path | SampleFile], task: TextsTask, *, cut: bool, partial: bool = False) -> Read:
    """The samples in files that runs.sample_files finds, of a shape in runs.sample_shapes; a problem's rows are its draws.

    A solution that begins with the prompt is stored without the prompt; any other solution is a whole program, and of a
    chat's reply the task takes the program out. `cut` cuts completions at the task's stop strings. `partial`: problems may
    be without samples. Raises DataError or UsageError that names the file, the line, the unknown id or the missing problem.
    """
    files = find_files([given] if isinstance(given, Path) else given)
    answers: list[GivenAnswer] = []
    told = []
    for file in files:
        content = parse(file)
        if not content.rows and content.form != "archive":
            raise DataError(f"{file.name} holds no samples")
        shape = shape_of(content)
        found = shape.read(content, task)
        answers += found.answers
        covered = len({a.problem.id for a in found.answers})
        told.append("; ".join([f"{file.name}: {shape.name}, {len(found.answers)} answers to {covered} problems", *found.notes]))
    where = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    if not answers:
        raise DataError(f"{where} holds no samples")
    draws: dict[str, list[GivenAnswer]] = {p.id: [] for p in task.problems}
    for answer in answers:
        draws[answer.problem.id].append(answer)
    there = [name for name, some in draws.items() if some]
    absent = [name for name, some in draws.items() if not some]
    if absent and not partial:
        raise DataError(
            f"{where} has no sample for {absent[0]} ({len(absent)} of {len(draws)} problems are missing); "
            f"every problem needs one, or --partial measures the {len(there)} that are there"
        )
    records = [_record(a, task, i, cut=cut) for name in there for i, a in enumerate(draws[name])]
    return Read(records, samples_hash(files), tuple(told))


def read_samples(
    given: Path | Sequence[Path | SampleFile], task: TextsTask, *, cut: bool, partial: bool = False
) -> list[Record]:
    """The records of read_files."""
    return read_files(given, task, cut=cut, partial=partial).records


def _record(answer: GivenAnswer, task: TextsTask, draw: int, *, cut: bool) -> Record:
    key, text = Key(answer.problem.id, 0, draw), answer.text
    if answer.kind == "chat":
        name = answer.problem.entry_point
        blocks = _FENCED.findall(text) if task.runs_code else []
        said = next((block for block in blocks if names(block, name)), blocks[0] if blocks else text)
        continues = said.lstrip("\n").startswith(("  ", "\t"))  # no program begins with an indented line
        whole = not continues and (not name or names(said, name))
        return replace(task.record(Completion(key=key, text=said, tokens=0, finish="stop", seed=0, whole=whole)), raw=text)
    begin, solution = task.question(answer.problem).lstrip("\n"), answer.kind == "solution"
    whole = solution and not text.lstrip("\n").startswith(begin)
    graded = text if whole or not solution else text.lstrip("\n").removeprefix(begin)
    graded = task.cut(graded) if cut and not whole else graded.rstrip()
    return Record(**key._asdict(), raw=text, graded=graded, finish="stop", tokens=0, seed=0, whole=whole)


def import_samples(
    given: Path | Sequence[Path | SampleFile],
    task: TextsTask,
    out: Path,
    *,
    label: str,
    cut: bool,
    partial: bool = False,
    seed: int | None = None,
    sandbox: str,
    grading: str = "default",
    embedding: Mapping[str, object] | None = None,
    metrics: Sequence[str] = (),
    card: TaskCard | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> RunFolder:
    """A run folder that holds the samples of the files as its records, ready to be graded. For the rest see runs.job.Job.

    `card` is that of a task that was given as an object. `seed` names a batch of answers: batches of one label that differ in
    it alone are seeds of one sampler, so that their spec does not have the hash of the answers. Raises StoreError where the
    folder holds other answers with that seed.
    `note` is told what each file was read as. Where `partial` and problems are without samples, spec and name say how many
    problems there are.
    """
    read = read_files(given, task, cut=cut, partial=partial)
    for line in read.told:
        note(line)
    counts = Counter(record.problem for record in read.records)
    n = min(counts.values()) if len(set(counts.values())) == 1 else None
    sampler = _sampler_of(label, read.hash if seed is None else "", task, counts, cut=cut)
    said = described(task, card) if card else task.describe()
    spec = RunSpec(
        sampler=sampler,
        task=said,
        model={"name": label},
        data={},
        n=n,
        seed=seed or 0,
        limit=None,
        numerics={},
        sandbox=sandbox,
        grading=grading,
        versions=provenance.versions(),
        code=code_of(sampler, said, metrics),
        embedding=dict(embedding or {}),
        metrics=hashes(metrics),
    )
    name = f"{task.name}-{label}" + (f"-s{seed}" if seed is not None else "")
    folder = create(out, name, spec, fresh=unhashed(asdict(spec)))
    remember_places(folder, task.file, card)
    _keep(read.records, folder, label, seed)
    return folder


def _sampler_of(label: str, samples: str, task: TextsTask, answered: Collection[str], *, cut: bool) -> dict[str, object]:
    """What a spec says of answers from elsewhere; `samples` is their hash, and empty where they are one seed of several."""
    which = {"samples_hash": samples} if samples else {}
    sampler: dict[str, object] = {"name": label, "kind": ELSEWHERE, "members": 1, **which, "cut": cut}
    if len(answered) < len(task.problems):
        there = [p.id for p in task.problems if p.id in answered]
        sampler |= {"name": partial_name(label, len(there), len(task.problems)), PARTIAL: partial_entry(there)}
    return sampler


def _keep(records: Sequence[Record], folder: RunFolder, label: str, seed: int | None) -> None:
    """Store the records in a folder that may have some of them; raises StoreError where it has others with this seed."""
    with folder.locked():
        done = {r.key: r for r in folder.record_log.rows()}
        if seed is not None and not done.items() <= {r.key: r for r in records}.items():
            raise StoreError(
                f"{folder.path} holds other answers of {label} with seed {seed}; give these another --seed or --out"
            )
        if new := {r.problem for r in records if r.key not in done}:
            folder.forget_verdicts(new)
            folder.record_log.replace(records)  # all or none: nothing else says how many answers of theirs a problem has
