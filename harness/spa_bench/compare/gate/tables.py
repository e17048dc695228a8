"""Parts of the gate's text, for a terminal and as Markdown for a pull request or the summary of a CI job."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from tabulate import tabulate

from spa_bench.compare.gate.specs import Change
from spa_bench.support.text import one_line
from spa_bench.types import Estimate

_LONGEST = 70  # characters of a value of a spec that are shown
_MOST_NAMED = 12  # metrics of one outcome and reason that are named one by one

Format = Callable[[Sequence[Sequence[str]], Sequence[str]], str]


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _problems(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _difference(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "-"
    value = f"{_number(estimate.value)}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float | None) -> str:
    """The number with three decimals, or four where it is small, so that a KL does not read as 0."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.05 or value == 0 else f"{value:.4f}"


def _changes(changes: Sequence[Change], table: Format) -> str:
    if not changes:
        return "specs: nothing differs but the seed"
    return table([[c.key, _short(c.before), _short(c.after)] for c in changes], ["spec", "before", "after"])


def _folded(changes: Sequence[Change], table: Format) -> str:
    if not changes:
        return _changes(changes, table)
    said = f"What differs in the specs: {len(changes)} key{'s' * (len(changes) > 1)}"
    return f"<details><summary>{said}</summary>\n\n{_changes(changes, table)}\n\n</details>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _plain_table(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate(body, head, tablefmt="simple", disable_numparse=True)


def _markdown_table(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate([[_escaped(cell) for cell in row] for row in body], head, tablefmt="github", disable_numparse=True)


def _escaped(text: str) -> str:
    """`text` escaped so that nothing in it is read as Markdown or HTML, whoever wrote the spec."""
    for sign in "\\`*_[]|~$@#":
        text = text.replace(sign, f"\\{sign}")
    return one_line(html.escape(text, quote=False))


# compare -------------------------------------------------------------------------------------------------------------
