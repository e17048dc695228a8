"""Sums over the vocabulary from which divergences are computed, on the device that holds the logits.

Between members everything is a product of matrices or a sum over pairs, so K members cost one pass over the vocabulary. The
numbers of single tokens are float32 (or the `dtype` asked for). They are added in blocks of 512, and the sums of blocks in
float64: that is within 2e-7 of numpy's float64 (metrics.token_sums) at a fraction of its time, because a CPU's float64
exponentials and logarithms take two to four times as long. Powers of two instead of e, because torch's exp takes three times as
long as exp2 on a CPU. There, with a large vocabulary and where numba is installed, fused_sums.py does it in one pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from spa_bench.models.hf.raw_sums import BLOCK, RawSums

_TILE = {"cpu": 1 << 20, "cuda": 1 << 27}  # numbers of all members worked on at once; on a CPU so many stay in its cache
_PIECE = {"cpu": 1 << 16, "cuda": 1 << 26}  # numbers of a member in one step of the sums over pairs
_FUSED_FROM = 16384  # tokens of a vocabulary; with fewer, a run saves less than what numba takes to start
_LN2 = math.log(2)
_NOWHERE = -2000.0  # half a base-2 logarithm: its power of two is 0 in float32 and float64
_FAINT = 1e-9  # an affinity above it loses less than 1e-7 of itself to what float32 takes for 0


@dataclass(frozen=True, kw_only=True)
class TokenSums:
    """What `token_sums` finds for each of T tokens, in float64 on the logits' device. p_i are the K members' probabilities."""

    cross: Tensor  # (T, K, A): sum p_i log p_j; the columns behind the K-th are of the other rows
    never: Tensor  # (T, K, A): probability that i gives to tokens to which j gives none
    tv: Tensor  # (T, K, K), i < j: sum |p_i - p_j|
    pairs: Tensor  # (T, K, K), i < j: sum (p_i + p_j) log(p_i + p_j)
    affinity: Tensor  # (T, K, K): sum sqrt(p_i p_j)
    mixture: Tensor  # (T,): sum p log p of the mean of the members
    top: Tensor  # (T, 2, K): entropy and mass of the k likeliest tokens


def token_sums(logits: Tensor, members: int, *, top: int, dtype: torch.dtype = torch.float32) -> TokenSums | None:
    """The sums for logits (A, T, V), of which the first `members` rows are those of members; None if they are not finite.

    A logit of -inf is a token that cannot be. NaN and +inf make the result None, and so does a token without any possible next
    one. `top` is between 1 and V.
    """
    rows, tokens, vocabulary = logits.shape
    kind = "cpu" if logits.device.type == "cpu" else "cuda"
    size = min(tokens, max(1, _TILE[kind] // (rows * vocabulary)))
    if dtype is torch.float32 and (fused := fused_for(logits.device, vocabulary)) is not None:
        return _finished(fused.fused_sums(logits, members), logits, top, size)
    work = _Work(rows, members, vocabulary, tokens=size, device=logits.device, dtype=dtype)
    parts = [work.sums(part) for part in torch.split(logits, size, 1)]
    cuts = {f.name: [getattr(part, f.name) for part in parts] for f in fields(RawSums)}
    found = RawSums(**{name: torch.cat(cut, int(name == "total")) for name, cut in cuts.items()})
    return _finished(found, logits, top, size)


def _finished(sums: RawSums, logits: Tensor, top: int, size: int) -> TokenSums | None:
    """The sums of normalised probabilities; None as token_sums. Where something needs float64, `size` tokens at once."""
    mass, k = sums.mass, sums.mass.shape[1]
    norm = sums.total.log().T  # (T, A)
    cross, never = sums.cross / mass[..., None] - norm[:, None], torch.zeros_like(sums.cross)
    affinity = sums.affinity.clone()
    if not torch.isfinite(cross).all():
        if not torch.isfinite(sums.total).all() or not (sums.total > 0).all():
            return None
        for some in torch.split((~torch.isfinite(cross)).flatten(1).any(1).nonzero()[:, 0], size):
            cross[some], never[some] = _with_impossible(logits[:, some], k)
    for some in torch.split((affinity < _FAINT).flatten(1).any(1).nonzero()[:, 0], size):
        affinity[some] = _faint(logits[:k, some])
    even = (mass[:, :, None] + mass[:, None]) / 2
    return TokenSums(
        cross=cross,
        never=never,
        tv=(2 * (1 - sums.least / even)).clamp_min(0).triu(1),
        pairs=(sums.pairs * _LN2 / even - 2 * even.log()).triu(1),
        affinity=affinity,
        mixture=sums.mixture * _LN2 / (k * mass.mean(1)) - mass.mean(1).log() - math.log(k),
        top=_top(logits[:k], norm[:, :k], top),
    )


def fused_for(device: torch.device, vocabulary: int) -> ModuleType | None:
    """fused_sums.py where float32 sums over a vocabulary of that size are its: on a CPU, if numba works."""
    return _fused() if device.type == "cpu" and vocabulary >= _FUSED_FROM else None


@cache
def _fused() -> ModuleType | None:
    try:
        from spa_bench.models.hf import fused_sums
    except Exception:  # numba that lacks a library, or does not fit its numpy, raises OSError, AttributeError or SystemError
        return None
    return fused_sums


class _Work:
    """Buffers for the numbers of some tokens, used again for the next ones."""

    def __init__(self, rows: int, members: int, vocabulary: int, *, tokens: int, device: torch.device, dtype: torch.dtype):
        self._k, self._v = members, vocabulary
        self._piece = _PIECE["cpu" if device.type == "cpu" else "cuda"]
        wide = -(-vocabulary // BLOCK) * BLOCK
        self._half = torch.full((rows, tokens, wide), _NOWHERE, device=device, dtype=dtype)  # log2(p) / 2, but for a constant
        self._root, self._p = torch.empty_like(self._half), torch.empty_like(self._half)
        self._tiny = torch.tensor(1e-37 if dtype is torch.float32 else 1e-300, device=device, dtype=dtype)

    def sums(self, logits: Tensor) -> RawSums:
        """The sums of the logits (A, some tokens, V), of `tokens` tokens at most."""
        k, tokens = self._k, logits.shape[1]
        half, root, p = (buffer[:, :tokens] for buffer in (self._half, self._root, self._p))
        first = logits.to(half.dtype)
        torch.sub(first, first.amax(-1, keepdim=True), out=half[..., : self._v]).mul_(0.5 / _LN2)  # in this order it is exact
        torch.exp2(half, out=root)
        torch.mul(root, root, out=p)
        total = _blocks(p).sum(-1, dtype=torch.float64)  # (A, T)
        weight = total.reciprocal().to(p.dtype)
        p = p[:k].mul_(weight[:k, :, None])
        cross = torch.bmm(_flat(p), _flat(half).mT)  # where p is 0 so is this, also beside the least number of a type
        p.add_(self._tiny)  # nowhere 0, so that x log x is 0 where nothing is
        roots = torch.bmm(_flat(root[:k]), _flat(root[:k]).mT).view(tokens, -1, k, k).sum(1, dtype=torch.float64)
        length = total[:k].sqrt().T  # (T, K)
        least, pairs, mixture = _over_pairs(p, self._piece)
        return RawSums(
            total=total,
            mass=(total * weight)[:k].T,  # 1 but for the rounding of the weight
            cross=2 * _LN2 * cross.view(tokens, -1, k, len(half)).sum(1, dtype=torch.float64),
            affinity=roots / (length[:, :, None] * length[:, None]),
            least=least,
            pairs=pairs,
            mixture=mixture,
        )


def _blocks(numbers: Tensor) -> Tensor:
    """(..., W) -> the sums of blocks, (..., W / 512)."""
    return numbers.view(*numbers.shape[:-1], -1, BLOCK).sum(-1)


def _flat(numbers: Tensor) -> Tensor:
    """(R, T, W) -> (T · blocks, R, 512)."""
    return numbers.reshape(len(numbers), -1, BLOCK).transpose(0, 1)


def _log2(numbers: Tensor, out: Tensor) -> Tensor:
    """`out`, with the base-2 logarithm; on a CPU numpy's, which takes a third of the time of torch's."""
    if numbers.device.type == "cpu":
        np.log2(numbers.numpy(), out=out.numpy())
        return out
    return torch.log2(numbers, out=out)


def _over_pairs(p: Tensor, piece: int) -> tuple[Tensor, Tensor, Tensor]:
    """sum min(p_i, p_j) and sum s log2 s of s = p_i + p_j, (T, K, K) for i < j; sum s log2 s of all, (T,). p is (K, T, W)."""
    k, tokens, wide = p.shape
    least, pairs = (torch.zeros(tokens, k, k, dtype=torch.float64, device=p.device) for _ in range(2))
    mixture = torch.zeros(tokens, dtype=torch.float64, device=p.device)
    step = min(wide, max(1, piece // (tokens * BLOCK)) * BLOCK)
    one, other = (torch.empty(max(1, k - 1) * tokens * step, dtype=p.dtype, device=p.device) for _ in range(2))
    for start in range(0, wide, step):
        part = p[..., start : start + step]
        for i in range(k - 1):
            shape = (k - 1 - i, *part.shape[1:])
            a, b = (buffer[: math.prod(shape)].view(shape) for buffer in (one, other))
            torch.minimum(part[i], part[i + 1 :], out=a)
            least[:, i, i + 1 :] += _blocks(a).sum(-1, dtype=torch.float64).T
            torch.add(part[i], part[i + 1 :], out=a)
            pairs[:, i, i + 1 :] += _blocks(_log2(a, b).mul_(a)).sum(-1, dtype=torch.float64).T
        a, b = (buffer[: part[0].numel()].view(part[0].shape) for buffer in (one, other))
        torch.sum(part, 0, out=a)
        mixture += _blocks(_log2(a, b).mul_(a)).sum(-1, dtype=torch.float64)
    return least, pairs, mixture


def _with_impossible(logits: Tensor, members: int) -> tuple[Tensor, Tensor]:
    """`cross` and `never` of TokenSums where some logits are -inf: in float64, as 0 * -inf is NaN and not 0."""
    logs = logits.double().log_softmax(-1).transpose(0, 1)  # (T, A, V)
    impossible, p = logs.isneginf(), logs[:, :members].exp()
    return p @ logs.masked_fill(impossible, 0.0).mT, p @ impossible.to(p.dtype).mT


def _faint(logits: Tensor) -> Tensor:
    """`affinity` of TokenSums (T, K, K) of logits (K, T, V), in float64."""
    roots = (logits.double().log_softmax(-1) / 2).exp().transpose(0, 1)
    return roots @ roots.mT


def _top(logits: Tensor, norm: Tensor, k: int) -> Tensor:
    """Entropy and mass of the k likeliest tokens, (T, 2, K), of logits (K, T, V).

    `norm` (T, K) has the logarithm of the sum of exp(logit - the largest).
    """
    width = logits.shape[-1]
    group = max(1, math.isqrt(width // k))  # so that there are about as many groups as numbers in k of them
    groups = width // group
    best = logits
    if groups >= 4 * k:  # the k likeliest are in the k groups with the largest maxima, or behind the last group
        grouped = logits[..., : groups * group].reshape(*logits.shape[:-1], group, groups)
        likely = grouped.amax(-2).topk(k, sorted=False).indices[..., None, :].expand(*logits.shape[:-1], group, k)
        best = torch.cat([grouped.gather(-1, likely).flatten(-2), logits[..., groups * group :]], -1)
    found = best.topk(k, sorted=False).values.double().transpose(0, 1)  # (T, K, k)
    logs = found - found.amax(-1, keepdim=True) - norm[..., None]
    p = logs.exp()
    mass = p.sum(-1)
    entropy = mass.log() - (p * logs.clamp_min(-1e9)).sum(-1) / mass  # clamped, as 0 * -inf is NaN
    return torch.stack([entropy.clamp_min(0), mass], 1)
