"""Parquet and the dataset folder of the hub: types, numbers, readers, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from formats_types import Export, Runs

from doubles import RIGHT, SANDBOX, Call, InProcessJudge, Lines
from export_runs import record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.errors import StoreError, UsageError
from spa_bench.publish.export import Said
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples
from spa_bench.runs.job import load_task
from spa_bench.types import Choices

pytest.importorskip("pyarrow", reason="pip install 'spa-bench[data]'")
import pandas as pd


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(out / f"{name}.parquet")


def test_samples_have_a_row_each_with_their_types(runs: Runs, export: Export, out: Path):
    export(runs, "parquet")
    samples = table(out, "samples")
    assert len(samples) == 2 * 6 * 4
    assert {name: str(samples[name].dtype) for name in ("seed", "member", "draw", "passed", "tokens", "draw_seed")} == {
        "seed": "int64", "member": "int32", "draw": "int32", "passed": "bool", "tokens": "int64", "draw_seed": "int64",
    }  # fmt: skip
    folder, task = runs[0]
    mine = samples[samples.run == folder.hash]
    kept = list(folder.records().values())
    assert list(zip(mine.problem, mine.member, mine.draw, mine.raw, strict=True)) == [
        (r.problem, r.member, r.draw, r.raw) for r in sorted(kept, key=lambda r: (int(r.problem[10:]), r.member, r.draw))
    ]
    assert list(mine.program) == [task.program(r) for r in sorted(kept, key=lambda r: (int(r.problem[10:]), r.member, r.draw))]
    assert mine.passed.mean() == folder.metrics()["estimates"]["pass@1"]["value"]
    assert (mine.draw_seed > 2**53).any()  # whole, although a float would not hold them


def test_metrics_have_one_name_each_intervals_and_the_number_of_answers_they_are_of(runs: Runs, export: Export, out: Path):
    export(runs[:1], "parquet")
    metrics = table(out, "metrics")
    assert not metrics.duplicated(["run", "metric", "at_n"]).any()
    assert {"vendi", "diversity_score", "average_kl", "effective_diversity"}.isdisjoint(metrics.metric)
    kept = runs[0][0].metrics()
    [row] = metrics[metrics.metric == "pass@1"].to_dict("records")
    assert {key: row[key] for key in ("value", "low", "high", "n", "reason")} == kept["estimates"]["pass@1"]
    vendi = metrics[metrics.metric == "vendi[ngram,q=1]"].set_index("at_n")
    assert list(vendi.index) == [4, 2]
    assert vendi.value[4] == kept["estimates"]["vendi[ngram,q=1]"]["value"]
    at_two = kept["values_at"]["2"]["vendi[ngram,q=1]"]
    assert vendi.value[2] == pytest.approx(sum(at_two) / len(at_two), abs=1e-12)
    assert 1 <= vendi.low[2] <= vendi.value[2] <= vendi.high[2] <= 2
    assert list(metrics[metrics.metric == "any_of_n"].at_n) == [4]  # of all answers: it has no value at fewer
    missing = metrics[metrics.metric == "pass@100"]
    assert missing.value.isna().all()
    assert missing.reason.str.startswith("fewer than 100 answers").all()


def test_scores_of_lm_eval_count_the_problems_of_their_own_task(runs: Runs, export: Export, out: Path):
    run, _ = runs[0]
    own = [{"a": {"acc,none": 0.5, "acc_stderr,none": 0.5, "sample_len": 2}, "both": {"perplexity,none": 7.0, "sample_len": 6}}]
    run.write_json("metrics.json", {**run.metrics(), "own_scores": {"harness": "lm-eval 0.4.13", "members": own * 2}})
    export(runs[:1], "parquet")
    metrics = table(out, "metrics")
    scores = metrics[metrics.metric.str.startswith("own[")]
    assert list(zip(scores.metric, scores.value, scores.n, strict=True)) == [
        ("own[a,acc,none]", 0.5, 2),
        ("own[both,perplexity,none]", 7.0, 6),
    ]
    shutil.rmtree(out)
    export(runs[:1], "every-eval-ever")
    [content] = [json.loads(p.read_text()) for p in out.glob("data/*/*/*/*.json")]
    said = {one["evaluation_result_id"]: one["metric_config"]["lower_is_better"] for one in content["evaluation_results"]}
    assert (said["own[a,acc,none]"], said["own[both,perplexity,none]"], said["pass@1"]) == (False, True, False)


def test_values_problems_divergences_and_runs_are_there(runs: Runs, export: Export, out: Path):
    export(runs, "parquet")
    folder, task = runs[0]
    kept = folder.metrics()
    values = table(out, "values")
    mine = values[(values.run == folder.hash) & (values.metric == "pass@1")]
    assert dict(zip(mine.problem, mine.value, strict=True)) == dict(
        zip(kept["problems"], kept["values"]["pass@1"], strict=True)
    )
    problems = table(out, "problems")
    assert list(problems.problem) == kept["problems"]  # once, although both runs asked them
    assert problems.prompt[0] == task.problems[0].prompt
    divergences = table(out, "divergences")
    kl = divergences[(divergences.run == folder.hash) & (divergences.measure == "kl") & (divergences.member == 0)]
    assert list(kl.value) == [row.matrices["kl"][0][1] for row in folder.divergence_log.rows()]
    of_runs = table(out, "runs")
    assert [json.loads(spec) for spec in of_runs.spec] == [run.spec for run, _ in runs]
    assert list(of_runs.seed) == [0, 1]


def test_what_is_not_known_of_samples_from_elsewhere_is_not_said(
    three: Path, tmp_path: Path, export: Export, out: Path, sandbox: InProcessJudge
):
    task = load_task(load_task_card(str(three)))
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps({"task_id": p.id, "completion": RIGHT[p.id]}) + "\n" for p in task.problems))
    run = import_samples(file, task, tmp_path / "runs", label="theirs", cut=False, sandbox=SANDBOX)  # type: ignore[arg-type]
    grade(run, task, Lines(), sandbox=None, workers=1)
    export([(run, task)], "parquet")
    samples = table(out, "samples")
    assert samples.passed.all()
    assert samples[["tokens", "spent", "draw_seed", "finish"]].isna().all(axis=None)
    shutil.rmtree(out)
    export([(run, task)], "every-eval-ever")
    [content] = [json.loads(p.read_text()) for p in out.glob("data/*/*/*/*.json")]
    assert content["evaluation_results"][0]["generation_config"]["generation_args"].keys() == {"sandbox"}
    assert content["model_info"]["additional_details"]["deployment_type"] == "unknown"
    [row, *_] = (json.loads(line) for line in next(out.glob("data/*/*/*/*.jsonl")).read_text().splitlines())
    assert row["metadata"].keys() == {"member", "draw", "verdict"}
    shutil.rmtree(out)
    export([(run, task)], "inspect")
    log = json.loads(next((out / "logs").iterdir()).read_text())
    assert log["eval"]["model_generate_config"] == {}
    assert log["samples"][0]["metadata"].keys() == {"member", "draw", "tags"}
    assert log["samples"][0]["output"]["choices"][0]["stop_reason"] == "unknown"


@pytest.mark.parametrize("to", ["parquet", "hub", "inspect"])
def test_log_probabilities_of_options_are_a_table_or_said_to_be_left_out(
    to: str, three: Path, tmp_path: Path, export: Export, out: Path
):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=1, limit=1)
    run.choice_log.append(
        [
            Choices(
                problem="three/add", logprobs=[[-1.0, -2.5]], greedy=[[True, False]], tokens=[3, 4], matrices={},
                members={"entropy[choices]": [0.5]},
            )
        ]
    )  # fmt: skip
    notes = export([(run, task)], to)
    assert any("log-probabilities of the options" in note for note in notes) == (to == "inspect")
    if to == "parquet":
        options = table(out, "options")
        assert list(zip(options.member, options.option, options.logprob, options.greedy, options.tokens, strict=True)) == [
            (0, 0, -1.0, True, 3),
            (0, 1, -2.5, False, 4),
        ]


def test_duckdb_reads_the_tables_where_they_lie(runs: Runs, export: Export, out: Path):
    duckdb = pytest.importorskip("duckdb", reason="pip install duckdb")
    export(runs, "parquet")
    found = duckdb.sql(f"select avg(passed::int) from '{out}/samples.parquet' where seed = 0").fetchall()
    assert found == [(runs[0][0].metrics()["estimates"]["pass@1"]["value"],)]


def test_a_run_that_is_not_graded_has_null_verdicts_and_no_metrics(three: Path, tmp_path: Path, export: Export, out: Path):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=1, limit=1)
    notes = export([(run, task)], "parquet")
    assert any("is not graded" in note for note in notes)
    assert table(out, "samples").verdict.isna().all()
    assert not (out / "metrics.parquet").exists()


def test_half_a_surrogate_pair_is_replaced_and_said(three: Path, tmp_path: Path, export: Export, out: Path):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "a\ud800b\u2028\x00é")], n=1, limit=1)
    notes = export([(run, task)], "parquet")
    assert table(out, "samples").raw[0] == "a\ufffdb\u2028\x00é"
    [said] = [note for note in notes if note.startswith("left out: ")]
    assert "halves of surrogate pairs in 1 answers" in said
    assert "halves of surrogate pairs in 1 answers" in (out / "README.md").read_text()


def test_the_hub_s_folder_is_a_dataset_with_a_configuration_for_each_table(
    runs: Runs, export: Export, out: Path, tmp_path: Path
):
    datasets = pytest.importorskip("datasets", reason="pip install 'spa-bench[data]'")
    notes = export(runs, "hub", said=Said(license="cc-by-4.0"))
    assert not any("licence" in note for note in notes)
    loaded = datasets.load_dataset(str(out), "samples", split="test", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 48
    assert loaded.features["passed"].dtype == "bool"
    assert datasets.get_dataset_config_names(str(out), cache_dir=str(tmp_path / "cache"))[0] == "samples"
    default = datasets.load_dataset(str(out), split="test", cache_dir=str(tmp_path / "cache"))
    assert default.column_names == loaded.column_names
    metrics = datasets.load_dataset(str(out), "metrics", split="test", cache_dir=str(tmp_path / "cache"))
    assert metrics.column_names[5:] == ["metric", "at_n", "value", "low", "high", "n", "reason"]
    for run, _ in runs:
        assert json.loads((out / "specs" / f"{run.hash}.json").read_text()) == run.spec


def test_the_card_has_what_the_hub_reads(runs: Runs, export: Export, out: Path):
    from huggingface_hub import DatasetCard

    [note] = [n for n in export(runs, "hub") if "licence" in n]
    assert "--license ID sets it" in note
    card = DatasetCard.load(out / "README.md")
    assert card.data.license == "unknown"
    assert card.data.tags == ["spa-bench", "evaluation", "diversity", "mini-code"]
    assert card.data.size_categories == ["n<1K"]
    assert "hf upload USER/NAME . --repo-type dataset" in card.text


def test_the_command_takes_several_runs_and_what_they_do_not_know(runs: Runs, out: Path, call: Call):
    paths = [str(run.path) for run, _ in runs]
    done = call("export", *paths, "--to", "hub", "--license", "cc-by-4.0", "--out", str(out))
    assert (done.code, done.out) == (0, f"{out}\n")
    assert "\nlicense: cc-by-4.0\n" in (out / "README.md").read_text()
    assert done.err.splitlines()[-1] == f"how to use it: {out / 'README.md'}"
    refused = call("export", *paths, "--to", "evalplus", "--out", str(out))
    assert refused.error().startswith("--to evalplus holds one run, and 2 are given")


def test_places_on_this_machine_are_told_before_a_push(three: Path, tmp_path: Path, export: Export):
    task = load_task(load_task_card(str(three)))
    answers = [record("three/add", 0, 0, "x")]
    run = stored(tmp_path / "runs", task, answers, n=1, limit=1, engine={"program": "/home/me/vllm"})
    notes = export([(run, task)], "hub")
    assert "the specs name places on this machine (engine.program): look at them before you push" in notes


def test_what_no_format_has_a_place_for_is_refused(runs: Runs, export: Export):
    with pytest.raises(UsageError, match="--license is 'Mine!'; it is an identifier of the hub"):
        export(runs, "hub", said=Said(license="Mine!"))
    with pytest.raises(UsageError, match="--license is 'mit', and --to parquet has no place for it; --to hub has"):
        export(runs, "parquet", said=Said(license="mit"))
    with pytest.raises(UsageError, match="--to evalplus holds one run, and 2 are given; give one, or use --to lm-eval-results"):
        export(runs, "evalplus")
    with pytest.raises(StoreError, match="are the same run; give one of them"):
        export([runs[0], runs[0]], "parquet")


def test_a_results_file_edited_by_hand_is_refused(runs: Runs, export: Export, out: Path):
    path = runs[0][0].path / "metrics.json"
    path.write_text(path.read_text().replace("0.79166", "0.99166", 1))
    with pytest.raises(StoreError, match=r"metrics.json is damaged \(its checksum does not fit\)"):
        export(runs, "parquet")
    assert not out.exists()


def test_the_same_runs_in_any_order_give_the_same_bytes(runs: Runs, export: Export, out: Path):
    export(runs, "hub")
    first = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    export(runs[::-1], "hub")
    assert {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()} == first
    with pytest.raises(UsageError, match="nothing was written, use another --out"):
        export(runs[:1], "hub")
