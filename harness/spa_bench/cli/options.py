"""Options that several commands share: dataclasses whose fields are the options, and functions that read their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

from cyclopts import Group, Parameter, Token

from spa_bench.errors import UsageError

if TYPE_CHECKING:
    from spa_bench.executors.options import ExecutorOptions
    from spa_bench.runs.options import JudgeOptions
    from spa_bench.runs.reopen import ModelOptions

ARGUMENTS = Group("What it takes", sort_key=0)  # cyclopts shows no parameter that has no group
WHAT = Group("What to run", sort_key=1)
WHERE = Group("Where it runs", sort_key=2)
GRADED = Group("How it is graded", sort_key=3)
OUTPUT = Group("Output", sort_key=4)


def option(
    said: str,
    group: Group = ARGUMENTS,
    *,
    name: str | Sequence[str] | None = None,
    metavar: str | None = None,
    completer: Callable[..., Iterable[str]] | None = None,
    many: bool = False,
) -> Parameter:
    """The parameter of an option: its help, its name and its completion. With `many` it takes several values after one name."""
    return Parameter(name=name, help=said, group=group, metavar=metavar, completer=completer, consume_multiple=many or None)


def a_path(said: str, group: Group = ARGUMENTS, *, metavar: str, many: bool = False, **others: Any) -> Parameter:
    """An option or argument that is one path or several. An empty path is an error: it would mean the working folder."""
    return Parameter(help=said, group=group, metavar=metavar, converter=_read_paths, consume_multiple=many or None, **others)


def a_count(said: str, group: Group = ARGUMENTS, **others: Any) -> Parameter:
    """An option that is one whole number or several; other numbers are an error and are not rounded."""
    return Parameter(help=said, group=group, converter=_read_counts, **others)


def _read_counts(kind: object, tokens: Sequence[Token]) -> int | tuple[int, ...]:
    numbers = []
    for token in tokens:
        try:
            numbers.append(int(token.value))
        except ValueError as error:
            raise ValueError(f"{token.value!r} is not a whole number") from error
    return tuple(numbers) if get_origin(kind) is tuple else numbers[0]


def _read_paths(kind: object, tokens: Sequence[Token]) -> Path | list[Path] | tuple[Path, ...]:
    texts = [token.value for token in tokens]
    if "" in texts:
        raise ValueError("the path is empty; is a variable not set?")
    paths = [Path(text) for text in texts]
    origin = get_origin(kind)
    return paths if origin is list else tuple(paths) if origin is tuple else paths[0]


def read_seeds(seed: int, seeds: str | None) -> tuple[int, ...]:
    """The seeds of --seed or --seeds. Raises UsageError unless they are whole numbers."""
    try:
        return (seed,) if seeds is None else tuple(int(s) for s in seeds.split(","))
    except ValueError as error:
        raise UsageError(f"--seeds takes whole numbers with commas, such as 0,1,2; got {seeds!r}") from error


def name_samplers(*_: object) -> list[str]:
    """Names of samplers, for completion in the shell."""
    from spa_bench.cards.plugins import installed
    from spa_bench.cards.reading import card_names

    return [*card_names("baselines"), *(plugin.name for plugin in installed("sampler"))]


def name_tasks(*_: object) -> list[str]:
    """Names of tasks, for completion in the shell."""
    from spa_bench.cards.plugins import installed
    from spa_bench.cards.reading import card_names

    return [*card_names("tasks"), *(plugin.name for plugin in installed("task"))]


def name_metrics(*_: object) -> list[str]:
    """Names of metrics, for completion in the shell."""
    from spa_bench.metrics.suite import names

    return sorted(names())


def name_shipped(*_: object) -> list[str]:
    """Names of models that come in packages, for completion in the shell."""
    from spa_bench.models.shipped import SHIPPED

    return list(SHIPPED)


def name_models(*_: object) -> list[str]:
    """Names of models, GGUF files and folders here, for completion in the shell."""
    from spa_bench.mini.embedded import EMBEDDED

    paths = (path for path in Path().iterdir() if path.is_dir() or path.suffix.lower() == ".gguf")
    return [EMBEDDED, *name_shipped(), *(str(path) for path in paths if not path.name.startswith("."))]


def name_runs(*_: object) -> list[str]:
    """Run folders below ./runs and other files here, for completion in the shell."""
    runs = (spec.parent for spec in Path("runs").glob("**/spec.json"))
    return [*map(str, runs), *(str(path) for path in Path().iterdir() if not path.name.startswith("."))]


Sampler = Annotated[str, option("see `spa-bench list samplers`", WHAT, metavar="NAME|CARD.toml", completer=name_samplers)]
Task = Annotated[str, option("see `spa-bench list tasks`", WHAT, metavar="NAME|CARD.toml", completer=name_tasks)]
_MODEL = "a causal LM of transformers: a folder, a .gguf file, a name on the hub; or a name of `spa-bench list models`"
Model = Annotated[str, option(_MODEL, WHAT, metavar="NAME|PATH|HUB-ID", completer=name_models)]
ModelOrDefault = Annotated[
    str | None,
    option(
        f"{_MODEL} (default: embedded for its own tasks mini-*, smollm2 for all others)",
        WHAT,
        metavar="NAME|PATH|HUB-ID",
        completer=name_models,
    ),
]
Limit = Annotated[
    int | None, a_count("only L problems, drawn with the seed task.shuffle (0), every tag in proportion", WHAT, metavar="L")
]
First = Annotated[bool, option("--limit takes the first problems of the data, which are often the easy ones", WHAT)]
Subset = Annotated[int | None, a_count("as --limit, and tags do not count: a simple random sample", WHAT, metavar="L")]
Json = Annotated[bool, option("print rows as JSON on stdout and nothing else there", OUTPUT, name="--json")]
RunFolder = Annotated[Path, a_path("a run folder", metavar="RUN", completer=name_runs)]
RunFolders = Annotated[list[Path], a_path("run folders", metavar="RUN", completer=name_runs)]
Results = Annotated[list[Path], a_path("run folders, result files, or folders of them", metavar="RUNS", completer=name_runs)]
TaskFile = Annotated[Path | None, a_path("where a jsonl task's problems are on this machine", WHERE, metavar="FILE")]
NoiseFloor = Annotated[
    Literal["auto", "yes", "no"],
    option(
        "draw one member twice in other batches on a few problems: what numerics alone change (auto: where they can)",
        WHERE,
    ),
]
Rules = Annotated[
    Literal["default", "evalplus"],
    option(
        "whose rules decide: evalplus repeats evalplus 0.3.1 to the verdict, mistakes included (docs/explanation/security.md)",
        GRADED,
    ),
]
Embedding = Annotated[
    str | None,
    option(
        "a model of transformers for the metrics vendi[embedding,...]; on grade and rerun: where the run's one is here",
        GRADED,
        metavar="PATH|HUB-ID",
    ),
]
Metrics = Annotated[
    tuple[str, ...],
    option(
        "a metric of your own, of an installed package or on the import path; may be given several times "
        "(docs/how-to/add-a-metric.md); on grade: beside those of the run, in added.json",
        GRADED,
        name="--metric",
        metavar="NAME|MODULE:NAME",
    ),
]


def overrides(said: str) -> Parameter:
    """The option --set, which may be given several times."""
    return option(said, WHAT, name="--set", metavar="KEY=VALUE")


def name_engines(*_: object) -> list[str]:
    """Names of engines, for completion in the shell."""
    from spa_bench.cards.registry import known

    return known("engine")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Engine:
    """What does the stages of a run, and what it may cost."""

    engine: Annotated[
        tuple[str, ...],
        option(
            "what draws and scores: see `spa-bench list engines` and docs/how-to/engines.md (default hf: transformers, which "
            "also trains and measures divergence); STAGE=NAME,... for single stages; its options are --set engine.KEY=VALUE",
            WHERE,
            metavar="NAME|STAGE=NAME",
            completer=name_engines,
        ),
    ] = ()
    max_cost: Annotated[
        float | None,
        option(
            "dollars that a server may be paid for all runs of the command, at --set engine.price_in and engine.price_out for "
            "a million tokens: a call that could exceed them is not sent",
            WHERE,
            metavar="X",
        ),
    ] = None

    @property
    def named(self) -> str | None:
        """The engine as RunOptions.engine takes it."""
        return ",".join(self.engine) or None

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that these options stand for."""
        return () if self.max_cost is None else (f"engine.max_cost={self.max_cost}",)


NOISE = {"auto": None, "yes": True, "no": False}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded."""

    batch_size: Annotated[str, option("rows decoded together", WHERE, metavar="auto|B")] = "auto"
    trust_remote_code: Annotated[bool, option("run code that comes with the model", WHERE)] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Workers:
    """The workers among which a command shares its work."""

    executor: Annotated[
        Literal["local", "ray"],
        option("what workers are: processes of this machine, or actors of Ray (docs/how-to/scaling.md)", WHERE),
    ] = "local"
    num_workers: Annotated[int | None, a_count("workers (default: one, or one for each of --devices)", WHERE)] = None
    ray_address: Annotated[
        str | None,
        option("a running Ray cluster (default: Ray on this machine alone)", WHERE, metavar="auto|HOST:PORT|ray://HOST:PORT"),
    ] = None

    def executor_options(self) -> ExecutorOptions:
        """The options as spa_bench.executors takes them. Raises UsageError for those that do not fit."""
        from spa_bench.executors.options import ExecutorOptions

        return ExecutorOptions(kind=self.executor, workers=self.num_workers, address=self.ray_address)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelWorkers(Workers):
    """Workers that each hold the model."""

    devices: Annotated[str | None, option("a GPU for each local worker, with commas", WHERE, metavar="cuda:0,cuda:1")] = None
    gpus_per_worker: Annotated[
        float | None, option("of each Ray worker; 0.5: two share one (default: 1 where there are GPUs)", WHERE, metavar="X")
    ] = None

    def executor_options(self) -> ExecutorOptions:
        """See Workers. Raises UsageError for --devices that names none."""
        names = tuple(name.strip() for name in (self.devices or "").split(",") if name.strip())
        if self.devices is not None and not names:
            raise UsageError(f"--devices takes cpu, or cuda:N with commas between; got {self.devices!r}")
        return replace(super().executor_options(), devices=names, gpus=self.gpus_per_worker)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Machine(ModelWorkers, Loading):
    """The hardware on which a model runs, and how the model is loaded."""

    device: Annotated[str, option("auto, cpu or cuda", WHERE)] = "auto"
    dtype: Annotated[str, option("auto, float32, bfloat16 or float16", WHERE)] = "auto"
    threads: Annotated[int | None, a_count("CPU threads (default: the cores this process may use)", WHERE)] = None
    revision: Annotated[str | None, option("branch, tag or commit of a model on the hub", WHERE)] = None
    context: Annotated[
        int | None, a_count("tokens of prompt and answer together (default: as many as the model has positions)", WHERE)
    ] = None

    def options(self) -> ModelOptions:
        """The options as spa_bench.runs.reopen takes them."""
        from spa_bench.runs.reopen import ModelOptions

        return ModelOptions(
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            batch_size=self.batch_size,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            context=self.context,
            executor=self.executor_options(),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The data on which a sampler is trained."""

    data: Annotated[
        str | None,
        option(
            "training pairs instead of the card's (run: or of those in docs/how-to/real-models.md): "
            "a .jsonl, .json, .csv or .tsv file, one of these as .gz, .parquet, or hub:NAME, hub:NAME:SPLIT or "
            "hub:NAME:CONFIG:SPLIT; queries become 48 of them unless --queries is given (docs/how-to/data.md)",
            WHAT,
            metavar="SOURCE",
        ),
    ] = None
    queries: Annotated[
        str | None,
        option(
            "attribution queries instead of the card's: code or text (ours), a source as --data, sample or sample:M",
            WHAT,
            metavar="SOURCE",
        ),
    ] = None
    decontaminate: Annotated[
        bool, option("leave out training pairs that overlap the task's problems (docs/how-to/data.md)", WHAT)
    ] = False

    @property
    def settings(self) -> tuple[str, ...]:
        """What of these is a setting of the sampler's card, as --set takes it."""
        return ("data.decontaminate=true",) * self.decontaminate


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Judge:
    """The sandbox in which programs run."""

    sandbox: Annotated[
        str | None,
        option(
            "bwrap, docker, landlock (default: the first that works here) or none-i-trust-this-code; see `spa-bench doctor`",
            GRADED,
            metavar="NAME",
        ),
    ] = None
    workers: Annotated[int | None, a_count("programs at once, in each of --num-workers (default: its cores)", GRADED)] = None

    def options(self, price_per_hour: float | None = None) -> JudgeOptions:
        """The options as spa_bench.runs.perform takes them."""
        from spa_bench.runs.options import JudgeOptions

        return JudgeOptions(sandbox=self.sandbox, workers=self.workers, price_per_hour=price_per_hour)


Price = Annotated[
    float | None,
    option("what an hour of this machine costs: the price goes to timings.json", OUTPUT, metavar="X"),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Trackers:
    """The trackers that are told of runs."""

    log: Annotated[
        tuple[str, ...],
        option(
            "tell a tracker of the run: wandb, mlflow or trackio, with commas or several times (docs/how-to/trackers.md)",
            OUTPUT,
            metavar="NAME",
        ),
    ] = ()
    log_samples: Annotated[bool, option("give trackers the samples and verdicts too", OUTPUT)] = False
