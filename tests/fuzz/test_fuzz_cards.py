"""Cards of samplers and tasks, and the problems behind them, with anything in them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from doubles_here import StillJudge, StillModel
from hypothesis import strategies as st
from mutate import WRAPS, as_json, as_toml, changed, damaged, wrapped
from prop import Bench, fuzzed

from doubles import SANDBOX
from spa_bench.cards.reading import cards_folder
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.task import TaskCard

SAMPLERS = {path.stem: path.read_bytes() for path in sorted(cards_folder("baselines").glob("*.toml"))}
TASKS = {path.stem: path.read_bytes() for path in sorted(cards_folder("tasks").glob("*.toml"))}


def _full(card: Any, **others: Any) -> dict[str, Any]:
    content = {k: v for k, v in dataclasses.asdict(card).items() if k != "options"}
    plain: dict[str, Any] = json.loads(json.dumps({**content, **others}))
    return {key: value for key, value in plain.items() if value is not None}


SMALL = {"lora": {"steps": 1}, "data": {"examples": "mini", "queries": "mini"}}
FULL = (
    _full(SamplerCard(name="a", description="{members}")),
    _full(SamplerCard(name="b", description="", members=2, adapters="parts"), attribution={"method": "random"}),
    _full(SamplerCard(name="c", description="", members=2, adapters="seeds")),
    {"description": "", "kind": "oversample-mmr", "options": {"pool": 6, "trade_off": 0.5}},
    {"description": "", "kind": "one-reply"},
    {
        "description": "",
        "kind": "verbalized",
        "options": {"answers": 2, "turns": 2, "draw": "tail", "template": "{prompt} {n}"},
    },
    {"description": "", "kind": "plan-search", "options": {"observations": 2, "size": 2, "program": "code\n"}},
    {"description": "", "kind": "self-moa", "options": {"drafts": 3, "window": 2, "sequential": True, "reserved": 1}},
    {"description": "", "kind": "personas", "options": {"form": "paraphrases", "personas": "personas"}},
    {"description": "", "kind": "diverse-beam"},
)
TASK = _full(TaskCard(name="t", description="", file="three.jsonl", max_new_tokens=12))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_bench.runs.perform.load_model_for", lambda *_: StillModel())
    monkeypatch.setattr("spa_bench.runs.grade.make_judge", lambda *_: StillJudge())


def _run(bench: Bench, tmp_path: Path, sampler: object, task: object) -> None:
    options = ["--model", "mock", "--limit", 1, "--until", "generate", "--out", tmp_path / "out"]
    bench.call("run", "--sampler", sampler, "--task", task, *options)


@fuzzed(content=st.sampled_from(FULL).flatmap(changed))
def test_a_sampler_card_with_odd_values(content: Any, bench: Bench, three: Path, tmp_path: Path, still: None):
    card = tmp_path / "card.toml"
    card.write_text(as_toml(content if isinstance(content, dict) else {"name": content}))
    _run(bench, tmp_path, card, three)


@fuzzed(content=st.sampled_from(sorted(SAMPLERS)).flatmap(lambda name: damaged(SAMPLERS[name])))
def test_a_damaged_sampler_card(content: bytes, bench: Bench, three: Path, tmp_path: Path, still: None):
    card = tmp_path / "card.toml"
    card.write_bytes(content)
    _run(bench, tmp_path, card, three)


@fuzzed(content=changed(TASK))
def test_a_task_card_with_odd_values(content: Any, bench: Bench, three: Path, tmp_path: Path, still: None):
    card = tmp_path / "task.toml"
    card.write_text(as_toml(content if isinstance(content, dict) else {"name": content}))
    _run(bench, tmp_path, "base", card)


@fuzzed(content=st.sampled_from(sorted(TASKS)).flatmap(lambda name: damaged(TASKS[name])))
def test_a_damaged_task_card(content: bytes, bench: Bench, tmp_path: Path, still: None):
    card = tmp_path / "task.toml"
    card.write_bytes(content)
    _run(bench, tmp_path, "base", card)


@fuzzed(data=st.data(), how=st.sampled_from(WRAPS))
def test_odd_problems(data: st.DataObject, how: str, bench: Bench, three: Path, tmp_path: Path, still: None):
    rows = [json.loads(line) for line in (tmp_path / "three.jsonl").read_text().splitlines()]
    odd = data.draw(changed(rows))
    content = b"\n".join(map(as_json, odd if isinstance(odd, list) else [odd]))
    (tmp_path / "odd.jsonl").write_bytes(wrapped(data.draw(st.one_of(st.just(content), damaged(content))), how))
    card = tmp_path / "task.toml"
    card.write_text(three.read_text().replace("three.jsonl", "odd.jsonl"))
    bench.call(
        "run", "--sampler", "base", "--task", card, "--model", "mock", "--out", tmp_path / "out", "--n", 2, "--sandbox", SANDBOX
    )
