"""Sums over the vocabulary on a CPU, in one pass that numba compiles: what token_sums does without it takes many.

Numbers are float32 and are added in blocks of 512, and the sums of blocks in float64, as in token_sums. Powers of two and
logarithms to the base 2 are polynomials, because numba's own are calls that no vector unit speeds up: of degree 6 on
[-1/2, 1/2] and of degree 9 on [2/3, 4/3], fitted in Chebyshev nodes. With their coefficients in float32 they are off by 2e-8 of
the power and by 2.2e-8 of the logarithm, where float32 itself rounds by 6e-8.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from spa_bench.models.hf.raw_sums import BLOCK, RawSums

if numba.config.DISABLE_JIT:
    raise ImportError("with NUMBA_DISABLE_JIT nothing here works")

_NOWHERE = np.float32(-4000)  # a logarithm whose power is 0
_HOW: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},  # sums in any order; NaN and infinity stay what they are
    "error_model": "numpy",  # a division by zero is infinite
}
_LOG2E = np.float32(1 / math.log(2))
_LOW, _ONE, _ZERO, _HALF = np.float32(-126), np.float32(1), np.float32(0), np.float32(0.5)
_POWER = (
    *(0.693147206710621, 0.2402265121359527, 0.0555032721420803, 0.009618025602948556),
    *(0.001340043216584037, 0.00015469731980711),
)
_LOGARITHM = (
    *(1.442695046571559, -0.7213465412593498, 0.4808958169693849, -0.3607895627385413, 0.2887182898962333, -0.2367866406706997),
    *(0.20169900143384606, -0.22222056041850338, 0.2032371916390104),
)
_E1, _E2, _E3, _E4, _E5, _E6 = map(np.float32, _POWER)  # 2 ** y = 1 + y (E1 + y (E2 + ...
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = map(np.float32, _LOGARITHM)  # log2(1 + y) = y (L0 + y (L1 + ...
_BIAS, _FRACTION = np.int32(127), np.int32(23)  # of the exponent of a float32, and the bits behind it
_TWO_THIRDS, _BEHIND = np.int32(0x3F2AAAAB), np.int32(0x007FFFFF)  # the bits of 2/3; those of the fraction


@intrinsic
def _bits_of(_: Any, number: Any) -> Any:
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def _number_of(_: Any, bits: Any) -> Any:
    """The float32 with these bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@numba.njit(**_HOW, inline="always")
def _exp2(x: Any) -> Any:
    """2 ** x for x of at most 0; 0 below the least normal number, NaN for NaN."""
    held = _LOW if x < _LOW else x
    whole = np.floor(held + _HALF)
    y = held - whole
    power = _ONE + y * (_E1 + y * (_E2 + y * (_E3 + y * (_E4 + y * (_E5 + y * _E6)))))
    return _ZERO if x < _LOW else power * _number_of((np.int32(whole) + _BIAS) << _FRACTION)


@numba.njit(**_HOW, inline="always")
def _xlog2x(x: Any) -> Any:
    """x log2 x for x of at least 0; 0 for 0."""
    bits = _bits_of(x) - _TWO_THIRDS
    y = _number_of((bits & _BEHIND) + _TWO_THIRDS) - _ONE
    part = _L0 + y * (_L1 + y * (_L2 + y * (_L3 + y * (_L4 + y * (_L5 + y * (_L6 + y * (_L7 + y * _L8)))))))
    return x * (np.float32(bits >> _FRACTION) + y * part)


@numba.njit(**_HOW)
def _largest(row: Any, room: Any) -> Any:
    """The largest number of a row; any number where one is NaN. `room` is for a block: a maximum of one number is slow."""
    room[:] = row[0]
    for start in range(0, len(row), BLOCK):
        some = row[start : start + BLOCK]
        for i in range(len(some)):
            room[i] = max(room[i], some[i])
    found = room[0]
    for i in range(BLOCK):
        found = max(found, room[i])
    return found


@numba.njit(**_HOW)
def _fill(row: Any, logs: Any, powers: Any) -> Any:
    """Fill `logs` with logit - the largest and `powers` with exp of that; their sum.

    That is NaN where a logit is NaN, or the largest infinite.
    """
    largest = _largest(row, powers[:BLOCK])
    for i in range(len(row)):
        logs[i] = row[i] - largest
    total = np.float64(0)
    for start in range(0, len(logs), BLOCK):
        log, power = logs[start : start + BLOCK], powers[start : start + BLOCK]
        part = _ZERO
        for i in range(BLOCK):
            power[i] = _exp2(log[i] * _LOG2E)
            part += power[i]
        total += part
    return total


@numba.njit(**_HOW)
def _add_pairs(p: Any, roots: Any, between: Any) -> None:
    """Add a block's sums over each pair of members: p and their roots are (K, 512); for the sums see `_sums`."""
    for i in range(len(p)):
        for j in range(i + 1, len(p)):
            one, other, root, other_root = p[i], p[j], roots[i], roots[j]
            products, minima, sums = _ZERO, _ZERO, _ZERO
            for v in range(BLOCK):
                products += root[v] * other_root[v]
                minima += min(one[v], other[v])
                sums += _xlog2x(one[v] + other[v])
            between[0, i, j] += products
            between[1, i, j] += minima
            between[2, i, j] += sums


@numba.njit(**_HOW)
def _add_mixture(p: Any, mixed: Any) -> Any:
    """A block's sum of s log2 s, where s are the sums of all members; `mixed` is room for them."""
    mixed[:] = p[0]
    for i in range(1, len(p)):
        one = p[i]
        for v in range(BLOCK):
            mixed[v] += one[v]
    part = _ZERO
    for v in range(BLOCK):
        part += _xlog2x(mixed[v])
    return part


class _Found(NamedTuple):
    """Arrays for the sums of T tokens, which begin as zeros; see RawSums."""

    total: Any  # (A, T)
    cross: Any  # (T, K, A)
    between: Any  # (T, 3, K, K), i < j: sum sqrt(p_i p_j), `least` and `pairs`
    mixture: Any  # (T,)


def _sums(share: Any, logits: Any, found: Any) -> None:
    """Add to `found`, a _Found, the sums of the tokens from share[0] to share[1] - 1.

    The logits are contiguous: others would be added in another order, and slowly.
    """
    total, cross, between, mixture = found
    rows, _, vocabulary = logits.shape
    members, wide = cross.shape[1], -(-vocabulary // BLOCK) * BLOCK
    logs, powers = np.full((rows, wide), _NOWHERE), np.empty((rows, wide), np.float32)
    p, roots, mixed = (
        np.empty((members, BLOCK), np.float32),
        np.empty((members, BLOCK), np.float32),
        np.empty(BLOCK, np.float32),
    )
    for t in range(share[0], share[1]):
        for a in range(rows):
            total[a, t] = _fill(logits[a, t], logs[a], powers[a])
        for start in range(0, wide, BLOCK):
            for i in range(members):
                weight, one, root, power = np.float32(1 / total[i, t]), p[i], roots[i], powers[i, start : start + BLOCK]
                for v in range(BLOCK):
                    one[v] = power[v] * weight
                    root[v] = np.sqrt(one[v])
            for i in range(members):
                one = p[i]
                for a in range(rows):
                    log, part = logs[a, start : start + BLOCK], _ZERO
                    for v in range(BLOCK):
                        part += one[v] * log[v]
                    cross[t, i, a] += part
            _add_pairs(p, roots, between[t])
            mixture[t] += _add_mixture(p, mixed)


@cache
def _compiled() -> Any:
    """`_sums`, compiled for the vector units at hand, and kept on disk where there is room to write it."""
    nothing = np.zeros((1, 0, 0), np.float32), _Found(np.zeros((1, 0)), *map(np.zeros, ((0, 1, 1), (0, 3, 1, 1), (0,))))
    try:
        kept = numba.njit(**_HOW, nogil=True, cache=True)(_sums)
        kept((0, 0), *nothing)
    except Exception:  # no folder can be written, the disk is full, or a machine that died left half of what was kept
        return numba.njit(**_HOW, nogil=True)(_sums)
    return kept


def fused_sums(logits: Tensor, members: int) -> RawSums:
    """The sums of logits (A, T, V); those of a token do not depend on its company, nor on torch's number of threads."""
    rows, tokens, _ = logits.shape
    numbers = logits.float().contiguous().numpy()
    shapes = (rows, tokens), (tokens, members, rows), (tokens, 3, members, members), (tokens,)
    found = _Found(*map(np.zeros, shapes))

    def take(thread: int) -> None:
        share = tokens * thread // threads, tokens * (thread + 1) // threads
        sums(share, numbers, found)

    sums = _compiled()
    threads = min(tokens, torch.get_num_threads())
    if threads == 1:
        take(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(take, range(threads)))
    total, cross, between, mixture = map(torch.from_numpy, found)
    mass = (total * total.reciprocal().float())[:members].T
    roots, least, pairs = between.unbind(1)
    half = roots / (mass[:, :, None] * mass[:, None]).sqrt()
    return RawSums(
        total=total,
        mass=mass,
        cross=cross,
        affinity=half + half.mT + torch.eye(members, dtype=half.dtype),
        least=least,
        pairs=pairs,
        mixture=mixture,
    )
