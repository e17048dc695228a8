"""One adapter in training: its factors, its optimiser and its schedule of examples.

Its start, the order of its data and its dropout come from its own seed, so that it learns the same beside any other members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError
from spa_bench.models.hf.placed import layer_device
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear, initial_down
from spa_bench.spa.batches import Encoded
from spa_bench.spa.packing import Sample
from spa_bench.spa.schedule import learning_rate, order
from spa_bench.support.seeds import derive_seed


class Trainee:
    """Member `number` at LoRA's start, to be trained on `rows`."""

    def __init__(
        self,
        number: int,
        rows: Sequence[Encoded],
        card: LoraCard,
        seed: int,
        layers: Mapping[str, StackedLinear],
        *,
        first: int = 0,
    ):
        self.number, self._name = number, first + number
        self._rows, self._card, self._seed = rows, card, seed
        self._order = order([len(r.ids) for r in rows], card, seed)
        self.steps = len(self._order)
        generator = torch.Generator().manual_seed(seed)
        places = {p: layer_device(layer.base) for p, layer in layers.items()}  # factors lie beside their layer
        drawn = {p: initial_down(layer.base.in_features, card.rank, generator) for p, layer in layers.items()}
        self.down = {p: low.to(places[p]) for p, low in drawn.items()}
        self.up = {p: torch.zeros(card.rank, layer.base.out_features, device=places[p]) for p, layer in layers.items()}
        self.parameters = [f.requires_grad_() for f in (*self.down.values(), *self.up.values())]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=card.learning_rate, weight_decay=card.weight_decay, foreach=True)

    def samples(self, step: int) -> list[Sample]:
        """The samples that the member reads at `step`."""
        return [Sample(self._rows[i], derive_seed(self._seed, step, j)) for j, i in enumerate(self._order[step])]

    def reads(self, step: int) -> int:
        """The number of pairs that the member reads at `step`."""
        return len(self._order[step])

    def update(self, step: int) -> None:
        """Take step `step` of the optimiser on the collected gradients. Raises DataError when they are not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._card.clip)
        if not torch.isfinite(norm):
            raise self.not_finite("gradient", step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self._card, step, self.steps)
        try:
            self.optimizer.step()
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise self.not_finite("size", step) from error
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():  # after the last step no loss would show it
            largest = torch._foreach_norm([p.detach() for p in self.parameters], torch.inf)
        if not all(float(one) < torch.inf for one in largest):
            raise self.not_finite("size", step)

    def not_finite(self, what: str, step: int) -> DataError:
        """The error for a loss, gradient or weight that is NaN or infinite at `step`."""
        pairs = ", ".join(map(str, self._order[step]))
        if what == "loss" and step == 0:
            remedy = "the adapter is still zero, so the model itself gives it: use float32, and look for NaN in its weights"
        else:
            remedy = "lower lora.learning_rate"
        return DataError(
            f"the {what} of adapter {self._name} is not finite at step {step}; {remedy} (the batch: pairs {pairs} of its part)"
        )

    def adapter(self) -> Adapter:
        """A copy of the current adapter, on the CPU."""
        factors = {
            p: (self.down[p].detach().to("cpu", copy=True), self.up[p].detach().T.to("cpu", copy=True).contiguous())
            for p in self.down
        }
        return Adapter(factors, self._card.rank, self._card.alpha)
