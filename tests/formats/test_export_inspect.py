"""Inspect's logs: inspect_ai reads them, our own reader takes them back to the same verdicts, and our numbers are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from formats_types import Export, Other, Runs

from doubles import InProcessJudge
from export_runs import record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.runs.import_samples import read_samples
from spa_bench.runs.job import load_task
from spa_bench.tasks.shuffled import shuffled

READ = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
found = []
for info in sorted(list_eval_logs("logs"), key=lambda one: one.name):
    log, header = read_eval_log(info), read_eval_log(info, header_only=True)
    metrics = header.results.scores[0].metrics if header.results.scores else {}
    found.append({
        "status": log.status, "model": header.eval.model, "task": header.eval.task, "epochs": header.eval.config.epochs,
        "created": str(header.eval.created), "temperature": header.eval.model_generate_config.temperature,
        "metrics": {name: [m.value, m.metadata["low"], m.metadata["high"]] for name, m in metrics.items()},
        "summaries": len(read_eval_log_sample_summaries(info)),
        "samples": [
            [s.id, s.epoch, s.output.completion, s.output.stop_reason, s.scores["spa_bench"].value if s.scores else None,
             s.metadata["member"], s.metadata["draw"]]
            for s in log.samples
        ],
    })
print(json.dumps(found))
"""  # fmt: skip


def log_of(out: Path) -> dict[str, Any]:
    [path] = (out / "logs").iterdir()
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_inspect_ai_reads_every_log(runs: Runs, export: Export, out: Path, other: Other):
    export(runs, "inspect")
    logs = json.loads(other("-c", READ, cwd=out))
    assert [one["status"] for one in logs] == ["success"] * 2
    assert {one["model"] for one in logs} == {"hf/spa-bench/embedded"}
    by_name = sorted(runs, key=lambda one: one[0].timings()["finished"])
    for (run, _), log in zip(by_name, logs, strict=True):
        kept, records, grades = run.metrics()["estimates"]["pass@1"], run.records(), run.grades()
        assert log["metrics"]["pass@1"] == [kept["value"], kept["low"], kept["high"]]
        assert (log["epochs"], log["summaries"], log["temperature"]) == (4, 24, 0.8)
        keys = [next(k for k in records if k == (s[0], s[5], s[6])) for s in log["samples"]]
        assert sorted(keys) == sorted(records)
        assert [s[2] for s in log["samples"]] == [records[k].raw for k in keys]
        assert [s[4] for s in log["samples"]] == ["C" if grades[k].verdict == "passed" else "I" for k in keys]
        assert [s[1] for s in log["samples"]] == [1, 2, 3, 4] * 6


def test_a_log_has_the_shape_that_inspect_reads(runs: Runs, export: Export, out: Path):
    """Without inspect_ai: the fields that its EvalLog, EvalSpec and EvalSample require, and the name by which it finds logs."""
    export(runs[:1], "inspect")
    log, run = log_of(out), runs[0][0]
    assert (log["version"], log["status"]) == (2, "success")
    assert {"created", "task", "dataset", "model", "config"} <= log["eval"].keys()
    assert log["eval"]["created"] == run.timings()["finished"]
    assert log["eval"]["dataset"]["shuffled"] is False
    assert log["eval"]["metadata"]["spec"] == run.spec
    assert len(log["samples"]) == log["results"]["total_samples"] == 24
    for sample in log["samples"]:
        assert {"id", "epoch", "input", "target"} <= sample.keys()
        assert [m["role"] for m in sample["messages"]] == ["user", "assistant"]
        assert sample["output"]["choices"][0]["stop_reason"] in {"stop", "max_tokens", "unknown"}
    [path] = (out / "logs").iterdir()
    assert path.name == f"{run.timings()['finished'].replace(':', '-')}_mini-code_{run.hash}.json"


def test_a_log_of_problems_in_a_seeded_order_says_so(three: Path, tmp_path: Path, export: Export, out: Path):
    task = shuffled(load_task(load_task_card(str(three))), 0)
    export([(stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=1, limit=1), task)], "inspect")
    assert log_of(out)["eval"]["dataset"]["shuffled"] is True


def test_score_reads_an_exported_log_back_to_the_same_programs(runs: Runs, export: Export, out: Path):
    run, task = runs[0]
    export(runs[:1], "inspect")
    back = read_samples(next((out / "logs").iterdir()), task, cut=False, partial=True)  # type: ignore[arg-type]
    kept = sorted(run.records().values(), key=lambda r: (int(r.problem[10:]), r.member, r.draw))
    assert [(r.problem, r.graded, task.program(r)) for r in back] == [(r.problem, r.graded, task.program(r)) for r in kept]


def test_odd_answers_come_back_with_the_same_verdicts(
    three: Path, tmp_path: Path, export: Export, out: Path, sandbox: InProcessJudge
):
    """An answer that calls its own function, an empty one, one that failed, and a whole program."""
    task = load_task(load_task_card(str(three)))
    calls = "    return a + b if b == 0 else add(a + 1, b - 1) if b > 0 else add(a - 1, b + 1)\n"
    answers = [calls, "", "def add(a, b):\n    return a + b\n", "    return a\n"]
    records = [record("three/add", 0, d, text, whole=text.startswith("def")) for d, text in enumerate(answers)]
    records.append(record("three/add", 0, 4, "", failure="no answer came"))
    run = stored(tmp_path / "runs", task, records, limit=1)
    judged = {g.key: g for g in task.score(records, sandbox, [])}
    run.grade_log.append([judged[r.key] for r in records])
    export([(run, task)], "inspect")
    back = read_samples(next((out / "logs").iterdir()), task, cut=False, partial=True)  # type: ignore[arg-type]
    again = {g.key: g.verdict for g in task.score(back, sandbox, [])}
    assert list(again.values()).count("passed") == 2
    assert again == {key: g.verdict for key, g in judged.items()}
    assert [s["scores"]["spa_bench"]["value"] for s in log_of(out)["samples"]] == ["C", "I", "C", "I", "I"]
    assert log_of(out)["samples"][4]["output"]["error"] == "no answer came"


def test_a_log_of_a_run_that_lacks_answers_is_no_success(three: Path, tmp_path: Path, export: Export, out: Path):
    task = load_task(load_task_card(str(three)))
    export([(stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=2, limit=2), task)], "inspect")
    log = log_of(out)
    assert log["status"] == "cancelled"
    assert (log["results"]["total_samples"], log["results"]["completed_samples"]) == (4, 1)


def test_a_run_that_is_not_graded_has_no_scores(three: Path, tmp_path: Path, export: Export, out: Path):
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x\ud800")], n=1, limit=1)
    notes = export([(run, task)], "inspect")
    assert any("is not graded: its log has no scores" in note for note in notes)
    log = log_of(out)
    assert (log["results"]["scores"], log["samples"][0]["scores"]) == ([], {})
    assert log["status"] == "success"
    assert log["samples"][0]["output"]["completion"] == "x\ufffd"  # its reader takes no half of a surrogate pair
