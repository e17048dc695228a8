"""`Run`, `Runs` and `load`: tables, comparisons, verdicts and charts, and what cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import spa_bench as sb
from doubles import RIGHT, SANDBOX, WRONG, Call, mock_run
from spa_bench.api import pictures
from spa_bench.compare.leaderboard import find_results, save_all
from spa_bench.runs.folder import open_run
from spa_bench.types import Request

COLUMNS = ["task", "sampler", "model", "seed", "metric", "value", "low", "high", "n", "at_n", "problems", "reason", "run"]


def good(request: Request) -> str:
    return RIGHT[request.problem_id]


def mixed(request: Request) -> str:
    return RIGHT[request.problem_id] if request.draw % 2 else WRONG


@pytest.fixture
def place(tmp_path: Path, three: Path, sandbox: object) -> Path:
    """Two samplers of other n, one of them with two seeds."""
    root = tmp_path / "runs"
    for seed in (0, 1):
        mock_run(root, three, mixed, name="mixed", seed=seed, n=4)
    mock_run(root / "more", three, good, name="good", n=2)
    for cache in root.rglob("cache"):
        shutil.rmtree(cache, ignore_errors=True)
    return root


def row(table: pd.DataFrame, **wanted: Any) -> pd.Series[Any]:
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


# to_pandas -----------------------------------------------------------------------------------------------------------


def test_the_tidy_table_has_a_row_a_run_and_metric_with_the_values_of_metrics_json(place: Path):
    runs = sb.load(place)
    table = runs.to_pandas()
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["run", "metric"]).any()
    for run in runs:
        content = json.loads((run.path / "metrics.json").read_text())["estimates"]
        found = row(table, run=str(run.path), metric="pass@1")
        wanted = content["pass@1"]
        assert (found.value, found.low, found.high, found.problems) == pytest.approx(
            (wanted["value"], wanted["low"], wanted["high"], wanted["n"])
        )
        assert (found.seed, found.n, found["sampler"], found.model) == (run.seed, run.n, run.sampler, "mock")
        assert found.at_n is pd.NA
    assert set(table.metric) & {"vendi", "effective_diversity"} == set()  # one name a metric
    assert str(table.n.dtype) == str(table.at_n.dtype) == "Int64"


def test_a_metric_that_depends_on_n_is_at_the_n_that_all_runs_have(place: Path):
    runs, metric = sb.load(place), "diversity_score[exact]"
    assert {run.n for run in runs} == {2, 4}
    vendi = runs.to_pandas().query("metric == 'vendi[ngram,q=1]'")
    assert vendi.at_n.tolist() == [2, 2, 2]
    alone = runs.where(sampler="mixed").to_pandas().query("metric == 'vendi[ngram,q=1]'")
    assert alone.at_n.tolist() == [4, 4]
    content = json.loads((runs.where(sampler="mixed")[0].path / "metrics.json").read_text())
    at_two = np.mean(content["values_at"]["2"]["vendi[ngram,q=1]"])
    assert vendi[vendi["sampler"] == "mixed"].value.iloc[0] == pytest.approx(at_two)
    assert at_two != pytest.approx(alone.value.iloc[0])
    assert metric in set(runs.to_pandas().metric)


def test_what_has_no_value_has_a_reason(place: Path):
    table = sb.load(place).to_pandas()
    missing = table[table.value.isna()]
    assert len(missing)
    assert (missing.reason != "").all()


def test_an_own_metric_that_was_added_later_is_in_the_table(place: Path, call: Call, tmp_path: Path, monkeypatch: Any):
    (tmp_path / "lengths.py").write_text(
        '"""x"""\nfrom spa_bench.metrics.suite import Metric\n'
        "M = Metric(name='chars', description='x', compute=lambda s: float(len(s.texts[0])))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    [path] = (place / "more").iterdir()
    assert call("grade", path, "--metric", "lengths:M").code == 0
    assert row(sb.load(path).to_pandas(), metric="chars").value > 0
    assert "chars" in sb.load(path).problems()


# samples, problems ---------------------------------------------------------------------------------------------------


def test_samples_have_a_row_each_with_text_verdict_and_message(place: Path):
    table = sb.load(place).samples()
    assert len(table) == 3 * (4 + 4 + 2)
    assert list(table.columns[4:10]) == ["problem", "member", "draw", "text", "verdict", "message"]
    one = row(table, sampler="mixed", seed=1, problem="three/add", draw=0)
    assert (one.text, one.raw, one.verdict) == ("    return None", WRONG, "wrong")
    assert "AssertionError" in one.message
    assert set(table.query("sampler == 'good'").verdict) == {"passed"}


def test_samples_from_elsewhere_have_no_tokens_and_half_a_surrogate_pair_is_replaced(
    three: Path, tmp_path: Path, sandbox: object
):
    broken = "    return '\ud800'  # \x1b[31m"
    answers = [{"problem": name, "text": text} for name in RIGHT for text in (RIGHT[name], broken)]
    run = sb.score(str(three), answers, out=tmp_path / os.fsdecode(b"od\xffd"), quiet=True, sandbox=SANDBOX)
    table = run.samples()
    assert run.to_pandas().run[0] == str(run.path).replace("\udcff", "\ufffd")
    assert table.tokens.isna().all()
    assert table.tokens.dtype == "Int64"
    assert set(table.text) == {*(text.rstrip() for text in RIGHT.values()), broken.replace("\ud800", "\ufffd")}


def test_problems_have_the_values_of_each_metric(place: Path):
    table = sb.load(place).problems()
    assert len(table) == 9
    assert row(table, sampler="good", problem="three/last")["pass@1"] == 1.0
    assert table.query("sampler == 'mixed'")["pass@1"].tolist() == [0.5] * 6
    assert table["pass@1"].mean() == pytest.approx(sb.load(place).to_pandas().query("metric == 'pass@1'").value.mean())


# divergence ----------------------------------------------------------------------------------------------------------


def test_divergence_is_the_mean_of_the_matrices_in_the_log(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = sb.run("spa-random", "mini-code", engine="mock", n=3, limit=3, settings={"members": 3}, until="generate", quiet=True)
    rows = [json.loads(line) for line in (run.path / "divergence.jsonl").read_text().splitlines()]
    wanted = np.mean([r["matrices"]["kl"] for r in rows], axis=0)
    found = run.divergence()
    assert found.to_numpy() == pytest.approx(wanted, abs=1e-8)
    assert list(found.index) == ["member 0", "member 1", "member 2"]
    one = run.divergence("js", problem=rows[1]["problem"])
    assert one.to_numpy() == pytest.approx(np.array(rows[1]["matrices"]["js"]), abs=1e-8)
    assert (found.index.name, found.columns.name) == ("from", "to")
    several = sb.load("runs")
    assert several.divergence().equals(found)
    assert several.divergence(0).equals(several.divergence("spa-random"))
    for arguments, said in (
        (("kll",), "kind is 'kll'; did you mean 'kl'?"),
        (("kl", "nowhere"), f"{run.path} has no divergence of problem 'nowhere'"),
    ):
        with pytest.raises(sb.UsageError, match=said.replace("?", r"\?").replace("(", r"\(")):
            run.divergence(arguments[0], problem=arguments[1] if len(arguments) > 1 else None)


def test_one_member_has_no_divergence(place: Path):
    with pytest.raises(sb.UsageError, match=r"no divergence between the members of .*: it has one member"):
        sb.load(place)[0].divergence()
    with pytest.raises(sb.UsageError, match="divergence is of one run with several members, and 0 are here"):
        sb.load(place).divergence()


# leaderboard, compare, check -----------------------------------------------------------------------------------------


def test_the_leaderboard_is_that_of_the_command(place: Path, call: Call):
    board = sb.load(place).leaderboard()
    rows = json.loads(call("leaderboard", place, "--json").out)
    table = board.to_pandas()
    for one in rows:
        found = row(table, sampler=one["sampler"], metric="pass@1")
        assert (found.value, found.low, found.high) == pytest.approx(
            tuple(one["metrics"]["pass@1"][key] for key in ("value", "low", "high"))
        )
    assert row(table, sampler="mixed", metric="pass@1").seeds == (0, 1)
    assert len(board) == len(rows) == 2
    assert "<td>mixed</td>" in board._repr_html_()
    assert board.markdown().count("pass@1") > 1
    assert "\\textbf" in board.latex() or "tabular" in board.latex()
    with pytest.raises(sb.UsageError, match="no runs of the reference 'best'"):
        sb.load(place).leaderboard(reference="best")


def test_compare_is_that_of_the_command(place: Path, call: Call):
    runs = sb.load(place)
    compared = runs.compare("mixed", "good")
    [wanted] = json.loads(call("compare", f"{place}:mixed", f"{place}:good", "--json").out)
    assert compared.to_json() == [wanted]
    found = row(compared.to_pandas(), metric="pass@1")
    assert (found.a, found.b, found.difference) == (0.5, 1.0, 0.5)
    assert repr(compared) in call("compare", f"{place}:mixed", f"{place}:good").out
    assert compared._repr_markdown_().startswith("### ")
    other = runs.where(sampler="good")[0].compare(runs.where(sampler="mixed"))
    assert row(other.to_pandas(), metric="pass@1").difference == -0.5
    for side, said in ((runs, "side B of a comparison is one sampler on one task"), ("mixed", "both sides are the same mixed")):
        with pytest.raises(sb.UsageError, match=said):
            runs.compare("mixed", side)


def test_check_is_red_where_a_metric_fell_and_takes_runs_or_a_path(place: Path, tmp_path: Path, three: Path, call: Call):
    for seed in range(5):
        mock_run(tmp_path / "base", three, good, name="steady", seed=seed, n=4)
    now = mock_run(tmp_path / "now", three, lambda request: WRONG, name="steady", seed=7, n=4)
    baseline = sb.load([path for path in (tmp_path / "base").iterdir() if path.name != "cache"])
    verdict = sb.load(now.path).check(baseline, metrics=["pass@1"])
    assert not verdict.ok
    assert not verdict
    found = row(verdict.to_pandas(), metric="pass@1")
    assert (found.outcome, found.before, found.now, found.difference) == ("drop", 1.0, 0.0, -1.0)
    assert repr(verdict).startswith("RED: against the baseline: steady")
    file = tmp_path / "steady.json"
    save_all(find_results([run.path for run in baseline]), file)
    assert sb.load(now.path).check(file, metrics=["pass@1"]).to_json() == json.loads(
        call("check", now.path, "--against", file, "--metrics", "pass@1", "--json").out
    )
    same = sb.load(now.path).check(now.path).to_pandas()  # one row, which has no numbers
    assert {str(same[name].dtype) for name in ("before", "now", "difference", "low", "tolerance", "visible")} == {"float64"}
    assert same.before.isna().all()
    with pytest.raises(sb.UsageError, match="--alpha is 2"):
        sb.load(now.path).check(baseline, alpha=2)
    with pytest.raises(sb.UsageError, match=r"--alpha is '0\.05'; it must be a number"):
        sb.load(now.path).check(baseline, alpha="0.05")  # type: ignore[arg-type]
    assert sb.load(now.path).check(baseline, alpha=np.float32(0.05), metrics=["pass@1"]).to_json()[0]["notes"] == []  # type: ignore[arg-type]
    kinds = [sb.load(now.path).check(baseline, alpha=kind(0.05)).to_json() for kind in (np.float32, Decimal)]  # type: ignore[arg-type]
    assert [json.loads(json.dumps(said))[0]["alpha"] for said in kinds] == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("sb.load(3)", "paths is 3; it must be a text or a path: run folders, result files, or folders of either"),
        ("sb.load(runs[0])", "paths is a Run; it must be"),
        ("sb.load([None])", "paths is None; it must be"),
        ("sb.load(runs.to_pandas())", "paths is a DataFrame; it must be"),
        ("runs.check(None)", "paths is None; it must be"),
        ("runs.check(runs, metrics=[3])", "unknown metric 3 of the gate; known: "),
        ("runs.where(seed='0')", "seed is '0'; it must be a whole number"),
        ("runs.where(sampler=['mixed', 'good'])", "sampler is ['mixed', 'good']; it must be a text"),
        ("runs.divergence(1.5)", "run is 1.5; it must be a whole number"),
        ("runs.compare(0, 1)", "side A of a comparison is 0; give runs, as runs[0], or runs.where(sampler=...)"),
        ("runs[0].compare('good')", "side B of a comparison is 'good'; give runs"),
        ("runs.leaderboard(reference=runs[0])", "reference is a Run; it must be a text"),
    ],
)
def test_what_is_neither_a_run_nor_a_name_is_one_line(asked: str, said: str, place: Path):
    with pytest.raises(sb.UsageError) as error:
        eval(asked, {"sb": sb, "runs": sb.load(place)})
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_paths_and_places_may_come_from_pandas_and_numpy(place: Path):
    runs = sb.load(place)
    assert len(sb.load(runs.to_pandas().run.unique())) == len(runs) == 3
    assert len(sb.load(path for path in runs.to_pandas().run.drop_duplicates())) == 3
    assert runs.where(seed=np.int64(1))[np.int64(0)].seed == 1
    with pytest.raises(sb.UsageError, match="no divergence between the members"):
        runs.divergence(np.int64(0))


# what a notebook shows -----------------------------------------------------------------------------------------------


def test_the_html_is_a_table_in_which_names_are_text(tmp_path: Path, three: Path, sandbox: object):
    name = "<script>alert(1)</script>".replace("/", "|")
    run = sb.Run(mock_run(tmp_path / "runs", three, good, name=name))
    html = run._repr_html_()
    assert "<table" in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "1.000" in html
    assert "three 1, 3 problems" in html
    assert "three 1, 3 problems\nsampler" in repr(run)


def test_a_run_that_is_not_finished_has_samples_and_is_named_beside_the_tables(place: Path, three: Path, tmp_path: Path):
    half = mock_run(place, three, good, name="half", graded=False)
    runs = sb.load(place)
    assert len(runs) == 4
    said = f"{half.path} is not graded yet; finish it with: spa-bench grade {half.path}"
    with pytest.warns(UserWarning, match="is not graded yet"):
        table = runs.to_pandas()
    assert "half" not in set(table["sampler"])
    assert set(runs.samples().query("sampler == 'half'").verdict.isna()) == {True}
    assert said in runs._repr_html_()
    assert said in repr(runs)
    with pytest.raises(sb.StoreError) as error:
        sb.load(half.path).to_pandas()
    assert str(error.value) == said
    with pytest.raises(sb.StoreError, match="is not graded yet"):
        _ = sb.load(half.path)[0].metrics


# charts --------------------------------------------------------------------------------------------------------------


def test_the_chart_has_a_point_a_sampler_in_both_backends(place: Path, tmp_path: Path):
    pytest.importorskip("altair", reason="altair is not installed")
    runs = sb.load(place)
    spec = runs.plot().to_dict()
    points = spec["datasets"]["points"]
    assert {point["sampler"]: point["y"] for point in points} == {"good": 1.0, "mixed": 0.5}
    figure = runs.plot(backend="matplotlib")
    figure.savefig(tmp_path / "plane.pdf")
    drawn = {line.get_label() for line in figure.axes[0].containers}
    assert drawn == {"good", "mixed"}
    assert figure.axes[0].get_ylabel() == "pass@1"
    for arguments, said in (
        ({"quality": "pass@2"}, "quality is 'pass@2', which the chart cannot have"),
        ({"diversity": "vendi[embedding,q=1]"}, "diversity is 'vendi.embedding,q=1.', and these runs have no value of it"),
        ({"backend": "plotly"}, "backend is 'plotly'; it is 'altair' or 'matplotlib'"),
        ({"kind": "bars"}, "plot shows 'quality-diversity' or 'divergence'; got 'bars'"),
        ({"kind": "divergence"}, "divergence is of one run with several members, and 0 are here"),
    ):
        with pytest.raises(sb.UsageError, match=said):
            runs.plot(**arguments)


@pytest.mark.parametrize(
    ("kind", "unit"), [("kl", "nats a token"), ("tv", "share"), ("kl[choices]", "nats"), ("js[first]", "nats")]
)
def test_a_matrix_says_what_its_numbers_are(kind: str, unit: str):
    pytest.importorskip("matplotlib")
    figure = pictures.heat(pd.DataFrame([[0.0, 1.0], [1.0, 0.0]]), kind, "matplotlib")
    assert f"{kind} ({unit})" in {text.get_text() for axes in figure.axes for text in (axes.yaxis.label, axes.xaxis.label)}


def test_several_tasks_are_not_one_chart(place: Path, tmp_path: Path, three: Path):
    other = tmp_path / "other.toml"
    other.write_text(three.read_text().replace('version = "1"', 'version = "2"\nname = "other"'))
    mock_run(place, other, good, name="good")
    with pytest.raises(sb.UsageError, match=r"these runs are of 2 tables \(other, three\): choose with where"):
        sb.load(place).plot(backend="matplotlib")
    assert sb.load(place).where(task="three").plot(backend="matplotlib")


def test_a_matrix_is_drawn_with_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = sb.run("spa-random", "mini-code", engine="mock", n=2, limit=2, settings={"members": 2}, until="generate", quiet=True)
    figure = run.plot("divergence", divergence="js", backend="matplotlib")
    assert figure.axes[0].images[0].get_array().shape == (2, 2)
    assert figure.axes[1].get_ylabel() == "js (nats a token)"
    pytest.importorskip("altair", reason="altair is not installed")
    assert len(run.plot("divergence").to_dict()["datasets"]["cells"]) == 4


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
import spa_bench as sb
runs = sb.load(sys.argv[2])
try:
    getattr(runs, sys.argv[3])()
except sb.UsageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "method", "said"),
    [
        ("pandas", "to_pandas", "tables of runs need pandas: pip install pandas"),
        ("altair", "plot", "charts of a report need altair and vl-convert: pip install 'spa-bench[report]'"),
    ],
)
def test_without_pandas_or_altair_one_line_says_what_to_install(package: str, method: str, said: str, place: Path):
    command = [sys.executable, "-c", WITHOUT, package, str(place), method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said
    assert done.stderr == ""


# a sequence ----------------------------------------------------------------------------------------------------------


def test_runs_are_a_sequence_that_is_filtered_and_joined(place: Path):
    runs = sb.load(place)
    assert [type(run) for run in runs] == [sb.Run] * 3
    assert len(runs[1:]) == 2
    assert isinstance(runs[1:], sb.Runs)
    assert len(runs.where(sampler="mixed")) == 2
    assert [run.seed for run in runs.where(sampler="mixed", seed=1)] == [1]
    assert len(runs.where(seed=0) + runs.where(sampler="mixed")) == 3
    assert len(runs + runs[0]) == 3
    with pytest.raises(sb.UsageError, match="no run has sampler 'mxed'; did you mean 'mixed'"):
        runs.where(sampler="mxed")
    with pytest.raises(sb.UsageError, match="no run has seed 9; there are 0, 1"):
        runs.where(seed=9)


def test_a_label_that_tells_runs_of_one_name_apart_finds_them(tmp_path: Path, three: Path, sandbox: object):
    for n in (2, 4):
        mock_run(tmp_path / "runs", three, good, name="twin", n=n)
    shutil.rmtree(tmp_path / "runs" / "cache", ignore_errors=True)
    runs = sb.load(tmp_path / "runs")
    assert {run.n for run in runs.where(sampler="twin[n=2]")} == {2}
    assert set(runs.to_pandas()["sampler"]) == {"twin[n=2]", "twin[n=4]"} == set(runs.samples()["sampler"])


# result files --------------------------------------------------------------------------------------------------------


def test_a_result_file_gives_a_run_a_seed_with_the_values_that_it_keeps(place: Path, tmp_path: Path):
    file = tmp_path / "results.json"
    save_all(find_results([place]), file)
    read, made = sb.load(file), sb.load(place)
    assert sorted((run.sampler, run.seed, run.n) for run in read) == sorted((run.sampler, run.seed, run.n) for run in made)
    keys = ["sampler", "seed", "metric"]
    one, other = (runs.to_pandas().set_index(keys) for runs in (read, made))
    assert one.index.isin(other.index).all()
    other = other.loc[one.index]
    assert one.value.to_numpy() == pytest.approx(other.value.to_numpy(), nan_ok=True)
    assert one.at_n.equals(other.at_n)
    assert read.leaderboard().to_pandas().equals(made.leaderboard().to_pandas())
    assert read.compare("mixed", "good").to_pandas().equals(made.compare("mixed", "good").to_pandas())
    assert read.where(seed=1).to_pandas()["sampler"].unique().tolist() == ["mixed"]
    assert row(read.problems(), sampler="mixed", seed=0, problem="three/add")["pass@1"] == 0.5
    assert read[0].path is None
    for method in (read.samples, read[0].divergence):
        with pytest.raises(sb.UsageError, match="holds no samples and no matrices; load the run folders"):
            method()


def test_leaderboards_that_are_committed_can_be_loaded():
    board = Path(__file__).resolve().parents[2] / "leaderboards" / "results" / "mini-code.json"
    runs = sb.load(board)
    assert len(runs) > 5
    table = runs.where(sampler="base").to_pandas().query("metric == 'pass@1'")
    pooled = row(runs.leaderboard().to_pandas(), sampler="base", metric="pass@1")
    assert table.value.mean() == pytest.approx(pooled.value)
    assert tuple(table.seed) == pooled.seeds


# what cannot be read -------------------------------------------------------------------------------------------------


def test_places_without_runs_are_one_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for given, said in (
        (tmp_path / "empty", f"no runs and no results in {tmp_path / 'empty'}"),
        (tmp_path / "nowhere", f"{tmp_path / 'nowhere'} is not there; give a run folder, a result file, or a folder of either"),
        ([], "no paths were given; give run folders, result files, or folders of either"),
    ):
        with pytest.raises(sb.SpaBenchError) as error:
            sb.load(given)
        assert str(error.value) == said


def test_a_run_of_another_schema_stops_load_or_is_left_out_with_a_warning(place: Path):
    [newer] = (place / "more").iterdir()
    spec = json.loads((newer / "spec.json").read_text())
    (newer / "spec.json").write_text(json.dumps({**spec, "schema_version": 99}))
    with pytest.raises(sb.StoreError) as error:
        sb.load(place)
    assert str(error.value).startswith(f"{newer} has schema 99, this spa-bench reads up to ")
    assert str(error.value).endswith('upgrade spa-bench; load(..., unreadable="warn") leaves it out')
    with pytest.warns(UserWarning, match="left out: .* has schema 99"):
        assert {run.sampler for run in sb.load(place, unreadable="warn")} == {"mixed"}
    with pytest.raises(sb.UsageError, match="unreadable is 'skip'"):
        sb.load(place, unreadable="skip")  # type: ignore[arg-type]


def test_a_copy_of_a_run_is_there_once_and_a_damaged_log_is_named(place: Path):
    first = sb.load(place)[0]
    shutil.copytree(first.path, place / "kept" / first.path.name)
    assert len(sb.load(place)) == 3
    records = open_run(first.path).path / "records.jsonl"
    records.write_bytes(records.read_bytes().replace(b"return", b"RETURN"))
    with pytest.raises(sb.StoreError, match=r"records\.jsonl"):
        sb.load(first.path).samples()
