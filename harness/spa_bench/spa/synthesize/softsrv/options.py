"""The options of softsrv: [synthesize.options] of a card."""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.samplers.asking.checks import is_share
from spa_bench.spa.synthesize.layout import LAYOUTS

FORMS = ("nsp", "mpk", "mc")
DRAWS = ("target", "mix", "target+noise")
_SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True, kw_only=True)
class SoftSRVOptions:
    """How the soft prompt is made, trained and used. The defaults were chosen on the embedded model."""

    form: str = "mc"  # nsp (the same prompt for all), mpk (a mixture of k prompts, by z) or mc (a small network of z)
    length: int = 16  # [vectors] T, the length of the soft prompt, which takes as many tokens of the context
    prompts: int = 2  # [prompts] mpk: k
    hidden: int = 32  # [units] mc: the width of the small network
    # own (pooled states of the model itself), embedded, or a model of transformers or sentence-transformers
    encoder: str = "own"
    layer: int = 0  # [layers] own: whose states are pooled; 0: the middle one
    # how a pair is one text: code (prompt and completion joined), pairs (with headings), or auto (code where that can split)
    layout: str = "auto"
    held_out: float = 0.125  # [share, above 0 to below 1] of the targets, one at least: for early stopping alone
    steps: int = 200  # [steps of the optimiser] the most
    batch: int = 8  # [texts] in each step
    learning_rate: float = 0.2  # [a step of AdamW] in units of the root mean square of the model's embeddings
    schedule: str = "cosine"  # after the warm-up: cosine or linear, both to 0 after the last step, or constant
    warmup: int = 10  # [steps] of the warm-up
    weight_decay: float = 0.0  # [a step of AdamW]
    clip: float = 1.0  # [gradient norm] the largest
    every: int = 20  # [steps] between two looks at the texts that are held out
    patience: int = 4  # [looks] without a better loss, after which training ends
    draw: str = "target+noise"  # z of a target, a mix of two targets' z, or a target's with noise
    noise: float = 0.5  # [standard deviations of z over the targets, 0 upward] target+noise: of what is added
    temperature: float = 1.0  # [0 upward] of drawing
    top_p: float = 1.0  # [above 0 to 1] of drawing
    max_new_tokens: int = 0  # [tokens] the most of a draft; 0: half as many again as the longest target has
    round: int = 64  # [drafts] in each round

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be."""
        for name, known in (("form", FORMS), ("draw", DRAWS), ("layout", LAYOUTS), ("schedule", _SCHEDULES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {value!r}; use {', '.join(known[:-1])} or {known[-1]}")
        for name in ("length", "prompts", "hidden", "steps", "batch", "every", "patience", "round"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("layer", "warmup", "weight_decay", "noise", "temperature", "max_new_tokens"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number from 0 upward")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        if self.form == "mpk" and self.prompts < 2:
            raise ValueError("prompts is 1, and a mixture of one prompt does not depend on z; use 2 or more, or form = 'nsp'")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it must be a share above 0 and below 1")
        is_share(top_p=self.top_p)
        if self.encoder == "tf-idf":
            raise ValueError("encoder is 'tf-idf', whose width is that of the words in the targets; use own, or a model")
