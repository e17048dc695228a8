"""The filters between drafts and pairs, in their order; each counts what it got, what it kept and why the others fell.

1. readable: a pair can be read from the draft.
2. text: neither its prompt nor its completion is empty.
3. fits: it is not longer than the limits of training.
4. code: its program does what synthesize.code wants (programs.py).
5. exact: it is neither a target nor an earlier pair.
6. near: it is not as alike to one of these as synthesize.near says (spa.data.near).
7. overlap: it does not overlap a problem of the task (spa.data.overlap).

A draft that falls is compared with nothing later, so that a valid draft may follow an invalid one that is like it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from spa_bench.spa.data.near import NearIndex
from spa_bench.spa.data.overlap import Against
from spa_bench.spa.synthesize.base import Draft
from spa_bench.spa.synthesize.programs import CodeFilter
from spa_bench.types import Example, Problem

FILTERS = ("readable", "text", "fits", "code", "exact", "near", "overlap")
SURPLUS = "surplus"  # the draft is one of the last round, and came when there were enough pairs


@dataclass(frozen=True)
class Fate:
    """What became of a draft."""

    fell: str = ""  # the filter at which it fell; SURPLUS; "": its pair is kept
    why: str = ""  # in a few words, which are counted


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which pairs are short enough."""

    fits: Callable[[Example], bool] = lambda pair: True
    said: str = ""  # the limit in words; "": there is none that is known here


class Filters:
    """Sifts drafts, and remembers the pairs that it kept."""

    def __init__(
        self,
        *,
        targets: Sequence[Example],
        code: CodeFilter,
        near: float,
        limits: Limits,
        problems: Sequence[Problem] | None,
    ):
        self._code, self._limits = code, limits
        self._against = Against(problems) if problems is not None else None
        self._exact: dict[tuple[str, str], str] = {}
        self._near, self._of = NearIndex(near), list[str]()
        for target in targets:
            self._add(target, "a target")

    def remember(self, pairs: Iterable[Example]) -> None:
        """Take in pairs that an earlier process kept."""
        for pair in pairs:
            self._add(pair, "an earlier pair")

    def sift(self, drafts: Sequence[Draft], room: int) -> list[Fate]:
        """What becomes of each draft, in order; at most `room` pairs are kept."""
        fates = [self._alone(draft) for draft in drafts]
        left = [i for i, fate in enumerate(fates) if not fate.fell]
        for i, why in zip(left, self._code.failures([drafts[i] for i in left]), strict=True):
            fates[i] = Fate("code", why) if why else Fate()
        for i in left:
            pair = drafts[i].example
            assert pair is not None
            if fates[i].fell:
                continue
            fates[i] = self._among(pair)
            if not fates[i].fell and not room:
                fates[i] = Fate(SURPLUS)
            elif not fates[i].fell:
                self._add(pair, "an earlier pair")
                room -= 1
        return fates

    def _alone(self, draft: Draft) -> Fate:
        """The filters that look at one draft by itself."""
        pair = draft.example
        if pair is None:
            return Fate("readable", draft.failure or "there is no pair in it")
        empty = [name for name, text in (("prompt", pair.prompt), ("completion", pair.completion)) if not text.strip()]
        if empty:
            return Fate("text", f"the {empty[0]} is empty")
        return Fate() if self._limits.fits(pair) else Fate("fits", f"longer than {self._limits.said}")

    def _among(self, pair: Example) -> Fate:
        """The filters that compare a draft with others."""
        if same := self._exact.get(_key(pair)):
            return Fate("exact", f"equal to {same}")
        if near := self._near.nearest(_text(pair)):
            return Fate("near", f"alike to {self._of[near[0]]}")
        if self._against and (found := next(self._against.overlaps(pair.prompt, pair.completion), None)):
            return Fate("overlap", found[1])
        return Fate()

    def _add(self, pair: Example, what: str) -> None:
        self._exact.setdefault(_key(pair), what)
        self._near.add(_text(pair))
        self._of.append(what)


@dataclass(kw_only=True)
class Funnel:
    """How many drafts each filter got and kept."""

    drafts: int = 0
    surplus: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in FILTERS})

    def count(self, fates: Iterable[Fate]) -> None:
        """Count the fates of some drafts."""
        for fate in fates:
            self.drafts += 1
            if fate.fell == SURPLUS:
                self.surplus += 1
            elif fate.fell:
                self.reasons[fate.fell][fate.why] += 1

    def rows(self) -> list[dict[str, object]]:
        """A row for each filter: what it got, what it kept, the share, and why others fell, the most frequent first."""
        rows: list[dict[str, object]] = []
        left = self.drafts
        for name in FILTERS:
            why = dict(sorted(self.reasons[name].items(), key=lambda pair: (-pair[1], pair[0])))
            kept = left - sum(why.values())
            rows.append({"filter": name, "got": left, "kept": kept, "share": kept / left if left else None, "fell": why})
            left = kept
        return rows

    def said(self) -> str:
        """Where drafts fell, in one line, the most frequent first."""
        fell = {f"{name}: {why}": n for name, counted in self.reasons.items() for why, n in counted.items()}
        most = sorted(fell.items(), key=lambda pair: (-pair[1], pair[0]))
        said = ", ".join(f"{n} {what}" for what, n in most[:6])
        return said + (f" and {len(most) - 6} more reasons" if len(most) > 6 else "")


def _key(pair: Example) -> tuple[str, str]:
    return pair.prompt.strip(), pair.completion.strip()


def _text(pair: Example) -> str:
    return f"{pair.prompt}\n{pair.completion}"
