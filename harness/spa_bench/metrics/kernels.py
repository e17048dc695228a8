"""Similarities between the samples of one problem: by token n-grams, by syntax trees, by given features.

All are cosines of counts, so they lie in [0, 1] and are 1 for equal items. They see the counts and nothing else: the n-gram
kernel ignores the order of n-grams, and the syntax kernel ignores the order of siblings. Both need memory for distinct items x
distinct features. Inner products are of whole numbers and therefore exact, so no kernel depends on threads or blocking.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from spa_bench.metrics.diversity import normal_tokens
from spa_bench.metrics.ngrams import Counts, FloatArray, IntArray, count_features, count_ngrams, words

ORDERS = (1, 2)
"""The orders of the n-grams of the n-gram kernel."""


def ngram_kernel(texts: Sequence[str], *, orders: Sequence[int] = ORDERS) -> FloatArray:
    r"""The mean over `orders` of the cosine similarity of token n-gram counts, shape (n, n), in [0, 1].

    The kernel of `ngram_vendi_score` of the package vendi_score 0.0.3, except that tokens are matches of \w+|[^\w\s] instead
    of nltk's, and the default orders are 1 and 2 instead of 1 to 4. A text too short for an n-gram of some order has, in that
    order, similarity 1 with the other such texts and 0 with the rest, so equal texts have similarity exactly 1, and so do
    empty texts.

    Raises ValueError without texts, without orders, or for an order below 1.
    """
    _some(texts)
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    counts = count_ngrams([words(text) for text in place], orders)
    return kernel_of_counts(counts, np.array([place[text] for text in texts], dtype=np.int64))


def kernel_of_counts(counts: Sequence[Counts], place: IntArray) -> FloatArray:
    """`ngram_kernel` of texts whose n-grams are counted, a `Counts` for each order: `place`, (n,), has the row of each text."""
    kernel = np.mean([cosine_of_counts(one) for one in counts], axis=0)
    # The kernel is computed for distinct texts and then spread, so that copies get exactly the same row.
    return np.asarray(kernel[np.ix_(place, place)], dtype=np.float64)


def ast_kernel(programs: Sequence[str]) -> FloatArray:
    """The cosine similarity of the counts of `syntax_features`, shape (n, n), in [0, 1].

    Programs that differ only in layout, comments, docstrings and local names have similarity exactly 1. A text that does
    not parse has a feature of its own: similarity 1 with equal texts, 0 with everything else. Many different broken
    texts therefore count as different: read it beside the share that runs. Raises ValueError without programs.
    """
    _some(programs)
    place = {program: i for i, program in enumerate(dict.fromkeys(programs))}
    kernel = cosine_of_counts(count_features([syntax_features(program) for program in place]))
    index = [place[program] for program in programs]
    return np.asarray(kernel[np.ix_(index, index)], dtype=np.float64)


def syntax_features(source: str) -> list[Hashable]:
    """One triple (label, parent's label, grandparent's label) for every node and value of a program's syntax tree.

    The tree is that of `normalize_ast`: no docstrings, names that the source binds numbered by first appearance. The
    label of a node is its type, of a value its repr, of an identifier the (normalised) name; above the root it is "".
    Lists of nodes are transparent; an absent part is the value None. Siblings have no order here, so `a - b` and
    `b - a` have the same features, and a new variable renumbers the ones after it. A source that does not parse has the
    one feature ("unparsed", source).
    """
    return features_of_tokens(source, normal_tokens(source))


def features_of_tokens(source: str, tokens: Sequence[str] | None) -> list[Hashable]:
    """`syntax_features` of a source whose `normal_tokens` are already known."""
    if tokens is None:
        return [("unparsed", source)]
    features: list[Hashable] = []
    above = ["", ""]
    for token in tokens:
        if token == ")":
            above.pop()
        elif token.endswith("("):  # no other token ends so: a value's repr ends in a quote or is a word or number
            label = token[:-1]
            features.append((label, above[-1], above[-2]))
            above.append(label)
        elif token not in ("[", "]"):
            features.append((token, above[-1], above[-2]))
    return features


def cosine_of_counts(counts: Counts) -> FloatArray:
    """The cosine of every two rows of counts, shape (items, items); rows without any feature resemble only each other."""
    dense = counts.dense()
    inner = dense @ dense.T
    squares = np.diagonal(inner)
    empty = squares == 0
    squares = np.where(empty, 1.0, squares)
    # The root of the product is exact for equal rows, whose similarity is then 1; the product of roots is not.
    kernel = np.minimum(inner / np.sqrt(np.outer(squares, squares)), 1.0)
    kernel[np.ix_(empty, empty)] = 1.0
    np.fill_diagonal(kernel, 1.0)
    return np.asarray(kernel, dtype=np.float64)


def _some(items: Sequence[str]) -> None:
    if not items:
        raise ValueError("no texts: there is no kernel")
