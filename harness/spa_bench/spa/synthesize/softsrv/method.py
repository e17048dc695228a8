"""The method softsrv: see the package's own words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from spa_bench.cards.kinds import as_declared
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting
from spa_bench.spa.synthesize.layout import layout_of
from spa_bench.spa.synthesize.softsrv.drawing import draw_round, most_tokens
from spa_bench.spa.synthesize.softsrv.encoding import Array, Encoder, fit_encoder
from spa_bench.spa.synthesize.softsrv.forms import make_form, parameter_count
from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.saving import SoftPrompt, load_prompt, save_prompt, saved_key
from spa_bench.spa.synthesize.softsrv.steered import plain_nll, prompted, text_tokens
from spa_bench.spa.synthesize.softsrv.training import Text, Training, split_targets
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Example

FOLDER = "soft-prompt"  # below what prepare keeps: the trained soft prompt
_CHECKPOINT = "soft-prompt.training"


@dataclass(frozen=True, kw_only=True)
class PreparedSoftSRV(Prepared):
    """What draws with a trained soft prompt."""

    prompt: SoftPrompt


class SoftSRV:
    """See spa_bench.spa.synthesize.base.Synthesizer.

    Raises UsageError for a model whose network is not here, DataError for targets that cannot be trained on: fewer than two,
    one that a soft prompt leaves no room for, one that cannot be read back from its text.
    """

    def __init__(self, setting: Setting):
        from spa_bench.models.hf.soft_prompt import SoftPrompts

        self._options = as_declared(setting.card.options, SoftSRVOptions)
        self._model, self._seed, targets = prompted(setting.model), setting.seed, setting.targets
        self._taught, self._held = split_targets(len(targets), self._options.held_out, self._seed)
        self._layout = layout_of(self._options.layout, targets)
        self._texts = [self._layout.text(target) for target in targets]
        self._tokens = text_tokens(self._model, self._texts, "target", room=self._options.length)
        self._soft = SoftPrompts(self._model)

    def prepare(self, *, progress: Progress, kept: Path) -> PreparedSoftSRV:
        """See Synthesizer.prepare: train the soft prompt, or take the one that lies in `kept`/soft-prompt."""
        encoder, z = self._encoded()
        key = self._key(encoder)
        folder = kept / FOLDER
        if saved_key(folder) == key:
            prompt = replace(load_prompt(folder, self._soft), options=self._options)  # which may draw otherwise
        else:
            prompt = self._trained(encoder, z, progress, kept / _CHECKPOINT, key)
            save_prompt(prompt, folder, self._model, key=key)
        (kept / _CHECKPOINT).unlink(missing_ok=True)
        drawing = partial(self._round, prompt, z[self._taught])
        return PreparedSoftSRV(facts=self._facts(prompt), round=drawing, prompt=prompt)

    def _round(self, prompt: SoftPrompt, z: Array, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        """See Prepared.round; `z` is of the targets that are trained on, and `pairs` have no effect."""
        longest = max(map(len, self._tokens))
        yield from draw_round(
            self._soft,
            prompt,
            z,
            self._taught,
            seed=derive_seed(self._seed, "softsrv", number),
            limit=most_tokens(self._options, longest, self._model.context),
        )

    def _encoded(self) -> tuple[Encoder | None, Array]:
        """(the encoder, z of all targets): its means and standard deviations are those of the targets that are trained on."""
        if self._options.form == "nsp":
            return None, np.zeros((len(self._texts), 0), np.float32)
        encoder, taught = fit_encoder(
            self._soft, self._options.encoder, self._options.layer, [self._texts[i] for i in self._taught]
        )
        z = np.zeros((len(self._texts), encoder.width), np.float32)
        z[self._taught] = taught
        z[self._held] = encoder.encode(self._soft, [self._texts[i] for i in self._held])
        return encoder, z

    def _trained(self, encoder: Encoder | None, z: Array, progress: Progress, keep: Path, key: str) -> SoftPrompt:
        form = make_form(
            self._options,
            self._drawn_tokens,
            width=encoder.width if encoder else 0,
            scale=self._soft.scale(),
            seed=derive_seed(self._seed, "form"),
        ).to(self._soft.device)
        rows = [Text(tokens, one) for tokens, one in zip(self._tokens, z, strict=True)]
        training = Training(
            self._soft,
            form,
            [rows[i] for i in self._taught],
            held_out=[rows[i] for i in self._held],
            options=self._options,
            seed=self._seed,
            keep=keep,
            key=key,
        )
        trained = training.run(progress)
        return SoftPrompt(form=form, options=self._options, encoder=encoder, layout=self._layout, trained=trained)

    def _drawn_tokens(self, count: int) -> torch.Tensor:
        """The embeddings (count, d) of tokens drawn from those of the targets that are trained on, by the seed."""
        known = [token for i in self._taught for token in self._tokens[i]]
        places = np.random.default_rng(derive_seed(self._seed, "start")).integers(len(known), size=count)
        return self._soft.rows([known[place] for place in places]).float().cpu()

    def _key(self, encoder: Encoder | None) -> str:
        """A hash of everything that decides the soft prompt."""
        options = {k: v for k, v in asdict(self._options).items() if k not in _OF_DRAWING}
        said = [options, self._seed, self._texts, self._model.describe(), self._model.training_numerics()]
        said += [encoder.identity if encoder else None]
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()

    def _facts(self, prompt: SoftPrompt) -> dict[str, object]:
        held = [self._texts[i] for i in self._held]
        nats, counts = plain_nll(self._model, held)
        looks = prompt.trained.looks
        return {
            "form": self._options.form,
            "prompt_vectors": self._options.length,
            "parameters": parameter_count(prompt.form),
            "layout": prompt.layout.name,
            "encoder": None if prompt.encoder is None else {"name": prompt.encoder.name, **prompt.encoder.identity},
            "targets": len(self._taught),
            "held_out": len(self._held),
            "steps": looks[-1].step,
            "best_step": prompt.trained.best,
            "stopped": prompt.trained.stopped,
            "nats_per_token": {
                "model": float(nats.sum() / counts.sum()),
                "start": looks[0].held_out,
                "trained": prompt.trained.held_out,
            },
            "looks": [asdict(look) for look in looks],
        }


_OF_DRAWING = {"draw", "noise", "temperature", "top_p", "max_new_tokens", "round"}  # options without effect on training
