"""A description as tables for a terminal, and as a page in Markdown; the same description gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tabulate import tabulate

from spa_bench.datasets.describe import Described, Description
from spa_bench.datasets.measures import KERNELS, MEASURES, ORDERS, Measure, Side
from spa_bench.types import Estimate

_TITLES: dict[Side, str] = {
    "quality": "Quality",
    "diversity": "Diversity",
    "complexity": "Complexity",
    "similarity": "Similarity to the target",
}
_MANY = 5  # sets, from which on a set is a line and a measure a column
_OF = {"pairs": "mean over pairs", "m": "at m pairs", "all": "of all pairs measured"}


def text(found: Description) -> str:
    """The tables for a terminal."""
    blocks = [heading(found)]
    for side in _sides(found):
        blocks.append(f"{_TITLES[side]}\n{_table(found, side)}")
    return "\n\n".join([*blocks, *_reasons(found), *found.notes])


def page(found: Description, *, command: str, picture: str) -> str:
    """The page in Markdown; `picture` is the path of the picture, "" for none."""
    parts = ["# Quality, diversity and complexity of data sets", f"Made by `{command}`.", heading(found)]
    if picture:
        parts.append(f"![Quality, diversity and complexity]({picture})")
    for side in _sides(found):
        parts += [f"## {_TITLES[side]}", _table(found, side, markdown=True), _legend(found, side)]
        if side == "diversity":
            parts += ["### Vendi scores of other orders", _orders(found), _ORDERS_SAID]
    left = [*_reasons(found), *found.notes]
    if left:
        parts += ["## What is left out", "\n".join(f"- {_escaped(line)}" for line in left)]
    parts += ["## How to read it", _HOW]
    return "\n\n".join(parts) + "\n"


def heading(found: Description) -> str:
    """What the numbers of a description refer to, in sentences."""
    sets = "; ".join(
        f"{one.name}: {one.pairs} pairs" + (f" drawn from {one.total}" if one.total > one.pairs else "") for one in found.sets
    )
    lines = [f"{sets}."]
    if found.size:
        lines.append(
            "Measures that depend on the number of pairs (Vendi, distinct-n, coverage, near-duplicates, gzip of the set) are "
            f"at m = {found.size} pairs for every set: means over {found.how.subsets} random subsets, seed {found.how.seed}."
        )
    if found.gradients and found.gradients != found.size:
        lines.append(f"The Vendi score of gradients is at {found.gradients} pairs, since not every pair has a gradient.")
    whose = f"the target, {found.target}" if found.target else "all sets, equally many pairs of each that is not tiny"
    lines.append(f"Vectors: {found.how.encoder}; coverage is of {found.clusters} clusters of {whose}.")
    lines.append(f"Model: {found.model or 'none'}." + (f" Judge: {found.judge}." if found.judge else ""))
    return " ".join(lines)


def _sides(found: Description) -> Iterator[Side]:
    for side in _TITLES:
        if side != "similarity" or found.target:
            yield side


def _columns(found: Description, side: Side) -> dict[str, Measure]:
    """The measures of a side that at least one set has."""
    mine = {name: one for name, one in MEASURES.items() if one.side == side}
    return {name: one for name, one in mine.items() if any(_has(row, name) for row in found.sets)}


def _has(row: Described, name: str) -> bool:
    return name in row.values and row.values[name].value is not None


def _table(found: Description, side: Side, *, markdown: bool = False) -> str:
    columns = _columns(found, side)
    if not columns:
        return "nothing could be measured"
    rows = [
        [_name(found, row, markdown), *(_cell(row.values[name], one, markdown) for name, one in columns.items())]
        for row in found.sets
    ]
    heads = [f"{one.head} at {_size(found, name)}" if one.of == "m" else one.head for name, one in columns.items()]
    whole = [["set", *heads], *rows]
    if len(found.sets) < _MANY:  # a measure a line
        whole = [list(line) for line in zip(*whole, strict=True)]
        whole[0][0] = "measure"
    return tabulate(whole[1:], whole[0], tablefmt="github" if markdown else "simple", disable_numparse=True)


def _size(found: Description, name: str) -> int:
    return found.gradients if name.startswith("vendi[gradient") else found.size


def _name(found: Description, row: Described, markdown: bool) -> str:
    name = f"{row.name} (target, two halves)" if found.target == row.name else row.name
    return _escaped(name) if markdown else name


def _cell(estimate: Estimate, measure: Measure, markdown: bool) -> str:
    if estimate.value is None:
        return "not code" if estimate.reason.startswith("not code") else "-"
    digits = measure.digits
    value = f"{estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    low, high = f"{estimate.low:.{digits}f}", f"{estimate.high:.{digits}f}"
    return f"{value} <sub>[{low}, {high}]</sub>" if markdown else f"{value} [{low}, {high}]"


def _legend(found: Description, side: Side) -> str:
    return "\n".join(f"- **{one.head}** ({_OF[one.of]}): {_escaped(one.said)}." for one in _columns(found, side).values())


def _orders(found: Description) -> str:
    rows = []
    for row in found.sets:
        for kernel in KERNELS:
            estimates = [row.values.get(f"vendi[{kernel},q={order}]") for order in ORDERS]
            if all(one is not None and one.value is not None for one in estimates):
                digits = MEASURES[f"vendi[{kernel},q=1]"]
                rows.append([_escaped(row.name), kernel, *(_cell(one, digits, True) for one in estimates if one is not None)])
    if not rows:
        return "No set has enough pairs."
    return tabulate(rows, ["set", "kernel", *(f"q = {order}" for order in ORDERS)], tablefmt="github", disable_numparse=True)


def _reasons(found: Description) -> list[str]:
    """A line for each thing that a set lacks and another has, or that says why a column is missing."""
    lines: dict[str, dict[str, list[str]]] = {}
    for row in found.sets:
        for name, estimate in row.values.items():
            if name in MEASURES and estimate.value is None and not _said_elsewhere(found, name):
                lines.setdefault(estimate.reason, {}).setdefault(row.name, []).append(MEASURES[name].head)
    said = []
    for why, sets in lines.items():
        heads = ", ".join(dict.fromkeys(head for some in sets.values() for head in some))
        whose = "" if len(sets) == len(found.sets) > 1 else f"{', '.join(sets)}: "
        said.append(f"{whose}{heads}: {why}")
    return said


def _said_elsewhere(found: Description, name: str) -> bool:
    """Whether a note of the description is about this measure already, or nobody asked for it."""
    if name == "judge" and not found.judge:
        return True
    lacking = not any(_has(row, name) for row in found.sets)
    reasons = {row.values[name].reason for row in found.sets if name in row.values}
    return lacking and any(reason and reason in note for reason in reasons for note in found.notes)


def _escaped(line: str) -> str:
    signs: Sequence[tuple[str, str]] = (
        ("\\", "\\\\"),
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "\\|"),
        ("`", "\\`"),
    )
    for sign, instead in (*signs, ("*", "\\*"), ("[", "\\["), ("]", "\\]")):
        line = line.replace(sign, instead)
    return line


_ORDERS_SAID = (
    "Kernels: "
    + "; ".join(f"{name}: {said}" for name, said in KERNELS.items())
    + ". Low orders count rare pairs, high orders only the common ones (arXiv 2310.12952)."
)
_HOW = """The small numbers are 95 % intervals. Those of means are over pairs (bootstrap). Those at m pairs are of the delete-d
jackknife over random subsets without replacement: a bootstrap would draw pairs twice, which looks like less diversity. Sets are
compared at m pairs because such a measure grows or falls with their number whatever the pairs are. An interval is of the pairs
as a sample of what their source could give; that two intervals do not overlap is a stricter test than one of the difference.

No side is better by itself. Quality is what a student copies, diversity what it generalises from, and complexity up to a point
what it can still learn (Havrilla et al. 2024, arXiv 2412.02980). docs/how-to/describe-data.md has more."""
