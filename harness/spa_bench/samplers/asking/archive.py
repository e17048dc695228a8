"""An archive of answers for quality-diversity search: the best answer of each cell (MAP-Elites, Mouret & Clune 2015).

pyribs (`ribs`) keeps the cells; here are the axes, and what is chosen of the archive in the end.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spa_bench.errors import UsageError
from spa_bench.samplers.asking.case import Answer

AXES = ("length", "syntax", "behaviour", "judged", "similarity")
_LENGTHS = (4.0, 12.0)  # log2 of characters: 16 to 4,096
_CONTROL = (ast.For, ast.While, ast.If, ast.IfExp, ast.Try, ast.comprehension, ast.With, ast.Match, ast.Lambda, ast.FunctionDef)
_MOST_CONTROL = 16
MOST_CELLS = 100_000  # of an archive: 4 MB for a problem


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An answer that may enter the archive, with what was found out about it."""

    answer: Answer
    quality: float
    program: str = ""  # of the answer, as it is graded; "": its text as it is
    examples: int = 0  # in its prompt
    behaviour: str = ""  # what it does on the examples; "": it does not run, or there are none
    label: int = 0  # the place of the label that the model's judgement gave it; the number of labels where it gave none
    unjudged: str = ""  # why that judgement names no label: "none", "cut" or "failed"; "": it names one, or none was asked for
    place: tuple[float, ...] = ()  # by a learned similarity

    @property
    def text(self) -> str:
        """What the search looks at, and shows to the model: of an answer with prose beside its program, the program."""
        return self.program or self.answer.text


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The axes of an archive: what its cells tell apart."""

    names: tuple[str, ...]  # of AXES
    bins: int  # of each axis that is a number
    pool: int  # candidates in all: as many behaviours can be told apart
    labels: int  # of `judged`
    ranges: tuple[tuple[float, float], ...]  # of the two axes of `similarity`

    @property
    def cells(self) -> int:
        """The cells of the archive, all of which take memory."""
        return math.prod(bins for bins, _ in self.dims())

    def dims(self) -> list[tuple[int, tuple[float, float]]]:
        """(number of bins, range) of each axis."""
        made: list[tuple[int, tuple[float, float]]] = []
        for name in self.names:
            if name == "length":
                made.append((self.bins, _LENGTHS))
            elif name == "syntax":
                made.append((self.bins, (0.0, float(_MOST_CONTROL))))
            elif name == "behaviour":
                made.append((self.pool + 1, (0.0, self.pool + 1.0)))
            elif name == "judged":
                made.append((self.labels + 1, (0.0, self.labels + 1.0)))
            else:
                made += [(self.bins, pair) for pair in self.ranges[:2]]
        return made

    def measures(self, candidate: Candidate, behaviours: Sequence[str]) -> list[float]:
        """The candidate's value on each axis; `behaviours` are those that are known, of which its own is one."""
        made: list[float] = []
        for name in self.names:
            if name == "length":
                made.append(math.log2(1 + len(candidate.text)))
            elif name == "syntax":
                made.append(float(control_nodes(candidate.text)))
            elif name == "behaviour":
                made.append(behaviours.index(candidate.behaviour) + 0.5)
            elif name == "judged":
                made.append(candidate.label + 0.5)
            else:
                made += [float(x) for x in candidate.place[:2]]
        return made


class Archive:
    """The elites of one problem, and all candidates in the order in which they came."""

    def __init__(self, axes: Axes, seed: int):
        self._axes, self._cells, self._choices = axes, _grid(axes), np.random.default_rng(seed)
        self._behaviours: list[str] = []
        self.candidates: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Keep the candidate; it becomes an elite where it is the first of its cell, or better than the one there."""
        if candidate.behaviour not in self._behaviours:
            self._behaviours.append(candidate.behaviour)
        measures = self._axes.measures(candidate, self._behaviours)
        place = np.array([[float(len(self.candidates))]])
        self._cells.add(place, np.array([candidate.quality]), np.array([measures]))
        self.candidates.append(candidate)

    def elites(self) -> list[int]:
        """Places in `candidates`, best first; of equally good ones the earlier first."""
        found = self._cells.data(["solution"])["solution"][:, 0]
        return sorted((int(place) for place in found), key=lambda place: (-self.candidates[place].quality, place))

    def parents(self, count: int, each: int) -> list[list[Candidate]]:
        """`count` draws of `each` different elites, uniformly over the cells; of all of them where there are fewer."""
        elites = self.elites()
        drawn = [self._choices.permutation(elites)[:each] for _ in range(count)]
        return [[self.candidates[place] for place in places] for places in drawn]

    def chosen(self, n: int) -> list[tuple[Candidate, bool]]:
        """Up to n candidates, and whether each is an elite: the elites first, then other texts, each by quality."""
        order = self.elites()
        chosen = order[:n]
        texts = {self.candidates[place].text for place in chosen}
        rest = sorted(set(range(len(self.candidates))) - set(order), key=lambda p: (-self.candidates[p].quality, p))
        for again in (False, True):  # texts that are there already come last
            for place in rest:
                text = self.candidates[place].text
                if len(chosen) < n and place not in chosen and (again or text not in texts):
                    chosen.append(place)
                    texts.add(text)
        return [(self.candidates[place], place in order) for place in chosen]


def control_nodes(program: str) -> int:
    """Loops, branches, comprehensions, functions and the like in a program, at most 15; 0 for one that does not parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(program)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return 0
    return min(sum(isinstance(node, _CONTROL) for node in ast.walk(tree)), _MOST_CONTROL - 1)


def check_installed() -> None:
    """Raise UsageError where pyribs cannot be imported."""
    try:
        import ribs.archives  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "kind qdaif keeps its archive with pyribs, which is not installed: pip install 'spa-bench[search]'"
        ) from error


def _grid(axes: Axes) -> Any:
    from ribs.archives import GridArchive

    dims = axes.dims()
    return GridArchive(solution_dim=1, dims=[bins for bins, _ in dims], ranges=[pair for _, pair in dims])
