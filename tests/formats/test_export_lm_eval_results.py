"""Results in lm-eval's shape: its keys, its own table of results, a converter of others, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from formats_types import Export, Other, Runs

from doubles import InProcessJudge, Lines
from export_runs import record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.errors import StoreError
from spa_bench.publish.export import lm_eval_results
from spa_bench.publish.export.samples import collect
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import read_samples
from spa_bench.runs.job import load_task


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(out.glob("*/results_*.json"))]


def test_each_run_has_results_and_samples_where_lm_eval_puts_them(runs: Runs, export: Export, out: Path):
    export(runs, "lm-eval-results")
    run = runs[0][0]
    date = run.timings()["finished"][:19].replace(":", "-") + ".000000"
    folder = f"spa-bench__embedded__spa-random-s0-{run.hash[:8]}"
    assert {p.name for p in (out / folder).iterdir()} == {f"results_{date}.json", f"samples_mini-code_{date}.jsonl"}
    first, second = results(out)
    kept = run.metrics()["estimates"]
    assert first["results"]["mini-code"]["pass@1,none"] == kept["pass@1"]["value"]
    assert first["results"]["mini-code"]["vendi[ngram;q=1],none"] == kept["vendi[ngram,q=1]"]["value"]
    assert first["results"]["mini-code"]["pass@1_stderr,none"] == "N/A"
    assert first["higher_is_better"]["mini-code"]["self_bleu"] is False
    assert first["n-samples"]["mini-code"] == {"original": 120, "effective": 6}
    assert first["config"]["model_args"] == {
        "pretrained": "spa-bench/embedded", "sampler": "spa-random", "members": 2, "n": 4, "seed": 0,
    }  # fmt: skip
    interval = first["spa_bench"]["intervals"]["pass@1"]
    assert (interval["low"], interval["high"]) == (kept["pass@1"]["low"], kept["pass@1"]["high"])
    assert (first["spa_bench"]["spec_hash"], second["spa_bench"]["spec_hash"]) == tuple(r.hash for r, _ in runs)


def test_lm_eval_itself_prints_them_as_a_table(runs: Runs, export: Export, out: Path):
    if find_spec("lm_eval") is None:
        pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'")
    from lm_eval.utils import make_table

    export(runs[:1], "lm-eval-results")
    [found] = results(out)
    lines = make_table(found).splitlines()
    [row] = [line for line in lines if "|pass@1 " in line]
    assert [cell.strip() for cell in row.split("|")][5:8] == ["pass@1", "↑", "0.7917"]
    [row] = [line for line in lines if "|self_bleu " in line]
    assert row.split("|")[6].strip() == "↓"


def test_a_converter_of_others_reads_them(runs: Runs, export: Export, out: Path, other: Other):
    export(runs, "lm-eval-results")
    other(
        "-m", "every_eval_ever", "convert", "lm_eval", "--log_path", ".", "--output_dir", "converted",
        "--source_organization_name", "Us", "--include_samples", cwd=out,
    )  # fmt: skip
    found = [json.loads(p.read_text()) for p in out.glob("converted/**/*.json")]
    scores = [
        {one["metric_config"]["metric_name"]: one["score_details"]["score"] for one in content["evaluation_results"]}
        for content in found
    ]
    assert sorted(s["pass@1"] for s in scores) == sorted(r.metrics()["estimates"]["pass@1"]["value"] for r, _ in runs)


def test_score_reads_the_samples_back_to_the_same_programs(runs: Runs, export: Export, out: Path):
    run, task = runs[0]
    export(runs[:1], "lm-eval-results")
    [path] = out.glob("*/samples_*.jsonl")
    back = read_samples(path, task, cut=False, partial=True)  # type: ignore[arg-type]
    kept = sorted(run.records().values(), key=lambda r: (int(r.problem[10:]), r.member, r.draw))
    assert [(r.problem, r.graded, task.program(r)) for r in back] == [(r.problem, r.graded, task.program(r)) for r in kept]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    grades = run.grades()
    assert [row["passed"] for row in rows] == [
        [int(grades[(row["doc"]["task_id"], m, d)].verdict == "passed") for m in (0, 1) for d in (0, 1)]  # type: ignore[index]
        for row in rows
    ]


def test_lm_eval_s_own_scores_have_a_file_a_member(runs: Runs, export: Export, out: Path):
    run, _ = runs[0]
    members = [{"arc": {"acc,none": 0.5, "acc_stderr,none": 0.1}}, {"arc": {"acc,none": 0.25, "acc_stderr,none": 0.1}}]
    run.write_json("metrics.json", {**run.metrics(), "own_scores": {"harness": "lm-eval 0.4.13", "members": members}})
    export(runs[:1], "lm-eval-results")
    sampler, first, second = sorted(results(out), key=lambda one: one["spa_bench"].get("member", -1))
    assert "arc" not in sampler["results"]
    assert first["results"]["arc"] == {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": 0.1}
    assert second["results"]["arc"]["acc,none"] == 0.25
    assert first["lm_eval_version"] == "0.4.13"


def test_examples_and_problems_are_those_of_each_task_of_lm_eval(
    three: Path, tmp_path: Path, export: Export, out: Path, sandbox: InProcessJudge, monkeypatch: pytest.MonkeyPatch
):
    task = load_task(load_task_card(str(three)))
    tags = ("one", "two", "one")
    spec = {**task.describe(), "scoring": {"one": {"examples": 5}, "two": {"examples": 0}}}
    monkeypatch.setattr(task, "problems", [replace(p, tags=(tag,)) for p, tag in zip(task.problems, tags, strict=True)])
    monkeypatch.setattr(task, "describe", lambda: spec)
    answers = [record(p.id, 0, 0, "    return 0") for p in task.problems[:2]]
    run = stored(tmp_path / "runs", task, answers, n=1, limit=2)
    grade(run, task, Lines(), sandbox=None, workers=1)
    members = [{name: {"acc,none": 0.5, "sample_len": 1} for name in ("one", "two", "both")}]
    run.write_json("metrics.json", {**run.metrics(), "own_scores": {"harness": "lm-eval 0.4.13", "members": members}})
    export([(run, task)], "lm-eval-results")
    own = next(one for one in results(out) if "member" in one["spa_bench"])
    assert own["n-shot"] == {"one": 5, "two": 0, "both": 0}
    assert own["configs"]["one"]["num_fewshot"] == 5
    assert own["n-samples"] == {"one": {"original": 2, "effective": 1}, "two": {"original": 1, "effective": 1}}


def test_the_export_for_grading_again_has_the_results_too(runs: Runs, export: Export, out: Path):
    export(runs[:1], "lm-eval")
    [path] = (out / "logged" / "spa-bench").glob("results_*.json")
    samples = collect(*runs[0])
    assert path.read_bytes() == next(iter(lm_eval_results.result_files(samples).values()))


def test_a_run_that_is_not_graded_is_refused(three: Path, tmp_path: Path, export: Export):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=1, limit=1)
    with pytest.raises(StoreError, match="is not graded yet"):
        export([(run, task)], "lm-eval-results")
