"""How often each interval holds the truth, by simulation: the table behind the statistics.

    python benchmarks/interval_coverage.py [--replications 2000] [--json]

Each row is a design: problems, and training seeds if any, drawn again from a population whose mean is known. `ours`
is the interval of spa_bench at 95 %; `percentile` the plain percentile bootstrap over the same problems, seeds pooled (the
two-way interval a leaderboard usually prints). Two standard errors of a share are 0.01 at 2000 replications. Exit code 1 when
a row of ours covers less than 90 %, apart from the long tails, which no interval of this size covers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from spa_bench.metrics.intervals import estimate, paired_difference
from spa_bench.types import Estimate

Table = np.ndarray
RESAMPLES = 500
BOOTSTRAP = 1_000_000  # seeds of resampling; those of the data would make the two agree by chance


@dataclass(frozen=True)
class Design:
    """A population with a known mean, and how scores are drawn from it."""

    name: str
    truth: float
    draw: Callable[[np.random.Generator], tuple[Table, Table | None]]  # scores, and those of the other sampler if paired
    rate: bool = False
    hopeless: bool = False  # long tails: printed, not judged


@dataclass(frozen=True)
class Row:
    """A design's coverage and mean width."""

    design: str
    ours: float
    width: float
    percentile: float
    percentile_width: float


def eight(problems: int) -> Callable[[np.random.Generator], tuple[Table, None]]:
    return lambda g: (g.binomial(8, g.beta(0.8, 1.2, size=problems)) / 8, None)


def trained(seeds: int) -> Callable[[np.random.Generator], tuple[Table, None]]:
    def draw(g: np.random.Generator) -> tuple[Table, None]:
        rates = np.clip(g.beta(4, 6, size=60) + g.normal(0, 0.05, size=(seeds, 1)), 0, 1)
        return g.binomial(8, rates) / 8, None

    return draw


def single(rate: float, problems: int) -> Callable[[np.random.Generator], tuple[Table, None]]:
    return lambda g: (g.binomial(1, rate, size=problems).astype(float), None)


def pair(first: int, second: int, training: float) -> Callable[[np.random.Generator], tuple[Table, Table]]:
    def draw(g: np.random.Generator) -> tuple[Table, Table]:
        common = g.normal(size=60)
        a, b = (common + 0.3 * g.normal(size=60) + training * g.normal(size=(s, 1)) for s in (first, second))
        return a + 0.2, b

    return draw


def seldom(problems: int) -> Callable[[np.random.Generator], tuple[Table, Table]]:
    def draw(g: np.random.Generator) -> tuple[Table, Table]:
        d = g.choice([1, -1, 0], size=problems, p=[0.05, 0.02, 0.93])
        return (d > 0).astype(float), (d < 0).astype(float)

    return draw


DESIGNS = (
    *(Design(f"rate, 8 draws, one seed, {n} problems", 0.4, eight(n), rate=True) for n in (12, 60, 164)),
    *(Design(f"normal scores, one seed, {n} problems", 0.0, lambda g, n=n: (g.normal(size=n), None)) for n in (5, 10, 30)),
    *(Design(f"rate, {s} training seeds, 60 problems", 0.4, trained(s), rate=True) for s in (2, 3, 5)),
    *(Design(f"greedy, rate {r}, 60 problems", r, single(r, 60), rate=True) for r in (0.02, 0.05, 0.1, 0.9, 0.98)),
    Design("greedy, rate 0.97, 164 problems", 0.97, single(0.97, 164), rate=True),
    Design(
        "rate 0.05, most problems never solved, 60 problems", 0.05,
        lambda g: (g.binomial(8, g.beta(0.1, 1.9, size=60)) / 8, None), rate=True,
    ),
    Design("paired, one seed", 0.2, pair(1, 1, 0.0)),
    *(Design(f"paired, {s} seeds each", 0.2, pair(s, s, 0.1)) for s in (2, 3, 5)),
    *(Design(f"paired by Welch, {a} and {b} seeds", 0.2, pair(a, b, 0.1)) for a, b in ((4, 3), (5, 2))),
    *(Design(f"paired rates that differ on 7 %, {n} problems", 0.03, seldom(n), rate=True) for n in (60, 164)),
    *(
        Design(f"long tail (log-normal), {n} problems", float(np.exp(0.5)), lambda g, n=n: (np.exp(g.normal(size=n)), None),
               hopeless=True)
        for n in (20, 60)
    ),
)  # fmt: skip


def ours(a: Table, b: Table | None, rate: bool, seed: int) -> Estimate:
    if b is None:
        return estimate(a, rate=rate, seed=seed, resamples=RESAMPLES)
    return paired_difference(a, b, rate=rate, seed=seed, resamples=RESAMPLES)


def percentile(a: Table, b: Table | None, seed: int) -> tuple[float, float]:
    scores = np.atleast_2d(a).mean(axis=0) - (0.0 if b is None else np.atleast_2d(b).mean(axis=0))
    n = len(scores)
    low, high = np.quantile(scores[np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def measure(design: Design, replications: int) -> Row:
    hits, widths = np.zeros(2), np.zeros(2)
    for i in range(replications):
        a, b = design.draw(np.random.default_rng(i))
        found = ours(a, b, design.rate, BOOTSTRAP + i)
        assert found.low is not None
        assert found.high is not None
        intervals = (found.low, found.high), percentile(a, b, BOOTSTRAP + i)
        hits += [low <= design.truth <= high for low, high in intervals]
        widths += [high - low for low, high in intervals]
    (h, p), (w, v) = hits / replications, widths / replications
    return Row(design.name, *(round(float(x), 4) for x in (h, w, p, v)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(design, options.replications) for design in DESIGNS]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print("| design | ours | width | percentile | width |\n|---|---|---|---|---|")
        for row in rows:
            print(f"| {row.design} | {row.ours:.3f} | {row.width:.3f} | {row.percentile:.3f} | {row.percentile_width:.3f} |")
    return int(any(row.ours < 0.90 for row, design in zip(rows, DESIGNS, strict=True) if not design.hopeless))


if __name__ == "__main__":
    raise SystemExit(main())
