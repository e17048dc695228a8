"""Result files: made of whole runs alone, the same bytes each time, counted once, and never read when they are none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, Call, InProcessJudge, mock_run
from spa_bench.compare.leaderboard import build_rows, check, find_results, from_runs, markdown, save, save_all, table
from spa_bench.compare.leaderboard.pooled import NO_INTERVAL
from spa_bench.errors import StoreError
from spa_bench.runs.folder import TIMINGS, RunFolder
from spa_bench.support.rounding import same_values
from spa_bench.types import Request, Verdict

Make = Callable[..., RunFolder]


def good(request: Request) -> str:
    """Always right, each draw in other words."""
    return f"    x{request.draw} = 0\n" * request.draw + RIGHT[request.problem_id]


@pytest.fixture
def make(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> Make:
    return lambda **options: mock_run(tmp_path / "runs", three, good, name="good", **options)


LINE = re.compile(rb"[^\n]*\n")
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "emptied": (lambda data: b"", "has 0 lines, but metrics.json is of 6 samples"),
    "a changed line": (
        lambda data: data.replace(b'"draw": 1', b'"draw": 7', 1),
        ", line 2 is damaged (its checksum does not fit)",
    ),
    "the last line gone": (lambda data: b"".join(LINE.findall(data)[:-1]), "has 5 lines, but metrics.json is of 6 samples"),
    "a torn end": (lambda data: data[:-9], ": line 6 is broken or torn"),
    "a line twice": (lambda data: data + LINE.findall(data)[0], ": 1 keys are there twice"),
}


@pytest.mark.parametrize("name", ["records.jsonl", "grades.jsonl"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_with_a_damaged_log_is_neither_tabled_nor_saved(name: str, damage: str, make: Make):
    file, (alter, wanted) = make().path / name, DAMAGE[damage]
    file.write_bytes(alter(file.read_bytes()))
    with pytest.raises(StoreError) as error:
        find_results([file.parent])
    assert wanted in str(error.value)
    assert str(file) in str(error.value)


def test_a_log_that_is_a_folder_is_an_error_that_names_it(make: Make):
    file = make().path / "records.jsonl"
    file.unlink()
    file.mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*records\.jsonl"):
        find_results([file.parent])


def test_verdicts_that_metrics_do_not_count_are_an_error(make: Make):
    folder = make()
    grades = [replace(g, verdict=Verdict.WRONG) for g in folder.grade_log.rows()]
    (folder.path / "grades.jsonl").unlink()
    folder.grade_log.append(grades)
    with pytest.raises(StoreError, match=r"grades\.jsonl has other verdicts than metrics\.json"):
        from_runs([folder])


def test_a_run_and_its_own_file_are_one_row(make: Make, tmp_path: Path):
    folder = make()
    path = save(from_runs([folder])[0], tmp_path / "results")
    timings = folder.read_json(TIMINGS)
    folder.write_json(TIMINGS, {**timings, "seconds": 99.0})  # as grading again does
    assert len(find_results([path, path])) == len(find_results([folder.path, path])) == 1
    renamed = folder.path.rename(tmp_path / "renamed")
    assert len(find_results([renamed, path])) == 1


def test_a_seed_with_other_numbers_is_an_error_that_names_both(make: Make, tmp_path: Path):
    [result] = from_runs([make(), make(seed=1)])
    path = save(result, tmp_path / "results")
    result["runs"][0]["records"] = "0" * 32
    other = save(result, tmp_path / "others")
    with pytest.raises(StoreError, match="hold the same good with other numbers; give one of them") as error:
        find_results([path, other])
    assert str(path) in str(error.value)
    assert str(other) in str(error.value)
    with pytest.raises(StoreError, match="hold the same good with other numbers"):
        find_results([make().path, other])  # a folder of seed 0 alone


def test_seeds_from_several_places_are_one_row(make: Make, tmp_path: Path):
    zero, one, two = (make(seed=seed) for seed in range(3))
    files = [save(from_runs([run])[0], tmp_path / str(place)) for place, run in enumerate((zero, one, two))]
    [whole] = from_runs([zero, one, two])
    for places in (files, files[::-1], [files[2], zero.path, one.path], [one.path, *files]):
        [result] = find_results(places)
        assert result["runs"] == whole["runs"], places
        assert list(result["metrics"]) == list(whole["metrics"])
        bare = {name for name, found in result["metrics"].items() if found["reason"] == NO_INTERVAL}
        assert {"vendi[ngram,q=2]", "self_bleu"} <= bare
        assert not {"pass@1", "pass@2", "any_of_n", "diversity_score[exact]", "vendi[ngram,q=1]"} & bare
        for name, found in result["metrics"].items():
            if name in bare:
                assert found["value"] == pytest.approx(whole["metrics"][name]["value"]), name
                assert found["low"] is found["high"] is None
            else:
                assert found == whole["metrics"][name], name
        assert check(save(result, tmp_path / "pooled")) == []
        assert table(build_rows([result])) == table(build_rows([whole]))


def test_of_a_whole_and_its_part_the_whole_counts_with_all_its_metrics(make: Make, tmp_path: Path):
    [part], [whole] = from_runs([make()]), from_runs([make(), make(seed=1)])
    files = [save(part, tmp_path / "part"), save(whole, tmp_path / "whole")]
    assert find_results(files) == find_results(files[::-1]) == find_results([make().path, files[1]]) == [whole]
    [second] = from_runs([make(seed=1)])
    again = save(find_results([files[0], save(second, tmp_path / "second")])[0], tmp_path / "pooled")
    assert find_results([again, files[1]]) == find_results([files[1], again]) == [whole]


def test_who_measured_pooled_seeds_is_said_of_all(make: Make, tmp_path: Path):
    parts = [from_runs([make(seed=seed)])[0] for seed in range(2)]

    def who(*names: str) -> str:
        places = [
            save({**part, "measured_by": name}, tmp_path / f"{place}-{name}")
            for place, (part, name) in enumerate(zip(parts, names, strict=True))
        ]
        return str(find_results(places)[0]["measured_by"])

    assert [who("", ""), who("a", "a"), who("a", "b"), who("a", ""), who("a; b", "b")] == [
        "",
        "a",
        "a; b",
        "a; not said",
        "a; b",
    ]
    with pytest.raises(StoreError, match="name 2 measurers in 302 characters, and a line has at most 200"):
        who("a" * 150, "b" * 150)


def test_the_order_of_the_places_changes_no_byte(make: Make, tmp_path: Path):
    one = {
        seed: save({**from_runs([make(seed=seed)])[0], "measured_by": "ABA"[seed]}, tmp_path / f"{seed}") for seed in range(3)
    }
    two = save({**from_runs([make(seed=0), make(seed=1)])[0], "measured_by": "C"}, tmp_path / "two")
    old = from_runs([make(seed=2)])[0]
    old["runs"][0]["logs"], old["measured_by"] = {}, "A"
    bare = save(old, tmp_path / "bare")
    for places in ([one[0], one[1], one[2]], [two, one[2], bare], [two, one[1], one[2]], [one[0], two, one[1]]):
        found = [find_results(list(order)) for order in permutations(places)]
        assert all(results == found[0] for results in found), places
    assert find_results([one[0], one[1], one[2]])[0]["measured_by"] == "A; B"
    assert find_results([bare, one[2]])[0]["runs"][0]["logs"] == from_runs([make(seed=2)])[0]["runs"][0]["logs"]


def test_a_mean_that_does_not_follow_from_files_is_left_out(make: Make, tmp_path: Path):
    """Of two seeds a result does not say which of them lack a problem."""
    zero, first, second = (from_runs([make(seed=seed)])[0] for seed in range(3))
    [both] = from_runs([make(seed=0), make(seed=1)])
    name = "self_bleu"
    wanted = sum(result["metrics"][name]["value"] for result in (zero, first, second)) / 3
    files = [save(result, tmp_path / str(place)) for place, result in enumerate((zero, first, second))]
    assert find_results(files)[0]["metrics"][name]["value"] == pytest.approx(wanted)
    assert name not in find_results([save(both, tmp_path / "both"), files[2]])[0]["metrics"]
    by_files = save(find_results(files[:2])[0], tmp_path / "by-files")
    assert find_results([by_files, files[2]])[0]["metrics"][name]["value"] == pytest.approx(wanted)
    first["metrics"][name]["problems"] -= 1
    assert name not in find_results([files[0], save(first, tmp_path / "gap"), files[2]])[0]["metrics"]


def test_a_result_file_gives_the_row_of_its_runs_and_the_same_bytes_each_time(make: Make, tmp_path: Path):
    [result] = from_runs([make(seed=0), make(seed=1)])
    path = save(result, tmp_path / "results")
    before = path.read_bytes()
    assert find_results([tmp_path / "results"]) == [result]
    assert save(find_results([path])[0], tmp_path / "results").read_bytes() == before
    assert [r.to_json() for r in build_rows([result])] == [r.to_json() for r in build_rows(find_results([path]))]
    page = markdown(build_rows([result]), reference=None, command="x")
    assert page == markdown(build_rows(find_results([path])), reference=None, command="x")


def test_a_result_of_real_runs_is_complete_and_consistent(make: Make, tmp_path: Path):
    [result] = from_runs([make(seed=0), make(seed=1)])
    assert check(save(result, tmp_path)) == []
    assert "three.jsonl" not in json.dumps(result)  # nothing of this machine's folders


def test_one_changed_byte_of_a_result_file_is_found(make: Make, tmp_path: Path):
    path = save(from_runs([make()])[0], tmp_path)
    data = path.read_bytes()
    for place in range(0, len(data), 211):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert check(path), place


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1, "runs": []}', "[" * 100_000])
def test_what_is_no_result_is_said_in_a_line(content: str, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text(content)
    [fault] = check(path)
    assert "\n" not in fault
    with pytest.raises(StoreError):
        find_results([path])


def test_one_file_holds_several_results_and_is_read_wherever_results_are(make: Make, call: Call, tmp_path: Path):
    make(seed=0)
    make(seed=1)
    mock_run(tmp_path / "runs", tmp_path / "three.toml", good, name="other")
    file = tmp_path / "results" / "three.json"
    done = call("leaderboard", tmp_path / "runs", "--save", file)
    assert done.err.splitlines() == [str(file)]
    results = find_results([tmp_path / "results"])
    assert [r["sampler"] for r in results] == ["good", "other"]
    assert find_results([tmp_path / "runs", file]) == from_runs_of(tmp_path / "runs")
    assert call("leaderboard", "--submit", file).out.startswith(f"{file}: complete and consistent\n\nthree 1, 3 problems")
    before = file.read_bytes()
    assert save_all(results[::-1], file) == [file]
    assert file.read_bytes() == before
    assert call("leaderboard", file).out.split("\n", 4)[4] == call("leaderboard", tmp_path / "runs").out.split("\n", 4)[4]


def from_runs_of(folder: Path) -> list[dict[str, Any]]:
    return find_results([folder])


def test_faults_of_a_file_of_several_results_name_the_sampler(make: Make, tmp_path: Path):
    [result] = from_runs([make()])
    twin = {**result, "sampler": "twin"}
    [path] = save_all([result, twin], tmp_path / "wrong.json")
    faults = check(path)
    assert "it should be called three.json" in faults
    assert any(fault.startswith("twin: sampler is 'twin', but its spec says 'good'") for fault in faults)
    assert f"twin {result['group_hash']} is there twice" in faults


def test_one_changed_byte_of_a_file_of_several_results_is_found(make: Make, tmp_path: Path):
    [path] = save_all(from_runs([make(), make(n=4)]), tmp_path / "three.json")
    data = path.read_bytes()
    for place in range(0, len(data), 397):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert check(path), place


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema_version": 2, "results": []}', "damaged"),
        ('{"schema_version": 2, "results": [1]}', "is no result of spa-bench"),
        ('{"schema_version": 99, "results": []}', "has schema 99, this spa-bench reads 2 to 3; upgrade spa-bench"),
    ],
)
def test_what_is_no_file_of_results_is_said_in_a_line(content: str, said: str, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text(content)
    [fault] = check(path)
    assert said in fault


def test_results_that_differ_in_the_last_digits_alone_are_one():
    one = {"pass@1": {"value": 0.5, "low": 0.3445470235694746, "n": 3}, "runs": [{"seed": 0}]}
    other = {"pass@1": {"value": 0.5, "low": 0.34454702356947453, "n": 3}, "runs": [{"seed": 0}]}
    assert same_values(one, other)
    for changed in ({"value": 0.51}, {"n": 4}, {"low": 0.3446}, {"low": None}):
        assert not same_values(one, {**other, "pass@1": {**other["pass@1"], **changed}})
    assert not same_values(one, {**other, "runs": []})


def test_seeds_from_several_files_are_one_row_in_python_too(make: Make, tmp_path: Path):
    import spa_bench

    files = [save(from_runs([make(seed=seed)])[0], tmp_path / str(seed)) for seed in range(2)]
    for places in (files, [make(seed=0).path, files[1]], [files[0], *files]):
        table = spa_bench.load(places).leaderboard().markdown()
        assert re.search(r"\| good .* 2 +\| [^|]*\|$", table, re.MULTILINE), table  # two seeds, in one row
