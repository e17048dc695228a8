"""Texts that are cut, and the names of specs that are taken apart."""

from __future__ import annotations

import pytest

from spa_bench.support.provenance import revision_line, split_hash, versions_line
from spa_bench.support.text import one_line, shortened


def test_a_text_that_is_too_long_ends_in_points_and_has_the_most_characters():
    assert shortened("abcde", 5) == "abcde"
    assert shortened("abcdef", 5) == "ab..."
    assert shortened("abcdef", 5, "…") == "abcd…"
    assert one_line("a\n b  cdef", 5) == "a b …"


@pytest.mark.parametrize("said", ["name", "name@", "@0123456789abcdef", "name@0123456789ABCDEF", "name@0123456789abcdef0 "])
def test_a_name_without_a_hash_of_so_many_digits_is_not_taken_apart(said: str):
    assert split_hash(said, 16) is None


def test_the_last_hash_of_a_name_counts():
    digest = "0123456789abcdef"
    assert split_hash(f"a/b@{digest}", 16) == ("a/b", digest)
    assert split_hash(f"a@{digest}@{digest}", 16) == (f"a@{digest}", digest)
    assert split_hash(f"a@{digest}", 32) is None


def test_a_revision_that_is_not_known_is_a_dash():
    assert revision_line({"git": "0123456789abcdef", "dirty": False}) == "0123456789"
    assert revision_line({"git": "0123456789abcdef", "dirty": True}) == "0123456789 and changes"
    assert revision_line({"git": None, "dirty": None}) == revision_line({}) == "-"
    assert versions_line({"python": "3.11", "numpy": "2"}) == "python 3.11, numpy 2"
