"""Draws the pictures of docs/explanation from the project's own code and committed results.

    python scripts/docs/pictures.py            # write docs/pictures/*.svg
    python scripts/docs/pictures.py --check    # exit code 1 where a number in a picture has changed

Text and axes take the colour of the page (currentColor), so that a picture can be read in the dark as well.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from spa_bench.metrics.intervals import estimate
from spa_bench.metrics.metric import Samples
from spa_bench.metrics.power import smallest_difference, spread_of_rates
from spa_bench.metrics.suite import measure_samples

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
INK = "#010203"  # becomes currentColor
FIRST, SECOND = "#0d9488", "#d97706"  # readable on white and on black
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "spa-bench", "font.size": 12, "font.family": "sans-serif",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip

PROMPT = 'def total(xs):\n    """Return the sum of the numbers xs."""\n'
SUM, LOOP = "    return sum(xs)", "    t = 0\n    for x in xs:\n        t += x\n    return t"
RENAMED = "    s = 0\n    for number in xs:\n        s += number\n    return s"
FOLDED = "    from functools import reduce\n    return reduce(lambda a, b: a + b, xs, 0)"
RECURSIVE = "    return xs[0] + total(xs[1:]) if xs else 0"
# what four answers to one problem may be -> their texts, and which are correct
ANSWERS: dict[str, tuple[list[str], list[bool]]] = {
    "one program\nfour times": ([LOOP] * 4, [True] * 4),
    "one program,\nnew names\nand comments": (
        [LOOP, RENAMED, RENAMED + "  # the sum", LOOP.replace("t ", "acc ").replace("return t", "return acc")], [True] * 4
    ),
    "four ways\nto do it": ([SUM, LOOP, FOLDED, RECURSIVE], [True] * 4),
    "one right,\nthree wrong": (
        [SUM, "    return max(xs)", "    return len(xs)", "    return xs[0] * 2"], [True, *[False] * 3]),
    "noise": (["    zq ( 7 }", "    ]] lorem", "    %% 12 ipsum =", "    dolor : : sit"], [False] * 4),
}  # fmt: skip
SHOWN = {
    "diversity_score[exact]": "diversity score, texts",
    "diversity_score[ast]": "diversity score, syntax trees",
    "vendi[ngram,q=1]": "Vendi score, (v − 1) / (n − 1)",
    "effective_diversity[ast,correct]": "effective diversity",
    "pass@1": "pass@1",
}


def hidden() -> dict[str, dict[str, float]]:
    """Set of answers -> metric -> its value, from 0 to 1."""
    found = {}
    for name, (texts, passed) in ANSWERS.items():
        samples = Samples(
            problem="total", texts=[t.strip() for t in texts], programs=[PROMPT + t for t in texts], passed=passed,
            failed=[False] * 4, members=1, k=4, tokens=[1] * 4, spent=[1] * 4,
        )  # fmt: skip
        values = measure_samples([samples]).values
        row = {metric: float(values[metric][0] or 0.0) for metric in SHOWN}
        row["vendi[ngram,q=1]"] = (row["vendi[ngram,q=1]"] - 1) / 3
        found[name] = row
    return found


def _hidden() -> Figure:
    found = hidden()
    figure, axes = plt.subplots(figsize=(8, 3.6))
    grid = np.array([[found[name][metric] for name in found] for metric in SHOWN])
    axes.imshow(np.ones_like(grid), cmap=mpl.colors.ListedColormap([FIRST]), alpha=0.06 + 0.84 * grid, aspect="auto")
    for row, column in np.ndindex(*grid.shape):
        axes.text(column, row, f"{grid[row, column]:.2f}", ha="center", va="center")
    axes.set_xticks(range(len(found)), list(found))
    axes.set_yticks(range(len(SHOWN)), list(SHOWN.values()))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _results() -> dict[str, dict[str, dict[str, float]]]:
    content = json.loads((ROOT / "leaderboards" / "results" / "mini-code.json").read_text(encoding="utf-8"))
    return {result["sampler"]: result["metrics"] for result in content["results"]}


def _ingredients() -> Figure:
    """What each ingredient adds, on mini-code: more steps, more adapters, parts at random, parts that belong together."""
    names = {
        "single": "one adapter, on all data", "single-long": "… with the steps of all four",
        "seeds": "four adapters, each on all data", "spa-random": "four, on parts at random",
        "spa-lexical": "four, on parts by words", "spa-influence": "four, on parts by influence",
    }  # fmt: skip
    results = _results()
    figure, pair = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    places = np.arange(len(names))[::-1]
    for axes, metric, label, colour in (
        (pair[0], "pass@1", "pass@1", SECOND),
        (pair[1], "vendi[ngram,q=1]", "Vendi score of 4 answers", FIRST),
    ):
        rows = [results[name][metric] for name in names]
        values = np.array([row["value"] for row in rows])
        reach = np.array([[row["value"] - row["low"], row["high"] - row["value"]] for row in rows]).T
        axes.errorbar(values, places, xerr=reach, fmt="o", color=colour, capsize=3)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.25)
    pair[0].set_yticks(places, list(names.values()))
    return figure


def _problems() -> Figure:
    """What a number of problems can show, and how wide an interval is."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    counts = [10, 20, 40, 80, 164, 320, 640, 1280]
    spread = spread_of_rates(0.5, correlation=0.5, draws=4)
    smallest = [smallest_difference(n, spread=spread) for n in counts]
    axes.plot(counts, smallest, "o-", color=FIRST, label="smallest difference seen 4 times out of 5")
    rng = np.random.default_rng(0)
    widths = []
    for n in counts:
        rates = rng.beta(0.7, 0.7, n)
        made = estimate(rng.binomial(4, rates) / 4, rate=True)
        widths.append((made.high - made.low) / 2)
    axes.plot(counts, widths, "s--", color=SECOND, label="half the width of a 95 % interval of pass@1")
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.set_ylim(0, None)
    axes.set_xlabel("problems (one seed, four answers each)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, labelcolor=INK)
    return figure


def seeds_matter() -> list[tuple[int, float, float]]:
    """(seeds, low, high) of one sampler whose training seeds move all problems together, spread 0.03, 120 problems."""
    rng = np.random.default_rng(1)
    rates = rng.beta(0.7, 0.7, 120)
    drawn = np.array([rng.binomial(4, np.clip(rates + 0.03 * rng.standard_normal(), 0, 1)) / 4 for _ in range(8)])
    found = []
    for seeds in (1, 2, 3, 5, 8):
        made = estimate(drawn[:seeds], rate=True)
        found.append((seeds, made.low, made.high))
    return found


def _seeds() -> Figure:
    figure, axes = plt.subplots(figsize=(8, 2.5))
    for place, (seeds, low, high) in enumerate(seeds_matter()):
        axes.plot([low, high], [place, place], lw=6, solid_capstyle="butt", color=SECOND if seeds == 1 else FIRST)
        axes.text(high + 0.004, place, "problems only: too narrow" if seeds == 1 else "", va="center")
    axes.set_yticks(range(5), [f"{seeds} seed{'s' * (seeds > 1)}" for seeds, _, _ in seeds_matter()])
    axes.invert_yaxis()
    axes.set_xlabel("95 % interval of pass@1")
    axes.grid(axis="x", alpha=0.25)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "ingredients": _ingredients, "problems": _problems, "seeds": _seeds, "hidden": _hidden,
}  # fmt: skip


def drawn(draw: Callable[[], Figure]) -> str:
    """The SVG of a picture, in the colours of the page it is put into."""
    with mpl.rc_context(STYLE):
        figure = draw()
        new = io.StringIO()
        figure.savefig(new, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)
    text = new.getvalue().replace(INK, "currentColor")
    text = re.sub(r'(<svg [^>]*?) ?width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) ?height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 sans-serif", text)
    return re.sub(r"\n\s*\n", "\n", text[text.index("<svg") :])


def labels(svg: str) -> list[str]:
    """The texts of a picture, by which two machines can compare it."""
    return [" ".join(text.split()) for text in re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)]


def main(names: Sequence[str], check: bool) -> int:
    """Draws the pictures of those names, or with `check` says which differ from what the code gives."""
    FOLDER.mkdir(exist_ok=True)
    stale = 0
    for name in names:
        place, text = FOLDER / f"{name}.svg", drawn(PICTURES[name])
        if not check:
            place.write_text(text, encoding="utf-8")
        elif not place.exists() or labels(text) != labels(place.read_text(encoding="utf-8")):
            print(f"docs/pictures/{name}.svg is out of date; run python scripts/docs/pictures.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(list(PICTURES), "--check" in sys.argv[1:]))
