"""Every Eval Ever: its own schema and rules on every file, its own validator where it is installed, and our numbers."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from formats_types import Export, Other, Runs

from export_runs import record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.errors import StoreError
from spa_bench.publish.export import Said, facts
from spa_bench.publish.export.samples import collect
from spa_bench.runs.job import load_task

SCHEMAS = Path(__file__).with_name("every_eval_ever_0.3.0")
PLACE = re.compile(
    r"data/mini-code/spa-bench/embedded/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(_samples\.jsonl|\.json)"
)


def files(out: Path) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """(path, content) of the aggregates; path -> rows of the samples."""
    aggregates = [(str(p.relative_to(out)), json.loads(p.read_text())) for p in sorted(out.glob("data/*/*/*/*.json"))]
    samples = {str(p.relative_to(out)): rows(p) for p in sorted(out.glob("data/*/*/*/*.jsonl"))}
    return aggregates, samples


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_its_own_validator_finds_nothing(runs: Runs, export: Export, out: Path, other: Other):
    export(runs, "every-eval-ever", said=Said(organization="Us"))
    patterns = ("data/*/*/*/*.json", "data/*/*/*/*.jsonl")
    found = json.loads(other("-m", "every_eval_ever", "validate", *patterns, "--format", "json", cwd=out))
    assert [(one["file_type"], one["valid"], one["errors"], one["warnings"]) for one in found] == [
        *[("aggregate", True, [], [])] * 2,
        *[("instance", True, [], [])] * 2,
    ]
    assert [one["line_count"] for one in found[2:]] == [24, 24]


def test_its_own_validator_finds_what_is_wrong(runs: Runs, export: Export, out: Path, other: Other):
    export(runs, "every-eval-ever")
    path = next(out.glob("data/*/*/*/*.json"))
    content = json.loads(path.read_text())
    content["evaluation_results"][0]["score_details"]["score"] = 7
    path.write_text(json.dumps(content))
    name = str(path.relative_to(out))
    [found] = json.loads(other("-m", "every_eval_ever", "validate", name, "--format", "json", cwd=out, code=1))
    assert "outside" in found["errors"][0]["msg"]


def test_every_file_is_of_its_schema(runs: Runs, export: Export, out: Path):
    jsonschema = pytest.importorskip("jsonschema")
    export(runs, "every-eval-ever")
    aggregates, samples = files(out)
    of_all, of_one = (
        jsonschema.Draft7Validator(json.loads((SCHEMAS / name).read_text()))
        for name in ("eval.schema.json", "instance_level_eval.schema.json")
    )
    assert [str(e) for _, content in aggregates for e in of_all.iter_errors(content)] == []
    assert [str(e) for each in samples.values() for row in each for e in of_one.iter_errors(row)] == []
    broken = {**aggregates[0][1], "evaluation_id": 7}
    assert list(of_all.iter_errors(broken))  # the schema can refuse something


def test_the_rules_beyond_the_schema_hold(runs: Runs, export: Export, out: Path):
    """Paths with a UUID of version 4, one pair of files a run, ids that join, scores within their limits."""
    export(runs, "every-eval-ever")
    aggregates, samples = files(out)
    assert all(PLACE.fullmatch(path) for path in [*samples, *(path for path, _ in aggregates)])
    assert len(aggregates) == len(samples) == 2
    for path, content in aggregates:
        detail = content["detailed_evaluation_results"]
        assert detail["file_path"] == path.removesuffix(".json") + "_samples.jsonl"
        mine = samples[detail["file_path"]]
        assert detail["total_rows"] == len(mine) == 24
        assert detail["checksum"] == hashlib.sha256((out / detail["file_path"]).read_bytes()).hexdigest()
        assert {row["evaluation_id"] for row in mine} == {content["evaluation_id"]}
        assert {row["model_id"] for row in mine} == {content["model_info"]["id"]} == {"spa-bench/embedded"}
        results = {one["evaluation_result_id"]: one for one in content["evaluation_results"]}
        assert len(results) == len(content["evaluation_results"])
        assert {row["evaluation_result_id"] for row in mine} <= results.keys()
        for one in results.values():
            config, score = one["metric_config"], one["score_details"]["score"]
            assert float(config["min_score"]) <= score <= float(config["max_score"])
    assert len({content["evaluation_id"] for _, content in aggregates}) == 2


def test_numbers_intervals_dates_and_the_sampler_are_ours(runs: Runs, export: Export, out: Path):
    export(runs[:1], "every-eval-ever", said=Said(organization="Us"))
    run = runs[0][0]
    [(_, content)], _ = files(out)
    kept, finished = run.metrics()["estimates"]["pass@1"], run.timings()["finished"]
    [found] = [one for one in content["evaluation_results"] if one["evaluation_result_id"] == "pass@1"]
    interval = found["score_details"]["uncertainty"]["confidence_interval"]
    assert (found["score_details"]["score"], interval["lower"], interval["upper"]) == (kept["value"], kept["low"], kept["high"])
    assert found["metric_config"]["metric_id"] == "pass_at_k"
    assert found["metric_config"]["metric_parameters"] == {"k": 1}
    assert found["generation_config"]["generation_args"]["temperature"] == 0.8
    assert json.loads(found["generation_config"]["additional_details"]["sampler"]) == run.spec["sampler"]
    assert content["evaluation_timestamp"] == finished
    assert content["retrieved_timestamp"] == str(int(datetime.fromisoformat(finished).timestamp()))
    assert content["source_metadata"]["source_organization_name"] == "Us"
    assert content["source_metadata"]["additional_details"]["spec_hash"] == run.hash
    ids = {one["evaluation_result_id"]: one["metric_config"] for one in content["evaluation_results"]}
    assert ids["self_bleu"]["lower_is_better"] is True
    assert ids["vendi[ngram,q=1]"]["lower_is_better"] is False
    assert ids["pass@2"]["metric_id"] == "spa-bench.pass@2"  # over members: not the field's pass@k
    assert "vendi" not in ids


def test_each_answer_has_its_verdict_and_which_draw_it_is(runs: Runs, export: Export, out: Path):
    export(runs[:1], "every-eval-ever")
    run, task = runs[0]
    _, samples = files(out)
    [mine] = samples.values()
    grades, records = run.grades(), run.records()
    for row in mine:
        key = next(k for k in records if (k.problem, str(k.member), str(k.draw)) == (
            row["sample_id"], row["metadata"]["member"], row["metadata"]["draw"]))  # fmt: skip
        assert row["evaluation"]["is_correct"] == (grades[key].verdict == "passed")
        assert row["metadata"]["verdict"] == grades[key].verdict
        assert row["output"]["raw"] == [records[key].raw]
        assert row["answer_attribution"][0]["extracted_value"] == task.program(records[key])


def test_a_run_that_is_not_graded_is_refused(three: Path, tmp_path: Path, export: Export, out: Path):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=1, limit=1)
    with pytest.raises(StoreError, match="is not graded yet; finish it with: spa-bench grade"):
        export([(run, task)], "every-eval-ever")
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("embedded", "spa-bench/embedded"),
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("/home/me/models/Qwen2.5-0.5B", "local/Qwen2.5-0.5B"),
        ("models/q.gguf", "local/q"),
        ("models/Q.GGUF", "local/Q"),
        ("../x", "local/x"),
        ("a/..", "local/model"),
        ("a/b/c", "local/c"),
        ("me", "local/me"),
        ("/home/me/m\udcff", "local/m\ufffd"),
    ],
)
def test_a_model_s_name_says_nothing_of_this_machine_and_is_safe_as_a_folder(name: str, said: str, three: Path, tmp_path: Path):
    task = load_task(load_task_card(str(three)))
    samples = collect(stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")]), task)
    samples.run.spec["model"]["name"] = name
    assert facts.model_id(samples) == said
