"""The cells of a task's table: every metric that any row has, at equal n, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.compare.leaderboard.choices import CHOICE_COLUMNS
from spa_bench.compare.leaderboard.compare import OPEN_PAIRED, PAIRED, best, paired_columns
from spa_bench.compare.leaderboard.measurers import measured_line, mixed
from spa_bench.compare.leaderboard.pooled import UNSAID
from spa_bench.compare.leaderboard.quality import quality_line
from spa_bench.compare.leaderboard.rows import common_size
from spa_bench.compare.leaderboard.signal import LEAD, signal_line
from spa_bench.compare.leaderboard.tables import several_models
from spa_bench.metrics.choice_table import CHOICE_METRICS
from spa_bench.metrics.distribution_table import NOISE_METRICS
from spa_bench.metrics.suite import ALIASES
from spa_bench.metrics.table import AT_SIZES, METRICS, OPEN_AT_SIZES, OPEN_METRICS
from spa_bench.support.provenance import numerics_line
from spa_bench.support.rounding import fixed
from spa_bench.types import Estimate

DEFAULTS = (*PAIRED.values(), "average_kl[i<j]")
"""The columns that are shown at first."""
_SHORT = {name: alias.replace("_", " ") for alias, name in ALIASES.items()}
_SHORT |= {"average_kl[i<j]": "average KL", "vendi[ngram,q=1]": "Vendi"}
_SAID = {m.name: m.description for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS, *OPEN_METRICS)} | {
    m.name: m.description for m in (*AT_SIZES, *OPEN_AT_SIZES)
}


@dataclass(frozen=True)
class Column:
    """One metric."""

    name: str  # the name in metrics.json
    head: str  # the name for a reader
    said: str  # the definition
    shown: bool  # whether it is shown before the reader chooses


@dataclass(frozen=True)
class Cell:
    """One estimate in the form that is written."""

    estimate: Estimate
    best: bool  # whether it is the best of its column, or its difference from the best is not resolved

    @property
    def value(self) -> str:
        """The number; empty where there is none."""
        return "" if self.estimate.value is None else written(self.estimate.value)

    @property
    def interval(self) -> str:
        """`[low, high]`; empty where there is no interval."""
        low, high = self.estimate.low, self.estimate.high
        return "" if low is None or high is None else f"[{written(low)}, {written(high)}]"


@dataclass(frozen=True)
class Table:
    """Rows that may be compared, with the n of the metrics that depend on n."""

    rows: tuple[LeaderboardRow, ...]
    size: int | None
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]  # one tuple for each row, in the order of the columns

    @property
    def title(self) -> str:
        """The title, which says which problems the rows have."""
        return self.rows[0].title

    @property
    def differs(self) -> dict[str, list[str]]:
        """The differences between the rows' specs, beside the sampler."""
        return differences(self.rows)

    @property
    def signal(self) -> str:
        """The sentence that quality tells no rows apart; "" where it does."""
        return signal_line(self.rows).removeprefix(f"**{LEAD}**: ")

    @property
    def warning(self) -> str:
        """The warning that the rows are of different quality; "" where they are not."""
        return quality_line(self.rows)

    @property
    def measured(self) -> str:
        """A sentence that says who measured all rows; "" where nobody says, or rows differ in it."""
        return measured_line(self.rows)

    @property
    def measurers(self) -> tuple[str, ...]:
        """Who measured each row; empty where all rows have one measurer."""
        return tuple(row.measured_by or UNSAID for row in self.rows) if mixed(self.rows) else ()

    @property
    def models(self) -> tuple[str, ...]:
        """The model of each row; empty where all rows have one model."""
        return tuple(row.model for row in self.rows) if several_models(self.rows) else ()

    @property
    def unequal(self) -> bool:
        """Whether rows have different n."""
        return len({row.result["size"] for row in self.rows}) > 1


def differences(rows: Sequence[LeaderboardRow]) -> dict[str, list[str]]:
    """The differences between the rows' specs, beside the sampler: a name for a reader -> values in the order of rows."""
    specs = [row.result["spec"] for row in rows]
    settings = {
        "model": [f"{s['model']['name']}{_hash(s['model'].get('hash'))}" for s in specs],
        "n": ["varies" if s["n"] is None else str(s["n"]) for s in specs],
        "grading": [str(s["grading"]) for s in specs],
        "numerics": [numerics_line(s["numerics"]) or "not known" for s in specs],
        "revision of spa-bench": [str(s["code"].get("git") or "not known")[:10] for s in specs],
        "training seeds": [str(len(row.seeds)) for row in rows],
    }
    return {name: list(dict.fromkeys(values)) for name, values in settings.items() if len(set(values)) > 1}


def _hash(digest: object) -> str:
    return f" ({digest[:6]})" if isinstance(digest, str) else ""


def table_of(rows: Sequence[LeaderboardRow]) -> Table:
    """The table of rows whose problems are the same."""
    size = common_size(rows)
    names = dict.fromkeys([*DEFAULTS, *(n for row in rows for n in row.result["metrics"])])
    estimates = {name: [row.compared(name, size)[0] for row in rows] for name in names}
    known = [name for name in names if any(e.value is not None for e in estimates[name])]
    has_choices = any("agreement[choices]" in row.result["metrics"] for row in rows)
    first = [
        *(OPEN_PAIRED.values() if any(row.open_ended for row in rows) else ()),
        *DEFAULTS,
        *(dict.fromkeys(CHOICE_COLUMNS.values()) if has_choices else ()),
    ]
    own = {name for row in rows for name in row.own}
    first += [name for name in known if name.startswith("own[") or name in own]
    columns = [Column(name, head_of(name), said_of(name), name in first) for name in known]
    columns.sort(key=lambda c: first.index(c.name) if c.shown else len(first))
    top = {name: best(rows, column) for column, name in paired_columns(rows).items() if len(rows) > 1}
    cells = [
        tuple(Cell(estimates[c.name][place], row.label in top.get(c.name, ())) for c in columns)
        for place, row in enumerate(rows)
    ]
    return Table(tuple(rows), size, tuple(columns), tuple(cells))


def head_of(name: str) -> str:
    """A metric's name for a reader: the short name where it has one."""
    return _SHORT.get(name, name)


def said_of(name: str) -> str:
    """A metric's definition; empty for a metric of the user's own."""
    if name.startswith("own["):
        return "by the scoring of the library behind the task, mean over members; no interval of ours"
    return _SAID.get(name, "share of right answers of that member" if name.startswith("pass@1[member=") else "")


def written(value: float) -> str:
    """The number as text with three or four significant digits: `0.713`, `12.4`, `0.0061`."""
    if 1e-9 < abs(value) < 0.1:
        return f"{value:.4f}"
    return fixed(value, 3) if abs(value) < 10 else f"{value:.1f}"
