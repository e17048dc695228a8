"""JSON with indents is that of the standard library, byte for byte."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_bench.support.json_text import indented
from spa_bench.types import Key, Verdict

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(VALUES)
def test_it_is_what_the_standard_library_writes_with_an_indent_of_one(value: object):
    assert indented(value) == json.dumps(value, indent=1)


@pytest.mark.parametrize(
    "value",
    [
        {"a": Counter("aab"), 3: [Key("p", 0, 1), ()], None: {}, True: {"x": [[]]}},
        {'a": b': {"c": [Verdict.PASSED, "ü\n"]}},
        [1, [2, [3, {"four": (5, [6.5])}]], "a, b"],
    ],
)
def test_kinds_of_lists_objects_and_keys_are_those_of_the_standard_library(value: object):
    assert indented(value) == json.dumps(value, indent=1)


def test_what_is_no_json_raises_as_in_the_standard_library():
    with pytest.raises(TypeError, match="not JSON serializable"):
        indented({"a": [{1, 2}]})
