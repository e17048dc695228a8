"""Sums over the vocabulary from which divergences are computed, on the device that holds the logits.

Between members everything is a product of matrices or a sum over pairs, so K members cost one pass over the vocabulary. The
numbers of single tokens are float32 (or the `dtype` asked for). They are added in blocks of 512, and the sums of blocks in
float64: that is within 2e-7 of numpy's float64 (metrics.token_sums) at a fraction of its time, because a CPU's float64
exponentials and logarithms take two to four times as long. Powers of two instead of e, because torch's exp takes three times as
long as exp2 on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

_BLOCK = 512  # numbers added in the working type; their sums are added in float64
_GROUP = 16  # entries a group; the search for the top k looks at the maximum of each group first
_TILE = {"cpu": 1 << 20, "cuda": 1 << 27}  # numbers of all members worked on at once; on a CPU so many stay in its cache
_PIECE = {"cpu": 1 << 16, "cuda": 1 << 26}  # numbers of a member in one step of the sums over pairs
_LN2 = math.log(2)
_NOWHERE = -2000.0  # half a base-2 logarithm: its power of two is 0 in float32 and float64


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
    work = _Work(
        rows,
        members,
        vocabulary,
        tokens=min(tokens, max(1, _TILE[kind] // (rows * vocabulary))),
        device=logits.device,
        dtype=dtype,
    )
    parts = []
    for start in range(0, tokens, work.tokens):
        part = work.sums(logits[:, start : start + work.tokens], top, _PIECE[kind])
        if part is None:
            return None
        parts.append(part)
    return TokenSums(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(TokenSums)})


class _Work:
    """Buffers for the numbers of some tokens, used again for the next ones."""

    def __init__(self, rows: int, members: int, vocabulary: int, *, tokens: int, device: torch.device, dtype: torch.dtype):
        self.tokens, self._k, self._v = tokens, members, vocabulary
        wide = -(-vocabulary // _BLOCK) * _BLOCK
        self._half = torch.full((rows, tokens, wide), _NOWHERE, device=device, dtype=dtype)  # log2(p) / 2, but for a constant
        self._root, self._p = torch.empty_like(self._half), torch.empty_like(self._half)
        self._tiny = torch.tensor(1e-37 if dtype is torch.float32 else 1e-300, device=device, dtype=dtype)

    def sums(self, logits: Tensor, top: int, piece: int) -> TokenSums | None:
        """See token_sums; `logits` are of at most `tokens` tokens."""
        k, tokens = self._k, logits.shape[1]
        half, root, p = (buffer[:, :tokens] for buffer in (self._half, self._root, self._p))
        first = logits.to(half.dtype)
        torch.add(first.amax(-1, keepdim=True) * (-0.5 / _LN2), first, alpha=0.5 / _LN2, out=half[..., : self._v])
        torch.exp2(half, out=root)
        torch.mul(root, root, out=p)
        total = _blocks(p).sum(-1, dtype=torch.float64)  # (A, T)
        weight = total.reciprocal().to(p.dtype)
        p = p[:k]
        torch.addcmul(self._tiny, p, weight[:k, :, None], out=p)  # nowhere 0, so that x log x is 0 where nothing is
        mass = (total * weight)[:k].T  # (T, K): the sums of p, which are 1 but for the rounding of the weight
        norm = total.log().T[:, None]  # (T, 1, A)
        raw = torch.bmm(_flat(p), _flat(half).mT).view(tokens, -1, k, len(half)).sum(1, dtype=torch.float64)
        cross, never = raw * (2 * _LN2) / mass[..., None] - norm, torch.zeros_like(raw)
        if not torch.isfinite(cross).all():
            if not torch.isfinite(total).all() or not (total > 0).all():
                return None
            cross, never = _with_impossible(logits, k)
        roots = torch.bmm(_flat(root[:k]), _flat(root[:k]).mT).view(tokens, -1, k, k).sum(1, dtype=torch.float64)
        length = total[:k].sqrt().T  # (T, K)
        least, pairs, mixture = _over_pairs(p, piece)
        even = (mass[:, :, None] + mass[:, None]) / 2
        return TokenSums(
            cross=cross,
            never=never,
            tv=(2 * (1 - least / even)).clamp_min(0).triu(1),
            pairs=(pairs * _LN2 / even - 2 * even.log()).triu(1),
            affinity=roots / (length[:, :, None] * length[:, None]),
            mixture=mixture * _LN2 / (k * mass.mean(1)) - mass.mean(1).log() - math.log(k),
            top=_top(half[:k, :, : self._v], norm[:, 0, :k], top),
        )


def _blocks(numbers: Tensor) -> Tensor:
    """(..., W) -> the sums of blocks, (..., W / 512)."""
    return numbers.view(*numbers.shape[:-1], -1, _BLOCK).sum(-1)


def _flat(numbers: Tensor) -> Tensor:
    """(R, T, W) -> (T · blocks, R, 512)."""
    return numbers.reshape(len(numbers), -1, _BLOCK).transpose(0, 1)


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
    step = min(wide, max(1, piece // (tokens * _BLOCK)) * _BLOCK)
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


def _top(half: Tensor, norm: Tensor, k: int) -> Tensor:
    """Entropy and mass of the k likeliest tokens, (T, 2, K), from log2(p) / 2 but for a constant, (K, T, V)."""
    width = half.shape[-1]
    groups = width // _GROUP
    best = half
    if width >= 4 * k * _GROUP:  # the k likeliest are in the k groups with the largest maxima, or behind the last group
        grouped = half[..., : groups * _GROUP].view(*half.shape[:-1], _GROUP, groups)
        likely = grouped.amax(-2).topk(k, sorted=False).indices[..., None, :].expand(*half.shape[:-1], _GROUP, k)
        best = torch.cat([grouped.gather(-1, likely).flatten(-2), half[..., groups * _GROUP :]], -1)
    logs = best.topk(k, sorted=False).values.double().transpose(0, 1) * (2 * _LN2) - norm[..., None]  # (T, K, k)
    p = logs.exp()
    mass = p.sum(-1)
    entropy = mass.log() - (p * logs.clamp_min(-1e9)).sum(-1) / mass  # clamped, as 0 * -inf is NaN
    return torch.stack([entropy.clamp_min(0), mass], 1)
