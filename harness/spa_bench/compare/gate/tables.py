"""Parts of the gate's text, for a terminal and as Markdown for a pull request or the summary of a CI job."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from spa_bench.compare.gate.specs import ABSENT, Change
from spa_bench.support.text import one_line, shortened
from spa_bench.types import Estimate

_LONGEST = 70  # characters of a value of a spec that are shown
_MOST_NAMED = 12  # metrics of one outcome and reason that are named one by one
_FEWEST_FOLDED = 3  # keys of one table that one side lacks: from here on they are one row

Sides = tuple[str, str]  # the names of both sides, over the columns of their values
Format = Callable[[Sequence[Sequence[str]], Sequence[str]], str]
SpecText = Callable[[Sequence[Change], Format, Sides], str]  # the text of what differs in two specs


def named_text(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def joined(named: Iterable[tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """Cells of a table, of (metric, its other cells): metrics whose other cells are the same are joined into one row."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, cells in named:
        groups.setdefault(cells, []).append(name)
    return [[named_text(names), *cells] for cells, names in groups.items()]


def problems_text(count: int) -> str:
    """`1 problem`, `2 problems`."""
    return "1 problem" if count == 1 else f"{count} problems"


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 0`, `seeds 0, 1`."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def difference_text(estimate: Estimate | None) -> str:
    """The value with its interval; a dash where there is none."""
    if estimate is None or estimate.value is None:
        return "-"
    value = number_text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{number_text(estimate.low)}, {number_text(estimate.high)}]"


def number_text(value: float | None) -> str:
    """The number with three decimals, or four where it is small, so that a KL does not read as 0; a dash for None."""
    if value is None:
        return "-"
    if round(value, 4) == 0:
        return "0.000"
    return f"{value:.3f}" if abs(value) >= 0.05 else f"{value:.4f}"


def spec_table(changes: Sequence[Change], table: Format, sides: Sides) -> str:
    """A table of what differs in two specs."""
    if not changes:
        return "specs: nothing differs but the seed"
    return table(
        [[key, shortened(one, _LONGEST), shortened(other, _LONGEST)] for key, one, other in _one_sided(changes)],
        ["spec", *sides],
    )


def folded_spec_table(changes: Sequence[Change], table: Format, sides: Sides) -> str:
    """`spec_table` in Markdown, to be unfolded by a click."""
    if not changes:
        return spec_table(changes, table, sides)
    said = f"What differs in the specs: {len(changes)} key{'s' * (len(changes) > 1)}"
    return f"<details><summary>{said}</summary>\n\n{spec_table(changes, table, sides)}\n\n</details>"


def _one_sided(changes: Sequence[Change]) -> list[tuple[str, str, str]]:
    """(key, value of one side, of the other); a table that one side lacks is one row with its keys' number.

    A row of its own for each of its keys would hide what differs in the rows that both have.
    """
    tables: dict[tuple[str, bool], list[Change]] = {}
    for change in changes:
        if ABSENT in (change.before, change.after):
            tables.setdefault((_table_of(change.key), change.before == ABSENT), []).append(change)
    rows, seen = [], set()
    for change in changes:
        place = _table_of(change.key), change.before == ABSENT
        if {change.before, change.after} == {ABSENT, "{}"} and any(key == change.key for key, _ in tables):
            continue  # an empty table, beside the keys that the other side has in it
        several = tables.get(place, []) if ABSENT in (change.before, change.after) else []
        if len(several) < _FEWEST_FOLDED:
            rows.append((change.key, change.before, change.after))
        elif place not in seen:
            seen.add(place)
            there = f"({len(several)} keys)"
            rows.append((f"{place[0]}.*", *((ABSENT, there) if place[1] else (there, ABSENT))))
    return rows


def _table_of(key: str) -> str:
    """The table in which a key of a spec stands: `sampler.lora` of sampler.lora.rank, and `data` of data.examples."""
    return ".".join(key.split(".")[:-1][:2])


def plain_table(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table for a terminal."""
    return tabulate(body, head, tablefmt="simple", disable_numparse=True)


def markdown_table(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table in Markdown, its cells escaped."""
    return tabulate([[escaped(cell) for cell in row] for row in body], head, tablefmt="github", disable_numparse=True)


def escaped(text: str) -> str:
    """`text` escaped so that nothing in it is read as Markdown or HTML, whoever wrote the spec."""
    for sign in "\\`*_[]|~$@#":
        text = text.replace(sign, f"\\{sign}")
    return one_line(html.escape(text, quote=False))
