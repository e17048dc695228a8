"""evaluate(): sampler × task -> run folder, in resumable steps: generate, grade, measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from spa_bench.cards.guard import built, check_sampler, drawn, recording
from spa_bench.cards.objects import unhashed
from spa_bench.errors import StoreError, UsageError
from spa_bench.models.base import AdapterMaker, Model, trainable
from spa_bench.runs.aids import OwnAids
from spa_bench.runs.choices import begin, first_token_divergence, known_choices, measure_choices
from spa_bench.runs.divergence import known_divergence, measure_divergence, unmeasured
from spa_bench.runs.engines import HF
from spa_bench.runs.folder import DATA_FILES, OVERLAP, SYNTHESIS, RunFolder, create
from spa_bench.runs.job import Job, check_draws, check_limit, check_task, longest_texts, make_spec, remember_places, run_name
from spa_bench.runs.log import append
from spa_bench.runs.noise_floor import chosen, measure_noise, rows_for
from spa_bench.runs.timing import timed
from spa_bench.samplers.base import Aided, Sampler, Wants, merging_of, sampler_kind
from spa_bench.sandbox.none import NoSandbox
from spa_bench.spa.data import files_of
from spa_bench.spa.kept import made_adapters
from spa_bench.spa.synthesize.stage import made_sources
from spa_bench.spa.training_data import TrainingData, load_data
from spa_bench.support import provenance
from spa_bench.support.console import Reporter
from spa_bench.support.seeds import derive_seed
from spa_bench.tasks.base import Asking, Task
from spa_bench.types import Asked, Key, Member, Prompt


def generate(
    job: Job,
    task: Task,
    model: Model,
    *,
    out: Path,
    cache: Path,
    console: Reporter,
    price: float | None = None,
    again: bool = False,
    siblings: Sequence[RunFolder] = (),
    begun: Callable[[RunFolder], None] = lambda _: None,
) -> RunFolder:
    """Train missing adapters, draw missing samples and measure divergence. Resumes where an earlier call stopped.

    `price` is the cost of an hour; it is written to timings.json. `again` refuses a finished run, because nothing would be
    done. Divergence that one of `siblings` has measured between the same adapters is copied from it. `begun` is called
    with the folder before anything is computed.
    """
    check_draws(job.sampler, job.n)
    check_limit(job.limit)
    asking = check_task(job.sampler, task, model, job.limit, kind=job.task.kind)
    made = made_sources(
        job.placed, model, job.seed, problems=task.problems, cache=cache, console=console, sandbox=_trusted(job.sandbox)
    )
    data = load_data(job.placed, model, job.seed, sources=made, problems=task.problems)
    spec = make_spec(job, task, asking, model, data)
    folder = create(out, run_name(job, task), spec, unfinished=again, fresh=unhashed(asdict(spec)))
    console.note(f"run folder: {folder.path}")
    remember_places(folder, str(Path(job.task.file).resolve()) if job.task.file else "", job.task)
    if files := files_of(job.placed):
        folder.write_json(DATA_FILES, files)
    if data.made is not None:
        folder.write_json(SYNTHESIS, data.made)
    if data.overlap is not None:
        folder.write_json(OVERLAP, data.overlap.to_json())
    for line in (*data.told, *data.notes(job.sampler)):
        console.note(line)
    begun(folder)
    if line := _resumed(folder, asking, model, job):
        console.note(line)
    with folder.locked(), timed(folder, console, spec.numerics, price, model):
        _Drawing(folder=folder, job=job, task=task, model=model, console=console, siblings=siblings).fill(
            asking, data, cache, noise=spec.noise_floor
        )
    return folder


def _trusted(sandbox: str) -> str | None:
    """The sandbox for drafts of a synthesis: none where the user wants none for the answers, else the first that works here."""
    return sandbox if sandbox == NoSandbox.name else None


def _resumed(folder: RunFolder, asking: Asking, model: Model, job: Job) -> str:
    """A line for a run that is resumed where the bytes of its texts depend on their batches; "" for any other run."""
    done, total = len(folder.record_log.keys()), len(asking.prompts) * job.n
    texts = longest_texts(asking)
    if sampler_kind(job.sampler.kind).asks:
        texts = [(text, model.context) for text, _ in texts]
    if not 0 < done < total or model.batch_free(texts):
        return ""
    batches = folder.timings().get("batches")
    halved = batches.get("halved") if isinstance(batches, dict) else 0
    smaller = f"; memory ran out {halved} times before, and batches were halved" if halved else ""
    return (
        f"resumed at {done} of {total} answers: batches differ from those of a run in one go, and with them texts may differ, "
        f"within the noise floor{smaller}"
    )


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """A run folder that is being filled: the task and model that fill it, and the other runs that it may copy from."""

    folder: RunFolder
    job: Job
    task: Task
    model: Model
    console: Reporter
    siblings: Sequence[RunFolder]  # runs that may have measured the same divergence

    def fill(self, asking: Asking, data: TrainingData, cache: Path, *, noise: bool | int) -> None:
        """Draw and measure everything that is missing, then sort the logs."""
        job, folder = self.job, self.folder
        prompts, options = asking.prompts, asking.asked
        total = len(prompts) * job.n
        if sampler_kind(job.sampler.kind).together:
            drop_parts(folder, job.n)
        done = set(folder.record_log.keys())
        count = Counter(key.problem for key in done)
        if folder.forget_verdicts({p.problem_id for p in prompts if count[p.problem_id] < job.n}):
            self.console.note("answers are missing that were judged: they are drawn again, and their problems are judged again")
        measured = {d.problem for d in folder.divergence_log.each()}
        noisy = set(folder.noise_log.keys())
        missing = (
            len(done) < total,
            len(measured) < len(prompts),
            len(noisy) < (noise_rows := rows_for(noise, len(prompts), job.n)),
        )
        with ExitStack() as ends:
            if any(missing) or len(folder.choice_log.rows()) < len(options):
                needed = self._adapters(data, cache)
                remember_adapters(folder, needed)
                if known := known_divergence(folder, self.siblings, measured):
                    folder.divergence_log.append(known)
                    measured |= {d.problem for d in known}
                sampler = self._sampler(needed, ends)
                if options:
                    prompts = self._choose(sampler.members, options, prompts)
            if missing[0]:
                self._draw(sampler, prompts, done)
            if len(measured) < len(prompts):
                self._measure(sampler.members, prompts, measured)
            if missing[2]:
                with self.console.stage("noise floor") as progress:
                    some = chosen(prompts, int(noise), job.seed)
                    noise_records = measure_noise(self.task, self.model, sampler, some, seed=job.seed, done=noisy)
                    append(folder.noise_log, noise_records, len(noisy), noise_rows, progress)
            _settle(folder, {p.problem_id: i for i, p in enumerate(prompts)})

    def _sampler(self, adapters: Sequence[Path], ends: ExitStack) -> Sampler:
        """The sampler of the card over its members' adapters. What tries programs for it ends with `ends`."""
        card = self.job.sampler
        kind = sampler_kind(card.kind)
        sampler = built("sampler", card.kind, lambda: kind.build(card, adapters), ("name", "members", "sample"))
        if isinstance(sampler, Aided) and (wants := kind.wants(card)) != Wants():
            sampler = sampler.aided(ends.enter_context(closing(OwnAids(wants, self.task, self.job.sandbox))))
        check_sampler(sampler, card.kind, card.members, card.served)
        return sampler

    def _adapters(self, data: TrainingData, cache: Path) -> list[Path]:
        """The folders of the members' adapters: trained, merged, from the stage cache, or made by a model alone."""
        card, seed = self.job.sampler, self.job.seed
        how = merging_of(card)
        if not data.examples and how is None:
            return []
        if not isinstance(self.model, AdapterMaker):
            from spa_bench.spa.merge import member_adapters

            return member_adapters(card, how, data, trainable(self.model), seed, cache=cache, console=self.console)
        seeds = [derive_seed(seed, "adapter", k) for k in range(card.trained)]
        return made_adapters(self.model, seeds, cache)

    def _choose(self, members: Sequence[Member], asked: Sequence[Asked], prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """`prompts` with the choice of every draw; missing rows of choices.jsonl are measured first."""
        log = self.folder.choice_log
        done = {c.problem for c in log.rows()}
        if known := known_choices(self.folder, self.siblings, done):
            log.append(known)
            done |= {c.problem for c in known}
        if len(done) < len(asked):
            with self.console.stage("choices") as progress:
                append(log, measure_choices(asked, self.model, members, done), len(done), len(asked), progress)
        choices = {c.problem: c for c in log.rows()}
        return tuple(begin(prompts, asked, choices, members=members, n=self.job.n, seed=self.job.seed, task=self.task.name))

    def _draw(self, sampler: Sampler, prompts: Sequence[Prompt], done: Collection[Key]) -> None:
        """Draw the samples whose keys are not in `done`."""
        job, task = self.job, self.task
        with self.console.stage("generation") as progress:
            completions = drawn(
                job.sampler.kind,
                job.engine.get("name", HF),
                lambda: sampler.sample(self.model, prompts, job.n, job.seed, task=task.name, done=done),
                _keys(prompts, len(sampler.members), job.n).difference(done),
            )
            records = map(recording(job.task.kind, task.record), completions)
            append(self.folder.record_log, records, len(done), len(prompts) * job.n, progress)
        if (have := len(self.folder.record_log.keys())) != len(prompts) * job.n:
            raise UsageError(
                f"sampler kind {job.sampler.kind!r} gave {have} of {len(prompts) * job.n} answers: sample() gives n a problem, "
                "those of `done` left out"
            )

    def _measure(self, members: Sequence[Member], prompts: Sequence[Prompt], measured: Collection[str]) -> None:
        """Measure the divergence of problems that are not in `measured`; for multiple choice the choices give it."""
        if why := self.model.unable.get("divergence"):
            self.console.note(f"divergence: not measured: {why}")
            self.folder.divergence_log.append([unmeasured(p.problem_id) for p in prompts if p.problem_id not in measured])
            return
        with self.console.stage("divergence") as progress:
            asked, noise = {p.problem_id: p for p in prompts}, self.folder.spec["noise_floor"] is not False
            first = {c.problem: first_token_divergence(c) for c in self.folder.choice_log.rows()}
            others = [p for p in self.task.problems[: len(prompts)] if p.id not in first]
            rows = chain(
                (row for problem, row in first.items() if problem not in measured),
                measure_divergence(others, self.model, members, measured, asked=asked, noise=noise),
            )
            append(self.folder.divergence_log, rows, len(measured), len(prompts), progress)


def _keys(prompts: Sequence[Prompt], members: int, n: int) -> set[Key]:
    """The keys of n answers to each prompt, n / K of each of the K members."""
    return {Key(p.problem_id, member, draw) for p in prompts for member in range(members) for draw in range(n // members)}


def _settle(folder: RunFolder, place: Mapping[str, int]) -> None:
    """Sort the generated logs into the order of the problems; `place` maps a problem to its position."""
    for log in (folder.record_log, folder.noise_log, folder.divergence_log, folder.choice_log):
        log.settle(place)


def drop_parts(folder: RunFolder, n: int) -> None:
    """Forget the answers to a problem of which others are missing, so that all of them come from one pool or reply."""
    count = Counter(r.problem for r in folder.record_log.each())
    if any(have < n for have in count.values()):
        folder.record_log.retain(lambda r: count[r.problem] == n)


def remember_adapters(folder: RunFolder, adapters: list[Path]) -> None:
    """Write the adapters' hashes. Raises StoreError when samples in this folder were drawn with other adapters."""
    if not adapters:
        return
    now = {"stage": adapters[0].parent.name, "hashes": [provenance.hash_folder(a) for a in adapters]}
    before = folder.read_json("adapters.json")
    if before is None and any(next(log.each(), None) for log in (folder.record_log, folder.choice_log)):
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
