"""What `run`, `grade` and `score` take beside what they draw, grade or score: frozen values, as runs/perform.py takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spa_bench.executors.options import ExecutorOptions
from spa_bench.runs.reopen import ModelOptions

Rules = Literal["default", "evalplus"]  # the rules by which verdicts are given


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How answers are judged on this machine."""

    sandbox: str | None = None  # a name of spa_bench.sandbox.SANDBOXES; None: the first that works here
    workers: int | None = None  # programs that run at once, in each worker where there are some; None: as many as it has cores
    price_per_hour: float | None = None  # the cost of an hour of this machine, for timings.json; None: unknown


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run beside its sampler and its task."""

    model: str | None = None  # a name or a path; None: the embedded model for its own tasks, smollm2 for others
    loading: ModelOptions = field(default_factory=ModelOptions)
    engine: str | None = None  # NAME or STAGE=NAME, as chosen_engine takes it; None: hf
    n: int | None = None  # answers to each problem; None: the card's number
    seeds: tuple[int, ...] = (0,)  # one run for each seed
    limit: int | None = None  # how many problems, drawn with a seed, every tag in proportion; None: all
    first: bool = False  # `limit` takes the first problems of the data instead
    data: str | None = None  # the source of training pairs; None: the card's source, or what runs.defaults takes
    queries: str | None = None  # the source of attribution queries, likewise
    settings: tuple[str, ...] = ()  # KEY=VALUE, as --set takes them
    noise_floor: bool | None = None  # None: measured where numerics can change a text
    until: Literal["generate", "grade"] = "grade"
    rules: Rules = "default"
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    embedding: str | None = None  # the model behind the embedding kernel
    metrics: tuple[str, ...] = ()  # metrics of the user's own
    out: Path = Path("runs")
    quiet: bool = False  # whether nothing is told while the run is made


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """How existing runs are graded."""

    judge: JudgeOptions = field(default_factory=JudgeOptions)
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)  # which workers grade
    task_file: Path | None = None  # the file of a jsonl task's problems on this machine
    embedding: str | None = None  # the place of the runs' embedding model on this machine
    metrics: tuple[str, ...] = ()  # metrics of the user's own, beside those of the runs


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How samples from a file are scored."""

    name: str | None = None  # the name of the samples in tables; None: the file's name
    cut: bool = False  # cut completions at the task's stop strings first
    partial: bool = False  # problems may be without samples: the metrics are of those that have some
    seed: int | None = None  # the batch: batches of one name are seeds of one sampler; None: each file is a sampler
    settings: tuple[str, ...] = ()  # KEY=VALUE of the task's card, as --set takes them
    rules: Rules = "default"
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)  # which workers grade
    embedding: str | None = None
    metrics: tuple[str, ...] = ()
    out: Path = Path("runs")
    quiet: bool = False  # whether nothing is told meanwhile
