"""Sets of training pairs in every shape and kind of file, with anything in them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from doubles_here import StillModel
from hypothesis import strategies as st
from mutate import WRAPS, as_json, changed, damaged, wrapped
from prop import Bench, fuzzed

TALK = [{"role": "system", "content": "s"}, {"role": "user", "content": "add"}, {"role": "assistant", "content": "a + b"}]
SHAREGPT = [{"from": "human", "value": "add"}, {"from": "gpt", "value": "a + b"}]
ROWS: tuple[dict[str, Any], ...] = (
    {"prompt": "def add(a, b):\n", "completion": "    return a + b\n"},
    {"instruction": "Add.", "input": "a, b", "output": "a + b"},
    {"instruction": "Add.", "response": "a + b", "context": "c", "system": "s", "history": [["q", "a"]]},
    {"problem": "Add.", "solution": "a + b", "lang": "python", "seed": 3},
    {"question": "Add?", "answer": "a + b"},
    {"messages": TALK, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"conversations": SHAREGPT, "system_prompt": "s"},
    {"prompt": "Add.", "chosen": "a + b", "rejected": "a - b"},
    {"chosen": TALK, "rejected": TALK[:2], "prompt": TALK[:2]},
    {"prompt": TALK[:2], "completion": TALK[2:], "label": True},
    {"input": {"messages": TALK[:2]}, "preferred_output": TALK[2:], "non_preferred_output": TALK[2:]},
    {"text": "Human: add\n\nAssistant: a + b"},
)
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".csv.gz")


def _content(rows: Any, ending: str) -> bytes:
    rows = rows if isinstance(rows, list) else [rows]
    if ending.startswith((".csv", ".tsv")):
        text = io.StringIO()
        names = list(dict.fromkeys(str(key) for row in rows if isinstance(row, dict) for key in row)) or ["a"]
        write = csv.writer(text, delimiter="\t" if ending.startswith(".tsv") else ",")
        write.writerow(names)
        write.writerows([row.get(name, "") if isinstance(row, dict) else row for name in names] for row in rows)
        data = text.getvalue().encode("utf-8", "surrogatepass")
    else:
        data = as_json(rows) if ending == ".json" else b"".join(as_json(row) + b"\n" for row in rows)
    return wrapped(data, "gzip") if ending.endswith(".gz") else data


SETTINGS = st.lists(
    st.sampled_from([
        "data.unusable=drop", "data.duplicates=drop", "data.duplicates=refuse", "data.labels=kto", "data.labels=ignore",
        "data.template=chat", "data.template=alpaca", "data.columns.prompt=prompt", "data.columns.messages=messages",
        "data.share=0.5", "data.decontaminate=true",
    ]),
    max_size=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_bench.runs.perform.load_model_for", lambda *_: StillModel())


def _read(bench: Bench, three: Path, tmp_path: Path, content: bytes, ending: str, settings: list[str]) -> None:
    file = tmp_path / f"pairs{ending}"
    file.write_bytes(content)
    given_settings = [word for one in settings for word in ("--set", one)]
    options = ["--out", tmp_path / "out", "--model", "mock", "--limit", 1, "--until", "generate"]
    try:
        bench.call("audit", three, "--data", file, *given_settings)
        bench.call("run", "--sampler", "spa-lexical", "--task", three, "--data", file, *options, *given_settings)
    finally:
        file.unlink()


@fuzzed(data=st.data(), ending=st.sampled_from(ENDINGS), how=st.sampled_from(WRAPS), settings=SETTINGS)
def test_odd_rows_of_any_shape(
    data: st.DataObject, ending: str, how: str, settings: list[str], bench: Bench, three: Path, tmp_path: Path
):
    good = data.draw(st.lists(st.sampled_from(ROWS), min_size=1, max_size=6))
    content = _content(data.draw(changed(good)), ending)
    _read(bench, three, tmp_path, wrapped(content, how) if not ending.endswith(".gz") else content, ending, settings)


@fuzzed(data=st.data(), ending=st.sampled_from(ENDINGS), settings=SETTINGS)
def test_damaged_files_of_any_kind(
    data: st.DataObject, ending: str, settings: list[str], bench: Bench, three: Path, tmp_path: Path
):
    good = data.draw(st.lists(st.sampled_from(ROWS), min_size=1, max_size=6))
    _read(bench, three, tmp_path, data.draw(damaged(_content(good, ending))), ending, settings)


@fuzzed(data=st.data())
def test_damaged_parquet(data: st.DataObject, bench: Bench, three: Path, tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    written = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist([dict(ROWS[0]), dict(ROWS[0], prompt="def f():\n")]), written)
    _read(bench, three, tmp_path, data.draw(damaged(written.getvalue())), ".parquet", [])
