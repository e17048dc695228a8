"""Names of metrics in the letters that a tracker takes, and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_bench.metrics.suite import ALIASES, METRICS
from spa_bench.publish.trackers.names import original, path, plain

LEGAL = re.compile(r"[A-Za-z0-9_.\-/: ]+")  # narrower than MLflow's own rule, which takes letters of all scripts


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("pass@1", "pass:at:1"),
        ("pass@1/low", "pass:at:1/low"),
        ("average_kl", "average_kl"),
        ("vendi[ngram,q=1]", "vendi/ngram q:eq:1"),
        ("vendi[ngram,q=0.5]/high", "vendi/ngram q:eq:0.5/high"),
        ("kl[first,i!=j]", "kl/first i:ne:j"),
        ("kl[first,i<j]", "kl/first i:lt:j"),
        ("x[low]", "x/:x6c:ow"),  # not the lower end of x
        ("a b", "a:x20:b"),
        ("a:at:b", "a:x3a:at:x3a:b"),
    ],
)
def test_a_name_is_readable_and_comes_back(name: str, legal: str):
    assert plain(name) == legal
    assert original(legal) == name


@pytest.mark.parametrize("part", ["", "/low", "/high", "/n"])
def test_every_metric_of_ours_is_legal_and_comes_back(part: str):
    for name in [m.name + part for m in METRICS] + [alias + part for alias in ALIASES]:
        assert LEGAL.fullmatch(plain(name)), name
        assert original(plain(name)) == name


def test_a_stage_is_legal_and_keeps_its_groups():
    assert path("attribution (influence)/done") == "attribution :x28:influence:x29:/done"
    assert path("seconds/noise floor") == "seconds/noise floor"


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(min_size=1) | st.from_regex(r"[a-z@/ :]{1,4}(\[[a-z=,:/ low]{1,6}\])?(/low|/n)?", fullmatch=True))
def test_any_name_of_the_users_own_is_legal_and_comes_back(name: str):
    assert LEGAL.fullmatch(plain(name))
    assert original(plain(name)) == name
