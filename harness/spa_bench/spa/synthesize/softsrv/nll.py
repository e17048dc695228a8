"""The negative log-likelihood of texts under a model as it is, and behind a soft prompt: of each text, for intervals.

For `mpk` and `mc` the likelihood of a text behind the soft prompt of its *own* z is no density of texts: z was made from the
text and says something about it. It shows how well training went. The sampler draws z from the targets, so what it writes has
the density of a mixture over their z: `mixture_nll` is comparable with `nsp` and with the model as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.soft_prompt import SoftPrompts
from spa_bench.spa.synthesize.softsrv import steered
from spa_bench.spa.synthesize.softsrv.encoding import Array
from spa_bench.spa.synthesize.softsrv.saving import SoftPrompt
from spa_bench.spa.synthesize.softsrv.training import Text, nats_of


@dataclass(frozen=True, kw_only=True, eq=False)
class TextNLL:
    """The negative log-likelihood of some texts."""

    nats: NDArray[np.float64]  # (n,) of each text, its end token included
    tokens: NDArray[np.int64]  # (n,) of each text, likewise

    @property
    def per_token(self) -> float:
        """All nats over all tokens."""
        return float(self.nats.sum() / self.tokens.sum())


def model_nll(model: HFModel, texts: Sequence[str]) -> TextNLL:
    """Under the model as it is, behind the tokens of an empty prompt. Raises DataError where a text does not fit."""
    nats, tokens = steered.plain_nll(model, texts)
    return TextNLL(nats=nats, tokens=tokens)


def own_nll(soft: SoftPrompts, prompt: SoftPrompt, texts: Sequence[str]) -> TextNLL:
    """Each text behind the soft prompt of its own z. Raises DataError where a text does not fit."""
    rows = steered.text_tokens(soft.model, texts, "text", room=prompt.options.length)
    z = prompt.z(soft, texts)
    nats = nats_of(soft, prompt.form, [Text(row, one) for row, one in zip(rows, z, strict=True)])
    return TextNLL(nats=nats, tokens=np.array([len(row) for row in rows]))


def mixture_nll(soft: SoftPrompts, prompt: SoftPrompt, texts: Sequence[str], z: Array) -> TextNLL:
    """-ln of the mean over `z` (M, w), M >= 1, of the likelihood behind the soft prompt of each; M passes over the texts."""
    rows = steered.text_tokens(soft.model, texts, "text", room=prompt.options.length)
    nats = np.stack([nats_of(soft, prompt.form, [Text(row, one) for row in rows]) for one in (z if z.shape[1] else z[:1])])
    mixed = np.log(len(nats)) - np.logaddexp.reduce(-nats, axis=0)
    return TextNLL(nats=mixed, tokens=np.array([len(row) for row in rows]))
