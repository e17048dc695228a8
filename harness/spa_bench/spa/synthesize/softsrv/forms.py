"""The three forms of a soft prompt P(z): T vectors of the model's width d, for each z of width w.

`nsp`:  P = P, T x d numbers; z has no effect. This is prompt tuning.

`mpk`:  P(z) = sum over i of a_i P_i with a = softmax(W z / sqrt(w) + b): k prompts of T x d numbers, and W (k x w) and b (k).
The mixture is convex, so P(z) stays between prompts that were trained, whatever z is drawn.

`mc`:   P_t(z) = B_t + C gelu(A z / sqrt(w) + E_t) / sqrt(H), with B (T x d), A (H x w), E (T x H) and C (d x H). One small
network of H hidden units is shared by the T places; E_t makes it another function of z at each of them. It has
T d + H (w + T + d) numbers, where a network for each place would have T H (w + d). C is zero at the start, as LoRA's second
factor is: training starts as that of nsp.

The result is multiplied by `scale`, the root mean square of the model's embeddings. So, with the roots of w and H, all
numbers that are trained are about as large as 1, and one learning rate does for all of them and for every model. Prompts begin
as embeddings of tokens of the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions


class Form(Protocol):
    """What training, drawing and saving need of a form."""

    def __call__(self, z: Tensor) -> Tensor:
        """z (B, w) -> prompts (B, T, d) in the parameters' type."""
        ...


class _Form(nn.Module):
    """The number by which the parameters are multiplied."""

    scale: Tensor

    def __init__(self, scale: float):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))


class SharedPrompt(_Form):
    """The form nsp."""

    def __init__(self, start: Tensor, scale: float):
        super().__init__(scale)
        self.prompt = nn.Parameter(start / scale)  # (T, d)

    def forward(self, z: Tensor) -> Tensor:
        """See Form."""
        return (self.prompt * self.scale).expand(len(z), -1, -1)


class MixedPrompts(_Form):
    """The form mpk."""

    def __init__(self, starts: Tensor, weights: Tensor, scale: float):
        super().__init__(scale)
        self.prompts = nn.Parameter(starts / scale)  # (k, T, d)
        self.weights = nn.Parameter(weights)  # (k, w)
        self.bias = nn.Parameter(torch.zeros(len(starts), dtype=weights.dtype))

    def forward(self, z: Tensor) -> Tensor:
        """See Form."""
        shares = functional.linear(z * z.shape[-1] ** -0.5, self.weights, self.bias).softmax(-1)
        return torch.einsum("bk,ktd->btd", shares, self.prompts * self.scale)


class SmallNetwork(_Form):
    """The form mc."""

    def __init__(self, start: Tensor, into: Tensor, places: Tensor, scale: float):
        super().__init__(scale)
        self.prompt = nn.Parameter(start / scale)  # (T, d)
        self.into = nn.Parameter(into)  # (H, w)
        self.places = nn.Parameter(places)  # (T, H)
        self.out = nn.Parameter(torch.zeros(start.shape[-1], into.shape[0], dtype=into.dtype))  # (d, H)

    def forward(self, z: Tensor) -> Tensor:
        """See Form."""
        inner = functional.linear(z * z.shape[-1] ** -0.5, self.into)
        hidden = functional.gelu(inner[:, None] + self.places) * self.places.shape[-1] ** -0.5
        return (self.prompt + functional.linear(hidden, self.out)) * self.scale


def make_form(options: SoftSRVOptions, tokens: Callable[[int], Tensor], *, width: int, scale: float, seed: int) -> nn.Module:
    """A form at its start, in float32. `tokens(n)` gives the embeddings (n, d) of n tokens drawn from the targets.

    `width` is that of z. The parameters depend on `seed` and on `tokens`.
    """
    generator = torch.Generator().manual_seed(seed)
    length, hidden = options.length, options.hidden

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator)

    if options.form == "nsp":
        return SharedPrompt(tokens(length), scale)
    if options.form == "mpk":
        k = options.prompts
        return MixedPrompts(tokens(k * length).view(k, length, -1), normal(k, width), scale)
    return SmallNetwork(tokens(length), normal(hidden, width), normal(length, hidden), scale)


def form_of(form: nn.Module) -> Form:
    """`form`, typed."""
    return cast(Form, form)


def empty_form(options: SoftSRVOptions, *, dimensions: int, width: int) -> nn.Module:
    """A form of the right shapes, whose parameters are to be loaded; `dimensions` is d."""
    return make_form(options, lambda n: torch.zeros(n, dimensions), width=width, scale=1.0, seed=0)


def parameter_count(form: nn.Module) -> int:
    """The number of numbers that are trained."""
    return sum(p.numel() for p in form.parameters())
