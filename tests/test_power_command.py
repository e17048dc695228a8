"""`power`: its numbers are those of metrics/power.py, and options that cannot be are one line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import RIGHT, WRONG, Call, InProcessJudge, mock_run
from spa_bench.metrics.power import power_at, problems_needed, smallest_difference, spread_of_pilot, spread_of_rates


def asked(call: Call, *arguments: object) -> dict[str, Any]:
    done = call("power", *arguments, "--json")
    assert done.code == 0, done.err
    content: dict[str, Any] = json.loads(done.out)
    return content


def test_every_row_has_the_numbers_of_its_problems(call: Call):
    found = asked(call, "--problems", 50, 164, "--difference", 0.1)
    spread = spread_of_rates(0.5)
    assert found["spread"] == spread
    assert [row["problems"] for row in found["rows"]] == [50, 164]
    for row in found["rows"]:
        assert row["smallest_difference"] == smallest_difference(row["problems"], spread=spread)
        assert row["power"] == power_at(0.1, row["problems"], spread=spread)
        assert row["problems_needed"] == problems_needed(0.1, spread=spread)


@pytest.mark.parametrize(
    "option",
    [
        ["--rate", 0.9],
        ["--draws", 4],
        ["--correlation", 0.5],
        ["--agreement", 0.3],
        ["--seeds", 3, "--seed-spread", 0.01],
        ["--confidence", 0.99],
        ["--power", 0.9],
    ],
    ids=str,
)
def test_every_option_moves_the_smallest_difference(option: list[object], call: Call):
    base = ["--problems", 40, "--draws", 2]
    [plain], [other] = asked(call, *base)["rows"], asked(call, *base, *option)["rows"]
    assert abs(plain["smallest_difference"] - other["smallest_difference"]) > 1e-4


def test_seeds_and_their_spread_are_used_as_given(call: Call):
    found = asked(call, "--problems", 164, "--seeds", 3, "--seed-spread", 0.02, "--difference", 0.05)
    spread = spread_of_rates(0.5)
    [row] = found["rows"]
    assert row["smallest_difference"] == smallest_difference(164, spread=spread, seeds=3, seed_spread=0.02)
    assert row["power"] == power_at(0.05, 164, spread=spread, seeds=3, seed_spread=0.02)


def test_two_runs_are_a_pilot_also_without_the_option(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    good = mock_run(tmp_path / "runs", three, lambda r: RIGHT[r.problem_id], name="good")
    poor = mock_run(tmp_path / "runs", three, lambda r: RIGHT[r.problem_id] if "add" in r.problem_id else WRONG, name="poor")
    assert asked(call, good.path, poor.path) == asked(call, "--pilot", good.path, poor.path)
    said = call("power", good.path).error()
    assert "give two runs, or two folders with the seeds of each, RUN_A RUN_B; got 1" in said
    assert "got 3" in call("power", poor.path, "--pilot", good.path, poor.path).error()


def test_a_task_gives_the_number_of_problems(call: Call, three: Path):
    assert [row["problems"] for row in asked(call, "--task", three)["rows"]] == [3]


def test_the_table_says_what_it_assumes(call: Call):
    out = call("power", "--problems", 164, "--rate", 0.5, "--draws", 4, "--correlation", 0.5, "--difference", 0.05).out
    head, _, row, *notes = out.splitlines()
    assert head.strip().split("  ")[0].strip() == "problems"
    assert "chance to show 0.05" in head
    assert row.split()[0] == "164"
    assert "paired by problem, 95% confidence, shown with chance 0.8; spread over problems 0.250" in notes[1]
    assert "(rate 0.5, 4 draws, correlation 0.5), one seed" in notes[1]
    assert "chance" not in call("power", "--problems", 164).out.splitlines()[0]
    assert "paired by problem, 99.58% confidence" in call("power", "--problems", 164, "--confidence", 1 - 0.05 / 12).out


def test_too_few_seeds_are_said_in_words(call: Call):
    options = ["--problems", 100, "--seeds", 2, "--seed-spread", 0.1, "--difference", 0.02]
    assert "too few seeds" in call("power", *options).out
    assert asked(call, *options)["rows"][0]["problems_needed"] is None


def test_a_tiny_difference_takes_more_problems_than_are_looked_at_and_seeds_are_not_blamed(call: Call):
    for options in (
        ["--difference", 1e-12],
        ["--difference", 1e-9],
        ["--seeds", 9, "--seed-spread", 1e-7, "--difference", 1e-5],
    ):
        assert "more than 10 million" in call("power", "--problems", 164, *options).out
        [row] = asked(call, "--problems", 164, *options)["rows"]
        assert (row["problems_needed"], row["reason"]) == (None, "more than 10 million")
    [row] = asked(call, "--problems", 164, "--seeds", 2, "--seed-spread", 0.1, "--difference", 1e-5)["rows"]
    assert row["reason"] == "too few seeds"
    [row] = asked(call, "--problems", 164, "--difference", 0.1)["rows"]
    assert row["problems_needed"] > 2
    assert row["reason"] is None


def test_two_problems_show_no_difference_that_two_rates_can_have(call: Call):
    found = asked(call, "--problems", 2, 164)
    assert [row["smallest_difference"] is None for row in found["rows"]] == [True, False]
    [note] = found["notes"]
    assert note == "impossible: 2 problems show no difference up to 1, the most between two rates"
    lines = call("power", "--problems", 2, 164).out.splitlines()
    assert lines[2].split() == ["2", "none"]
    assert lines[-1] == note


def test_a_difference_of_more_than_one_is_refused_for_rates_alone(call: Call, pilots: tuple[Path, Path]):
    assert asked(call, "--problems", 9, "--difference", -1)["rows"][0]["problems_needed"] > 2
    for given in (1.1, -1.1):
        error = call("power", "--problems", 9, f"--difference={given}").error()
        assert error == f"--difference is {given}; two rates differ by at most 1"
    assert "two rates differ" in call("power", "--pilot", *pilots, "--metric", "diversity_score", "--difference", 3).error()
    assert asked(call, "--pilot", *pilots, "--difference", 1)["most"] == 1.0
    length = asked(call, "--pilot", *pilots, "--metric", "length", "--difference", 1000)
    assert length["most"] is None
    assert length["rows"][0]["smallest_difference"] > 1
    assert length["notes"] == []


@pytest.mark.parametrize("options", [["--rate", 0], ["--rate", 1], ["--correlation", 1]], ids=str)
def test_a_spread_of_zero_is_said_to_be_an_assumption(options: list[object], call: Call):
    found = asked(call, "--problems", 20, *options)
    assert found["rows"][0]["smallest_difference"] == 0
    [note] = found["notes"]
    assert note.startswith(f"the spread over problems is taken to be 0 ({found['source']}): any difference is shown")
    assert note in call("power", "--problems", 20, *options).out
    [other] = asked(call, "--problems", 20, *options, "--seeds", 3, "--seed-spread", 0.01)["notes"]
    assert other.endswith("only seeds are left to chance")
    assert asked(call, "--problems", 20, "--rate", 0.01)["notes"] == []


# pilots --------------------------------------------------------------------------------------------------------------


def right_in(*good: tuple[str, int]) -> Any:
    return lambda r: RIGHT[r.problem_id] if (r.problem_id, r.draw) in good else WRONG


@pytest.fixture
def pilots(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two samplers with two seeds each; pass@1 is [[1, .5, 0], [1, 1, 0]] for a and [[0, .5, 0], [.5, 0, 0]] for b."""
    add, double, _ = RIGHT
    tables = {
        ("a", 0): [(add, 0), (add, 1), (double, 0)],
        ("a", 1): [(add, 0), (add, 1), (double, 0), (double, 1)],
        ("b", 0): [(double, 1)],
        ("b", 1): [(add, 0)],
    }
    for (name, seed), good in tables.items():
        mock_run(tmp_path / name, three, right_in(*good), seed=seed, name=name)
    return tmp_path / "a", tmp_path / "b"


A, B = np.array([[1, 0.5, 0], [1, 1, 0]]), np.array([[0, 0.5, 0], [0.5, 0, 0]])


def test_a_pilot_of_several_seeds_gives_both_spreads_the_problems_and_the_seeds(call: Call, pilots: tuple[Path, Path]):
    found = asked(call, "--pilot", *pilots)
    spread, over_seeds = spread_of_pilot(A, B)
    assert (found["spread"], found["seed_spread"], found["seeds"]) == (spread, over_seeds, 2)
    assert over_seeds is not None
    assert over_seeds > 0
    assert found["rows"][0]["problems"] == 3
    assert found["rows"][0]["smallest_difference"] is None
    assert smallest_difference(3, spread=spread, seeds=2, seed_spread=over_seeds) > 1
    enough = asked(call, "--pilot", *pilots, "--seeds", 9, "--problems", 90)["rows"][0]["smallest_difference"]
    assert enough == pytest.approx(smallest_difference(90, spread=spread, seeds=9, seed_spread=over_seeds))
    more = asked(call, "--pilot", *pilots, "--problems", 200, "--seeds", 5, "--seed-spread", 0.3)
    assert (more["rows"][0]["problems"], more["seeds"], more["seed_spread"]) == (200, 5, 0.3)


def test_a_pilot_of_two_runs_has_one_seed(call: Call, pilots: tuple[Path, Path]):
    first, second = (sorted(path.glob("*/spec.json"), key=lambda p: json.loads(p.read_text())["seed"])[0] for path in pilots)
    found = asked(call, "--pilot", first.parent, second.parent, "--problems", 100)
    assert (found["spread"], found["seed_spread"], found["seeds"]) == (spread_of_pilot(A[0], B[0])[0], None, 1)
    assert found["spread"] == pytest.approx(math.sqrt(1 / 3))
    error = call("power", "--pilot", first.parent, second.parent, "--seeds", 3).error()
    assert error == "3 seeds need --seed-spread, the standard deviation over seeds of the mean difference"


def test_the_metric_of_a_pilot_can_be_chosen_by_name_or_alias(call: Call, pilots: tuple[Path, Path]):
    plain, other = asked(call, "--pilot", *pilots), asked(call, "--pilot", *pilots, "--metric", "diversity_score")
    assert plain["spread"] != other["spread"]
    assert other["spread"] == asked(call, "--pilot", *pilots, "--metric", "diversity_score[exact]")["spread"]
    assert "has no metric 'pass@11'; did you mean 'pass@1" in call("power", "--pilot", *pilots, "--metric", "pass@11").error()
    assert "has no value of average_kl for any problem" in call("power", "--pilot", *pilots, "--metric", "average_kl").error()


def test_pilots_that_cannot_be_paired_are_refused(
    call: Call, pilots: tuple[Path, Path], sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    first, second = pilots
    one = next(first.glob("*/spec.json")).parent
    assert "has 1 seeds of its sampler and " in call("power", "--pilot", one, second).error()
    mock_run(first, three, right_in(), seed=0, name="c")
    assert "holds runs that differ in more than the seed" in call("power", "--pilot", first, second).error()
    assert f"--pilot has {one} on both sides" in call("power", "--pilot", one, one).error()
    bare = mock_run(tmp_path / "bare", three, right_in(), graded=False).path
    assert "is not graded yet" in call("power", "--pilot", bare, one).error()
    file = three.with_name("three.jsonl")
    file.write_text(file.read_text().replace("Return", "Give"))
    other = mock_run(tmp_path / "other", three, right_in()).path
    assert "are runs on other problems" in call("power", "--pilot", one, other).error()
    assert call("power", "--pilot", tmp_path / "cache", other).error().endswith("cache is not there; give a run folder")


@pytest.mark.parametrize("metric", ["vendi", "any_of_n", "pass@K"])
def test_a_pilot_of_a_metric_that_depends_on_n_is_at_one_n(
    metric: str, call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    few, many = (mock_run(tmp_path / str(n), three, right_in(), n=n).path for n in (2, 3))
    error = call("power", "--pilot", few, many, "--metric", metric).error()
    assert error == f"{metric} is of all answers to a problem, 2 in {few} and 3 in {many}; a pilot needs as many for both"
    assert asked(call, "--pilot", few, many, "--metric", "diversity_score")["seeds"] == 1


# what cannot be ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "how many problems? give --problems N, --task NAME or --pilot RUN_A RUN_B"),
        (["--problems", "1"], "an interval needs at least 2 problems, not 1"),
        (["--problems", "9", "--task", "mini-code"], "--problems and --task both say how many problems; give one"),
        (["--problems", "9", "--rate", "1.5"], "a rate lies in [0, 1], not 1.5"),
        (["--problems", "9", "--rate", "nan"], "a rate lies in [0, 1], not nan"),
        (["--problems", "9", "--draws", "0"], "draws must be at least 1, not 0"),
        (["--problems", "9", "--correlation", "2"], "0 <= correlation <= agreement <= 1 is needed, not correlation 2.0"),
        (["--problems", "9", "--seeds", "0"], "there is at least 1 seed, not 0"),
        (["--problems", "9", "--seeds", "3"], "3 seeds need --seed-spread, "),
        (["--problems", "9", "--seed-spread", "0.1"], "--seed-spread has no effect with 1 seed; "),
        (["--problems", "9", "--seeds", "2", "--seed-spread", "-1"], "a standard deviation is finite and at least 0, not -1.0"),
        (["--problems", "9", "--seeds", "2", "--seed-spread", "nan"], "a standard deviation is finite and at least 0, not nan"),
        (["--problems", "9", "--seeds", "2", "--seed-spread", "inf"], "a standard deviation is finite and at least 0, not inf"),
        (["--problems", "9", "--confidence", "95"], "confidence lies between 0 and 1, not 95.0"),
        (["--problems", "9", "--power", "0.01"], "power lies between 1 - confidence = 0.05 and 1, not 0.01"),
        (["--problems", "9", "--difference", "0"], "no number of problems shows a difference of 0; "),
        (["--problems", "9", "--difference", "nan"], "--difference is nan; it must be finite"),
        (["--problems", "9", "--metric", "pass@1"], "--metric is that of a pilot; give --pilot RUN_A RUN_B with it"),
        (["--pilot", "a", "b", "--rate", "0.2"], "--pilot and --rate both say what the spread is; give one of them"),
        (["--pilot", "a", "b"], "a is not there; give a run folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(arguments: list[str], message: str, call: Call):
    assert call("power", *arguments).error().startswith(message)
