"""Measures of a data set: how good, how diverse and how complex its pairs are, and how like those of another set.

`describe` measures some sets together (quality, diversity, complexity), `similarity` compares one set with a target. Measures
that depend on the number of pairs are taken at one size for all sets, on random subsets.
"""

from spa_bench.datasets.describe import Described, Description, How, describe, similarity
from spa_bench.datasets.pairs import DataSet, Item, of_examples, parts_of, read_set

__all__ = [
    "DataSet",
    "Described",
    "Description",
    "How",
    "Item",
    "describe",
    "of_examples",
    "parts_of",
    "read_set",
    "similarity",
]
