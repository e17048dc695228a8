"""z = E(x): a text as one vector, which keeps less than the text says.

`own` is the mean over the text's tokens of the frozen model's states behind one of its layers, each text read alone. It needs
no other model and no network. Other encoders are those of spa_bench.spa.encoders. In both cases each number of z is taken minus
its mean over the targets and divided by its standard deviation there, so that z is in units of its own spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError
from spa_bench.models.hf.soft_prompt import SoftPrompts
from spa_bench.spa import encoders

OWN = "own"
Progress = Callable[[int, int], None]
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """An encoder and the spread of its vectors over the targets."""

    name: str
    layer: int  # own: whose states are pooled
    identity: dict[str, str]  # what distinguishes it from another of its name
    mean: Array  # (w,) over the targets
    spread: Array  # (w,) standard deviation over the targets; 1 where all targets have the same number

    @property
    def width(self) -> int:
        """Numbers in z."""
        return len(self.mean)

    def encode(self, soft: SoftPrompts, texts: Sequence[str], *, progress: Progress | None = None) -> Array:
        """z of each text, (n, w). Raises ModelError for an encoder that gives vectors of another width than it had."""
        return (
            (_raw(soft, self.name, self.layer, texts=texts, width=self.width, progress=progress) - self.mean) / self.spread
        ).astype(np.float32)


def fit_encoder(
    soft: SoftPrompts, name: str, layer: int, texts: Sequence[str], *, progress: Progress | None = None
) -> tuple[Encoder, Array]:
    """(the encoder of that name, z of each text), with means and standard deviations of these texts; layer 0 is the middle one.

    Raises ModelError or UsageError for the encoder.
    """
    layer = (layer or (soft.layers + 1) // 2) if name == OWN else 0
    raw = _raw(soft, name, layer, texts=texts, width=None, progress=progress)
    mean, spread = raw.mean(0), raw.std(0)
    spread = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, 1.0)
    identity = {"layer": str(layer)} if name == OWN else encoders.identity(name)
    encoder = Encoder(
        name=name,
        layer=layer,
        identity=identity,
        mean=mean.astype(np.float32),
        spread=spread.astype(np.float32),
    )
    return encoder, ((raw - encoder.mean) / encoder.spread).astype(np.float32)


def _raw(
    soft: SoftPrompts, name: str, layer: int, *, texts: Sequence[str], width: int | None, progress: Progress | None
) -> NDArray[np.float64]:
    if name == OWN:
        rows = []
        for done, text in enumerate(texts, 1):
            rows.append(_pooled(soft, layer, text))
            if progress:
                progress(done, len(texts))
        found = np.stack(rows)
    else:
        vectors, _ = encoders.encode(name, texts, progress=progress)
        found = np.asarray(vectors, np.float64)
    if width is not None and found.shape[1] != width:
        raise ModelError(
            f"the encoder {name!r} gives vectors of {found.shape[1]} numbers, and the soft prompt was trained on {width}: give "
            "the encoder that it was trained with, or train another one"
        )
    if not np.isfinite(found).all():
        raise ModelError(f"the encoder {name!r} gives a vector that is not finite; use another encoder")
    return found


def _pooled(soft: SoftPrompts, layer: int, text: str) -> NDArray[np.float64]:
    head, tail = soft.model.encode_pair("", text)
    ids = [*head, *tail[:-1]][: soft.model.context]
    states = soft.states(ids, layer)[len(head) :] if len(ids) > len(head) else soft.states(ids, layer)
    return states.double().mean(0).cpu().numpy()
