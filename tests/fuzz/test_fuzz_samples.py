"""Files of samples in every shape that score reads, with anything in them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from doubles_here import StillJudge
from hypothesis import strategies as st
from mutate import WRAPS, as_json, changed, damaged, texts, wrapped
from prop import Bench, fuzzed

from doubles import RIGHT, SANDBOX

PROMPTS = {"three/add": "def add(a, b):\n", "three/double": "def double(x):\n", "three/last": "def last(xs):\n"}
WHOLE = {name: PROMPTS[name] + body for name, body in RIGHT.items()}
ROWS = [{"task_id": name, "completion": body} for name, body in RIGHT.items()]
SOLUTIONS = [{"task_id": name, "solution": text} for name, text in WHOLE.items()]
RESULTS = {
    "date": "2024",
    "hash": "0",
    "eval": {n: [{"task_id": n, "solution": t, "base_status": "fail"}] for n, t in WHOLE.items()},
}
GENERATIONS = [[text, text] for text in WHOLE.values()]
LM_EVAL = [
    {
        "doc_id": i, "doc": {"task_id": name, "prompt": "…"}, "arguments": {"gen_args_0": {"arg_0": PROMPTS[name]}},
        "resps": [[RIGHT[name]]], "filtered_resps": [[WHOLE[name]]], "filter": "create_test",
    }
    for i, name in enumerate(RIGHT)
]  # fmt: skip
SAMPLES = [
    {
        "id": name, "epoch": 1, "input": "…", "attachments": {"a": "b"},
        "output": {"model": "m", "choices": [{"message": {"role": "assistant", "content": WHOLE[name]}}],
        "completion": WHOLE[name]},
    }
    for name in RIGHT
]  # fmt: skip
LOG = {"version": 2, "status": "success", "eval": {"task": "t"}, "plan": {}, "samples": SAMPLES}
GOOD: dict[str, Any] = {
    "rows": ROWS, "solutions": SOLUTIONS, "results": RESULTS, "generations": GENERATIONS, "lm-eval": LM_EVAL, "log": LOG,
}  # fmt: skip


def _archive(samples: Any) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        for i, sample in enumerate(samples if isinstance(samples, list) else [samples]):
            archive.writestr(f"samples/{i}_epoch_1.json", as_json(sample))
        archive.writestr("samples/../../escaped.txt", "x")
    return packed.getvalue()


def _file(value: Any, form: str) -> bytes:
    if form == "lines" and isinstance(value, list):
        return b"".join(as_json(row) + b"\n" for row in value)
    return as_json(value)


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_bench.runs.grade.make_judge", lambda *_: StillJudge())


def _score(bench: Bench, three: Path, tmp_path: Path, content: bytes, options: list[str], name: str = "samples.json") -> None:
    file = tmp_path / name
    file.write_bytes(content)
    try:
        bench.call("score", "--task", three, "--samples", file, "--out", tmp_path / "out", "--sandbox", SANDBOX, *options)
    finally:
        file.unlink()


OPTIONS = st.sampled_from([[], ["--partial"], ["--cut"], ["--partial", "--cut", "--json"]])


@fuzzed(data=st.data(), form=st.sampled_from(["lines", "whole"]), how=st.sampled_from(WRAPS), options=OPTIONS)
def test_odd_values_in_any_shape(
    data: st.DataObject, form: str, how: str, options: list[str], bench: Bench, three: Path, tmp_path: Path
):
    good = GOOD[data.draw(st.sampled_from(sorted(GOOD)))]
    _score(bench, three, tmp_path, wrapped(_file(data.draw(changed(good)), form), how), options)


@fuzzed(data=st.data(), form=st.sampled_from(["lines", "whole"]), how=st.sampled_from(WRAPS), options=OPTIONS)
def test_damaged_files_of_any_shape(
    data: st.DataObject, form: str, how: str, options: list[str], bench: Bench, three: Path, tmp_path: Path
):
    good = _file(GOOD[data.draw(st.sampled_from(sorted(GOOD)))], form)
    _score(bench, three, tmp_path, data.draw(damaged(wrapped(good, how))), options)


@fuzzed(data=st.data(), options=OPTIONS)
def test_archives_with_odd_samples(data: st.DataObject, options: list[str], bench: Bench, three: Path, tmp_path: Path):
    packed = _archive(data.draw(changed(SAMPLES)))
    _score(bench, three, tmp_path, data.draw(st.one_of(st.just(packed), damaged(packed))), options, "log.eval")


@fuzzed(text=texts())
def test_answers_of_any_text(text: str, bench: Bench, three: Path, tmp_path: Path):
    rows = [{"task_id": name, "completion": text} for name in RIGHT]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    _score(bench, three, tmp_path, content, [])


@fuzzed(name=texts(), label=texts())
def test_names_of_files_and_labels(name: str, label: str, bench: Bench, three: Path, tmp_path: Path):
    file = tmp_path / "samples.jsonl"
    file.write_bytes(_file(ROWS, "lines"))
    bench.call("score", "--task", three, "--samples", file, "--out", tmp_path / "out", "--sandbox", SANDBOX, f"--name={label}")
    bench.call("score", "--task", three, f"--samples={name}", "--out", tmp_path / "out", "--sandbox", SANDBOX)
