"""Describes sets of pairs together, each measure with its interval, and compares them with a target set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from spa_bench.datasets.at_size import SubsetMeasures, earlier_twins, not_tiny, of_sets, shared_size
from spa_bench.datasets.judging import TEMPLATE, rate
from spa_bench.datasets.likeness import NAMES, likeness, reduced
from spa_bench.datasets.measures import KERNELS, MEASURES, ORDERS
from spa_bench.datasets.pairs import DataSet, of_examples
from spa_bench.datasets.pool import FloatArray, IntArray, Pool
from spa_bench.datasets.programs import run_programs
from spa_bench.errors import DataError, ModelError, SandboxError, UsageError
from spa_bench.grading import Grader
from spa_bench.metrics.intervals import PROBLEMS_ONLY, estimate
from spa_bench.metrics.jackknife import SUBSETS, subsets
from spa_bench.metrics.two_samples import k_means
from spa_bench.models.base import LoraTrainable, Model
from spa_bench.spa.attribution.vectors import gradient_vectors
from spa_bench.spa.encoders import TF_IDF, encode
from spa_bench.spa.likelihood import completion_losses
from spa_bench.support.console import Reporter
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Estimate, Example

GRADIENT = "vendi[gradient,q=1]"
AT_SIZE = tuple(name for name, one in MEASURES.items() if one.of == "m" and one.side != "similarity" and name != GRADIENT)
_CODE = ("parses", "runs", "passes", "ast_depth", "ast_kinds")
_OF_MODEL = ("nats", "perplexity", "tokens", "loss", GRADIENT)
_RATES = {"code", "parses", "runs", "passes"}
_LEAST = {"compression_ratio[pair]": (0.0, math.inf), "characters": (0.0, math.inf), "tokens": (0.0, math.inf)}
_LEAST |= {"loss": (0.0, math.inf), "judge": (1.0, 10.0), "ast_depth": (1.0, math.inf), "ast_kinds": (1.0, math.inf)}
_MOST_CENTRES = 2000  # pairs of each set by which clusters are made


@dataclass(frozen=True, kw_only=True)
class How:
    """The settings of a description."""

    seed: int = 0  # of subsets, projections and clusters
    encoder: str = TF_IDF  # gives the vectors; see spa_bench.spa.encoders
    size: int | None = None  # m, pairs of a subset; None: see at_size.shared_size
    subsets: int = SUBSETS  # random subsets of each set
    gradients: bool = True  # whether the gradients of 2 m pairs of each set are computed, where there is a model
    seconds: float = 3.0  # CPU time of a program
    judge_template: str = TEMPLATE


@dataclass(frozen=True, kw_only=True)
class Described:
    """One set, measured."""

    name: str
    pairs: int  # that were measured
    total: int  # of the source
    part_of: str  # "": it is whole
    values: Mapping[str, Estimate]  # by the names of MEASURES, and every order of each Vendi score

    def to_json(self) -> dict[str, object]:
        """The row for --json."""
        values = {name: asdict(value) for name, value in self.values.items()}
        return {"name": self.name, "pairs": self.pairs, "total": self.total, "part_of": self.part_of or None, "values": values}


@dataclass(frozen=True, kw_only=True)
class Description:
    """Some sets, measured together."""

    sets: tuple[Described, ...]
    size: int  # m: the pairs at which measures that depend on their number are; 0: no set has enough
    gradients: int  # the same of the Vendi score of gradients, which not every pair has; 0: none has one
    clusters: int  # to which coverage refers
    how: How
    target: str = ""  # the name of the set with which the others are compared
    model: str = ""
    judge: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)  # what was left out, and what numbers do not show

    def to_json(self) -> dict[str, object]:
        """All of it, for --json and for files."""
        about = {
            "size": self.size,
            "gradients": self.gradients,
            "clusters": self.clusters,
            "target": self.target or None,
            "model": self.model or None,
        }
        return {
            **about,
            "judge": self.judge or None,
            "settings": asdict(self.how),
            "notes": list(self.notes),
            "sets": [one.to_json() for one in self.sets],
        }


def describe(
    sets: Sequence[DataSet],
    *,
    target: DataSet | None = None,
    model: LoraTrainable | None = None,
    grader: Grader | SandboxError | None = None,
    judge: Model | None = None,
    how: How | None = None,
    console: Reporter | None = None,
) -> Description:
    """The measures of `sets` and, where it is given, of `target`, with the likeness of each set to it.

    `model` gives losses, tokens and gradients; without it these are missing. `grader` runs programs; without it, or where it is
    the error of a sandbox that does not work here, the shares that run and pass are missing, with the reason. `judge` rates
    pairs. Values that depend on the number of pairs are at Description.size for all. The same arguments give the same numbers.

    Raises UsageError for two sets of one name or a size that no set has, DataError for a set without pairs, ModelError where
    the model or the encoder fails, SandboxError where the sandbox fails on the way.
    """
    how, console = how or How(), console or Reporter(quiet=True)
    known = [*sets, *([target] if target is not None and not _is_among(target, sets) else [])]
    _check(known)
    pool = Pool.of(known)
    size = shared_size([len(one.items) for one in known], how.size)
    if not any(len(one.items) >= 2 * size for one in known):
        most = max(len(one.items) for one in known)
        raise UsageError(f"subsets of {size} pairs need a set of {2 * size}, and the largest has {most}; give a smaller --at")
    with console.stage("texts and syntax trees"):
        pool.add_text_values()
    notes = [
        *_run(pool, grader, how, console),
        *_read(pool, model, how, console),
        *_judged(pool, judge, how, console),
    ]
    asked = _with_gradients(pool, model, known, size, how) if how.gradients else {}
    notes += _gradients(pool, model, asked, how, console)
    able = {one.name: _able(pool, asked.get(one.name)) for one in known}
    gradients = min(size, shared_size([len(places) for places in able.values()]))
    vectors, dense = _vectors(pool, how, console)
    centres = [target] if target is not None else [one for one in known if not one.part_of]
    labels, clusters = _clusters(pool, dense, [pool.places[one.name] for one in centres], size, how)
    measures = SubsetMeasures(pool, labels, clusters, vectors)
    described = []
    with console.stage("subsets") as progress:
        for number, one in enumerate(known, 1):
            places = pool.places[one.name]
            values = {
                **_of_pairs(pool, places),
                **_of_subsets(measures.of, places, size, how),
                **_of_gradients(pool, measures, able[one.name], gradients, how),
            }
            if target is not None:
                values |= _likeness(dense, places, pool.places[target.name], size, how)
            described.append(Described(name=one.name, pairs=len(places), total=one.total, part_of=one.part_of, values=values))
            progress(number, len(known))
    return Description(
        sets=tuple(described),
        size=size,
        gradients=gradients,
        clusters=clusters,
        how=how,
        target=target.name if target is not None else "",
        model=model.name if model is not None else "",
        judge=judge.name if judge is not None else "",
        notes=tuple(notes),
    )


def similarity(
    pairs: Sequence[Example] | DataSet,
    target: Sequence[Example] | DataSet,
    *,
    encoder: str = TF_IDF,
    size: int | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """How like `target` the pairs are, by the names of likeness.NAMES: at `size` pairs of each, or at half of the smaller set.

    TF-IDF's words and their weights are those of both sets together. Raises DataError for a set without pairs, UsageError for a
    size of less than 2 pairs or of more than half a set.
    """
    ours = pairs if isinstance(pairs, DataSet) else of_examples("pairs", pairs)
    other = target if isinstance(target, DataSet) else of_examples("target", target)
    other = replace(other, name=f"{other.name} (target)")
    pool = Pool.of([ours, other])
    counts = [len(ours.items), len(other.items)]
    wanted = size if size is not None else min(shared_size(counts), min(counts) // 2)
    if not 2 <= wanted <= min(counts) // 2:
        raise UsageError(f"subsets of {wanted} pairs, of sets of {counts[0]} and {counts[1]}: from 2 to half of either")
    _, dense = _vectors(pool, How(encoder=encoder, seed=seed), Reporter(quiet=True))
    return likeness(dense, pool.places[ours.name], pool.places[other.name], size=wanted, seed=derive_seed(seed, "likeness"))


# what is computed of each pair -----------------------------------------------------------------------------------------


def _is_among(target: DataSet, sets: Sequence[DataSet]) -> bool:
    """Whether the target is one of the sets: another one of its name is a set of its own, which `_check` refuses."""
    return any(one.name == target.name and one.items == target.items for one in sets)


def _check(sets: Sequence[DataSet]) -> None:
    names = [one.name for one in sets]
    if not names:
        raise UsageError("no data set was given: there is nothing to describe")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two data sets are called {twice}; rename one of them")
    if empty := next((one.name for one in sets if not one.items), None):
        raise DataError(f"{empty} has no pairs: there is nothing to measure")


def _run(pool: Pool, grader: Grader | SandboxError | None, how: How, console: Reporter) -> list[str]:
    codes = pool.codes
    if not any(code is not None for code in codes):
        return []
    if not isinstance(grader, Grader):
        why = "programs were not run" if grader is None else f"no sandbox: {grader}"
        pool.missing.update(dict.fromkeys(("runs", "passes"), why))
        return [f"left out: the shares that run and pass ({why})"]
    with console.stage("programs") as progress:
        runs, passes = run_programs(codes, pool.items, grader, seconds=how.seconds, progress=progress)
    pool.add_flags("runs", runs)
    pool.add_flags("passes", passes)
    return []


def _read(pool: Pool, model: LoraTrainable | None, how: How, console: Reporter) -> list[str]:
    if model is None:
        why = "no model was named"
        pool.missing.update(dict.fromkeys(_OF_MODEL, why))
        return ["left out: perplexity, loss, tokens and gradients (no model was named: --model)"]
    with console.stage("losses") as progress:
        sums, counts = completion_losses(model, [item.example for item in pool.items], progress=progress)
    there = counts > 0
    pool.values["nats"] = sums  # of all tokens of the answer
    pool.values["tokens"] = np.where(there, counts, np.nan)
    pool.values["loss"] = sums / np.where(there, counts, np.nan)
    long = int((~there).sum())
    return [f"{long} of {len(counts)} pairs do not fit the context of {model.name} and have no loss"] if long else []


def _judged(pool: Pool, judge: Model | None, how: How, console: Reporter) -> list[str]:
    if judge is None:
        pool.missing["judge"] = "no judge was named"
        return []
    with console.stage("judge") as progress:
        ratings = rate(pool.items, judge, template=how.judge_template, progress=progress)
    pool.values["judge"] = np.array([math.nan if one is None else one for one in ratings])
    silent = sum(one is None for one in ratings)
    return [f"judge: {silent} of {len(ratings)} replies hold no verdict ({silent / len(ratings):.0%}) and count nowhere"]


def _with_gradients(
    pool: Pool, model: LoraTrainable | None, sets: Sequence[DataSet], size: int, how: How
) -> dict[str, IntArray]:
    """The places of each set's pairs of which gradients are computed: 2 m that fit, drawn with the seed, or all."""
    if model is None or size < 2:
        return {}
    fits = pool.values["tokens"] > 0
    drawn = {}
    for one in sets:
        places = pool.places[one.name]
        rng = np.random.default_rng(derive_seed(how.seed, "gradients", len(places)))
        drawn[one.name] = np.sort(rng.permutation(places[fits[places]])[: 2 * size])
    return drawn


def _gradients(
    pool: Pool, model: LoraTrainable | None, asked: Mapping[str, IntArray], how: How, console: Reporter
) -> list[str]:
    """The gradients of the pairs at the places that are `asked` for, each once."""
    if model is None or not asked:
        return []
    chosen = np.unique(np.concatenate(list(asked.values()))).tolist()
    with console.stage("gradients") as progress:
        examples = [pool.items[i].example for i in chosen]
        try:
            found = gradient_vectors(model, examples, seed=derive_seed(how.seed, "projection"), progress=progress)
        except (DataError, ModelError) as error:
            pool.missing[GRADIENT] = str(error)
            return [f"left out: the Vendi score of gradients ({error})"]
    rows = np.full((len(pool.items), found.shape[1]), np.nan, np.float32)
    rows[chosen] = found / np.linalg.norm(found, axis=1, keepdims=True)
    pool.rows["gradient"] = rows
    return []


def _vectors(pool: Pool, how: How, console: Reporter) -> tuple[object, FloatArray]:
    """(unit vectors of all pairs, these along their 64 largest directions)."""
    with console.stage(f"vectors ({how.encoder})") as progress:
        vectors, _ = encode(how.encoder, pool.texts, progress=progress)
    return vectors, reduced(vectors, seed=derive_seed(how.seed, "directions"))


def _clusters(pool: Pool, dense: FloatArray, centres: Sequence[IntArray], size: int, how: How) -> tuple[IntArray, int]:
    """(the cluster of each pair, their number): k-means of equally many pairs of each of `centres`, k = m / 4 (2 to 32).

    A tiny set gives what it has, and does not decide how many the others give.
    """
    from threadpoolctl import threadpool_limits

    count = min(_MOST_CENTRES, *not_tiny([len(places) for places in centres]))
    rng = np.random.default_rng(derive_seed(how.seed, "centres"))
    seen = np.concatenate([rng.permutation(places)[:count] for places in centres])
    with threadpool_limits(1):
        labels, found = k_means(dense[seen], max(2, min(32, size // 4)), seed=derive_seed(how.seed, "clusters"))
    means = np.stack([dense[seen[labels == k]].mean(0) for k in range(found)])
    apart = (dense**2).sum(1)[:, None] - 2 * dense @ means.T + (means**2).sum(1)
    return np.asarray(apart.argmin(1), dtype=np.int64), found


# what is computed of each set ------------------------------------------------------------------------------------------


def _of_pairs(pool: Pool, places: IntArray) -> dict[str, Estimate]:
    """The means over pairs, and what is of all pairs."""
    found: dict[str, Estimate] = {}
    for name, measure in MEASURES.items():
        if measure.of != "pairs" or name in ("nats", "perplexity"):
            continue
        if name not in pool.values:
            found[name] = Estimate.missing(pool.missing.get(name, "not measured"))
        else:
            found[name] = _mean(name, pool.values[name][places])
        if name in _CODE and not pool.values["code"][places].any():
            found[name] = Estimate.missing("not code: no answer holds a program")
    found |= _perplexity(pool, places)
    share = earlier_twins(pool, places)
    return found | {"near_duplicates[all]": Estimate(value=share, n=len(places), reason="of all pairs measured: no interval")}


def _mean(name: str, values: FloatArray) -> Estimate:
    found = estimate(values, rate=name in _RATES, bounds=_LEAST.get(name))
    if found.value is None:
        none = {"passes": "no row has tests of its own", "runs": "no answer parses"}
        return Estimate.missing(none.get(name, "no pair has a value"))
    reason = found.reason.replace(PROBLEMS_ONLY, "").replace("problem", "pair").strip("; ")
    return replace(found, reason=reason)


def _perplexity(pool: Pool, places: IntArray) -> dict[str, Estimate]:
    """Nats a token over all tokens, and e to its power; the interval is that of a ratio of two means, linearised."""
    names = ("nats", "perplexity")
    if "nats" not in pool.values:
        return {name: Estimate.missing(pool.missing.get(name, "not measured")) for name in names}
    sums, counts = pool.values["nats"][places], pool.values["tokens"][places]
    there = counts > 0
    if not there.any():
        return {name: Estimate.missing("no pair fits the context of the model") for name in names}
    ratio = sums[there].sum() / counts[there].sum()
    nats = _mean("loss", ratio + (sums[there] - ratio * counts[there]) / counts[there].mean())
    ends = [None if v is None else math.exp(v) for v in (nats.value, nats.low, nats.high)]
    return {"nats": nats, "perplexity": replace(nats, value=ends[0], low=ends[1], high=ends[2])}


def _of_subsets(
    measure: Callable[[IntArray], Mapping[str, float]], places: IntArray, size: int, how: How, names: Sequence[str] = AT_SIZE
) -> dict[str, Estimate]:
    """What `measure` gives for subsets of `size` of the pairs at these places; `names` are missing where there are none."""
    if size < 1 or len(places) < 2 * size:
        why = (
            f"{len(places)} pairs, and subsets of {size} need {2 * size}" if size else f"{len(places)} pair: there is no subset"
        )
        return {name: Estimate.missing(why) for name in names}
    drawn = subsets(len(places), size, seed=derive_seed(how.seed, "subsets"), count=how.subsets)
    return of_sets([measure(places[one]) for one in drawn], len(places), size, _most(size))


def _most(size: int) -> dict[str, float]:
    """The largest values that measures of `size` pairs can have."""
    vendi = {f"vendi[{kernel},q={order}]": float(size) for kernel in KERNELS for order in ORDERS}
    return vendi | dict.fromkeys(("distinct_1", "distinct_2", "self_bleu", "coverage", "near_duplicates"), 1.0)


def _able(pool: Pool, asked: IntArray | None) -> IntArray:
    """The places drawn for a set whose pairs have a gradient; those drawn for another set are no sample of this one."""
    if asked is None or "gradient" not in pool.rows:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(asked[np.isfinite(pool.rows["gradient"][asked, 0])], dtype=np.int64)


def _of_gradients(pool: Pool, measures: SubsetMeasures, able: IntArray, size: int, how: How) -> dict[str, Estimate]:
    if "gradient" not in pool.rows:
        return {GRADIENT: Estimate.missing(pool.missing.get(GRADIENT, "gradients were not computed"))}
    return _of_subsets(measures.gradients, able, size, how, (GRADIENT,))


def _likeness(dense: FloatArray, places: IntArray, target: IntArray, size: int, how: How) -> dict[str, Estimate]:
    if size < 2 or min(len(places), len(target)) < 2 * size:
        why = f"subsets of {size} need {2 * size} pairs of either set, and there are {len(places)} and {len(target)}"
        return dict.fromkeys(NAMES, Estimate.missing(why))
    return likeness(dense, places, target, size=size, seed=derive_seed(how.seed, "likeness"))
