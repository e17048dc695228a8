"""Trains a soft prompt by AdamW, with early stopping on texts that are held out, and a checkpoint.

The loss of a step is the sum of the nats of all tokens of its texts over the number of these tokens, end tokens included and
prompts not. The held-out loss is the same over all held-out texts. The form with the lowest one is kept, that of the start
included: training never gives a worse one than it began with.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.soft_prompt import SoftPrompts
from spa_bench.spa.passes import TOKENS, row_groups
from spa_bench.spa.schedule import learning_rate, order
from spa_bench.spa.synthesize.softsrv.forms import form_of
from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.steered import Tokens, text_losses
from spa_bench.support.files import put
from spa_bench.support.interrupt import asked, pause_point
from spa_bench.support.seeds import derive_seed

Progress = Callable[[int, int], None]
_CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Text:
    """One target: its tokens with the end token, and its z."""

    tokens: Tokens
    z: NDArray[np.float32]  # (w,)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a training after some of its steps."""

    step: int
    train: float | None  # nats a token of the texts since the last look; None before the first step
    held_out: float  # nats a token


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a training went. Its result is the form that was given, in its best state."""

    looks: tuple[Look, ...]
    best: int  # the step whose state was kept
    stopped: str  # "early" or "at the last step"

    @property
    def held_out(self) -> float:
        """The lowest held-out loss in nats a token."""
        return min(look.held_out for look in self.looks)


@dataclass(kw_only=True)
class _State:
    """What a stopped training resumes from, beside parameters and moments."""

    step: int = 0
    nats: float = 0.0  # since the last look
    tokens: int = 0
    looks: list[Look] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # the parameters at the best look

    @property
    def best_look(self) -> Look:
        """The look with the lowest held-out loss, the first of equal ones."""
        return min(self.looks, key=lambda look: look.held_out)


def split_targets(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """(the targets that are trained on, those that are held out), of 0 to `count` - 1, drawn by the seed; one of each at least.

    Raises DataError for fewer than two.
    """
    if count < 2:
        raise DataError(
            f"{count} target{'s' * (count != 1)}: softsrv holds some out to know when to stop, so it needs 2 at least "
            "and some dozens to be of use; give more targets"
        )
    shuffled = np.random.default_rng(derive_seed(seed, "held out")).permutation(count).tolist()
    held = min(count - 1, max(1, round(share * count)))
    return sorted(shuffled[held:]), sorted(shuffled[:held])


def nats_of(soft: SoftPrompts, form: nn.Module, texts: Sequence[Text]) -> NDArray[np.float64]:
    """Nats of each text, (texts,), end token included, behind the soft prompt of its own z."""
    found = np.zeros(len(texts))
    for rows in _passes(soft, texts, range(len(texts))):
        with torch.no_grad():
            losses = _losses(soft, form, [texts[i] for i in rows])
        found[rows] = losses.double().cpu().numpy() * [len(texts[i].tokens) for i in rows]
    return found


class Training:
    """The training of `form` on `texts`; `keep` is where its checkpoint lies, None: there is none.

    It resumes from a checkpoint of the same `key`, which names everything that decides the training, with the same bytes.
    """

    def __init__(
        self,
        soft: SoftPrompts,
        form: nn.Module,
        texts: Sequence[Text],
        *,
        held_out: Sequence[Text],
        options: SoftSRVOptions,
        seed: int,
        keep: Path | None = None,
        key: str = "",
    ):
        self._soft, self._form, self._texts, self._held, self._options = soft, form, texts, held_out, options
        self._keep, self._key = keep, key
        self._card = LoraCard(
            steps=options.steps,
            batch=options.batch,
            learning_rate=options.learning_rate,
            schedule=options.schedule,
            warmup=options.warmup,
        )
        self._order = order([len(t.tokens) for t in texts], self._card, derive_seed(seed, "order"))
        self._parameters = dict(form.named_parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=options.learning_rate, weight_decay=options.weight_decay, foreach=True
        )

    def run(self, progress: Progress) -> Trained:
        """Train, and leave the best state in the form.

        Raises DataError where a loss or gradient is not finite, ModelError where memory ends.
        """
        options, state = self._options, self._resumed()
        if not state.looks:
            _in_memory(partial(self._look, state))
        saved = time.monotonic()
        while not self._over(state):
            _in_memory(partial(self._step, state))
            if state.step % options.every == 0 or state.step == options.steps:
                _in_memory(partial(self._look, state))
            progress(state.step, options.steps)
            if self._keep and (asked() or time.monotonic() - saved >= _CHECKPOINT_SECONDS):
                self._save(self._keep, state)
                saved = time.monotonic()
            pause_point()
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state.best[name])
        early = state.step < options.steps
        progress(options.steps, options.steps)
        return Trained(looks=tuple(state.looks), best=state.best_look.step, stopped="early" if early else "at the last step")

    def _over(self, state: _State) -> bool:
        since = [look for look in state.looks if look.step > state.best_look.step]
        return state.step >= self._options.steps or len(since) >= self._options.patience

    def _step(self, state: _State) -> bool:
        """Take the next step; the result is True. The loss of the step is added to those since the last look."""
        chosen = self._order[state.step]
        tokens = sum(len(self._texts[i].tokens) for i in chosen)
        self._optimizer.zero_grad(set_to_none=True)
        nats = 0.0
        for rows in _passes(self._soft, self._texts, chosen):
            texts = [self._texts[i] for i in rows]
            losses = _losses(self._soft, self._form, texts)
            counts = torch.tensor([float(len(t.tokens)) for t in texts], device=losses.device)
            whole = (losses * counts).sum()
            (whole / tokens).backward()  # type: ignore[no-untyped-call]
            nats += float(whole.detach())
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._options.clip)
        if not math.isfinite(nats) or not torch.isfinite(norm):
            what = "gradient" if math.isfinite(nats) else "loss"
            raise DataError(
                f"the {what} is not finite at step {state.step} of training the soft prompt: use a smaller "
                f"synthesize.options.learning_rate (it is {self._options.learning_rate:g}), or a model in float32 or bfloat16"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._card, state.step, self._options.steps)
        self._optimizer.step()
        state.step, state.nats, state.tokens = state.step + 1, state.nats + nats, state.tokens + tokens
        return True

    def _look(self, state: _State) -> bool:
        """Measure the held-out loss, and keep the parameters where it is the lowest; the result is True."""
        count = sum(len(t.tokens) for t in self._held)
        held_out = float(nats_of(self._soft, self._form, self._held).sum()) / count
        if not math.isfinite(held_out):
            raise DataError(
                f"the held-out loss is not finite after {state.step} steps of training the soft prompt: use a smaller "
                f"synthesize.options.learning_rate (it is {self._options.learning_rate:g}), or a model in float32 or bfloat16"
            )
        train = state.nats / state.tokens if state.tokens else None
        state.looks.append(Look(step=state.step, train=train, held_out=held_out))
        state.nats, state.tokens = 0.0, 0
        if state.best_look is state.looks[-1]:
            state.best = {name: p.detach().cpu().clone() for name, p in self._parameters.items()}
        return True

    # the checkpoint ------------------------------------------------------------------------------------------------------

    def _save(self, path: Path, state: _State) -> None:
        from safetensors.torch import save

        tensors = {f"best.{name}": value for name, value in state.best.items()}
        for name, parameter in self._parameters.items():
            tensors[f"now.{name}"] = parameter.detach().cpu().contiguous()
            for kind, moment in self._optimizer.state[parameter].items():
                tensors[f"{kind}.{name}"] = moment.detach().cpu().contiguous()
        looks = [[look.step, look.train, look.held_out] for look in state.looks]
        said = {"step": state.step, "nats": state.nats, "tokens": state.tokens, "looks": looks}
        put(path, save(tensors, metadata={"key": self._key, "state": json.dumps(said)}))

    def _resumed(self) -> _State:
        """The state of the checkpoint, whose parameters and moments are restored; a new one where there is none of this."""
        from safetensors import SafetensorError, safe_open

        if self._keep is None or not self._keep.exists():
            return _State()
        try:
            with safe_open(str(self._keep), framework="pt") as stream:
                meta, tensors = stream.metadata() or {}, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return _State()  # incomplete after a crash of the machine
        if meta.get("key") != self._key:
            return _State()
        said = json.loads(meta["state"])
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"now.{name}"])
                for kind in ("step", "exp_avg", "exp_avg_sq"):
                    if f"{kind}.{name}" in tensors:  # Adam counts its steps on the CPU
                        moment = tensors[f"{kind}.{name}"]
                        self._optimizer.state[parameter][kind] = moment if kind == "step" else moment.to(parameter.device)
        return _State(
            step=said["step"],
            nats=said["nats"],
            tokens=said["tokens"],
            looks=[Look(step=step, train=train, held_out=held_out) for step, train, held_out in said["looks"]],
            best={name: tensors[f"best.{name}"] for name in self._parameters},
        )


def _in_memory(act: Callable[[], bool]) -> None:
    if within_memory(act) is None:
        raise ModelError(
            "out of memory while a soft prompt is trained: use a smaller synthesize.options.batch, or shorter targets"
        )


def _passes(soft: SoftPrompts, texts: Sequence[Text], chosen: Sequence[int]) -> list[list[int]]:
    """The `chosen` texts in passes of a bounded number of tokens, the soft prompts not counted."""
    groups = row_groups([len(texts[i].tokens) for i in chosen], TOKENS[soft.device.type])
    return [[chosen[i] for i in group] for group in groups]


def _losses(soft: SoftPrompts, form: nn.Module, texts: Sequence[Text]) -> Tensor:
    """See text_losses; within it the backward pass of the caller works, as the prompts are tensors of their own."""
    device = next(form.parameters()).device
    z = torch.from_numpy(np.stack([t.z for t in texts])).to(device)
    return text_losses(soft, form_of(form)(z), [t.tokens for t in texts])
