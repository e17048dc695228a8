"""What a user types: bad input ends in one line and exit code 2, and nothing is overwritten."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, SANDBOX, Call, Done, InProcessJudge, mock_run
from spa_bench import __version__
from spa_bench.cards.reading import card_names
from spa_bench.cli import main as cli
from spa_bench.runs.folder import open_run
from spa_bench.runs.values import checked_workers
from spa_bench.support.text import without_middle


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


# bad input to run ----------------------------------------------------------------------------------------------------


def test_a_message_that_quotes_a_huge_value_is_cut_in_its_middle(call: Call, tmp_path: Path):
    card = tmp_path / "card.toml"
    card.write_text(f'description = ""\nmembers = "{"x" * 9000}; {"y" * 9000}"\n')
    said = call("run", "--sampler", card, "--task", "mini-code", "--model", "mock").error()
    assert 2900 < len(said) < 3200
    assert said.startswith(f"'members' in {card} must be a whole number; got 'xxx")
    assert " characters) … y" in said


def test_a_text_loses_its_middle_only_where_it_is_too_long():
    assert without_middle("a" * 8, 8) == "a" * 8
    assert without_middle("a" * 6 + "-" * 1500 + "z" * 2, 8) == "aaaaaa … (1,500 characters) … zz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "spa-influance"], "unknown sampler 'spa-influance'; did you mean 'spa-influence'?"),
        (["--sampler", "nowhere.toml"], "no sampler card at nowhere.toml"),
        (["--task", "humanevel"], "unknown task 'humanevel'; did you mean 'humaneval'?"),
        (["--model", "/nowhere/model"], "no model folder at /nowhere/model"),
        (["--model", "nobody/nothing"], "cannot load model 'nobody/nothing': "),
        (["--set", "decoding.temprature=1"], "unknown key 'decoding.temprature' in "),
        (["--set", "members='two'"], "'members' in "),
        (["--set", "task.second=3"], "unknown key 'task.second' in "),
        (["--set", "nonsense"], "--set takes key=value"),
        (["--n", "0"], "n is 0; it must be at least 1"),
        (["--n", "four"], "argument --n: 'four' is not a whole number"),
        (["--sampler", "spa-random", "--n", "6"], "n is 6, but spa-random has 4 members: n must be a multiple of 4"),
        (["--seeds", "1,x"], "--seeds takes whole numbers with commas, such as 0,1,2; got '1,x'"),
        (["--seeds", "1,1"], "--seeds names a seed twice: 1,1"),
        (["--limit", "0"], "limit is 0; it must be at least 1"),
        (["--limit", "-1"], "limit is -1; it must be at least 1"),
        (["--seed", "-1"], "a seed is -1; seeds are 0 or more"),
        (["--seeds", "0,-2"], "a seed is -2; seeds are 0 or more"),
        (["--price-per-hour", "-1"], "--price-per-hour is -1; it must be finite and not negative"),
        (["--price-per-hour", "nan"], "--price-per-hour is nan; it must be finite and not negative"),
        (["--until", "generate", "--sandbox", "jail"], "unknown sandbox 'jail'; "),
        (["--out", "three.jsonl"], "--out is three.jsonl, which is no folder; name a folder, there or not"),
        (["--embedding", "/nowhere/model"], "no model folder at /nowhere/model"),
        (["--metric", "nowhere:METRIC"], "'nowhere:METRIC' leads to the module 'nowhere', which cannot be imported: "),
        (["--metric", "nowhere"], "--metric takes package.module:METRIC; got 'nowhere'"),
        (
            ["--metric", "spa_bench.metrics.suite:QD"],
            "--metric spa_bench.metrics.suite:QD: 'QD' is 'qd_score[ast]'; it ",
        ),
        (["--set", 'name="a\\nb"'], "sampler 'base': name is 'a\\nb'; it stands in tables and takes no control characters"),
        (
            ["--sampler", "oversample-mmr", "--set", "options.pool=4", "--n", "5"],
            "n is 5, but oversample-mmr keeps answers ",
        ),
        (["--sampler", "diverse-beam", "--set", "options.groups=2", "--n", "5"], "n is 5, but diverse-beam has 2 groups "),
        (["--device", "tpu"], "unknown device 'tpu'; use auto, cpu or cuda"),
        (["--dtype", "int3"], "unknown dtype 'int3'; use auto, "),
        (["--batch-size", "many"], "--batch-size takes auto or a number of rows; got 'many'"),
        (["--batch-size", "0"], "--batch-size takes auto or a number of rows; got '0'"),
        (["--threads", "0"], "--threads is 0; it must be at least 1"),
        (["--workers", "0"], "--workers is 0; it must be at least 1"),
        (["--sandbox", "jail"], "unknown sandbox 'jail'; "),
        (["--sampler", "single", "--data", "nowhere.jsonl"], "cannot read the examples in nowhere.jsonl"),
        (["--until", "train"], "argument --until: invalid choice: 'train'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_to_run_is_one_line_that_leaves_nothing_behind(
    arguments: list[str], message: str, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    done = run(*arguments)
    assert done.error().startswith(message)
    assert "samples:" not in done.err  # it is refused before the plan
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('description = "x"\nmembres = 2\n', "unknown key 'membres' in {path}; did you mean 'members'?"),
        ('description = "x"\nmembers = "2"\n', "'members' in {path} must be a whole number; got '2'"),
        ("members =", "{path} is not valid TOML: "),
    ],
)
def test_a_bad_card_is_one_line_that_names_it(text: str, message: str, run: Call, tmp_path: Path):
    card = written(tmp_path, "mine.toml", text)
    assert run("--sampler", card).error().startswith(message.format(path=card))
    assert not (tmp_path / "runs").exists()


def test_required_arguments_are_named_on_one_line(call: Call):
    assert "--sampler" in call("run", "--task", "humaneval").error()
    assert call().error()


@pytest.mark.parametrize(
    "setting",
    ["attribution.method=influense", "partition.method=balance", "kind=mix", "task.kind=codes", "lora.targets=c_attn"],
)
def test_an_unknown_name_in_a_card_is_one_line(setting: str, run: Call, tmp_path: Path):
    rows = "".join(json.dumps({"prompt": f"def f{i}():\n", "completion": f"    return {i}\n"}) + "\n" for i in range(6))
    pairs = written(tmp_path, "pairs.jsonl", rows)
    data = ["--sampler", "spa-random", "--data", pairs, "--set", "data.queries=sample:4", "--queries", "sample:4"]
    error = run(*data, "--set", "lora.steps=1", "--set", setting).error()
    assert repr(setting.split("=")[1]) in error


# a run ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(run: Call, tmp_path: Path) -> Path:
    """The folder of a run of the tiny model with n = 2."""
    done = run("--n", 2)
    assert done.code == 0, done.err
    [path] = (tmp_path / "runs").iterdir()
    return path


def test_a_run_says_what_it_is_about_to_do_and_prints_a_table(run: Call, tiny_folder: Path, three: Path):
    done = run("--n", 2)
    assert done.code == 0, done.err
    said = done.err.split("run folder:")[0]
    assert f"model: {tiny_folder}" in said
    assert "embedded" not in said
    assert f"task: three 1, 3 of 3 problems, found: {three.with_name('three.jsonl')}" in said
    assert "sampler: base: the base model without an adapter" in said
    assert "samples: 3 problems × n = 2 × 1 seed = 6" in said
    assert "cost a seed: no training, 6 answers" in said
    title, header, *_ = done.out.splitlines()
    assert title == f"three 1, 3 problems, model {tiny_folder}"
    assert header.split()[:3] == ["sampler", "pass@1", "pass@K"]
    assert "unsafe sandbox" in done.out


def test_a_run_folder_that_holds_another_spec_is_refused_and_untouched(run: Call, finished: Path):
    before = snapshot(finished)
    message = run("--n", 2, "--seed", 1, "--out", finished).error()
    assert message.startswith(f"{finished} holds a run with another spec (seed: 0 there, 1 here); use another --out")
    assert snapshot(finished) == before


def test_a_finished_run_is_printed_again_and_not_computed(run: Call, finished: Path):
    before = snapshot(finished)
    done = run("--n", 2)
    assert done.code == 0
    after = snapshot(finished)
    assert {k for k in after if after[k] != before.get(k)} <= {"timings.json"}
    assert "generation" not in done.err
    assert "grading" not in done.err


def test_json_is_all_that_stands_on_stdout(run: Call, finished: Path):
    [row] = json.loads(run("--n", 2, "--json").out)
    assert (row["sampler"], row["n"], row["seeds"]) == ("base", 2, [0])


def test_seeds_are_a_run_each_and_one_row(run: Call, tmp_path: Path):
    done = run("--n", 1, "--seeds", "3,5", "--json")
    [row] = json.loads(done.out)
    assert row["seeds"] == [3, 5]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_an_interrupted_command_says_how_to_go_on(run: Call, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spa_bench.runs.perform.generate", interrupt)
    done = run()
    assert done.code == 130
    last = done.err.splitlines()[-1]
    assert last.startswith("spa-bench: interrupted; nothing that was done is lost, resume with: spa-bench run --sampler base")


# generate here, grade there ------------------------------------------------------------------------------------------


def test_a_run_can_be_graded_later_and_elsewhere(run: Call, call: Call, tmp_path: Path, three: Path):
    done = run("--n", 2, "--until", "generate")
    assert done.code == 0, done.err
    path = Path(done.out.strip())
    assert not (path / "grades.jsonl").exists()
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    file = three.with_name("three.jsonl").rename(tmp_path / "moved.jsonl")
    assert "three.jsonl" in call("grade", moved, "--sandbox", SANDBOX).error()
    graded = call("grade", moved, "--sandbox", SANDBOX, "--task-file", file, "--json")
    assert graded.code == 0, graded.err
    assert json.loads(graded.out)[0]["metrics"]["pass@1"]["problems"] == 3
    assert len((moved / "grades.jsonl").read_text().splitlines()) == 6


def test_grading_against_other_problems_is_refused(run: Call, call: Call, finished: Path, three: Path):
    before = snapshot(finished)
    file = three.with_name("three.jsonl")
    file.write_text(file.read_text().replace("== 3", "== 4"))
    assert f"{finished} was made with other problems of three" in call("grade", finished).error()
    assert snapshot(finished) == before


def test_commands_on_what_is_no_run_say_so(call: Call, tmp_path: Path):
    for command in ("grade", "show", "leaderboard"):
        assert call(command, tmp_path / "nowhere").error().startswith(f"{tmp_path / 'nowhere'} is not there; give a run folder")
    (tmp_path / "runs" / "one").mkdir(parents=True)
    written(tmp_path / "runs" / "one", "spec.json", "{}")
    held = f"no run in {tmp_path / 'runs'}: spec.json is missing; it holds 1 run folders; give {tmp_path / 'runs'}/*"
    assert call("show", tmp_path / "runs").error() == held


def test_a_run_without_its_spec_is_no_folder_of_results(call: Call, finished: Path):
    (finished / "spec.json").unlink()
    for command in ("leaderboard", "report", "grade"):
        assert call(command, finished).error() == f"no run in {finished}: spec.json is missing"


def test_a_damaged_run_is_named(call: Call, finished: Path):
    lines = (finished / "records.jsonl").read_text().splitlines(keepends=True)
    (finished / "records.jsonl").write_text("".join([lines[0], "{\n", *lines[2:]]))
    for command in ("grade", "show"):
        assert "records.jsonl, line 2 is damaged" in call(command, finished).error()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grade", "--workers", "0"], "--workers is 0; it must be at least 1"),
        (["grade", "--sandbox", "jail"], "unknown sandbox 'jail'"),
        (["grade", "--price-per-hour", "-2"], "--price-per-hour is -2; it must be finite and not negative"),
        (["grade", "--metric", "nowhere"], "--metric takes package.module:METRIC; got 'nowhere'"),
        (["rerun", "--workers", "0"], "--workers is 0; it must be at least 1"),
        (["rerun", "--sandbox", "jail"], "unknown sandbox 'jail'"),
        (["rerun", "--batch-size", "no"], "--batch-size takes auto or a number of rows; got 'no'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_to_grade_and_rerun_is_one_line_that_changes_nothing(
    arguments: list[str], message: str, call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder = mock_run(tmp_path / "mocks", three, lambda r: "", graded=False).path
    before = snapshot(tmp_path)
    done = call(arguments[0], folder, *arguments[1:])
    assert done.error().startswith(message)
    assert len(done.err.splitlines()) == 1
    assert snapshot(tmp_path) == before


# show ----------------------------------------------------------------------------------------------------------------


def test_show_lists_the_problems_with_their_verdicts(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path / "mocks", three, lambda r: RIGHT[r.problem_id] if r.draw else "    return None\n")
    lines = call("show", folder.path).out.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("three/")] == [[i, "2", "1"] for i in RIGHT]
    assert "1 passed, 1 wrong" in lines[-1]


def test_show_takes_several_runs_and_names_each(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folders = [mock_run(tmp_path / "mocks", three, lambda r: RIGHT[r.problem_id], seed=seed) for seed in (0, 1)]
    lines = call("show", *(folder.path for folder in folders)).out.splitlines()
    assert [line for line in lines if line.startswith("== ")] == [f"== {folder.path}" for folder in folders]
    assert sum(line.startswith("three/add") for line in lines) == 2
    one = call("show", *(folder.path for folder in folders), "--problem", "three/add").out
    assert one.count("member 0, draw 0: passed") == 2


def test_problems_that_moved_are_found_by_task_file_and_the_error_says_so(
    call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder = mock_run(tmp_path / "mocks", three, lambda r: RIGHT[r.problem_id]).path
    before = call("show", folder).out
    old = three.with_name("three.jsonl")
    moved = old.rename(tmp_path / "moved.jsonl")
    for command in (["show"], ["grade"], ["verify"], ["rerun"], ["export", "--to", "evalplus", "--out", tmp_path / "export"]):
        error = call(command[0], folder, *command[1:]).error()
        assert error == (
            f"cannot read the problems in {old}: there is no such file; --task-file FILE says where they are on this machine"
        )
    assert "three/add" in before
    assert call("show", folder, "--task-file", moved).out == before
    (folder / "task_file.json").unlink()
    error = call("show", folder).error()
    assert error == f"{folder} does not say where the problems of three lie; --task-file FILE says it"
    assert call("show", folder, "--task-file", moved).out == before


def test_show_puts_the_samples_of_a_problem_side_by_side(
    call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "100")
    answers = ["    return a + b  # \x1b[31m\n", "    return None\n"]
    folder = mock_run(tmp_path / "mocks", three, lambda r: answers[r.draw])
    out = call("show", folder.path, "--problem", "three/add").out
    assert '"""Return a + b."""' in out
    head = next(line for line in out.splitlines() if "draw 0" in line)
    assert "member 0, draw 0: passed" in head
    assert "member 0, draw 1: wrong" in head
    both = next(line for line in out.splitlines() if "return None" in line)
    assert both.startswith("    return a + b  # \ufffd[31m")  # an answer must not drive the terminal
    assert "\x1b" not in out


def test_show_of_a_problem_that_the_run_lacks_names_those_it_has(
    call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder = mock_run(tmp_path / "mocks", three, lambda r: "")
    error = call("show", folder.path, "--problem", "three/ad").error()
    assert error == "the run has no problem 'three/ad'; did you mean 'three/add'?"


def test_show_on_a_terminal_of_ascii_prints_question_marks(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path / "mocks", three, lambda r: "    return 'naïve …'\n")
    command = [sys.executable, "-m", "spa_bench", "show", str(folder.path), "--problem", "three/add"]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONIOENCODING": "ascii", "COLUMNS": "100"}
    environment["PYTHONPATH"] = str(Path(cli.__file__).parents[2])
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"return 'na?ve ?'" in done.stdout


def test_show_says_how_to_go_on_when_records_are_cut_short(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path / "mocks", three, lambda r: RIGHT[r.problem_id]).path
    whole = call("show", folder)
    assert "unfinished" not in whole.out
    assert "not graded" not in whole.out
    records = folder / "records.jsonl"
    records.write_bytes(records.read_bytes()[:-30])
    last = call("show", folder).out.splitlines()[-1]
    assert last == (
        f"unfinished: 5 of 6 samples are there, 1 problems lack some; "
        f"the same `spa-bench run` again, with --out {folder}, resumes it"
    )
    assert "unfinished: 5 of 6" in call("show", folder, "--problem", "three/last").out
    records.unlink()
    done = call("show", folder)
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert done.out.startswith("unfinished: 0 of 6 samples are there, 3 problems lack some; ")
    error = call("show", folder, "--problem", "three/add").error()
    assert error.startswith("there is no sample of 'three/add' yet: unfinished: 0 of 6 samples")


def test_show_says_how_to_grade_what_is_not_graded(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path / "mocks", three, lambda r: "", graded=False).path
    assert call("show", folder).out.splitlines()[-1] == (f"6 samples are not graded; grade them with: spa-bench grade {folder}")


# score ---------------------------------------------------------------------------------------------------------------

GOOD = [{"task_id": i, "completion": c} for i, c in RIGHT.items()]


@pytest.fixture
def score(call: Call, three: Path, tmp_path: Path) -> Call:
    def called(rows: list[object], *arguments: object) -> Done:
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        samples = written(tmp_path, "s.jsonl", text)
        common = ["--task", three, "--samples", samples, "--sandbox", SANDBOX, "--out", tmp_path / "runs"]
        return call("score", *common, *arguments)

    return called


def test_samples_are_scored_with_the_metrics_of_a_run(score: Call):
    done = score(GOOD, "--json")
    assert done.code == 0, done.err
    [row] = json.loads(done.out)
    assert (row["sampler"], row["task"], row["n"], row["metrics"]["pass@1"]["value"]) == ("s", "three", 1, 1.0)
    assert "3 problems, found: " in done.err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*GOOD, "{"], "{path}, line 4 is not valid JSON"),
        (
            [*GOOD, {"task_id": "three/ad", "completion": ""}],
            "{path}, line 4: task three has no problem 'three/ad'; did you mean",
        ),
        (GOOD[1:], "{path} has no sample for three/add (1 of 3 problems are missing)"),
        ([], "{path} holds no samples"),
        ([{"task_id": "three/add"}], "{path}, line 1 has neither completion nor solution"),
    ],
    ids=["a broken line", "an unknown task id", "a missing problem", "an empty file", "neither field"],
)
def test_bad_samples_are_one_line_that_leaves_nothing_behind(rows: list[object], message: str, score: Call, tmp_path: Path):
    assert score(rows).error().startswith(message.format(path=tmp_path / "s.jsonl"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "nowhere.jsonl"], "cannot read the samples in nowhere.jsonl"),
        (["--name", "a/b"], "--name is 'a/b'; it names a folder and takes no slash"),
        (["--name", " "], "--name is ' '; it names a folder and takes no slash, and needs more than spaces and dots"),
        (["--name", ".."], "--name is '..'"),
        (["--name", "a\x1bb"], "--name is 'a\\x1bb'; it stands in tables and takes no control characters"),
        (["--workers", "0"], "--workers is 0; it must be at least 1"),
        (["--out", "{path}"], "--out is "),
        (["--embedding", "/nowhere/model"], "no model folder at /nowhere/model"),
        (["--metric", "nowhere"], "--metric takes package.module:METRIC; got 'nowhere'"),
        (["--set", "members=2"], "score draws nothing: --set takes keys that begin with task.; got 'members'"),
        (["--sandbox", "jail"], "unknown sandbox 'jail'"),
        (["--task", "humanevel"], "unknown task 'humanevel'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_to_score_is_one_line(arguments: list[str], message: str, score: Call, tmp_path: Path):
    done = score(GOOD, *[a.format(path=tmp_path / "s.jsonl") for a in arguments])
    assert done.error().startswith(message)
    assert "run folder:" not in done.err
    assert not (tmp_path / "runs").exists()


def test_samples_come_from_standard_input_and_from_several_files(three: Path, tmp_path: Path):
    lines = "".join(json.dumps(row) + "\n" for row in GOOD)
    command = [sys.executable, "-m", "spa_bench", "score", "--task", three, "--sandbox", SANDBOX, "--out", tmp_path / "runs"]
    done = subprocess.run([*command, "--samples", "-", "--json"], input=lines, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "-: evalplus' samples, " in done.stderr
    first, second = written(tmp_path, "a.jsonl", lines), written(tmp_path, "b.jsonl", lines + "\n")
    given = ["--samples", first, "--samples", second, "--json"]
    done = subprocess.run([*command, *given], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["sampler"] == "a-and-1-more"


def test_samples_may_begin_with_a_byte_order_mark(score: Call):
    assert score(["\ufeff" + json.dumps(GOOD[0]), *GOOD[1:]]).code == 0


def test_a_scored_run_can_be_shown_and_graded_again(score: Call, call: Call, tmp_path: Path):
    score(GOOD)
    [path] = (tmp_path / "runs").iterdir()
    done = call("show", path)
    assert done.code == 0, done.err
    assert "three/add" in done.out


# the rest ------------------------------------------------------------------------------------------------------------


def test_list_names_every_sampler_task_metric_and_kind_of_model(call: Call):
    for what, names in {
        "samplers": card_names("baselines"),
        "tasks": card_names("tasks"),
        "metrics": ["pass@1", "pass@K", "diversity_score[exact]", "vendi", "average_kl"],
        "models": ["embedded", "PATH", "HUB-ID"],
    }.items():
        done = call("list", what)
        assert done.code == 0
        assert all(name in done.out for name in names)
    assert "invalid choice: 'cards'" in call("list", "cards").error()


def test_a_leaderboard_is_printed_and_written(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    for name, extra in (("plain", ""), ("wordy", "    y = 1\n")):
        mock_run(tmp_path / "mocks", three, lambda r, extra=extra: extra * r.draw + RIGHT[r.problem_id], name=name)
    page = tmp_path / "boards" / "three.md"
    done = call("leaderboard", tmp_path / "mocks", "--reference", "wordy", "--write", page)
    assert done.code == 0, done.err
    assert done.out.startswith("# Leaderboard")
    assert "- wordy against plain: pass@1 is not shown to be equal within ±0.05 (0.000 [" in done.out
    assert page.read_text().strip() == done.out.strip()
    rows = json.loads(call("leaderboard", tmp_path / "mocks", "--format", "json").out)
    assert [r["sampler"] for r in rows] == ["wordy", "plain"]
    unknown = call("leaderboard", tmp_path / "mocks", "--reference", "best", "--save", tmp_path / "saved")
    assert unknown.error().startswith("no runs of the reference 'best'")
    assert not (tmp_path / "saved").exists()


def test_a_leaderboard_that_cannot_be_written_is_one_line(call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path):
    mock_run(tmp_path / "mocks", three, lambda r: "")
    blocked = written(tmp_path, "file", "")
    assert (
        call("leaderboard", tmp_path / "mocks", "--write", blocked / "x.md").error().startswith(f"cannot write {blocked}/x.md")
    )


def test_the_console_script_ends_with_the_exit_code(tmp_path: Path):
    script = Path(sys.executable).with_name("spa-bench")
    done = subprocess.run(
        [script, "show", "nowhere"], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "spa-bench: nowhere is not there; give a run folder\n"


def test_the_module_is_the_command_line(tmp_path: Path):
    command = [sys.executable, "-m", "spa_bench", "show", "nowhere"]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "spa-bench: nowhere is not there; give a run folder\n"


def test_the_version_is_printed(call: Call):
    done = call("--version")
    assert (done.code, done.out) == (0, f"spa-bench {__version__}\n")


# grading -------------------------------------------------------------------------------------------------------------


def test_as_many_programs_run_at_once_as_there_are_cores_and_end_the_same(
    run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert (checked_workers(None), checked_workers(5)) == (cores, 5)
        assert run("--out", tmp_path / str(cores)).code == 0
        [path] = (tmp_path / str(cores)).iterdir()
        folder = open_run(path)
        found.append((folder.grades(), folder.read_json("metrics.json")))
    assert found[0] == found[1]
    assert len(found[0][0]) == 12


def test_grading_is_in_the_spec_and_makes_another_run(score: Call, tmp_path: Path):
    for grading in ("default", "evalplus"):
        assert score(GOOD, "--grading", grading).code == 0
    specs = [json.loads((path / "spec.json").read_text()) for path in (tmp_path / "runs").iterdir()]
    assert sorted(spec["grading"] for spec in specs) == ["default", "evalplus"]


def test_grading_by_unknown_rules_is_one_line(score: Call, tmp_path: Path):
    assert "argument --grading: invalid choice: 'openai'" in score(GOOD, "--grading", "openai").error()
    assert not (tmp_path / "runs").exists()


def test_show_prints_the_first_failing_call(score: Call, call: Call, tmp_path: Path):
    score([{"task_id": "three/add", "completion": "    return a - b\n"}, *GOOD[1:]])
    [path] = (tmp_path / "runs").iterdir()
    out = call("show", path, "--problem", "three/add").out
    assert "AssertionError at: assert candidate(1, 2) == 3" in out
    assert "first failing call: (1, 2)" in out


@pytest.mark.parametrize(
    ("one_process", "mark", "said"),
    [
        ("false", "unproxied", "1 refused: values cannot cross between program and tests (docs/explanation/security.md)"),
        ("true", "one process", "1 judged in one process with the tests, which a program could cheat"),
    ],
)
def test_marks_are_counted_in_the_summary_and_in_the_metrics(
    one_process: str, mark: str, said: str, score: Call, call: Call, tmp_path: Path
):
    number = (
        "    class Number(object):\n        def __eq__(self, other):\n            return other == a + b\n    return Number()\n"
    )
    done = score([{"task_id": "three/add", "completion": number}, *GOOD[1:]], "--set", f"task.one_process={one_process}")
    assert done.code == 0, done.err
    assert f"; {said}  (" in done.out.splitlines()[-1]
    [path] = (tmp_path / "runs").iterdir()
    assert json.loads((path / "metrics.json").read_text())["marks"] == {mark: 1}
    assert mark in call("show", path, "--problem", "three/add").out


def test_a_run_without_marks_says_nothing_of_them(score: Call, tmp_path: Path):
    done = score(GOOD)
    [path] = (tmp_path / "runs").iterdir()
    assert json.loads((path / "metrics.json").read_text())["marks"] == {}
    assert "one process" not in done.out
    assert "cannot cross" not in done.out
