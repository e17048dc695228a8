"""The engine protocol: token ids in, token ids and sums out. Below a model that knows texts, see spa_bench.models.text.

A model has an engine for each stage: one that trains, one that draws, one that scores and one that measures divergence. They
may all be the same. An engine says what it can do; a stage never goes to an engine that cannot do it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from spa_bench.errors import ModelError
from spa_bench.support.provenance import hash_folder
from spa_bench.types import Decoding, DivergenceSums, Key, Member

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Stage = Literal["train", "draw", "score", "divergence"]
"""What an engine does in a run: train adapters, draw answers, score given texts, measure divergence between members."""
STAGES: tuple[Stage, ...] = get_args(Stage)

Pair = tuple[list[int], list[int]]
"""Token ids of a context and of its continuation, the end token included."""


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter in PEFT's format, named by its content: two folders with the same files are one adapter to an engine."""

    folder: Path
    hash: str  # of the files in the folder

    @staticmethod
    def at(folder: Path) -> LoraAdapter:
        """The adapter in `folder`. Its files are read once, and again only where its weights were written since.

        Raises ModelError where there is no such folder.
        """
        if not folder.is_dir():
            raise ModelError(f"no PEFT adapter in {folder}: there is no such folder")
        weights = folder / "adapter_model.safetensors"
        return _adapter_at(folder, weights.stat().st_mtime_ns if weights.exists() else 0)

    @property
    def name(self) -> str:
        """The name under which servers and caches know the adapter."""
        return f"spa-{self.hash}"


@lru_cache(maxsize=256)
def _adapter_at(folder: Path, _written: int) -> LoraAdapter:
    return LoraAdapter(folder, hash_folder(folder))


@runtime_checkable
class ChecksDecoding(Protocol):
    """An engine or a model that knows which decodings it can do, beside those of temperature, top-p, top-k and min-p."""

    def check_decoding(self, decoding: Decoding) -> None:
        """Raise ModelError for a knob in use (Decoding.rare) that it would ignore, or would not do as defined."""
        ...


def check_decoding(who: str, able: object, decoding: Decoding) -> None:
    """Raise ModelError where `able`, which messages call `who`, cannot draw by `decoding`, or does not say that it can."""
    if isinstance(able, ChecksDecoding):
        able.check_decoding(decoding)
    elif decoding.rare:
        raise cannot_draw(who, decoding.rare[0])


def cannot_draw(who: str, knob: str) -> ModelError:
    """The refusal of a decoding whose `knob` would be ignored."""
    return ModelError(f"{who} cannot draw with decoding.{knob}; use --engine hf, or a sampler without {knob}")


def adapters_of(members: Sequence[Member]) -> list[LoraAdapter | None]:
    """The adapter of each member; None for the base."""
    return [None if member.adapter is None else LoraAdapter.at(member.adapter) for member in members]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One answer to draw."""

    key: Key
    prompt: tuple[int, ...]  # token ids, one at least
    adapter: LoraAdapter | None  # None: the base model
    decoding: Decoding  # its stop strings are looked for in the text of the new tokens
    seed: int  # 63 bits: the draw depends on it, and on nothing random beside
    limit: int  # the most new tokens, 1 at least: prompt and answer fit the context


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One answer in tokens, or why there is none."""

    key: Key
    tokens: tuple[int, ...] = ()  # the end token included where it was drawn; the first stop string may lie before their end
    finish: Literal["stop", "length", "failed"]
    failure: str = ""  # why there is no answer, on one line; "" where there is one
    spent: int | None = None  # of a failed draw: the tokens that were drawn for nothing; None: not known


@dataclass(frozen=True, kw_only=True)
class Target:
    """Tokens to score behind a context."""

    name: str  # by which the caller knows it
    context: tuple[int, ...]  # token ids, one at least
    tokens: tuple[int, ...]  # T token ids, one at least
    adapter: LoraAdapter | None


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetScores:
    """What a model gives each token of a target."""

    name: str
    logprobs: NDArray[np.float64]  # (T,): log-probability in nats, temperature 1, no truncation
    ranks: NDArray[np.int64]  # (T,): 1 is the likeliest token; tokens of equal probability may share or split ranks


class Engine(Protocol):
    """Draws and scores token ids with a model and its adapters.

    Every method raises ModelError, on one line, where the engine dies, hangs or answers nonsense. What it gave before that is
    kept by the caller, who asks again for the rest.
    """

    name: str  # as in --engine and in specs

    @property
    def can(self) -> frozenset[Stage]:
        """The stages that this engine can do."""
        ...

    @property
    def context(self) -> int | None:
        """The most tokens of context and continuation together; None: as many as the model has positions.

        A target may be one token longer: its last token is scored and not read.
        """
        ...

    def fingerprint(self) -> dict[str, object]:
        """Version and settings: everything that can change the last digits. Numbers and words, for `numerics` in a spec."""
        ...

    def open(self, adapters: Sequence[LoraAdapter]) -> None:
        """Make ready to draw and score with the base and `adapters`, in any mixture. It may be called again with others.

        Raises ModelError where an adapter cannot be used, or has no effect that it should have.
        """
        ...

    def batch_free(self, columns: Sequence[int]) -> bool:
        """Whether answers have the same bytes in every batch, where context and answer have `columns` tokens together."""
        ...

    def draw(self, draws: Sequence[Draw]) -> Iterator[Drawn]:
        """One answer a draw, in any order, each as soon as it is there."""
        ...

    def score(self, targets: Sequence[Target]) -> Iterator[TargetScores]:
        """The scores of each target, in any order."""
        ...

    def divergence(
        self,
        pairs: Sequence[Pair],
        adapters: Sequence[LoraAdapter | None],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums]:
        """The sums of each pair, in order, between the members with these `adapters`; see Model.divergence."""
        ...

    def close(self) -> None:
        """Free what the engine holds. It opens again when it is needed."""
        ...
