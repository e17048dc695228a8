"""The possible values of one problem: their ranges, when they are null, and how metrics bound each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.leaderboard.coverage import any_of_column
from spa_bench.metrics.missing import with_nan
from spa_bench.metrics.pass_at_k import pass_at_k
from spa_bench.metrics.rarefaction import has_size
from spa_bench.sandbox import NOT_NEEDED
from spa_bench.types import Verdict

_SLACK = 1e-6  # values are kept with 10 digits
_VENDI_SLACK = 0.25  # for a mean of logarithms: subsets are sampled where there are many
EFFECTIVE, BEHAVIOUR, VENDI = "effective_diversity[ast,correct]", "effective_diversity[behaviour,ran]", "vendi[ngram,q=1]"
OPEN = ("distinct_k[class]", "utility_k[class]", "quality[judged]")
FloatArray = NDArray[np.float64]


def runs_code(spec: Mapping[str, Any]) -> bool:
    """Whether the answers of a run with that spec are programs, so that metrics of syntax trees have values."""
    return bool(spec["sandbox"] != NOT_NEEDED)


def is_open(run: Mapping[str, Any]) -> bool:
    """Whether a run's answers are neither right nor wrong."""
    return bool(run["verdicts"].get(Verdict.UNJUDGED, 0))


def value_faults(result: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """The impossible values of one run, a sentence each; shape and counts must be in order."""
    values, n, size = run["values"], result["n"], result["size"]
    yield from _null_faults(result, run, values, whole=True)
    for at, table in run["values_at"].items():
        if n is None or has_size(n, result["members"], int(at)):
            yield from (f"at {at}: {fault}" for fault in _null_faults(result, run, table, whole=False))
        elif any(v is not None for column in table.values() for v in column):
            yield f"at {at}: it has values, but {result['members']} members give no such number of draws"
    table = {name: with_nan(column) for name, column in values.items()}
    if is_open(run):
        yield from _open_faults(result, run)
        return
    if np.isnan(table["pass@1"]).any():
        return  # reported above; the checks below depend on it
    if n is not None:
        yield from _grid_faults(table, n, run["verdicts"].get("passed", 0))
    yield from _pass_faults(table, result)
    nothing = run["counts"]["failed"] > 0
    yield from _vendi_faults(table[VENDI], size, nothing=nothing, whole=n is not None)
    yield from _any_faults(result, values, run["values_at"])
    if (table["average_kl[i<j]"] < -_SLACK).any():
        yield "average_kl[i<j] has values outside its range: it is at least 0"
    yield from _above_quality(table)
    yield from _choice_faults(table)
    for at, smaller in sorted(run["values_at"].items(), key=lambda item: int(item[0])):
        columns = {name: with_nan(column) for name, column in smaller.items()}
        faults = [
            *_size_faults(columns, table, int(at), size, one=result["members"] == 1),
            *_above_quality({**table, **columns}),
        ]
        faults += _vendi_faults(columns[VENDI], int(at), nothing=nothing, whole=False)
        if n is not None and not nothing and not faults:
            faults += _entropy_faults(columns[VENDI], table[VENDI], int(at))
        yield from (f"at {at}: {fault}" for fault in faults)


def _open_faults(result: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """Faults of the columns of answers that are neither right nor wrong, at every size."""
    if lacking := [name for name in OPEN if name not in run["values"]]:
        yield f"its answers are neither right nor wrong, and it has no values of {lacking[0]}"
        return
    for at, table in [(result["size"], run["values"]), *((int(at), table) for at, table in run["values_at"].items())]:
        for name, (least, most) in (
            (OPEN[0], (0.0, at)),
            (OPEN[1], (0.0, 10.0)),
            (OPEN[2], (1.0, 10.0)),
            (VENDI, (0.0, at)),
        ):
            known = [v for v in table.get(name, ()) if v is not None]
            if any(not least - _SLACK <= v <= most * (1 + _SLACK) for v in known):
                yield f"at {at}: {name} has values outside its range of {least:g} to {most:g}"
        if (
            OPEN[0] in table
            and OPEN[1] in table
            and any(
                distinct == 0 and (utility or 0) > _SLACK
                for distinct, utility in zip(table[OPEN[0]], table[OPEN[1]], strict=True)
            )
        ):
            yield f"at {at}: {OPEN[1]} is above 0 where there is no class"


def _any_faults(result: Mapping[str, Any], values: Mapping[str, Any], sizes: Mapping[str, Any]) -> Iterator[str]:
    """Faults of any_of_n at smaller sizes: pass@1 gives it, or else bounds it; results of schema 2 may lack it."""
    share = with_nan(values["pass@1"])
    for at, smaller in sorted(sizes.items(), key=lambda item: int(item[0])):
        found, wanted = with_nan(smaller["any_of_n"]), any_of_column(values, result["n"], result["members"], int(at))
        if np.isnan(found).all():
            continue
        if wanted is not None:
            faulty = not np.allclose(found, with_nan(wanted), atol=_SLACK, equal_nan=True)
        else:
            faulty = bool((np.isnan(found) | (found < share - _SLACK) | (found > np.ceil(share - _SLACK) + _SLACK)).any())
        if faulty:
            yield f"at {at}: any_of_n is not what pass@1 gives for {at} answers"
            return


def _choice_faults(table: Mapping[str, FloatArray]) -> Iterator[str]:
    """Faults of the columns of multiple choice: they cover the same problems and agree with pass@1."""
    if "pass@1[mc]" not in table:
        return
    share, has_choices = table["pass@1[mc]"], ~np.isnan(table["any_of_n[chance]"])
    for name in ("pass@1[mc]", "any_of_n[mc]"):
        if (np.isnan(table[name]) == has_choices).any():
            yield f"{name} and any_of_n[chance] are of other problems"
            return
    if (np.abs(share - table["pass@1"])[has_choices] > _SLACK).any():
        yield "pass@1[mc] is not pass@1 where there are choices"
    if ((share > 0) != (table["any_of_n[mc]"] > 0))[has_choices].any():
        yield "any_of_n[mc] and pass@1[mc] contradict each other"
    for name in (n for n in table if n.startswith(("kl[", "entropy["))):
        if (table[name] < -_SLACK).any():
            yield f"{name} has values outside its range: it is at least 0"


def _null_faults(result: Mapping[str, Any], run: Mapping[str, Any], table: Mapping[str, Any], *, whole: bool) -> Iterator[str]:
    """Nulls in place of values, and values in place of nulls: a null would hide a problem from the mean."""
    n, members = result["n"], result["members"]
    trees, nothing = runs_code(result["spec"]), run["counts"]["failed"] == run["counts"]["samples"]
    never = {EFFECTIVE: not trees, VENDI: nothing or (whole and result["size"] == 1)}
    if whole:
        never |= {"pass@1": is_open(run), "pass@K": is_open(run)}
        if n is not None:
            never |= {"diversity_score[exact]": nothing or n == 1, "diversity_score[ast]": nothing or n == 1 or not trees}
        if members == 1:
            never["average_kl[i<j]"] = True
    for name, null in never.items():
        if any((v is None) != null for v in table[name]):
            said = "all must be null" if null else "none may be null"
            yield f"{name} is null for {sum(v is None for v in table[name])} of {len(table[name])} problems; {said} here"


def _grid_faults(table: Mapping[str, FloatArray], n: int, passed: int) -> Iterator[str]:
    """Shares of n samples, or of their pairs, that do not belong to a whole number of them."""
    steps = {"pass@1": n, EFFECTIVE: n, BEHAVIOUR: n} | dict.fromkeys(
        ("diversity_score[exact]", "diversity_score[ast]"), n * (n - 1) // 2
    )
    for name, step in steps.items():
        scaled = table[name] * step
        if (np.abs(scaled - np.round(scaled)) > _SLACK * max(1, step)).any():
            yield f"{name} has values that are no multiple of 1 / {step}, as they are at n = {n}"
    if round(float(table["pass@1"].sum()) * n) != passed:
        yield f"pass@1 and the number of passed verdicts ({passed}) contradict each other"


def _pass_faults(table: Mapping[str, FloatArray], result: Mapping[str, Any]) -> Iterator[str]:
    """Faults of pass@K: pass@1 gives it for one member or one draw each, and otherwise bounds it (K members of mean p)."""
    share, pass_k, k, n = table["pass@1"], table["pass@K"], result["k"], result["n"]
    if n is not None and result["members"] in {1, n}:
        wanted = pass_at_k(np.round(share * n).astype(int), n, k)
        if (np.abs(pass_k - wanted) > _SLACK).any():
            yield f"pass@K is not what pass@1 gives for k = {k} of n = {n} draws"
        return
    low, high = (1 - (1 - share) ** k, np.minimum(1, k * share)) if result["members"] > 1 else (share, np.ceil(share))
    if (pass_k < low - _SLACK).any() or (pass_k > high + _SLACK).any():
        yield f"pass@K has values that no pass@1 like these gives for k = {k}"


def _vendi_faults(vendi: FloatArray, size: int, *, nothing: bool, whole: bool) -> Iterator[str]:
    """Faults of Vendi: it is 1 to `size`, 0 where `nothing` was answered, and between in means over subsets (not `whole`)."""
    known = vendi[~np.isnan(vendi)]
    inside = (known >= 1 - _SLACK) & (known <= size * (1 + _SLACK))
    if nothing:
        inside |= known == 0 if whole else (known >= 0) & (known < 1)
    if not inside.all():
        yield f"{VENDI} has values outside its range: 1 to {size}, or 0 where nothing was answered"


def _above_quality(table: Mapping[str, FloatArray]) -> Iterator[str]:
    if (table[EFFECTIVE] > table["pass@1"] + _SLACK).any():
        yield f"{EFFECTIVE} is above pass@1, but no more answers are distinct and right than right"


def _size_faults(
    smaller: Mapping[str, FloatArray], table: Mapping[str, FloatArray], at: int, size: int, *, one: bool
) -> Iterator[str]:
    """Faults between sizes: more samples have no fewer classes and, of `one` member, no larger share of distinct ones."""
    for name in (EFFECTIVE, BEHAVIOUR):
        if (np.isnan(smaller[name]) != np.isnan(table[name])).any() and not np.isnan(smaller[name]).all():
            yield f"{name} is null for other problems than at {size}"
        more = smaller[name] * at > table[name] * size + _SLACK * size
        fewer = smaller[name] < table[name] - _SLACK if one else np.zeros(1, bool)
        if more.any() or fewer.any():
            yield f"{name} cannot be what a part of the {size} samples gives"


def _entropy_faults(vendi: FloatArray, whole: FloatArray, at: int) -> Iterator[str]:
    """Faults of Vendi at a smaller size: entropy is concave, so that of the parts is at most that of the whole.

    With log x >= (x - 1) / (m - 1) log m on [1, m], the mean over subsets v and that of all V have (v - 1) / (m - 1) log m
    <= log V; in the mean over problems, with `_VENDI_SLACK` for subsets that are drawn.
    """
    known = ~np.isnan(vendi) & ~np.isnan(whole)
    if at < 2 or not known.any():
        return
    least = (vendi[known] - 1) / (at - 1) * math.log(at)
    if float(np.mean(np.log(np.maximum(whole[known], 1.0)) - least)) < -_VENDI_SLACK:
        yield f"{VENDI} is larger than the samples as a whole allow"
