"""lm-eval itself on a small model, and ours asked without a run: what parity tests compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from spa_bench.cards.task import load_task_card
from spa_bench.runs.job import load_task
from spa_bench.samplers.mixture import Mixture
from spa_bench.tasks.base import Asking
from spa_bench.tasks.lm_eval.library import quiet
from spa_bench.tasks.lm_eval.task import LmEvalTask
from spa_bench.types import Choices, Decoding, Member, Record


def shipped(place: str) -> Path:
    """A definition of lm-eval's own."""
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent / place


def define(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """A definition of a task or group, as JSON, which is YAML too."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(json.dumps(content))


def with_files(folder: Path, place: str, name: str, files: Mapping[str, Path], **changes: Any) -> None:
    """lm-eval's own task at `place`, reading `files` by datasets' own reader instead of the hub."""
    kind = {".jsonl": "json", ".csv": "csv"}[next(iter(files.values())).suffix]
    own = {"data_files": {split: str(path) for split, path in files.items()}, "cache_dir": str(folder / "cache")}
    own_keys = {"include": str(shipped(place)), "task": name, "dataset_path": kind, "dataset_name": None, "dataset_kwargs": own}
    define(folder, name, {**own_keys, **changes})


@dataclass(frozen=True)
class Reference:
    """What lm-eval says with its own model class."""

    results: dict[str, dict[str, Any]]  # {task or group: {"acc,none": value, ...}}
    samples: dict[str, list[dict[str, Any]]]  # by task, of its first filter: arguments, resps, filtered_resps a document


def reference(folder: Path, name: str, model: Path, **settings: Any) -> Reference:
    """lm-eval's own evaluation of the model in a folder, with the definitions in another."""
    with quiet():
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        found = simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32"},
            device="cpu",
            batch_size=4,
            tasks=[name],
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            **settings,
        )
    results = {task: {k: v for k, v in row.items() if "," in k} for task, row in found["results"].items()}
    samples = {task: [s for s in rows if s["filter"] == rows[0]["filter"]] for task, rows in found["samples"].items()}
    return Reference(results, samples)


def task_of(name: str, *, card: Mapping[str, Any] | None = None, **options: Any) -> LmEvalTask:
    """Our task of that card with those options; `card` sets other keys of it."""
    settings = {**(card or {}), **{f"options.{key}": _toml(value) for key, value in options.items()}}
    task = load_task(load_task_card(name, settings))
    assert isinstance(task, LmEvalTask)
    return task


def _toml(value: Any) -> Any:
    return [str(v) for v in value] if isinstance(value, list) else str(value) if isinstance(value, Path) else value


class Answers(NamedTuple):
    """What one member answers to what it was asked."""

    asking: Asking
    records: list[Record]
    choices: list[Choices]


def answered(task: LmEvalTask, model: Any) -> Answers:
    """What one greedy member without an adapter answers: every option scored as lm-eval tokenises it, every text drawn."""
    asking = task.asked_by(model, None)
    choices = [_row(model, asked) for asked in asking.asked]
    known = {c.problem: int(np.argmax(c.logprobs[0])) for c in choices}
    records = [
        Record(problem=place, member=0, draw=0, raw="", graded="", finish="stop", tokens=1, seed=0, choice=best)
        for place, best in known.items()
    ]
    prompts = [p for p in asking.prompts if p.problem_id not in known]
    sampler = Mixture("base", [Member("base", None, Decoding())])
    records += [task.record(c) for c in sampler.sample(model, prompts, 1, 0, task=task.name)]
    return Answers(asking, records, choices)


def _row(model: Any, asked: Any) -> Choices:
    scored = [_scored(model, context, text, asked.cut) for context, text in asked.options]
    return Choices(
        problem=asked.problem_id,
        logprobs=[[s[0] for s in scored]],
        greedy=[[s[1] for s in scored]],
        tokens=[s[2] for s in scored],
        matrices={},
        members={"entropy[first]": [0]},
    )


def _scored(model: Any, context: str, text: str, cut: bool) -> tuple[float, bool, int]:
    """(log-probability, greedy, tokens): TemplateLM._encode_pair and HFLM._loglikelihood_tokens, a row at a time."""
    import torch

    bare = context.rstrip()
    text, context = context[len(bare) :] + text, bare
    head = model.codec.tokenizer(context)["input_ids"] if context else [model.codec.end_token]
    tail = model.codec.tokenizer(context + text)["input_ids"][len(head) if context else 0 :]
    ids = (head + tail)[-(model.context + 1) :] if cut else head + tail
    with torch.inference_mode():
        table = model.network(torch.tensor([ids[:-1]])).logits[0, -len(tail) :].log_softmax(-1)
    right = torch.tensor(tail)
    return float(table.gather(1, right[:, None]).sum()), bool((table.argmax(-1) == right).all()), len(tail)


def assert_same(task: LmEvalTask, answers: Answers, theirs: Reference) -> dict[str, Any]:
    """What was asked is what lm-eval asked, each text its text, each number its number to the last digit. Our numbers.

    Where lm-eval has no number ("N/A") ours is None.
    """
    records, choices = {r.problem: r for r in answers.records}, {c.problem: c for c in answers.choices}
    asked = {a.problem_id: a.options for a in answers.asking.asked}
    prompts = {p.problem_id: p for p in answers.asking.prompts}
    seen = 0
    for name, rows in theirs.samples.items():
        for row in rows:
            place = f"{name}/{row['doc_id']}"
            if place in asked:
                assert [list(pair) for pair in asked[place]] == [list(a) for a in row["arguments"]]
                assert choices[place].logprobs[0] == pytest.approx([r[0][0] for r in row["resps"]], abs=1e-3)
            else:
                assert row["arguments"][0][0].endswith(prompts[place].text)
                assert records[place].graded == row["resps"][0][0]
            seen += 1
    assert seen == len(task.problems)
    ours = scores(task, answers)
    for name, values in theirs.results.items():
        for key, value in values.items():
            assert ours[name][key] == (None if value == "N/A" else value), (name, key)
    assert {name for name, values in theirs.results.items() if values} <= set(ours)  # ours may have groups in between
    return ours


def scores(task: LmEvalTask, answers: Answers) -> dict[str, Any]:
    """What lm-eval says of the one member."""
    found = task.own_scores(answers.records, answers.choices, 1, 1)
    assert found is not None
    only: dict[str, Any] = found["members"][0]
    return only
