"""Simulated results with training seeds: what re-runs of one sampler look like when nothing changed, and when something did.

A problem has a difficulty, a training seed moves all problems together and each by itself, and n answers are drawn: the three
sources of noise that a real re-run has. `quality`, `spread` and `kl` move the truth.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from made_up import estimated_anew, hashed_anew, made_up
from spa_bench.compare.leaderboard import save_all
from spa_bench.compare.leaderboard.coverage import any_of_column
from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.runs.contents import COUNTS

N = 4
Result = dict[str, Any]
Change = Callable[[Result], None]


def simulated(
    name: str,
    seeds: Sequence[int],
    *,
    world: int = 0,
    problems: int = 60,
    quality: float = 0.0,
    spread: float = 0.0,
    kl: float = 1.0,
    code: str = "s",
) -> dict[str, Any]:
    """A result of `seeds` on the problems of one `world`; values alone, no estimates. `code` is the hash of the source.

    `quality` and `spread` are added to the log odds of a right and of a different answer, `kl` multiplies the divergence.
    """
    result = copy.deepcopy(_template(name))
    result["spec"]["task"]["problems_n"], result["spec"]["code"]["source"] = problems, code
    result["problems"], result["k"], result["metrics"] = result["problems"][:problems], N, {}
    fixed = np.random.default_rng([world, 1])
    hard, wide = fixed.normal(0.8, 1.2, problems), fixed.normal(0.3, 0.8, problems)
    template = result["runs"][0]
    result["runs"] = []
    for seed in seeds:
        values, at = _values(np.random.default_rng([world, 2, seed]), hard + quality, wide + spread, kl)
        run = {**template, "seed": seed, "values": values, "values_at": {"2": at}}
        run |= {"records": f"{world:08x}{seed:024x}", "grades": f"{seed:024x}{world:08x}"}
        run["counts"] = {**dict.fromkeys(COUNTS, 0), "samples": problems * N}
        run["verdicts"] = {"passed": problems * N}
        result["runs"].append(run)
    return hashed_anew(result)


@functools.cache
def _template(name: str) -> dict[str, Any]:
    return made_up(name, quality=0.7, spread=0.5, n=N)


def row(result: dict[str, Any]) -> LeaderboardRow:
    return LeaderboardRow(result, result["sampler"])


def saved(folder: Path, name: str, *results: Result) -> Path:
    """A file of `results` on the task `t`, as `leaderboard --save` writes it."""
    [path] = save_all([estimated_anew(hashed_anew(r)) for r in results], folder / name / "t.json")
    return path


def candidate(folder: Path, change: Change | None = None, *, seeds: tuple[int, ...] = (7,), **options: Any) -> Path:
    """A file with a new run of the sampler `s`, of other code, with `change` and `options` of `simulated`."""
    result = simulated("s", seeds, **{"code": "new", **options})
    if change:
        change(result)
    return saved(folder, "candidate", result)


def set_in(*keys: str, value: object) -> Change:
    """A change that sets what lies under `keys`."""

    def change(result: Result) -> None:
        place = result
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def one_after_another(*changes: Change) -> Change:
    """All of `changes`."""

    def change(result: Result) -> None:
        for one in changes:
            one(result)

    return change


def _values(
    rng: np.random.Generator, hard: np.ndarray[Any, Any], wide: np.ndarray[Any, Any], kl: float
) -> tuple[dict[str, list[float | None]], dict[str, list[float | None]]]:
    """(values of one seed at n, those that depend on n at 2)."""
    count = len(hard)
    right = rng.binomial(N, _share(hard + rng.normal(0, 0.15) + rng.normal(0, 0.5, count)))
    exact = rng.binomial(6, _share(wide + 1 + rng.normal(0, 0.25) + rng.normal(0, 0.5, count))) / 6
    trees = exact * rng.binomial(6, _share(wide + rng.normal(0, 0.25) + rng.normal(0, 0.5, count))) / 6
    distinct = np.where(right > 0, np.maximum(1, np.round(right * trees)), 0) / N
    vendi = 1 + (N - 1) * exact * rng.uniform(0.8, 1, count)
    far = kl * 0.03 * np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.6, count))
    values = {
        "pass@1": right / N,
        "pass@K": (right > 0).astype(float),
        "diversity_score[exact]": exact,
        "diversity_score[ast]": trees,
        "effective_diversity[ast,correct]": distinct,
        "effective_diversity[behaviour,ran]": distinct,
        "vendi[ngram,q=1]": vendi,
        "average_kl[i<j]": far,
    }
    at = {name: list(map(float, values[name] * 0.8)) for name in values if name.startswith(("effective", "vendi"))}
    kept = {name: list(map(float, found)) for name, found in values.items()}
    return kept, {**at, "any_of_n": any_of_column(kept, N, 1, 2)}


def _share(odds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(1 / (1 + np.exp(-odds)))
