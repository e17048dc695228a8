"""Chat where the tokenizer puts a beginning-of-text in front and the template writes it too: tokens as lm-eval has them."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from spa_bench.models.hf import HFModel, HFOptions
from spa_bench.types import Asked

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
    return HFModel(str(folder), HFOptions("cpu", "float32", None, 1))


def test_a_prompt_that_the_template_wrote_has_one_beginning(ours: HFModel, theirs: Any):
    text = ours.as_chat([(turn["role"], turn["content"]) for turn in TURNS])[0]
    assert text == theirs.apply_chat_template(TURNS)
    assert text.startswith(BEGIN)
    ids = ours.encode_prompt(text)
    assert ids == theirs.tok_batch_encode([text])[0][0].tolist()
    assert ids.count(ids[0]) == 1


def test_a_prompt_without_one_gets_one(ours: HFModel, theirs: Any):
    ids = ours.encode_prompt("Is 6 even?")
    assert ids == theirs.tok_batch_encode(["Is 6 even?"])[0][0].tolist()
    assert ids == ours.encode_prompt(BEGIN + "Is 6 even?")


@pytest.mark.parametrize("chat", [True, False])
def test_options_have_lm_evals_log_probabilities(chat: bool, ours: HFModel, theirs: Any):
    from lm_eval.api.instance import Instance

    from spa_bench.types import Decoding, Member

    context = theirs.apply_chat_template(TURNS) if chat else "Is 6 even?"
    pairs = ((context, " yes"), (context, " no"))
    [found] = ours.option_scores([Asked("p", pairs, 2, False)], [Member("m", None, Decoding())])
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    assert found.logprobs[0].tolist() == pytest.approx([e[0] for e in expected], abs=2e-5)
    assert found.greedy[0].tolist() == [bool(e[1]) for e in expected]
