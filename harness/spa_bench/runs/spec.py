"""The spec of a run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that can change a number of a run; its hash names the run folder."""

    sampler: dict[str, object]  # the card, with overrides applied
    task: dict[str, object]  # the card, the version of the data and its hash
    model: dict[str, object]  # name, hash of weights and tokenizer
    data: dict[str, object]  # instruction set and queries with their hashes; empty when the sampler trains nothing
    n: int | None  # draws a problem; None: not the same for all problems (samples from elsewhere)
    seed: int
    limit: int | None
    numerics: dict[str, object]  # device, dtype, threads, CPU capability
    sandbox: str  # that grading is to use; metrics.json says which one ran
    grading: str  # whose rules decide: default or evalplus
    versions: dict[str, str] = field(default_factory=dict)
    code: dict[str, object] = field(default_factory=dict)  # git, dirty, source hash; `sampler`: that of a kind of the user's
    engine: dict[str, object] = field(default_factory=dict)  # beside hf: name, stages and options; see runs/engines.py
    engines: dict[str, str] = field(default_factory=dict)  # stage -> the engine that does it, or "none"
    unable: dict[str, str] = field(default_factory=dict)  # stage without an engine -> why
    noise_floor: bool | int = False  # problems that one member answers twice, in other batches; True: see runs/noise_floor.py
    embedding: dict[str, object] = field(default_factory=dict)  # name and hash of the model behind the embedding kernel
    metrics: dict[str, str] = field(default_factory=dict)  # metrics of the user's own: package.module:METRIC, hash of the file
