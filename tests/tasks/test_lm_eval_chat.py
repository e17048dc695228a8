"""Chat where the tokenizer puts a beginning-of-text in front and the template writes it too: tokens as lm-eval has them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, Lines, sampler_card
from nlu_reference import define
from spa_bench.cards.task import load_task_card
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.reopen import task_of
from spa_bench.tasks.lm_eval.task import template_of
from spa_bench.types import Asked, Decoding, Member

if find_spec("lm_eval") is None:
    pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'", allow_module_level=True)

BEGIN = "<|endoftext|>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is 6 even?"}]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a tokenizer of that kind."""
    made = tmp_path_factory.mktemp("begins") / "model"
    shutil.copytree(tiny_folder, made)
    content = json.loads((made / "tokenizer.json").read_text())
    number = next(t["id"] for t in content["added_tokens"] if t["content"] == BEGIN)
    begin, text = {"SpecialToken": {"id": BEGIN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    special = {BEGIN: {"id": BEGIN, "ids": [number], "tokens": [BEGIN]}}
    content["post_processor"] = {
        "type": "TemplateProcessing", "single": [begin, text], "pair": [begin, text, other], "special_tokens": special,
    }  # fmt: skip
    (made / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((made / "tokenizer_config.json").read_text())
    (made / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": BEGIN, "chat_template": TEMPLATE}))
    return made


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)


@pytest.fixture(scope="module")
def ours(folder: Path) -> HFModel:
    return HFModel(str(folder), HFOptions(device="cpu", dtype="float32", batch_size=None, threads=1))


def test_a_prompt_that_the_template_wrote_has_one_beginning(ours: HFModel, theirs: Any):
    text = ours.as_chat([(turn["role"], turn["content"]) for turn in TURNS])[0]
    assert text == theirs.apply_chat_template(TURNS)
    assert text.startswith(BEGIN)
    ids = ours.codec.prompt(text)
    assert ids == theirs.tok_batch_encode([text])[0][0].tolist()
    assert ids.count(ids[0]) == 1


@pytest.mark.parametrize("begun", ["So:", "So: ", " So"])
def test_an_answer_that_is_begun_stands_where_the_template_writes_answers(begun: str, ours: HFModel, theirs: Any):
    history = [*TURNS, {"role": "assistant", "content": begun}]
    text = template_of(ours)(history)
    assert text == theirs.apply_chat_template(history, add_generation_prompt=False)
    assert text.endswith(f"[assistant] {begun}")


def test_a_prompt_without_one_gets_one(ours: HFModel, theirs: Any):
    ids = ours.codec.prompt("Is 6 even?")
    assert ids == theirs.tok_batch_encode(["Is 6 even?"])[0][0].tolist()
    assert ids == ours.codec.prompt(BEGIN + "Is 6 even?")


@pytest.mark.parametrize("chat", [True, False])
def test_options_have_lm_evals_log_probabilities(chat: bool, ours: HFModel, theirs: Any):
    from lm_eval.api.instance import Instance

    context = theirs.apply_chat_template(TURNS) if chat else "Is 6 even?"
    pairs = ((context, " yes"), (context, " no"))
    [found] = ours.option_scores([Asked("p", pairs, 2, False)], [Member("m", None, Decoding())])
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    assert found.logprobs[0].tolist() == pytest.approx([e[0] for e in expected], abs=2e-5)
    assert found.greedy[0].tolist() == [bool(e[1]) for e in expected]


CHOICE = {
    "output_type": "multiple_choice", "doc_to_text": "{{text}}", "doc_to_choice": ["red", "green"], "doc_to_target": "answer",
}  # fmt: skip
ONE_TEXT = {"output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": " {{answer}}"}
WRITTEN = {
    "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{answer}}",
    "generation_kwargs": {"max_gen_toks": 4, "until": ["\n"]},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}  # fmt: skip


@pytest.fixture(scope="module")
def asked_in_chat(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A graded run through a chat template: a choice, one right text, and a written answer."""
    place = tmp_path_factory.mktemp("chat")
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"Flag {i} is", "answer": i}) + "\n" for i in range(2)))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(place / "cache")}}
    metric = {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
    for name, content in (("flags", CHOICE), ("words", ONE_TEXT), ("texts", WRITTEN)):
        define(place / "yaml", name, {"task": name, "test_split": "test", **data, **metric, **content})
    define(place / "yaml", "all", {"group": "all", "task": ["flags", "words", "texts"]})
    card = load_task_card("lm-eval:all", {"options.include": str(place / "yaml"), "options.chat": True})
    task, model, n = (
        load_task(card),
        HFModel(str(folder), HFOptions(device="cpu", dtype="float32", batch_size=None, threads=1)),
        2,
    )
    job = Job(sampler=sampler_card(), task=card, n=n, seed=0)
    made = generate(job, task, model, out=place / "runs", cache=place / "stages", console=Lines())
    grade(made, load_task(card), Lines(), sandbox=None, workers=1)
    return made


def test_a_chat_run_is_verified_and_shown_without_its_model(asked_in_chat: RunFolder, call: Call):
    assert call("verify", asked_in_chat.path).out == f"{asked_in_chat.path}: whole\n"
    listed = call("show", asked_in_chat.path)
    assert listed.code == 0
    for problem in ("flags/1", "words/0", "texts/0"):
        shown = call("show", asked_in_chat.path, "--problem", problem)
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.startswith(f"Flag {problem[-1]} is")
    options = [line.split()[:2] for line in call("show", asked_in_chat.path, "--problem", "flags/1").out.splitlines()]
    assert ["0", "red"] in options
    assert ["1", "green"] in options


def test_a_chat_run_is_asked_through_the_template_of_its_model(asked_in_chat: RunFolder, ours: HFModel):
    task = task_of(asked_in_chat)
    asking = task.asked_by(ours, None)
    assert {one.problem_id for one in asking.asked} == {"flags/0", "flags/1", "words/0", "words/1"}
    assert all(context.startswith(BEGIN) for one in asking.asked for context, _ in one.options)
    rows = {c.problem: c.logprobs[0] for c in asked_in_chat.choice_log.rows()}
    for scores in ours.option_scores(asking.asked, [Member("m", None, Decoding())]):
        assert rows[scores.problem] == pytest.approx(scores.logprobs[0].tolist(), abs=1e-5)


def test_a_choice_that_is_not_what_a_chat_run_measured_is_found(asked_in_chat: RunFolder, tmp_path: Path, call: Call):
    shutil.copytree(asked_in_chat.path, tmp_path / asked_in_chat.path.name)
    copy = RunFolder(tmp_path / asked_in_chat.path.name, asked_in_chat.spec)
    rows = copy.record_log.rows()
    (copy.path / "records.jsonl").unlink()
    copy.record_log.append([replace(r, choice=1 - r.choice) if r.problem == "flags/0" else r for r in rows])
    found = call("verify", copy.path)
    assert found.code == 1
    assert "the choice of flags/0, member 0, draw 0 is" in found.out
