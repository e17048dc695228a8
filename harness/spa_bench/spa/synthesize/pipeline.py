"""From a method to pairs: rounds of drafts through the filters, kept on disk round by round.

A folder of a synthesis holds

    rounds/00000.jsonl    the drafts of round 0 as the method gave them, each with the filter at which it fell
    prepared/             what the method made before the first round
    pairs.jsonl           the pairs, in a shape that --data reads
    report.json, .md      what each filter got and kept, and why drafts fell

A round is written as a whole. A stopped synthesis reads the rounds that are there and resumes behind the last, with the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from spa_bench.cards import guard
from spa_bench.errors import SpaBenchError, with_message
from spa_bench.spa.synthesize.base import Draft, Setting, SynthesisKind
from spa_bench.spa.synthesize.filters import Fate, Filters, Funnel
from spa_bench.support.console import Reporter
from spa_bench.support.files import replace_file
from spa_bench.support.interrupt import pause_point
from spa_bench.types import Example

BARREN = 512  # drafts in a row without one pair after which a synthesis ends
Ended = Literal["enough", "spent", "barren", "exhausted"]
ENDS: dict[Ended, str] = {
    "enough": "there are enough pairs",
    "spent": "all drafts are made (synthesize.drafts)",
    "barren": f"{BARREN} drafts in a row gave no pair",
    "exhausted": "the method has no more drafts",
}
COLUMNS = {"pair": ("prompt", "completion"), "instruction": ("instruction", "response")}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a synthesis made."""

    pairs: list[Example]
    funnel: Funnel
    rounds: int
    tokens: int  # drawn in all
    ended: Ended
    prepared: dict[str, object]  # facts that the method gave before the first round


def make_pairs(kind: SynthesisKind, setting: Setting, filters: Filters, folder: Path, console: Reporter) -> Made:
    """Make pairs in `folder` until there are enough, the drafts are spent, or nothing more comes; rounds that are there count.

    Raises what the method raises, with what is kept in the message where it is an error of the user's.
    """
    card, pairs = setting.card, list[Example]()
    own = guard.guarded(f"synthesize.method {card.method!r}") if ":" in card.method else nullcontext()
    try:
        return _make(kind, setting, filters, folder=folder, console=console, pairs=pairs, own=own)
    except SpaBenchError as error:
        whole = len(list((folder / "rounds").glob("*.jsonl")))
        rounds = f"{whole} whole round{'s' * (whole != 1)}"
        kept = f"synthesis ({card.method}): {len(pairs)} of {card.pairs} pairs from {rounds} are kept"
        raise with_message(error, f"{error}; {kept}, and the same command resumes behind them") from error


def _make(
    kind: SynthesisKind,
    setting: Setting,
    filters: Filters,
    *,
    folder: Path,
    console: Reporter,
    pairs: list[Example],
    own: AbstractContextManager[object],
) -> Made:
    card, funnel = setting.card, Funnel()
    rounds, prepared = folder / "rounds", folder / "prepared"
    for place in (rounds, prepared):
        place.mkdir(exist_ok=True)
    number = tokens = barren = 0
    ended: Ended | None = None
    with own:
        method = kind.build(setting)
        with console.stage(f"preparing synthesis ({card.method})") as progress:
            ready = method.prepare(progress=progress, kept=prepared)
        with console.stage(f"synthesis ({card.method})") as progress:
            while ended is None:
                pause_point()
                file = rounds / f"{number:05}.jsonl"
                rows = _read(file)
                if rows is None:
                    drafts = list(islice(ready.round(number, tuple(pairs)), card.most - funnel.drafts))
                    rows = list(zip(drafts, filters.sift(drafts, card.pairs - len(pairs)), strict=True))
                    replace_file(file, "".join(map(_line, rows)).encode())
                else:
                    filters.remember(_kept(rows))
                new = _kept(rows)
                pairs += new
                funnel.count(fate for _, fate in rows)
                tokens += sum(draft.tokens for draft, _ in rows)
                barren = _barren(rows, barren)
                number += 1
                progress(len(pairs), card.pairs)
                ended = _ended(len(pairs) >= card.pairs, not rows, funnel.drafts >= card.most, barren >= BARREN)
    return Made(pairs=pairs, funnel=funnel, rounds=number, tokens=tokens, ended=ended, prepared=ready.facts)


def _ended(enough: bool, exhausted: bool, spent: bool, barren: bool) -> Ended | None:
    if enough:
        return "enough"
    if exhausted:
        return "exhausted"
    return "spent" if spent else "barren" if barren else None


def _kept(rows: Sequence[tuple[Draft, Fate]]) -> list[Example]:
    return [draft.example for draft, fate in rows if not fate.fell and draft.example]


def _barren(rows: Sequence[tuple[Draft, Fate]], before: int) -> int:
    """The drafts since the last pair."""
    last = max((i for i, (_, fate) in enumerate(rows) if not fate.fell), default=-1)
    return len(rows) - 1 - last if last >= 0 else before + len(rows)


def _line(row: tuple[Draft, Fate]) -> str:
    draft, fate = row
    return json.dumps({**asdict(draft), **asdict(fate)}) + "\n"


def _read(file: Path) -> list[tuple[Draft, Fate]] | None:
    """The drafts of a round with their fates; None where the round is not there."""
    if not file.exists():
        return None
    rows = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            fate = Fate(row.pop("fell"), row.pop("why"))
            example = row.pop("example")
            rows.append((Draft(**row, example=None if example is None else Example(**example)), fate))
    return rows


def write_pairs(file: Path, pairs: Sequence[Example], shape: Literal["pair", "instruction"]) -> None:
    """Write pairs as JSON lines, in the columns of their shape. Raises StoreError."""
    prompt, completion = COLUMNS[shape]
    rows = ({prompt: pair.prompt, completion: pair.completion} for pair in pairs)
    replace_file(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
