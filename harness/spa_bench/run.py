"""evaluate(): sampler × task -> run folder, in resumable steps: generate, grade, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

from spa_bench import embeddings, provenance
from spa_bench.arguments import check_limit
from spa_bench.cache import own_cache
from spa_bench.cards import Placed, SamplerCard, TaskCard
from spa_bench.choosing import begin, first_token_divergence, known_choices, measure_choices
from spa_bench.console import Reporter
from spa_bench.errors import StoreError, UsageError
from spa_bench.extensions import check_own_task, check_sampler, code_of, drawn, hashes, made
from spa_bench.grading import Behaved, Grader, Grading, Outcome, Program
from spa_bench.interrupt import pause_point
from spa_bench.log import Log, Row
from spa_bench.measure import measure, measure_added
from spa_bench.models.base import ChatModel, Model
from spa_bench.registry import beside, is_ours
from spa_bench.samplers.base import Prompt, Sampler
from spa_bench.sandbox import NOT_NEEDED, choose
from spa_bench.spa.data import files_of, named
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import TrainingData, load_data
from spa_bench.spa_cards import DataCard
from spa_bench.spread import known_divergence, measure_divergence, measure_noise
from spa_bench.store import ADDED, DATA_FILES, TASK_FILE, RunFolder, create
from spa_bench.tasks.base import Judge, Task
from spa_bench.timing import timed
from spa_bench.types import Asked, Key, Member, Messages, RunSpec

Progress = Callable[[int, int], None]  # called with (done, total)
_BATCH = 64  # rows written and synced together, at the latest after _SYNC_SECONDS
_SYNC_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """One run to do."""

    sampler: SamplerCard
    task: TaskCard
    n: int
    seed: int
    limit: int | None = None
    sandbox: str = "bwrap"
    grading: str = "default"
    noise_floor: bool | None = None  # None: where numerics can move a text (Model.batch_free)
    embedding: dict[str, object] = field(default_factory=dict)  # what its Embedder describes; empty: no embedding kernel
    metrics: tuple[str, ...] = ()  # of the user's own, package.module:METRIC
    files: DataCard | None = None  # where the card's files of pairs lie on this machine; None: where the card says

    @property
    def placed(self) -> SamplerCard:
        """The sampler's card with the paths of its files."""
        return self.sampler if self.files is None else replace(self.sampler, data=self.files)


def load_task(card: TaskCard) -> Task:
    """The task of `card`, its problems loaded."""
    needs = [name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")]
    task: Task = made("task", card.kind, card, needs=needs)
    if not is_ours("task", card.kind):
        check_own_task(task, card.kind)
    return task


def check_draws(card: SamplerCard, n: int) -> None:
    """Raises UsageError unless `n` is a positive multiple of the members, and what the kind's own `check_n` allows."""
    if n < 1 or n % card.members:
        raise UsageError(f"n is {n}, but {card.name} has {card.members} members: n must be a multiple of {card.members}")
    if (check_n := beside("sampler", card.kind, "check_n")) is not None:
        check_n(card, n)


def check_model(card: SamplerCard, model: Model, task: Task) -> None:
    """Raises, before anything is trained, what the kind's own `check_model` raises for a model that it cannot use.

    And ModelError where `task` asks in messages, for a model that says that it has no chat template.
    """
    if (check := beside("sampler", card.kind, "check_model")) is not None:
        check(card, model)
    if isinstance(model, ChatModel) and any(p.messages for p in task.prompts(1)):
        model.check_chat()


def check_task(card: SamplerCard, task: Task, model: Model, limit: int | None) -> list[Asked]:
    """The multiple-choice problems among the first `limit`. Raises UsageError for what cannot be asked of `model`.

    That is what the task's own `check_model` refuses, options that do not fit the context, and a sampler whose kind cannot go
    on after a choice.
    """
    if (check := getattr(task, "check_model", None)) is not None:
        check(model, limit)
    asked = task.asked(limit)
    if asked and not beside("sampler", card.kind, "BEGUN", False):
        raise UsageError(
            f"{task.name} is multiple choice, and {card.name} (kind {card.kind!r}) cannot go on after a choice: it draws whole "
            f'answers; use a sampler of kind "mixture", such as single, temperature or spa-influence'
        )
    if asked:
        model.check_options(asked)
    return asked


def sampler_spec(card: SamplerCard) -> dict[str, object]:
    """What a spec says of the sampler: the card without its description and, where nothing is trained, without that part."""
    sampler = {k: v for k, v in asdict(replace(card, data=named(card.data))).items() if k != "description"}
    if card.adapters == "none":
        sampler = {k: v for k, v in sampler.items() if k not in {"lora", "attribution", "partition", "data"}}
    return sampler


def make_spec(job: Job, task: Task, model: Model, data: TrainingData) -> RunSpec:
    """Everything that can change a number of this run."""
    noise = job.noise_floor
    if noise is None:
        noise = not model.batch_free(_longest_texts(task, job.limit))
    return RunSpec(
        sampler=sampler_spec(job.sampler),
        task=task.describe(),
        model=model.describe(),
        data=data.describe(job.sampler) if data.examples else {},
        n=job.n,
        seed=job.seed,
        limit=job.limit,
        numerics=model.numerics(),
        sandbox=job.sandbox if task.runs_code else NOT_NEEDED,
        grading=job.grading,
        versions=provenance.versions(),
        code=code_of(asdict(job.sampler), asdict(job.task), job.metrics),
        noise_floor=noise,
        embedding=job.embedding,
        metrics=hashes(job.metrics),
    )


def _longest_texts(task: Task, limit: int | None) -> list[tuple[str | Messages, int]]:
    """(what an answer to each prompt may have to follow, new tokens): with the longest option where there are options."""
    options = {one.problem_id: max(map("".join, one.options), key=len) for one in task.asked(limit)}
    return [(options.get(p.problem_id) or p.messages or p.text, p.max_new_tokens) for p in task.prompts(limit)]


def run_name(job: Job, task: Task) -> str:
    """How the folder of a run begins."""
    return f"{task.name}-{job.sampler.name}-s{job.seed}"


def generate(
    job: Job,
    task: Task,
    model: Model,
    out: Path,
    cache: Path,
    console: Reporter,
    *,
    price: float | None = None,
    again: bool = False,
    siblings: Sequence[RunFolder] = (),
    begun: Callable[[RunFolder], None] = lambda _: None,
) -> RunFolder:
    """Train what is missing, draw what is missing, measure divergence. Goes on where an earlier call stopped.

    `price` is what an hour costs: it goes to timings.json. `again` refuses a finished run: nothing would be done. Divergence
    that one of `siblings` has measured between the same adapters is taken from there. `begun` is called with the folder
    before anything is computed.
    """
    check_draws(job.sampler, job.n)
    check_limit(job.limit)
    asked = check_task(job.sampler, task, model, job.limit)
    check_model(job.sampler, model, task)
    data = load_data(job.placed, model, job.seed)
    spec = make_spec(job, task, model, data)
    folder = create(out, run_name(job, task), spec, unfinished=again)
    console.note(f"run folder: {folder.path}")
    if job.task.file:
        folder.write_json(TASK_FILE, {"file": str(Path(job.task.file).resolve())})
    if isinstance(job.task.options, Placed) and (places := job.task.options.places()):
        folder.write_json(TASK_FILE, places)
    if files := files_of(job.placed):
        folder.write_json(DATA_FILES, files)
    for line in data.notes(job.sampler):
        console.note(line)
    begun(folder)
    with folder.locked(), timed(folder, console, spec.numerics, price):
        _Drawing(folder, job, task, model, console, siblings).fill(asked, data, cache, noise=spec.noise_floor)
    return folder


@dataclass(frozen=True)
class _Drawing:
    """A run folder that is being filled, by what, and from which other runs."""

    folder: RunFolder
    job: Job
    task: Task
    model: Model
    console: Reporter
    siblings: Sequence[RunFolder]  # that may have measured the same

    def fill(self, asked: Sequence[Asked], data: TrainingData, cache: Path, *, noise: bool) -> None:
        """Draw and measure what is missing, then bring all of it into order."""
        job, folder, prompts = self.job, self.folder, self.task.prompts(self.job.limit)
        total = len(prompts) * job.n
        done = {r.key for r in folder.record_log.rows()}
        measured = {d.problem for d in folder.divergence_log.rows()}
        noisy = {r.key for r in folder.noise_log.rows()}
        missing = len(done) < total, len(measured) < len(prompts), len(noisy) < total * noise
        if any(missing) or len(folder.choice_log.rows()) < len(asked):
            needed = Stages(job.sampler, data, self.model, job.seed, cache, self.console).adapters() if data.examples else []
            remember_adapters(folder, needed)
            if known := known_divergence(folder, self.siblings, measured):
                folder.divergence_log.append(known)
                measured |= {d.problem for d in known}
            sampler: Sampler = made("sampler", job.sampler.kind, job.sampler, needed, needs=("name", "members", "sample"))
            check_sampler(sampler, job.sampler.kind, job.sampler.members)
            if asked:
                prompts = self._choose(sampler.members, asked, prompts)
        if missing[0]:
            self._draw(sampler, prompts, done)
        if len(measured) < len(prompts):
            self._measure(sampler.members, prompts, measured)
        if missing[2]:
            with self.console.stage("noise floor") as progress:
                found = measure_noise(self.task, self.model, sampler, prompts, n=job.n, seed=job.seed, done=noisy)
                append(folder.noise_log, found, len(noisy), total, progress)
        _settle(folder, {p.problem_id: i for i, p in enumerate(prompts)})

    def _choose(self, members: Sequence[Member], asked: Sequence[Asked], prompts: Sequence[Prompt]) -> list[Prompt]:
        """`prompts` with the choice of every draw made: what is missing of choices.jsonl is measured first."""
        log = self.folder.choice_log
        done = {c.problem for c in log.rows()}
        if known := known_choices(self.folder, self.siblings, done):
            log.append(known)
            done |= {c.problem for c in known}
        if len(done) < len(asked):
            with self.console.stage("choices") as progress:
                append(log, measure_choices(asked, self.model, members, done), len(done), len(asked), progress)
        choices = {c.problem: c for c in log.rows()}
        return begin(prompts, asked, choices, members, self.job.n, self.job.seed, task=self.task.name)

    def _draw(self, sampler: Sampler, prompts: Sequence[Prompt], done: Collection[Key]) -> None:
        """Samples that are not `done`."""
        job, task = self.job, self.task
        with self.console.stage("generation") as progress:
            completions = drawn(
                job.sampler.kind, lambda: sampler.sample(self.model, prompts, job.n, job.seed, task=task.name, done=done)
            )
            append(self.folder.record_log, map(task.record, completions), len(done), len(prompts) * job.n, progress)
        if (have := len(self.folder.record_log.rows())) != len(prompts) * job.n:
            raise UsageError(
                f"sampler kind {job.sampler.kind!r} gave {have} of {len(prompts) * job.n} answers: sample() gives n a problem, "
                "those of `done` left out"
            )

    def _measure(self, members: Sequence[Member], prompts: Sequence[Prompt], measured: Collection[str]) -> None:
        """The divergence of problems that are not `measured`; of multiple choice it is known already."""
        with self.console.stage("divergence") as progress:
            first = {c.problem: first_token_divergence(c) for c in self.folder.choice_log.rows()}
            others = [p for p in self.task.problems[: len(prompts)] if p.id not in first]
            rows = chain(
                (row for problem, row in first.items() if problem not in measured),
                measure_divergence(others, self.model, members, measured, asked={p.problem_id: p for p in prompts}),
            )
            append(self.folder.divergence_log, rows, len(measured), len(prompts), progress)


def _settle(folder: RunFolder, place: Mapping[str, int]) -> None:
    """Bring what was generated into the order of the problems, whose places these are."""
    for log in (folder.record_log, folder.noise_log):
        log.settle(lambda r: (place[r.problem], r.member, r.draw))
    folder.divergence_log.settle(lambda d: place[d.problem])
    folder.choice_log.settle(lambda c: place[c.problem])


def remember_adapters(folder: RunFolder, adapters: list[Path]) -> None:
    """Write the adapters' hashes down. Raises StoreError when samples here were drawn with other ones."""
    if not adapters:
        return
    now = {"stage": adapters[0].parent.name, "hashes": [provenance.hash_folder(a) for a in adapters]}
    before = folder.read_json("adapters.json")
    if before is None and (folder.record_log.rows() or folder.choice_log.rows()):
        raise StoreError(
            f"{folder.path} has samples but adapters.json is missing, so nobody knows of which adapters; use another --out"
        )
    if before is None:
        folder.write_json("adapters.json", now)
    elif before != now:
        raise StoreError(
            f"{folder.path} was begun with other adapters ({before['stage']}, {before['hashes'][0]}) than there are now "
            f"({now['stage']}, {now['hashes'][0]}); use another --out"
        )


def append(log: Log[Row], rows: Iterable[Row], start: int, total: int, progress: Progress) -> None:
    """Append `rows` in synced batches; what has come is kept when the next one fails or the user interrupts."""
    waiting: list[Row] = []
    synced = time.monotonic()
    try:
        for done, row in enumerate(rows, start + 1):
            waiting.append(row)
            if len(waiting) >= _BATCH or time.monotonic() - synced > _SYNC_SECONDS:
                batch, waiting = waiting, []
                log.append(batch)
                synced = time.monotonic()
            progress(done, total)
    finally:
        log.append(waiting)


def _pausing(rows: Iterator[Row]) -> Iterator[Row]:
    """`rows`, ending between two of them when the user asked to stop."""
    for row in rows:
        yield row
        pause_point()


class _NoJudge:
    """Stands where no program is judged."""

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        raise AssertionError("a task whose answers are no programs asked for a judge")

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        raise AssertionError("a task whose answers are no programs asked for a judge")


def make_judge(task: Task, sandbox: str, grading: str, workers: int, console: Reporter) -> Judge:
    """What judges the programs of `task`: the sandbox of that name, with that many workers. Raises SandboxError."""

    def progress(done: int, total: int) -> None:
        if done == 1:
            console.note(f"running {total} reference solutions, once on this machine, for expected outputs and time limits")

    return Grader(choose(sandbox), own_cache(), Grading(grading), workers, task.limits, task.packages, progress)


def grade(
    folder: RunFolder,
    task: Task,
    console: Reporter,
    *,
    sandbox: str | None,
    workers: int,
    embedder: Callable[[], embeddings.Embedder] | None = None,
    metrics: Sequence[str] = (),
    price: float | None = None,
) -> None:
    """Grade what is not graded yet, in `sandbox` or the one of the spec, then write metrics.json.

    `embedder` is called where the spec wants embeddings that are not there yet; `metrics` of the user's own that the
    spec does not have go to added.json; `price` is what an hour costs.
    """
    chosen = (sandbox or str(folder.spec["sandbox"])) if task.runs_code else NOT_NEEDED
    with folder.locked(), timed(folder, console, {}, price):
        records = folder.record_log.rows()
        graded = {g.key for g in folder.grade_log.rows()}
        behaved = {b.key for b in folder.behaviour_log.rows()}
        ungraded, unknown = ([r for r in records if r.key not in keys] for keys in (graded, behaved))
        if graded and folder.read_json("judged.json") is None:
            raise StoreError(
                f"{folder.path / 'judged.json'} is missing, so nobody knows which sandbox judged; remove grades.jsonl and "
                "behaviours.jsonl too and grade again"
            )
        if ungraded or unknown:
            remember_judge(folder, chosen, fresh=not graded)
            judge: Judge = _NoJudge()
            if task.runs_code:
                judge = make_judge(task, chosen, str(folder.spec["grading"]), workers, console)
            if (see := getattr(task, "see_choices", None)) is not None:
                see(folder.choice_log.rows())
        if ungraded:
            with console.stage("grading") as progress:
                append(folder.grade_log, _pausing(task.score(ungraded, judge)), 0, len(ungraded), progress)
        if unknown:
            with console.stage("behaviours") as progress:
                append(folder.behaviour_log, _pausing(task.behave(unknown, judge)), 0, len(unknown), progress)
        place = {p.id: i for i, p in enumerate(task.problems)}
        folder.grade_log.settle(lambda g: (place[g.problem], g.member, g.draw))
        folder.behaviour_log.settle(lambda b: (place[b.problem], b.member, b.draw))
        if embedder is not None and embeddings.missing(folder):
            model = embedder()
            with console.stage("embeddings") as progress:
                embeddings.embed(folder, model, progress)
        with console.stage("metrics"):
            folder.write_json("metrics.json", measure(folder, task))
            if new := hashes(name for name in metrics if name not in folder.spec.get("metrics", {})):
                before = (folder.read_json(ADDED) or {}).get("metrics", {})
                folder.write_json(ADDED, measure_added(folder, task, {**before, **new}))


def remember_judge(folder: RunFolder, sandbox: str, *, fresh: bool) -> None:
    """Write down which sandboxes judged, and under which Python and code."""
    now = {"sandbox": sandbox, "versions": provenance.versions(), "code": provenance.code()}
    before = [] if fresh else (folder.read_json("judged.json") or {}).get("by", [])
    folder.write_json("judged.json", {"by": [*before, now] if now not in before else before})
