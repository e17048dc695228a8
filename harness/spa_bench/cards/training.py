"""The tables of a sampler card that say how SPA trains: [data], [attribution], [partition], [lora].

They are frozen dataclasses with defaults. `check` checks the values once, when a card is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

from spa_bench.cards.checks import not_negative, one_of, positive
from spa_bench.cards.registry import TABLES
from spa_bench.errors import CardError

DAMPINGS = ("relative", "absolute")
CURVATURES = ("identity", "cosine", "fisher", "datainf", "ekfac", "lissa")
FEATURES = ("lora", "projection", "core")
CORES = ("random", "pca", "adapter")
OF_READING = ("columns", "labels", "unusable")
"""The keys of [data] that say how the rows of a source are read."""
_MOST_PAIRS = 100_000_000  # pairs that a member may read: their order is drawn before the first step
_MOST_EPOCHS = 1000
_MOST_DIMENSIONS = 1 << 24  # dimensions of a projection: beyond these an example takes more memory than its gradient


@dataclass(frozen=True)
class ColumnsCard:
    """The names of the columns of the data; empty: recognised by the shape of the rows."""

    prompt: str = ""  # the column with the question or instruction
    input: str = ""  # a column whose text is put below the prompt, where a row has it
    completion: str = ""  # the column with the answer
    messages: str = ""  # a column with a list of turns, instead of the three above


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """The instruction set and the attribution queries."""

    # the training pairs: "mini", "mini-nlu", a file (JSON lines, JSON, CSV, Parquet), from the current folder on, "hub:NAME",
    # "hub:NAME:SPLIT" or "hub:NAME:CONFIG:SPLIT"
    examples: str = "mini"
    # the pairs for which examples are scored: as `examples`, or "code" or "text" (ours, on the paper's subjects), "sample" or
    # "sample:M"
    queries: str = "mini"
    columns: ColumnsCard = field(default_factory=ColumnsCard)  # which column of the data is which
    template: str = "auto"  # for instructions: auto (the model's chat template, else Alpaca's), chat, alpaca or plain
    # pairs that repeat an earlier one: keep (and count them), drop or refuse; such queries: left out (and counted) or refused
    duplicates: str = "keep"
    labels: str = "auto"  # what label and kto_tag say: auto (true and false: KTO's), kto (0 and 1 too) or ignore
    unusable: str = "refuse"  # rows without text or an answer, or that the chat template refuses: refuse or drop, counted
    decontaminate: bool = False  # leave out (and count) pairs that overlap the task's problems
    # [share, above 0 to 1] the part of the fitting examples, drawn with the seed; a larger share contains a smaller one
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class AttributionCard:
    """How examples are scored against queries; each method reads the keys that concern it."""

    method: str = "influence"  # influence, bm25, embedding, random, or package.module:function
    curvature: str = "fisher"  # influence: identity, cosine, fisher, datainf, ekfac or lissa
    damping: float = 0.1  # [eigenvalues, see damping_kind] influence: what is added to the curvature's eigenvalues
    damping_kind: str = "relative"  # relative: times the mean eigenvalue (datainf, ekfac: of each block); absolute: unscaled
    features: str = "lora"  # influence: lora (the adapter's gradient), projection (of that gradient) or core (LoGra)
    dimensions: int = 0  # [numbers] projection: of each example (0: 4096); core: k, for k x k of each module (0: 16)
    core: str = "random"  # core: the projection of a layer's input and output gradient: random, pca or adapter
    checkpoints: tuple[int, ...] = (0,)  # [steps] influence: of a warm-up on all data; scores are the mean over these
    curvature_examples: int = 256  # [examples] influence: how many examples the curvature is estimated from; 0: all
    factors: str = "tokens"  # ekfac: the second moments whose eigenvectors are the basis: of tokens, or of whole gradients
    draws: int = 1  # [labels] ekfac, lissa: labels that are drawn for each of these examples
    normalize: bool = False  # influence: divide by the norm of the example's gradient
    depth: int = 120  # [products] lissa: products with the curvature in one run of the recursion
    repeats: int = 1  # [runs] lissa: runs that are averaged; the paper takes 500 for code, 200 for text
    scale: float = 0.0  # [above 0] lissa: divides the curvature so that the recursion converges; 0: measured
    lissa_batch: int = 16  # [examples] lissa: examples in each product
    variant: str = "plus"  # bm25: plus (the formula that the paper prints) or okapi
    encoder: str = "tf-idf"  # embedding: tf-idf, or a model of sentence-transformers or transformers


@dataclass(frozen=True, kw_only=True)
class PartitionCard:
    """How scores become K disjoint parts that cover the data."""

    method: str = "argmax"  # argmax (the paper's), balanced, kmeans, kmeans-embedding, random, file, package.module:function
    scale: str = "zscore"  # how each query's scores are scaled: zscore, rank or none
    capacity: float = 1.0  # [N / K examples, 1 upward] balanced: the most examples in a part
    least: int = 1  # [examples] the fewest examples in a part
    encoder: str = "tf-idf"  # kmeans-embedding: as attribution.encoder
    file: str = ""  # file: a .json list, or a text file of lines, with the part of each example; from the current folder on


@dataclass(frozen=True, kw_only=True)
class LoraCard:
    """How one adapter is trained. Steps are counted per adapter, as in the SPA paper."""

    rank: int = 8  # [dimensions] of LoRA's factors
    alpha: float = 16.0  # [above 0] the product of the factors is scaled by alpha / rank
    dropout: float = 0.0  # [share, 0 to below 1] of the adapter's input that is dropped, with another mask for each layer
    # "all-linear": all linear layers but the output layer, or the last names of some: ["q_proj", "v_proj"]
    targets: str | tuple[str, ...] = "all-linear"
    steps: int = 24  # [steps of the optimiser] of each adapter, repeating its part as often as that takes; 0: epochs decides
    epochs: float = 0.0  # [passes] over the adapter's own part, where steps = 0; the last step may have fewer pairs
    # [pairs] the most of a member in one forward and backward pass, of at most 1,024 tokens (GPU: 8,192) of all members
    batch: int = 16
    # [batches] in each step, which has batch x accumulation pairs; how these are split into passes changes nothing
    accumulation: int = 1
    learning_rate: float = 2e-3  # [a step of AdamW] at the end of the warm-up
    schedule: str = "cosine"  # after the warm-up: cosine or linear, both to 0 after the last step, or constant
    warmup: int = 2  # [steps] of the warm-up; the first has 1 / warmup of the rate
    weight_decay: float = 0.0  # [a step of AdamW] on both factors
    clip: float = 1.0  # [gradient norm] the largest of one member
    loss: str = "completion"  # which tokens count: completion (with its end token), or all but the first
    # [tokens] the most of a pair, and of a packed row; 0: the model's context. Longer pairs are left out and counted
    length: int = 0
    packing: bool = False  # several pairs in one row, without attention between them: the same training in fewer columns
    # of activations: float32 leaves them in the dtype of the base; bfloat16 by autocast, while factors, their gradients and
    # moments stay float32
    precision: str = "float32"
    # keep each block's input alone and compute activations twice: the same gradients; done anyway where memory is short
    gradient_checkpointing: bool = False
    together: int = 0  # [members] trained in one stacked pass; 0: as many as memory holds


def without_effect(settings: Iterable[str], used: Sequence[str]) -> list[str]:
    """The settings of [data] that have none where nothing but the keys `used` is read; unknown keys are not among them."""
    idle = {f"data.{f.name}" for f in fields(DataCard) if f.name not in used}
    return [key for key in settings if ".".join(key.split(".")[:2]) in idle]


def concerns(card: AttributionCard) -> frozenset[str]:
    """The keys that can change the scores of the card's method; for a method of the user's own, all keys."""
    own = {"bm25": {"variant"}, "embedding": {"encoder"}, "random": set[str]()}
    if card.method != "influence":
        return frozenset({"method"} | own.get(card.method, {f.name for f in fields(card)}))
    keys = {f.name for f in fields(card)} - {"variant", "encoder"}
    if card.features == "lora":
        keys -= {"dimensions"}
    if card.features != "core":
        keys -= {"core"}
    if card.curvature != "lissa":
        keys -= {"depth", "repeats", "scale", "lissa_batch"}
    if card.curvature != "ekfac":
        keys -= {"factors"}
    if card.curvature not in {"ekfac", "lissa"}:
        keys -= {"draws"}
    if card.curvature in {"identity", "cosine"}:
        keys -= {"damping", "damping_kind"} | (
            set() if card.core == "pca" and card.features == "core" else {"curvature_examples"}
        )
    return frozenset(keys)


def check(where: str, *, data: DataCard, attribution: AttributionCard, partition: PartitionCard, lora: LoraCard) -> None:
    """Raises CardError for the first invalid value; `where` names the card."""
    one_of(where, "data.template", data.template, ("auto", "plain", "alpaca", "chat"))
    named = [c for c in (data.columns.prompt, data.columns.input, data.columns.completion) if c]
    if len(set(named)) < len(named):
        raise CardError(f"{where}: data.columns names {', '.join(named)}; each is a column of its own")
    one_of(where, "data.duplicates", data.duplicates, ("keep", "drop", "refuse"))
    one_of(where, "data.labels", data.labels, ("auto", "kto", "ignore"))
    one_of(where, "data.unusable", data.unusable, ("refuse", "drop"))
    if data.columns.messages and data.columns != ColumnsCard(messages=data.columns.messages):
        raise CardError(f"{where}: data.columns.messages takes the place of prompt, input and completion: name it alone")
    positive(where, {"data.share": data.share})
    if data.share > 1:
        raise CardError(f"{where}: data.share is {data.share}; it is a share of the examples, at most 1")
    _attribution(where, attribution)
    if ":" not in partition.method:
        one_of(where, "partition.method", partition.method, tuple(TABLES["partition"]))
    one_of(where, "partition.scale", partition.scale, ("zscore", "rank", "none"))
    positive(where, {"partition.least": partition.least})
    if not 1 <= partition.capacity < math.inf:
        raise CardError(f"{where}: partition.capacity is {partition.capacity}; from 1 on the parts can hold all examples")
    if ":" not in partition.method and (partition.method == "file") != bool(partition.file):
        raise CardError(f'{where}: partition.method = "file" and partition.file = "parts.json" need each other')
    _lora(where, lora)


def _attribution(where: str, card: AttributionCard) -> None:
    if ":" not in card.method:
        one_of(where, "attribution.method", card.method, tuple(TABLES["attribution"]))
    one_of(where, "attribution.curvature", card.curvature, CURVATURES)
    one_of(where, "attribution.damping_kind", card.damping_kind, DAMPINGS)
    one_of(where, "attribution.features", card.features, FEATURES)
    one_of(where, "attribution.core", card.core, CORES)
    one_of(where, "attribution.factors", card.factors, ("tokens", "gradients"))
    one_of(where, "attribution.variant", card.variant, ("plus", "okapi"))
    positive(where, {f"attribution.{k}": getattr(card, k) for k in ("damping", "depth", "repeats", "lissa_batch", "draws")})
    not_negative(where, {f"attribution.{k}": getattr(card, k) for k in ("dimensions", "curvature_examples", "scale")})
    if card.dimensions > _MOST_DIMENSIONS:
        raise CardError(f"{where}: attribution.dimensions is {card.dimensions}; it must be at most {_MOST_DIMENSIONS}")
    steps = card.checkpoints
    if not steps or min(steps) < 0 or len(set(steps)) < len(steps):
        raise CardError(f"{where}: attribution.checkpoints is {list(steps)}; it takes different numbers of steps, 0 or more")
    if card.features == "core" and card.core == "adapter" and 0 in steps:
        raise CardError(
            f'{where}: attribution.core = "adapter" has no gradient at LoRA\'s start, where B = 0: use checkpoints after '
            "a warm-up, such as [24], or another core"
        )
    if card.features == "projection" and card.curvature == "ekfac":
        raise CardError(f'{where}: curvature "ekfac" needs the layers apart: use features "lora" or "core", not "projection"')
    if card.features != "lora" and card.curvature == "lissa":
        raise CardError(f'{where}: curvature "lissa" works on features "lora" alone; got {card.features!r}')


def _lora(where: str, card: LoraCard) -> None:
    one_of(where, "lora.schedule", card.schedule, ("cosine", "linear", "constant"))
    one_of(where, "lora.loss", card.loss, ("completion", "all"))
    one_of(where, "lora.precision", card.precision, ("float32", "bfloat16"))
    positive(
        where, {f"lora.{k}": getattr(card, k) for k in ("rank", "alpha", "batch", "accumulation", "learning_rate", "clip")}
    )
    not_negative(
        where,
        {f"lora.{k}": getattr(card, k) for k in ("weight_decay", "warmup", "dropout", "steps", "epochs", "length", "together")},
    )
    if not card.targets or "" in tuple(card.targets):
        raise CardError(f'{where}: lora.targets is {card.targets!r}; it takes "all-linear" or last names of linear layers')
    if bool(card.steps) == bool(card.epochs):
        raise CardError(f"{where}: lora.steps is {card.steps} and lora.epochs {card.epochs}: one says how long, the other is 0")
    if card.steps * card.batch * card.accumulation > _MOST_PAIRS or card.epochs > _MOST_EPOCHS:
        raise CardError(
            f"{where}: {card.steps} steps of {card.batch * card.accumulation} pairs, {card.epochs:g} epochs; a member reads at "
            f"most {_MOST_PAIRS} pairs in steps, or {_MOST_EPOCHS} epochs"
        )
    if card.dropout >= 1:
        raise CardError(f"{where}: lora.dropout is {card.dropout}; it is a share below 1")
