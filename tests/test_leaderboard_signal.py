"""A table in which no sampler is resolved from guessing says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from made_up import PROBLEMS, estimated_anew, made_up
from spa_bench.compare.leaderboard import build_rows, markdown
from spa_bench.compare.leaderboard.signal import signal_line


def of(*results: dict[str, Any]) -> str:
    return signal_line(build_rows(list(results)))


def with_options(name: str, quality: float, options: int) -> dict[str, Any]:
    """A result whose problems have so many options, one of them right."""
    result = made_up(name, quality=quality, spread=0.5)
    values = result["runs"][0]["values"]
    values["any_of_n[chance]"] = [1 - (1 - 1 / options) ** 4] * PROBLEMS
    values["pass@1[mc]"] = values["pass@1"]
    return estimated_anew(result)


@pytest.mark.parametrize(
    ("quality", "options", "marked"), [(0.2, 4, True), (0.48, 2, True), (0.45, 2, False), (0.3, 5, False), (0.9, 2, False)]
)
def test_choices_at_the_level_of_guessing_have_no_signal(quality: float, options: int, marked: bool):
    line = of(with_options("a", quality, options))
    assert bool(line) == marked
    assert not marked or f"reaches the level of guessing ({1 / options:.3f})" in line


def test_one_sampler_above_the_level_is_a_signal():
    assert of(with_options("a", 0.2, 4), with_options("b", 0.21, 4))
    assert not of(with_options("a", 0.2, 4), with_options("b", 0.8, 4))


def test_a_code_task_that_nobody_solves_has_no_signal_and_its_page_says_so():
    rows = build_rows([made_up("a", quality=1e-5, spread=0.5), made_up("b", quality=1e-5, spread=0.4, seed=1)])
    assert "reaches 0, so quality does not tell samplers apart here" in signal_line(rows)
    page = markdown(rows, reference=None, command="c")
    assert page.index("**No signal**") < page.index("| sampler")
    assert "No signal" not in markdown(build_rows([made_up("a", quality=0.3, spread=0.5)]), reference=None, command="c")


def test_of_many_samplers_that_guess_none_is_a_signal_by_luck():
    guessing = [guesses(f"g{i}", seed=i) for i in range(14)]
    assert any(not of(one) for one in guessing)  # alone it is resolved, as one in twenty is
    assert of(*guessing)


def guesses(name: str, *, seed: int) -> dict[str, Any]:
    """A result of one guess among four options on each problem."""
    result = with_options(name, 0.2, 4)
    right = np.random.default_rng(seed).random(PROBLEMS) < 0.25
    result["runs"][0]["values"]["pass@1"] = result["runs"][0]["values"]["pass@1[mc]"] = right.astype(float).tolist()
    return estimated_anew(result)


@pytest.mark.parametrize(("n", "level"), [(16, "0.250"), (64, "0.250"), (100, "")])
def test_the_level_of_guessing_is_said_where_what_n_guesses_get_still_tells_it(n: int, level: str):
    result = made_up("a", quality=0.25, spread=0.5, n=n)
    values, hard = result["runs"][0]["values"], np.random.default_rng(1)
    values["any_of_n[chance]"] = [float(f"{1 - 0.75**n:.10g}")] * PROBLEMS
    values["pass@1"] = values["pass@1[mc]"] = np.clip(hard.normal(0.25, 0.1, PROBLEMS), 0, 1).tolist()
    line = of(estimated_anew(result))
    assert (f"the level of guessing ({level})" in line) if level else not line


def test_who_is_always_right_among_many_draws_is_not_at_the_level_of_guessing():
    result = made_up("a", quality=0.25, spread=0.5, n=64)
    values = result["runs"][0]["values"]
    values["any_of_n[chance]"] = [1.0] * PROBLEMS  # 1 - 2^-64, with the 10 digits that are kept
    values["pass@1"] = values["pass@1[mc]"] = [1.0] * PROBLEMS
    assert not of(estimated_anew(result))
