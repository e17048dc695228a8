"""Whether vLLM's adapters do what transformers says that they do, before anything is drawn with them.

vLLM reads an adapter whose modules have names that it does not know as one without an effect, and says nothing: all members
would be the base, and their answers would look well. On a CPU, rows of the base that are read beside rows of adapters get the
factors of the last of vLLM's places (0.32). So a seeded row of tokens is scored by both, with each adapter and without, by vLLM
some times at once so that base and adapters meet in a batch; the reading that is furthest from transformers' counts.

With d = log p(token | adapter) - log p(token | base) over the T tokens, as a vector of each engine, an adapter is right where
rms(d_vllm - d_hf) is within the tolerance. The tolerance comes from the noise measured here: rms(base_vllm - base_hf), which is
what dtype and kernels do to the same tokens without an adapter. d is the difference of two such readings in each engine, so its
noise is at most twice that; twice as much again is left for the adapter's own products. Measured: docs/how-to/engines.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError
from spa_bench.models.engine import LoraAdapter, Target, TargetScores
from spa_bench.support.seeds import derive_seed

Score = Callable[[Sequence[Target]], Iterator[TargetScores]]

CONTEXT, TOKENS = 8, 56  # tokens of the row: 64 together, where the model has so many positions
COPIES = 4  # readings of each by vLLM
TIMES_NOISE = 4.0
LEAST = 2.5e-5  # nats: the last digits of a log-probability of float32, which is about -10 here, after some dozen layers
# The most that two readings of the same weights may differ by (rms, nats). Measured: 2e-5 in float32 (SmolLM2-135M) and 0.03 in
# bfloat16 (the embedded model). Larger models round more often; another model differs by 1 and more on random tokens.
SAME_MODEL = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.5}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the canary found of one adapter, in nats (rms over the tokens)."""

    effect: float  # of the adapter, as transformers has it
    apart: float  # vLLM's effect from that
    tolerance: float

    @property
    def measurable(self) -> bool:
        """Whether an adapter without an effect would be found out."""
        return self.effect > 2 * self.tolerance


def row(vocabulary: int, context: int, ends: frozenset[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(context, tokens) of the row: seeded, the same for all adapters and every run; without tokens that end an answer."""
    generator = np.random.Generator(np.random.Philox(derive_seed(0, "canary")))
    length = min(CONTEXT + TOKENS, context)
    usual = [t for t in generator.permutation(vocabulary).tolist() if t not in ends]
    ids = tuple((usual * (length // len(usual) + 1))[:length])
    head = max(1, length * CONTEXT // (CONTEXT + TOKENS))
    return ids[:head], ids[head:]


def check(
    adapters: Sequence[LoraAdapter],
    texts: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    hf: dict[str, NDArray[np.float64]],
    vllm: dict[str, NDArray[np.float64]],
    dtype: str,
) -> dict[str, Checked]:
    """What is found of each adapter, by name; `hf` and `vllm` give the (T,) log-probabilities by name, "" for the base.

    Raises ModelError where vLLM runs another base, or an adapter has not the effect that transformers says.
    """
    noise = _rms(vllm[""] - hf[""])
    if not noise <= SAME_MODEL[dtype]:
        raise ModelError(
            f"vLLM's base is another model than the one loaded here: log-probabilities of {len(texts[1])} seeded tokens differ "
            f"by {noise:.3g} nats, where {dtype} allows {SAME_MODEL[dtype]:g}; start vLLM with the same model and revision, "
            f"and on a CPU with --max-loras above the number of adapters"
        )
    tolerance = TIMES_NOISE * max(noise, LEAST)
    effects = {a.name: (hf[a.name] - hf[""], vllm[a.name] - vllm[""]) for a in adapters}
    found = {
        name: Checked(effect=_rms(told), apart=_rms(seen - told), tolerance=tolerance) for name, (told, seen) in effects.items()
    }
    for adapter in adapters:
        one = found[adapter.name]
        if one.measurable and not one.apart <= tolerance:
            seen = effects[adapter.name][1]
            raise ModelError(
                f"the adapter in {adapter.folder} has not the effect in vLLM that transformers gives it: it changes "
                f"log-probabilities by {_rms(seen):.3g} nats and should by {one.effect:.3g} "
                f"({_why(adapter.name, effects, tolerance)}); draw with --engine hf, or name its modules as the model does"
            )
    return found


def _why(name: str, effects: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], tolerance: float) -> str:
    """What vLLM seems to have done."""
    seen = effects[name][1]
    if _rms(seen) <= tolerance:
        return "it was ignored, as adapters are whose modules vLLM does not know by name"
    for other, (told, _) in effects.items():
        if other != name and _rms(seen - told) <= tolerance:
            return f"the effect is that of {other}: the two are swapped"
    return f"off by {_rms(seen - effects[name][0]):.3g}, noise allows {tolerance:.3g}: part of it is read otherwise"


def targets(adapters: Sequence[LoraAdapter], texts: tuple[tuple[int, ...], tuple[int, ...]]) -> list[Target]:
    """The row for the base and for each adapter, named by the adapter."""
    context, tokens = texts
    return [Target(name=a.name if a else "", context=context, tokens=tokens, adapter=a) for a in (None, *adapters)]


def logprobs(
    score: Score, wanted: Sequence[Target], *, near: dict[str, NDArray[np.float64]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """The log-probabilities that `score` gives, by name; of several of one name those furthest from `near`.

    Raises ModelError where they are missing or not finite.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for scores in score(wanted):
        name, read = scores.name, scores.logprobs
        if not np.isfinite(read).all():  # of one reading among several, too
            raise _missing(name)
        if name not in found or (near is not None and _rms(read - near[name]) > _rms(found[name] - near[name])):
            found[name] = read
    for target in wanted:
        if target.name not in found:
            raise _missing(target.name)
    return found


def _missing(name: str) -> ModelError:
    return ModelError(f"no finite log-probabilities of seeded tokens for {name or 'the base model'}")


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
