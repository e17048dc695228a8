"""Instructions to text and to tokens: a pair in a chat begins and ends as the model's own answers do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import MockModel
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.errors import DataError, ModelError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.spa import estimate
from spa_bench.spa.batches import encode, pair_ids
from spa_bench.spa.data.reading import Reading
from spa_bench.spa.data.sets import as_pairs, in_template
from spa_bench.spa.data.shapes import Instruction
from spa_bench.spa.data.templates import ALPACA, Template, template_of
from spa_bench.spa.training_data import load_data, read_sources
from spa_bench.types import Decoding, Example, Request

ADD = Instruction((("user", "Add."),), "3")
GIVEN = Instruction((("user", "Add."),), "3", "1 2")
TALK = Instruction((("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Add.")), "3")
BEGIN, CLOSE = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def chat_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a ChatML template, and a tokenizer that puts <s> before a text, as those of Llama do."""
    from tokenizers import AddedToken, Tokenizer, processors
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(tiny_folder, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<s>", BEGIN, CLOSE)])
    first = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[first])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"bos_token": "<s>", "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    network = AutoModelForCausalLM.from_pretrained(folder)
    network.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
    network.generation_config.eos_token_id = [0, tokenizer.token_to_id(CLOSE)]  # as Gemma's: its end token ends no turn
    network.save_pretrained(str(folder))
    return folder


@pytest.fixture
def chat(chat_folder: Path) -> HFModel:
    return HFModel(str(chat_folder), HFOptions(device="cpu", threads=1), name="chatty")


def ids(model: HFModel, text: str) -> list[int]:
    found: list[int] = model.codec.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


# texts ---------------------------------------------------------------------------------------------------------------


def test_alpaca_puts_an_input_earlier_turns_and_what_the_system_said_under_its_headings():
    head = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request.\n\n"
    alpaca = Template("alpaca")
    assert alpaca(ADD) == Example(head.format("") + "### Instruction:\nAdd.\n\n### Response:\n", "3")
    given = head.format(", paired with an input that provides further context")
    assert alpaca(GIVEN).prompt == given + "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    assert alpaca(TALK).prompt == (
        "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nAdd.\n\n### Response:\n"
    )


def test_plain_is_the_text_alone_with_one_newline_at_its_end():
    plain = Template("plain")
    assert plain(ADD) == Example("Add.\n", "3")
    assert plain(GIVEN) == Example("Add.\n\n1 2\n", "3")
    assert plain(TALK) == Example("Be brief.\n\nHi\n\nHello\n\nAdd.\n", "3")
    assert plain(Instruction((("user", "def f():\n"),), "pass")).prompt == "def f():\n"


def test_chat_is_what_the_model_is_asked_with_and_what_closes_its_turn(chat: HFModel):
    pair = Template("chat", chat)(GIVEN)
    assert pair == Example(f"<s>{BEGIN}user\nAdd.\n\n1 2{CLOSE}\n{BEGIN}assistant\n", "3", f"{CLOSE}\n")
    assert (
        Template("chat", chat)(TALK).prompt
        == "<s>" + "".join(f"{BEGIN}{role}\n{text}{CLOSE}\n" for role, text in TALK.turns) + f"{BEGIN}assistant\n"
    )


@pytest.mark.parametrize("name", ["alpaca", "plain"])
def test_pairs_stay_as_they_are_in_every_template_but_chat(name: str, chat: HFModel):
    pair = Example("def f():\n", "    pass\n")
    assert not Template(name).takes(pair)
    assert Template(name)(pair) is pair
    assert template_of("auto", chat)(pair) is pair
    assert not template_of("auto", chat).takes(pair)
    assert template_of("chat", chat)(pair) == Example(
        f"<s>{BEGIN}user\ndef f():\n{CLOSE}\n{BEGIN}assistant\n", "    pass\n", f"{CLOSE}\n"
    )
    assert template_of("chat", chat).takes(pair)


def test_auto_is_the_models_template_where_it_has_one_and_alpacas_elsewhere(chat: HFModel, tiny_model: HFModel):
    assert template_of("auto", chat).name == "chat"
    assert template_of("auto", tiny_model) == template_of("auto", MockModel(str)) == Template("alpaca")
    assert template_of("alpaca", chat) == Template("alpaca")
    assert template_of("plain", chat) == Template("plain")


def test_chat_with_a_model_that_has_no_template_is_one_line(tiny_model: HFModel):
    for model in (tiny_model, MockModel(str)):
        with pytest.raises(ModelError, match=rf"""^data.template is "chat", but model '{model.name}' has no chat template; """):
            template_of("chat", model)


TOOL = Instruction((("tool", "x"), ("user", "Add.")), "3")


def test_turns_that_a_chat_template_refuses_are_an_error_that_names_the_row_and_their_number(chat: HFModel):
    read = Reading([ADD, TOOL, TALK, TOOL], [1, 2, 5, 9], "")
    why = "the chat template of model 'chatty' refuses the messages: no tools"
    told = rf"^row 2 of x.json: {why}; 2 of 4 rows are refused by the template: mend them, leave them out with --set data.unus"
    with pytest.raises(DataError, match=told):
        as_pairs(read, Template("chat", chat), "x.json")
    for unusable in ("refuse", "drop"):
        with pytest.raises(DataError, match=r"1 of 1 rows are refused by the template: mend them, or use data.template = "):
            in_template(Reading([TOOL], [3], ""), Template("chat", chat), "x.json", unusable)


def test_turns_that_a_chat_template_refuses_can_be_left_out_and_are_counted(chat: HFModel):
    read = Reading([TOOL, ADD, TOOL, TALK], [2, 3, 7, 9], "x.json: 9 rows: ...", {"bad": 5})
    template = Template("chat", chat)
    left, pairs = in_template(read, template, "x.json", "drop")
    assert (left.rows, left.numbers) == ([ADD, TALK], [3, 9])
    assert pairs == [template(ADD), template(TALK)]
    assert left.left_out == {"bad": 5, "refused by the chat template": 2}
    assert left.told.startswith(
        "x.json: 9 rows: ...; 2 of 4 rows are refused by the template and left out (the first is row 2: "
    )
    whole = Reading([ADD, TALK], [3, 9], "")
    assert in_template(whole, ALPACA, "x.json", "drop")[0] is whole


def _refused_in_both(folder: Path) -> SamplerCard:
    """A card whose pairs and queries are files in which the chat template refuses every third row."""
    for name, count in (("pairs", 9), ("queries", 6)):
        turns = [[{"role": "user", "content": f"{name} {i}"}, {"role": "assistant", "content": f"{i}"}] for i in range(count)]
        for i in range(0, count, 3):
            turns[i].insert(0, {"role": "system", "content": "Be brief."})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"messages": t}) + "\n" for t in turns))
    data = {"examples": str(folder / "pairs.jsonl"), "queries": str(folder / "queries.jsonl"), "unusable": "drop"}
    return load_sampler_card("spa-influence", {f"data.{key}": value for key, value in data.items()} | {"members": 2})


def test_pairs_and_queries_that_the_template_refuses_are_left_out_together_with_their_numbers(
    chat: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chat.codec.tokenizer, "chat_template", CHATML.replace("'tool'", "'system'"))
    card = _refused_in_both(tmp_path)
    data = load_data(card, chat, 0)
    assert [e.completion for e in data.examples] == ["1", "2", "4", "5", "7", "8"]
    assert [e.completion for e in data.queries] == ["1", "2", "4", "5"]
    assert [line.count("rows are refused by the template and left out") for line in data.told] == [1, 1]
    with pytest.raises(DataError, match=r"pairs.jsonl: .*; 3 of 9 rows are refused by the template: mend them, leave them out"):
        load_data(replace(card, data=replace(card.data, unusable="refuse")), chat, 0)


def test_an_estimate_says_of_all_rows_how_many_the_template_refuses(
    chat: HFModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chat.codec.tokenizer, "chat_template", CHATML.replace("'tool'", "'system'"))
    monkeypatch.setattr(estimate, "_SAMPLE", 1)  # the one of nine is refused
    card = _refused_in_both(tmp_path)
    found = estimate.plan_estimates(card, chat, read_sources(card), scored=True)
    assert [one.stage for one in found] == ["attribution", "training"]
    card = replace(card, data=replace(card.data, unusable="refuse"))
    with pytest.raises(DataError, match=r"pairs.jsonl: .*; 3 of 9 rows are refused by the template: mend them, leave them out"):
        estimate.plan_estimates(card, chat, read_sources(card), scored=True)


def test_a_template_that_writes_the_date_gives_the_same_text_on_every_day(chat: HFModel, monkeypatch: pytest.MonkeyPatch):
    template = "{% if strftime_now is defined %}{% for m in messages %}{{ strftime_now('%d %b %Y, %H:%M') }} {{ m.content }}"
    monkeypatch.setattr(chat.codec.tokenizer, "chat_template", template + "{% endfor %}{% endif %}")
    assert chat.as_chat([("user", "Hi")])[0] == "26 Jul 2024, 00:00 Hi"
    codes = "%-m/%-d/%y %I:%M %p|%F|%T|%A|%B|%Z|%U"
    monkeypatch.setattr(
        chat.codec.tokenizer, "chat_template", f"{{{{ strftime_now('{codes}') }}}}{{{{ messages[0].content }}}}"
    )
    assert chat.as_chat([("user", "Hi")])[0] == "7/26/24 12:00 AM|2024-07-26|00:00:00|Friday|July||29Hi"


# tokens --------------------------------------------------------------------------------------------------------------


def test_a_chat_pair_begins_with_the_tokens_that_the_model_is_asked_with(chat: HFModel):
    pair = Template("chat", chat)(TALK)
    head, _ = pair_ids(chat, pair)
    request = Request(
        problem_id="p", member=0, draw=0, kind="generate", prompt="", decoding=Decoding(), seed=0, messages=TALK.turns
    )
    assert head == chat.codec.before(request)
    first = chat.codec.tokenizer.bos_token_id
    assert head.count(first) == 1
    assert chat.encode_pair(pair.prompt, pair.completion)[0].count(first) == 1  # a text that begins with it gets no second


def test_a_chat_pair_ends_with_the_token_that_ends_an_answer(chat: HFModel):
    _, tail = pair_ids(chat, Template("chat", chat)(ADD))
    assert tail == ids(chat, f"3{CLOSE}")
    assert tail[-1] in chat.codec.ends
    assert tail[-1] != chat.codec.end_token  # which ends a pair outside a chat
    assert pair_ids(chat, Example("Add.", "3"))[1] == [*ids(chat, "3"), chat.codec.end_token]


@pytest.mark.parametrize("closing", ["", "\n[/answer]\n"])
def test_a_template_that_closes_with_no_end_token_gets_the_usual_one(
    closing: str, chat: HFModel, monkeypatch: pytest.MonkeyPatch
):
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}" + closing + "{% endfor %}"
    monkeypatch.setattr(chat.codec.tokenizer, "chat_template", template)
    pair = Template("chat", chat)(ADD)
    assert pair.ending == closing
    assert pair_ids(chat, pair)[1] == [*ids(chat, "3"), chat.codec.end_token]


def test_text_before_the_end_token_of_a_closing_is_learnt_too(chat: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        chat.codec.tokenizer, "chat_template", "{% for m in messages %}{{ m.content }} [end]<|endoftext|>\n\n{% endfor %}"
    )
    assert pair_ids(chat, Template("chat", chat)(ADD))[1] == ids(chat, "3 [end]<|endoftext|>")


def test_an_end_token_inside_a_completion_does_not_end_it(chat: HFModel):
    text = f"say {CLOSE} and go on"
    _, tail = pair_ids(chat, Template("chat", chat)(Instruction(ADD.turns, text)))
    assert tail == ids(chat, text + CLOSE)


def test_the_loss_counts_the_answer_and_its_closing(chat: HFModel):
    [encoded] = encode(chat, [Template("chat", chat)(ADD)], "example")
    assert chat.codec.tokenizer.decode(encoded.ids[encoded.head :]) == f"3{CLOSE}"


def test_a_model_without_a_template_knows_no_chat_pairs(tiny_model: Any):
    with pytest.raises(ModelError, match="has no chat template"):
        tiny_model.as_chat([("user", "Hi")])
