"""What is known of each pair by itself. A pair that several sets have (a whole and its parts) is measured once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spa_bench.datasets.measures import MEASURES
from spa_bench.datasets.pairs import DataSet, Item
from spa_bench.datasets.programs import Code, code_of, depth_of, kinds_of
from spa_bench.metrics.lexical import compression_ratio
from spa_bench.metrics.ngrams import Counts, count_ngrams, words
from spa_bench.metrics.self_bleu import SelfBleu
from spa_bench.spa.data.near import near_twins
from spa_bench.spa.data.overlap import SIMILAR

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The different pairs of all sets, with the values of each; NaN where a pair has none."""

    items: tuple[Item, ...]
    places: Mapping[str, IntArray]  # name of a set -> the place of each of its pairs in `items`
    values: dict[str, FloatArray] = field(default_factory=dict)  # name -> (U,), one value a pair
    rows: dict[str, NDArray[np.float32]] = field(
        default_factory=dict
    )  # name -> (U, d), one vector a pair; NaN where it has none
    missing: dict[str, str] = field(default_factory=dict)  # name of a value -> why no pair has it

    @staticmethod
    def of(sets: Sequence[DataSet]) -> Pool:
        """The pool of these sets, whose names differ."""
        number: dict[Item, int] = {}
        places = {one.name: np.array([number.setdefault(item, len(number)) for item in one.items]) for one in sets}
        return Pool(items=tuple(number), places=places)

    @cached_property
    def texts(self) -> list[str]:
        """Prompt and answer of each pair."""
        return [f"{item.asked}\n{item.answer}" for item in self.items]

    @cached_property
    def codes(self) -> list[Code | None]:
        """The program of each pair."""
        return [code_of(item) for item in self.items]

    @cached_property
    def counts(self) -> list[Counts]:
        """The n-grams of each text, of orders 1 and 2."""
        return count_ngrams([words(text) for text in self.texts], (1, 2))

    @cached_property
    def bleu(self) -> SelfBleu:
        """What self-BLEU needs of each text."""
        return SelfBleu.of(self.texts)

    @cached_property
    def twins(self) -> list[list[int]]:
        """The near twins of each pair among the others."""
        return near_twins(self.texts, SIMILAR)

    def add_text_values(self) -> None:
        """The values that need neither a model nor a sandbox."""
        codes = self.codes
        trees = [None if code is None else code.tree for code in codes]
        self.values["code"] = np.array([code is not None for code in codes], float)
        self.values["parses"] = np.array([math.nan if code is None else code.tree is not None for code in codes], float)
        self.values["ast_depth"] = np.array([math.nan if tree is None else depth_of(tree) for tree in trees], float)
        self.values["ast_kinds"] = np.array([math.nan if tree is None else kinds_of(tree) for tree in trees], float)
        self.values["characters"] = np.array([len(item.answer) for item in self.items], float)
        self.values["compression_ratio[pair]"] = np.array([compression_ratio([text]) or math.nan for text in self.texts], float)

    def add_flags(self, name: str, flags: Sequence[bool | None]) -> None:
        """A value that is 1 for True, 0 for False and missing for None."""
        assert name in MEASURES
        self.values[name] = np.array([math.nan if flag is None else float(flag) for flag in flags])
