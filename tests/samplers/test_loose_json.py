"""JSON as models write it: what is decoded beside JSON, what is not, and what is left of values that break off."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_bench.samplers.asking.loose_json import complete_texts, value_at

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=st.lists(VALUES, max_size=3) | st.dictionaries(st.text(), VALUES, max_size=3))
def test_json_is_what_it_is(value: object):
    text = json.dumps(value)
    assert value_at(f"so: {text} and", 4) == (value, 4 + len(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': 'b', \"c\": 'it\\'s'}", {"a": "b", "c": "it's"}),
        ("{a: 1, b_2: .5,}", {"a": 1, "b_2": 0.5}),
        ("[True, None, false,]", [True, None, False]),
        ('{"p": 1/4, "q": < 0.05}', {"p": "1/4", "q": "< 0.05"}),
        ('{"a": """one\n"two"\n""", "b": \'\'\'x\'\'\'}', {"a": 'one\n"two"', "b": "x"}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ("['\\n\\t\\u00e9\\q']", ["\n\téq"]),  # an escape that there is not stands for its letter
    ],
)
def test_what_python_and_models_write_is_decoded_too(text: str, value: object):
    assert value_at(text, 0) == (value, len(text))


@pytest.mark.parametrize("text", ["", "[", "{", "[words in brackets]", "{no colon}", '["a" "b"]', '{"a": "b"', "[" * 1000])
def test_what_is_no_value_or_does_not_end_is_refused(text: str):
    with pytest.raises(ValueError, match=r".+"):
        value_at(text, 0)


def test_the_closed_literals_of_what_breaks_off_are_those_without_keys():
    assert complete_texts('{"a": ["one", "two, too",\n  \'three\',\n  "fo') == ["one", "two, too", "three"]
    assert complete_texts('["say "one" now",\n "two\\n"]') == ['say "one" now', "two\n"]
    assert complete_texts("no list") == []
