"""`spa-bench study ... --results`: the verdict of a leaderboard's results, without runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, Done
from made_up import hashed_anew, made_up
from spa_bench.compare.leaderboard import find_results, save, save_all

SPREADS = {"single": 0.2, "spa-random": 0.4, "spa-lexical": 0.6, "spa-influence": 0.8}


def results_of(seed: int, **others: float) -> list[dict[str, Any]]:
    """A result of each sampler, of one seed, with those shares of different pairs; one after another more diverse."""
    found = []
    for name, spread in {**SPREADS, **others}.items():
        result = made_up(name, quality=0.5, spread=spread, seed=seed)
        result["runs"][0] |= {"seed": seed, "records": f"{seed + 10}" * 16, "grades": f"{seed + 30}" * 16}
        found.append(hashed_anew(result))
    return found


@pytest.fixture
def study(call: Call, tmp_path: Path) -> Call:
    return lambda *words: call("study", *words, "--write", tmp_path / "pages")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Results of two seeds, in a file each."""
    return [save_all(results_of(seed), tmp_path / f"seed-{seed}.json")[0] for seed in (0, 1)]


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "pages" / "main--t--m.json").read_text())
    return content


def test_the_verdict_of_results_is_that_of_their_values(study: Call, files: list[Path], tmp_path: Path):
    done = study("main", "--results", *files)
    assert done.code == 0, done.err
    assert "left out: seeds: no result of seeds" in done.err
    page = (tmp_path / "pages" / "main--t--m.md").read_text()
    assert f"Made by `spa-bench study main --results {files[0]} {files[1]}`" in page
    assert "training seeds 0, 1" in page
    assert "average_kl[i!=j]" not in page  # result files do not keep it
    first = written(tmp_path)["claims"][0]
    assert first["papers"]
    assert [part["outcome"] for part in first["parts"][:3]] == ["holds"] * 3
    by_name = {result["sampler"]: result for result in find_results(files)}
    rows = {row["label"]: row for row in written(tmp_path)["rows"]}
    for name in SPREADS:
        assert rows[name]["metrics"]["pass@1"]["value"] == by_name[name]["metrics"]["pass@1"]["value"], name
        assert rows[name]["seeds"] == [0, 1]


def test_the_other_order_does_not_hold(study: Call, tmp_path: Path):
    turned = dict(zip(SPREADS, reversed(SPREADS.values()), strict=True))
    file = save_all(results_of(0, **turned), tmp_path / "turned.json")[0]
    assert study("main", "--results", file).code == 0
    assert written(tmp_path)["claims"][0]["outcome"] == "does not hold"


def test_seeds_that_not_all_have_are_left_out_and_counted(study: Call, files: list[Path], tmp_path: Path):
    third = results_of(2)[-1]
    more = save(third, tmp_path / "more")
    assert study("main", "--results", *files, more).code == 0
    assert written(tmp_path)["seeds"] == [0, 1]
    page = (tmp_path / "pages" / "main--t--m.md").read_text()
    assert "**Seeds that not all samplers have are left out**: 2." in page
    assert "Not finished" not in page
    assert study("main", "--results", *files, "--seeds", "1").code == 0
    assert written(tmp_path)["seeds"] == [1]
    assert study("main", "--results", save_all(results_of(7), tmp_path / "seventh.json")[0]).code == 0
    assert written(tmp_path)["seeds"] == [7]


def error_of(done: Done) -> str:
    assert done.code == 2, done.err
    return done.error()


def test_the_command_on_the_page_makes_the_page_again(study: Call, files: list[Path], tmp_path: Path):
    other = [{**result, "task": "u"} for result in results_of(0)]
    for result in other:
        result["spec"]["task"]["name"] = "u"
        hashed_anew(result)
    both = [*files, save_all(other, tmp_path / "other.json")[0]]
    assert study("main", "--results", *both, "--task", "t", "--seeds", "1", "--samplers", "single,influence").code == 0
    page = (tmp_path / "pages" / "main--t--m.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith("Made by")]
    words = shlex.split(line.split("`")[1])[2:]
    assert study(*words).code == 0
    assert (tmp_path / "pages" / "main--t--m.md").read_text() == page


def test_what_results_cannot_give_is_said_in_a_line(study: Call, files: list[Path], tmp_path: Path):
    assert "--results: the study members has another number of answers at each K" in error_of(
        study("members", "--results", *files)
    )
    assert "--results: the study synthesize looks into the pairs of runs" in error_of(study("synthesize", "--results", *files))
    assert "single has no data.share, which this study varies" in error_of(study("data-fraction", "--results", *files))
    assert "varies nothing but the sampler" in error_of(study("main", "--results", *files, "--grid", "0,1"))
    assert "--results names no file" in error_of(study("main", "--results"))
    assert "--limit and --results" in error_of(study("main", "--results", *files, "--limit", 3))
    assert "--set and --results" in error_of(study("main", "--results", *files, "--set", "lora.steps=4"))
    assert "--grading and --results" in error_of(study("main", "--results", *files, "--grading", "evalplus"))
    assert "how a model is loaded and --results" in error_of(study("main", "--results", *files, "--threads", 1))
    assert "--task is mini-code; the results are of t" in error_of(study("main", "--results", *files, "--task", "mini-code"))
    assert "needs two of" in error_of(study("main", "--results", *files, "--samplers", "single"))
    assert "no seed of --seeds is there for every sampler" in error_of(study("main", "--results", *files, "--seeds", "7"))
    assert "names a seed twice" in error_of(study("main", "--results", *files, "--seeds", "1,1"))
    assert "nowhere.json" in error_of(study("main", "--results", tmp_path / "nowhere.json"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": {"problems_hash": "other"}}, "cannot be compared (task.problems_hash:"),
        ({"grading": "evalplus"}, "cannot be compared (grading:"),
        ({"model": {"hash": "other"}}, "cannot be compared (model.hash:"),
    ],
)
def test_results_that_differ_in_more_than_the_sampler_are_refused(
    change: dict[str, Any], said: str, study: Call, tmp_path: Path
):
    results = results_of(0)
    for key, value in change.items():
        spec = results[-1]["spec"]
        spec[key] = {**spec[key], **value} if isinstance(value, dict) else value
    results[-1]["model"] = "m"
    hashed_anew(results[-1])
    assert said in error_of(study("main", "--results", save_all(results, tmp_path / "t.json")[0]))
    left = study("main", "--results", tmp_path / "t.json", "--samplers", "single,random,lexical")  # it plays no role now
    assert left.code == 0, left.err


def test_two_of_one_sampler_and_two_tasks_are_refused(study: Call, files: list[Path], tmp_path: Path):
    twice = results_of(0)[:1]
    twice[0]["spec"]["code"]["source"] = "x"
    again = save(hashed_anew(twice[0]), tmp_path / "again")
    assert "the results have two of single (code.source:" in error_of(study("main", "--results", *files, again))
    other = results_of(0)
    for result in other:
        result["task"] = result["spec"]["task"]["name"] = "u"
        hashed_anew(result)
    both = [*files, save_all(other, tmp_path / "other.json")[0]]
    assert "the results are of the tasks t, u; --task says of which" in error_of(study("main", "--results", *both))


def at(temperature: float, seed: int, quality: float = 0.5, **others: Any) -> list[dict[str, Any]]:
    """A result of single and one of spa-random at a temperature, whose diversity grows with it."""
    found = []
    for name, spread in (("single", 0.2), ("spa-random", 0.4)):
        result = made_up(name, quality=quality, spread=spread + 0.3 * temperature, seed=seed, temperature=temperature)
        result["runs"][0] |= {"seed": seed, "records": f"{seed + 10}" * 16, "grades": f"{seed + 30}" * 16}
        result["spec"]["sampler"] |= others
        found.append(hashed_anew(result))
    return found


def rows_of(folder: Path, study: str) -> list[tuple[str, float | None]]:
    content = json.loads((folder / "pages" / f"{study}--t--m.json").read_text())
    return [(row["sampler"], row["x"]) for row in content["rows"]]


def test_a_point_has_the_temperature_that_its_spec_has(study: Call, tmp_path: Path):
    results = [one for t in (0.0, 0.5, 1.0) for seed in (0, 1) for one in at(t, seed, quality=0.7 - 0.3 * t)]
    files = [save(one, tmp_path / str(place)) for place, one in enumerate(results)]
    done = study("temperature", "--results", *files)
    assert done.code == 0, done.err
    assert "left out: influence: no result of spa-influence" in done.err
    expected = [(name, x) for name in ("single", "spa-random") for x in (0.0, 0.5, 1.0)]
    assert rows_of(tmp_path, "temperature") == expected
    claim = json.loads((tmp_path / "pages" / "temperature--t--m.json").read_text())["claims"][0]
    rise = [part for part in claim["parts"] if "rise of diversity score" in part["words"]]
    assert [part["outcome"] for part in rise] == ["holds", "holds"]
    assert study("temperature", "--results", *files, "--grid", "0,1", "--samplers", "single").code == 0
    assert rows_of(tmp_path, "temperature") == [("single", 0.0), ("single", 1.0)]
    page = (tmp_path / "pages" / "temperature--t--m.md").read_text()
    assert "--samplers single --grid 0,1`" in page


def test_points_that_differ_in_more_than_the_temperature_are_refused(study: Call, tmp_path: Path):
    other = [*at(0.0, 0), *at(1.0, 0, adapters="seeds")]
    files = [save(one, tmp_path / str(place)) for place, one in enumerate(other)]
    said = error_of(study("temperature", "--results", *files))
    assert "single[temperature=0] and single[temperature=1] differ in more than the temperature (sampler.adapters:" in said
    again = save_all(at(1.0, 0, adapters="parts"), tmp_path / "again.json")[0]
    assert "the results have two of single at temperature 1 (sampler.adapters:" in error_of(
        study("temperature", "--results", *files, again)
    )


def test_all_samplers_that_have_a_result_are_compared(study: Call, files: list[Path], tmp_path: Path):
    mine = results_of(0, mine=0.9)[-1]
    both = [*files, save(mine, tmp_path / "mine")]
    assert study("samplers", "--results", *both).code == 0
    assert [name for name, _ in rows_of(tmp_path, "samplers")] == sorted([*SPREADS, "mine"])
    page = (tmp_path / "pages" / "samplers--t--m.md").read_text()
    assert "## Who is ahead at equal answers" in page
    assert "## Who is ahead at equal tokens" in page
    assert "**Seeds that not all samplers have are left out**: 1." in page
    assert "**Not compared**, for they have no result: base, diverse-beam, " in page
    few = study("samplers", "--results", *both, "--samplers", "single,spa-influence,nobody")
    assert "left out: nobody: no result of nobody" in few.err
    assert [name for name, _ in rows_of(tmp_path, "samplers")] == ["single", "spa-influence"]
    assert "**Not compared**" not in (tmp_path / "pages" / "samplers--t--m.md").read_text()  # others were not asked for
    assert "needs two of single" in error_of(study("samplers", "--results", *both, "--samplers", "single"))
