import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spa_bench.errors import StoreError
from spa_bench.runs import folder as store
from spa_bench.runs.folder import RunFolder, create, group_hash, open_run, plain, spec_hash
from spa_bench.runs.spec import RunSpec
from spa_bench.types import Grade, Key, Record, Verdict

SPEC = RunSpec(
    sampler={"name": "s", "members": 1},
    task={"name": "t", "problems_n": 3},
    model={"name": "m"},
    data={},
    n=2,
    seed=0,
    limit=None,
    numerics={"threads": 1},
    sandbox="bwrap",
    grading="default",
)


def record(draw: int, text: str = "    return 1") -> Record:
    return Record(problem="p", member=0, draw=draw, raw=text, graded=text, finish="stop", tokens=3, seed=99)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create(tmp_path / "runs", "t-s", SPEC)


def test_records_and_grades_come_back_as_they_were(folder: RunFolder):
    odd = replace(record(0), raw="ü\u2028\x00\n\ud800", graded="\t'\"", whole=True)
    grade = Grade(problem="p", member=0, draw=0, verdict=Verdict.WRONG, message="AssertionError: ü")
    folder.record_log.append([odd, record(1)])
    folder.grade_log.append([grade])
    again = open_run(folder.path)
    assert again.records() == {Key("p", 0, 0): odd, Key("p", 0, 1): record(1)}
    assert again.grades() == {Key("p", 0, 0): grade}
    assert again.grades()[Key("p", 0, 0)].verdict is Verdict.WRONG


def test_a_run_without_records_has_none(folder: RunFolder):
    folder.record_log.append([])
    assert folder.records() == {}
    assert folder.grades() == {}
    assert sorted(p.name for p in folder.path.iterdir()) == ["spec.json"]


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_a_torn_last_line_is_dropped_and_redone(folder: RunFolder, keep: int):
    folder.record_log.append([record(0), record(1)])
    path = folder.path / "records.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:keep])
    assert set(folder.records()) == {Key("p", 0, 0)}
    folder.record_log.append([record(1)])
    assert path.read_bytes() == first + second


def test_a_file_that_is_nothing_but_a_torn_line_is_begun_anew(folder: RunFolder):
    path = folder.path / "records.jsonl"
    path.write_bytes(b'{"problem": "p", "mem')
    assert folder.records() == {}
    folder.record_log.append([record(0)])
    assert folder.records() == {Key("p", 0, 0): record(0)}


def test_the_same_spec_goes_on_in_the_same_folder(folder: RunFolder):
    folder.record_log.append([record(0)])
    again = create(folder.path.parent, "t-s", SPEC)
    assert again.path == folder.path
    assert set(again.records()) == {Key("p", 0, 0)}


def test_another_spec_gets_another_folder(folder: RunFolder):
    assert create(folder.path.parent, "t-s", replace(SPEC, seed=1)).path != folder.path


def test_another_spec_in_a_run_folder_is_refused_showing_both_values_and_changes_nothing(folder: RunFolder):
    folder.record_log.append([record(0)])
    before = snapshot(folder.path)
    other = replace(SPEC, n=4, sampler={"name": "s", "members": 2}, data={"examples": "x"})
    with pytest.raises(StoreError) as error:
        create(folder.path, "t-s", other)
    message = str(error.value)
    assert "n: 2 there, 4 here" in message
    assert "sampler.members: 1 there, 2 here" in message
    assert 'data.examples: null there, "x" here' in message
    assert "seed" not in message
    assert snapshot(folder.path) == before


def test_the_hash_names_the_spec_and_the_group_leaves_out_the_seed():
    specs = [SPEC, replace(SPEC, seed=1), replace(SPEC, n=4), replace(SPEC, sandbox="none")]
    assert len({spec_hash(plain(s)) for s in specs}) == 4
    assert group_hash(plain(specs[0])) == group_hash(plain(specs[1]))
    assert len({group_hash(plain(s)) for s in specs}) == 3


def test_the_folders_name_ends_in_the_specs_hash(folder: RunFolder):
    assert folder.path.name == f"t-s-{folder.hash[:8]}"
    assert open_run(folder.path).hash == folder.hash


def test_a_spec_survives_the_way_to_disk_and_back(folder: RunFolder):
    assert open_run(folder.path).spec == plain(SPEC)
    assert plain(SPEC)["schema_version"] == store.SCHEMA_VERSION


def test_a_newer_schema_is_refused(folder: RunFolder):
    newer = {**folder.spec, "schema_version": store.SCHEMA_VERSION + 1}
    (folder.path / "spec.json").write_text(json.dumps(newer))
    with pytest.raises(StoreError, match=rf"has schema {store.SCHEMA_VERSION + 1}, .*reads up to .*upgrade spa-bench"):
        open_run(folder.path)


@pytest.mark.parametrize("content", ["{}", "[]", '{"schema_version": "1"}', "3"])
def test_a_spec_without_a_schema_version_is_no_run(folder: RunFolder, content: str):
    (folder.path / "spec.json").write_text(content)
    with pytest.raises(StoreError, match="no spec of spa-bench"):
        open_run(folder.path)


def test_what_is_no_run_is_named(tmp_path: Path, folder: RunFolder):
    with pytest.raises(StoreError, match=r"no run in .*nowhere: spec\.json is missing"):
        open_run(tmp_path / "nowhere")
    (folder.path / "spec.json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot read .*spec\.json"):
        open_run(folder.path)


def test_going_on_in_a_folder_whose_spec_is_damaged_is_refused(folder: RunFolder):
    (folder.path / "spec.json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot read .*spec\.json"):
        create(folder.path, "t-s", SPEC)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make the run folder .*file.*use another --out"):
        create(tmp_path / "file", "t-s", SPEC)


@contextlib.contextmanager
def held_elsewhere(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder, until it is killed or the block ends."""
    script = (
        "import sys, pathlib; from spa_bench.runs.folder import open_run\n"
        "with open_run(pathlib.Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


def test_a_folder_belongs_to_one_process_at_a_time(folder: RunFolder):
    with (
        held_elsewhere(folder),
        pytest.raises(StoreError, match=rf"process \d+ on {platform.node()} works on .*use another --out"),
        folder.locked(),
    ):
        pass


def test_a_dead_process_leaves_no_lock(folder: RunFolder):
    with held_elsewhere(folder) as other:
        other.kill()
        assert other.wait(30) == -9
        with folder.locked():
            assert (folder.path / ".lock").exists()


def test_a_json_file_is_replaced_whole(folder: RunFolder):
    folder.write_json("adapters.json", {"old": 1})
    with pytest.raises(TypeError):
        folder.write_json("adapters.json", {"new": object()})
    assert folder.read_json("adapters.json") == {"old": 1}
    assert folder.read_json("nowhere.json") is None


def test_an_older_schema_is_refused(folder: RunFolder):
    (folder.path / "spec.json").write_text(json.dumps({**folder.spec, "schema_version": 1}))
    with pytest.raises(StoreError, match=r"has schema 1, .*make the run again"):
        open_run(folder.path)


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_one_changed_byte_of_a_json_file_is_an_error(folder: RunFolder, place: int):
    folder.write_json("metrics.json", {"values": [0.1, 0.25], "name": "x"})
    path = folder.path / "metrics.json"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"metrics\.json is damaged"):
        folder.read_json("metrics.json")


def test_a_json_file_of_another_run_is_not_taken(folder: RunFolder, tmp_path: Path):
    other = create(tmp_path / "other", "t-s", replace(SPEC, seed=1))
    other.write_json("metrics.json", {"a": 1})
    (folder.path / "metrics.json").write_bytes((other.path / "metrics.json").read_bytes())
    with pytest.raises(StoreError, match=r"metrics\.json is damaged"):
        folder.read_json("metrics.json")


def test_timings_carry_no_checksum(folder: RunFolder):
    folder.write_json("timings.json", {"seconds": 1.5})
    assert json.loads((folder.path / "timings.json").read_text()) == {"seconds": 1.5}
    assert folder.read_json("timings.json") == {"seconds": 1.5}
