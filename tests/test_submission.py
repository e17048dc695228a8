"""A result that somebody sends is recomputed from its samples: what these do not give is found, and nothing is imported."""

from __future__ import annotations

import copy
import gzip
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, WRONG, Call, InProcessJudge, mock_run
from spa_bench.compare.leaderboard import find_results
from spa_bench.compare.leaderboard.results import _framed
from spa_bench.compare.leaderboard.schema import as_stored
from spa_bench.compare.submission import archive_of, inspect_file
from spa_bench.compare.submission.archive import unpack
from spa_bench.compare.submission.recompute import _task_fault
from spa_bench.errors import StoreError
from spa_bench.metrics.suite import ALIASES, estimates
from spa_bench.runs.folder import open_run
from spa_bench.runs.measure import measure
from spa_bench.runs.reopen import task_of
from spa_bench.types import Request, Verdict

GOLDEN = Path(__file__).parent / "golden"
WHO = "A. Person, a lab"
Result = dict[str, Any]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN / "runs", tmp_path / "runs")


def sent(runs: Path, call: Call, *options: str) -> Path:
    """The result file of `runs` with its samples beside it, as a sender saves them."""
    out = runs.parent / "sent"
    done = call("leaderboard", runs, "--save", out, "--samples", "--measured-by", WHO, *options)
    assert done.code == 0, done.err
    [path] = out.glob("*.json")
    assert done.err.splitlines() == [str(path), str(archive_of(path))]
    return path


def faults(path: Path, **options: bool) -> tuple[str, ...]:
    return inspect_file(path, recomputed=True, **options).faults


def test_an_honest_result_is_recomputed_to_the_same_numbers_and_its_row_is_printed(runs: Path, call: Call):
    path = sent(runs, call)
    done = call("leaderboard", path, "--submit", "--from-samples", "recompute")
    assert done.code == 0, done.out
    lines = done.out.splitlines()
    assert lines[0] == f"{path}: complete and consistent"
    assert lines[1] == f"{path}: spa-random: 88 metrics recomputed from 48 samples of 2 runs"
    assert f"mini-code 1, 6 of 120 problems, the first ones, measured by {WHO}" in lines
    assert next(line for line in lines if line.startswith("| spa-random")).split("|")[2].strip().startswith("0.750 <sub>[")
    content = json.loads(call("leaderboard", path, "--submit", "--from-samples", "recompute", "--json").out)[str(path)]
    assert content["faults"] == []
    assert content["notes"] == ["spa-random: 88 metrics recomputed from 48 samples of 2 runs"]
    [row] = content["rows"]
    assert (row["measured_by"], row["metrics"]["pass@1"]["value"]) == (WHO, 0.75)


def test_the_same_runs_give_the_same_archive_without_names_of_the_machine(runs: Path, call: Call):
    archive = archive_of(sent(runs, call))
    before = archive.read_bytes()
    assert archive_of(sent(runs, call)).read_bytes() == before
    text = gzip.decompress(before)
    assert str(runs).encode() not in text
    assert b"timings.json" not in text
    assert b"task_file.json" not in text


def test_result_files_have_no_samples_to_save(runs: Path, call: Call):
    path = sent(runs, call)
    done = call("leaderboard", path, "--save", runs.parent / "again", "--samples")
    assert done.code == 2
    assert "--samples: there is no run folder of spa-random on mini-code" in done.err
    assert not (runs.parent / "again").exists()


def test_samples_and_who_measured_have_to_be_there(runs: Path, call: Call):
    path = sent(runs, call)
    [result] = find_results([path])
    path.write_bytes(_framed({**result, "measured_by": ""}))
    assert faults(path) == ("measured_by is empty; `--save --measured-by LINE` says who made the runs",)
    archive_of(path).unlink()
    assert any("its samples are missing" in fault for fault in faults(path))
    assert call("leaderboard", path, "--submit").code == 0  # without recomputing, a file alone is enough


def test_from_samples_is_a_part_of_submit(runs: Path, call: Call):
    done = call("leaderboard", runs, "--from-samples", "recompute")
    assert (done.code, done.err) == (2, "spa-bench: --from-samples recompute is a part of --submit; give that too\n")
    done = call("leaderboard", runs, "--samples")
    assert (done.code, done.err) == (2, "spa-bench: --samples goes beside the files that --save writes; give --save too\n")


# what a sender may forge ----------------------------------------------------------------------------------------------


def better_vendi(result: Result) -> None:
    """Values that are possible, and estimates that follow from them."""
    name = "vendi[ngram,q=1]"
    for run in result["runs"]:
        run["values"][name] = [min(4.0, value * 1.01) for value in run["values"][name]]
    found = estimates({name: [run["values"][name] for run in result["runs"]]}, size=result["size"])
    result["metrics"] |= {key: as_stored(e) for key, e in found.items() if key not in ALIASES}


def better_estimate(result: Result) -> None:
    """An estimate whose values are not kept, so that `--submit` alone cannot see it."""
    result["metrics"]["self_bleu"] |= {"value": 0.011, "low": 0.01, "high": 0.012}


def other_judge(result: Result) -> None:
    result["runs"][0]["judged"] = ["docker"]


def other_hash(result: Result) -> None:
    result["runs"][1]["grades"] = "0a" * 16


def other_log_hash(result: Result) -> None:
    result["runs"][1]["logs"]["divergence.jsonl"] = "0a" * 16


FORGED: dict[str, tuple[Callable[[Result], None], str]] = {
    "better values": (better_vendi, "seed 0: vendi[ngram,q=1] of mini-code/0 is "),
    "a better estimate": (better_estimate, "metrics: value of self_bleu is 0.011, and the samples give "),
    "another judge": (other_judge, "seed 0: judged is ['docker'], and the samples give ['bwrap']"),
    "other grades": (other_hash, "seed 1: grades.jsonl of the samples has the hash "),
    "another log": (other_log_hash, "seed 1: divergence.jsonl of the samples has the hash "),
}


@pytest.mark.parametrize("what", FORGED)
def test_numbers_that_the_samples_do_not_give_are_found(what: str, runs: Path, call: Call):
    forge, wanted = FORGED[what]
    path = sent(runs, call)
    [result] = find_results([path])
    forge(result)
    path.write_bytes(_framed(result))
    assert call("leaderboard", path, "--submit").code == 0  # nothing in the file contradicts itself
    found = faults(path)
    assert any(wanted in fault for fault in found), found
    assert all("\n" not in fault and len(fault) <= 500 for fault in found)


def rewritten(runs: Path, change: Callable[[Any], Any], log: str) -> None:
    """The first run with other lines in a log, and metrics that follow from them, as a forger makes it."""
    folder = open_run(sorted(runs.iterdir())[0])
    rows = [change(row) for row in getattr(folder, log).rows()]
    getattr(folder, log).path.unlink()
    getattr(folder, log).append(rows)
    folder.write_json("metrics.json", measure(folder, task_of(folder)))


def test_texts_that_do_not_follow_from_the_raw_text_are_found(runs: Path, call: Call):
    rewritten(runs, lambda r: replace(r, graded=r.graded + "\n    # x") if r.draw == 0 else r, "record_log")
    assert any(
        "the graded text of mini-code/0, member 0, draw 0 is not what the raw text gives" in f for f in faults(sent(runs, call))
    )


def test_seeds_of_another_run_are_found(runs: Path, call: Call):
    rewritten(runs, lambda r: replace(r, seed=r.seed + 1), "record_log")
    assert any("the seed of mini-code/0, member 0, draw 0 is" in fault for fault in faults(sent(runs, call)))


def test_verdicts_and_behaviours_are_graded_again(bwrap: str, runs: Path, call: Call):
    path = sent(runs, call)
    honest = inspect_file(path, recomputed=True, regrade=True)
    assert honest.faults == ()
    assert honest.notes[1:] == tuple(
        f"spa-random, seed {seed}: all 24 verdicts and behaviours are the same when graded again in bwrap" for seed in (0, 1)
    )
    rewritten(runs, lambda g: replace(g, verdict=Verdict.PASSED) if g.verdict == Verdict.WRONG else g, "grade_log")
    path = sent(runs, call)
    assert faults(path) == ()  # the metrics follow from these verdicts
    [fault] = faults(path, regrade=True)
    assert (
        "verdicts are others, the first is mini-code/0, member 1, draw 1: passed there, wrong here, when graded again" in fault
    )


def test_forged_behaviours_are_found(bwrap: str, runs: Path, call: Call):
    rewritten(runs, lambda b: replace(b, digest=f"{b.draw:016x}"), "behaviour_log")
    path = sent(runs, call)
    assert faults(path) == ()
    assert any("behaviours are others when programs run again in bwrap" in fault for fault in faults(path, regrade=True))


# nothing of the sender's is imported or trusted -----------------------------------------------------------------------


def golden_spec(**task: Any) -> Result:
    spec = copy.deepcopy(open_run(next((GOLDEN / "runs").iterdir())).spec)
    spec["task"] |= task
    return spec


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "evil:KIND"}, "is of a kind of somebody's own, which is not imported here"),
        ({"problems": "evil:problems"}, "is of a kind of somebody's own"),
        ({"problems": "jsonl"}, "has problems = 'jsonl', and the card of mini-code has 'mini-code'"),
        ({"sanitiser": "evil:clean"}, "has the sanitiser 'evil:clean', which is none of ours"),
        ({"name": "theirs"}, "task 'theirs' is none of ours"),
        ({"seconds": 600.0}, "its task has seconds = 600.0, and the card of mini-code has 3.0"),
        ({"suites": ["base"]}, "its task has suites = ['base'], and the card of mini-code has []"),
        ({"options": {"include": "/theirs"}}, "its task has options.include = '/theirs'"),
        ({}, ""),
        ({"max_new_tokens": 80}, ""),
    ],
)
def test_only_our_tasks_as_their_cards_have_them_are_recomputed(
    task: Result, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fault = _task_fault(golden_spec(**task), own_file=False)
    assert said in fault
    assert bool(said) == bool(fault)
    assert "evil" not in sys.modules


def test_metrics_of_the_senders_own_are_left_out_and_not_imported(
    sandbox: InProcessJudge, three: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    module = tmp_path / "mine_of_sender.py"
    module.write_text(
        "from spa_bench.metrics.suite import Metric\n"
        "LONG = Metric(name='longest', description='d', compute=lambda s: float(max(map(len, s.texts))))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    samples = tmp_path / "samples.jsonl"
    rows = [{"task_id": name, "completion": text} for name, good in RIGHT.items() for text in (good, WRONG)]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = call(
        "score", "--task", three, "--samples", samples, "--metric", "mine_of_sender:LONG", "--out", tmp_path / "runs",
        "--sandbox", "none-i-trust-this-code",
    )  # fmt: skip
    assert done.code == 0, done.err
    done = call("leaderboard", tmp_path / "runs", "--save", tmp_path / "sent", "--samples", "--measured-by", WHO)
    [path] = (tmp_path / "sent").glob("*.json")
    module.write_text("raise SystemExit('imported')\n")
    del sys.modules["mine_of_sender"]
    from spa_bench.compare.submission.recompute import recompute

    found = recompute(path, task_file=tmp_path / "three.jsonl")
    assert found.faults == ()
    assert found.notes[0].endswith("6 samples of 1 runs; not those of the sender's own: longest")
    assert "mine_of_sender" not in sys.modules
    [fault] = recompute(path).faults
    assert "task 'three' is none of ours; only tasks of spa-bench are recomputed without --task-file" in fault


def tar(*entries: tuple[str, bytes] | tarfile.TarInfo, declared: int | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                made.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            made.addfile(info, io.BytesIO(entry[1]))
    return stream.getvalue()


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{'0a' * 8}/0/spec.json")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


SPEC = f"{'0a' * 8}/0/spec.json"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a way out": (tar(("../../evil", b"x")), "holds '../../evil', which is no file of a run's samples"),
    "a whole path": (tar(("/tmp/evil", b"x")), "holds '/tmp/evil'"),
    "a way out behind a name of ours": (tar((f"{SPEC}/../../../../evil", b"x")), "which is no file of a run's samples"),
    "a link": (tar(link(tarfile.SYMTYPE)), "which is no file of a run's samples"),
    "a hard link": (tar(link(tarfile.LNKTYPE)), "which is no file of a run's samples"),
    "a pipe": (tar(link(tarfile.FIFOTYPE)), "which is no file of a run's samples"),
    "paths of the sender's machine": (tar((f"{'0a' * 8}/0/task_file.json", b"{}")), "which is no file of a run's samples"),
    "a program": (tar((f"{'0a' * 8}/0/evil.py", b"x")), "which is no file of a run's samples"),
    "a file twice": (tar((SPEC, b"{}"), (SPEC, b"[]")), "twice"),
    "no archive": (b"hello", "cannot read the samples"),
    "nothing": (b"", "cannot read the samples"),
    "a torn archive": (tar((SPEC, b"x" * 5000))[:-60], "cannot read the samples"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused_in_a_line_and_write_nothing_outside(what: str, tmp_path: Path):
    data, said = HOSTILE[what]
    (tmp_path / "x.samples.tar.gz").write_bytes(data)
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(StoreError) as error:
        unpack(tmp_path / "x.samples.tar.gz", inside)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("evil*"))
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spa_bench.compare.submission.archive.MOST_BYTES", 1 << 20)
    (tmp_path / "x.samples.tar.gz").write_bytes(tar((SPEC, bytes(2 << 20))))
    with pytest.raises(StoreError, match="unpacks to more than 1 MiB"):
        unpack(tmp_path / "x.samples.tar.gz", tmp_path)
    assert not (tmp_path / SPEC).exists()


def test_an_archive_of_other_runs_is_a_fault_and_not_a_traceback(runs: Path, call: Call):
    path = sent(runs, call)
    archive_of(path).write_bytes(tar((SPEC, b"{}")))
    [fault] = faults(path)
    assert "no run in 7f4c5882" in fault


def test_several_results_of_one_file_are_recomputed_each(sandbox: InProcessJudge, three: Path, tmp_path: Path, call: Call):
    def answer(request: Request) -> str:
        return RIGHT[request.problem_id] if request.draw else WRONG

    for name in ("one", "two"):
        mock_run(tmp_path / "runs", three, answer, name=name)
    file = tmp_path / "sent" / "three.json"
    done = call("leaderboard", tmp_path / "runs", "--save", file, "--samples", "--measured-by", WHO)
    assert done.code == 0, done.err
    found = inspect_file(file, recomputed=True, task_file=tmp_path / "three.jsonl")
    assert [note.split(":")[0] for note in found.notes] == ["one", "two"], found.faults
