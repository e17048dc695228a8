"""How models are asked and what is made of their answers: as evalplus 0.3.1 does both."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, Call, MockModel, mock_run
from spa_bench.cards.task import INSTRUCTION, RESPONSE, load_task_card
from spa_bench.errors import CardError, DataError, ModelError
from spa_bench.models.chat import chat_text
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.runs.divergence import measure_divergence
from spa_bench.runs.folder import open_run
from spa_bench.runs.job import load_task
from spa_bench.tasks.code import CodeTask
from spa_bench.types import Completion, Decoding, Key, Member, Request

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'].strip() }}{{ eos_token }}{% endif %}{% endfor %}"
)
STARCODER = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}### Instruction\n{{ m['content'] }}\n\n"
    "{% else %}### Response\n{{ m['content'] }}<|endoftext|>{% endif %}{% endfor %}"
)
HUMANEVALS = ("humaneval", "humaneval-plus")
SHIPPED = (*HUMANEVALS, "mbpp", "mbpp-plus")


@pytest.fixture(scope="module")
def rows_of(data: Path) -> dict[str, CodeTask]:
    """HumanEval+ and MBPP+, loaded once."""
    pytest.importorskip("evalplus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPA_BENCH_DATA", str(data))
        return {name: loaded(name) for name in ("humaneval-plus", "mbpp-plus")}


def other(task: CodeTask, **settings: Any) -> CodeTask:
    """The same problems by another card."""
    return CodeTask(load_task_card(task.name, settings), task.problems, task.found)


@pytest.fixture(scope="module")
def chat_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template that begins with its own special token."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(tiny_folder, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "bos_token": "<|endoftext|>", "chat_template": CHATML})
    )
    return folder


@pytest.fixture
def chat(chat_folder: Path) -> HFModel:
    return HFModel(str(chat_folder), HFOptions(device="cpu", threads=1), name="chatty")


def loaded(name: str, **settings: Any) -> CodeTask:
    task = load_task(load_task_card(name, settings))
    assert isinstance(task, CodeTask)
    return task


# as evalplus asks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_stop_strings_and_length_are_evalplus_own(name: str):
    utility = pytest.importorskip("evalplus.provider.utility")
    from evalplus.provider.base import DecoderBase

    card = load_task_card(name)
    ends = utility.EOS[:6]  # evalplus appends to the list itself when it loads a model
    dataset = "humaneval" if name in HUMANEVALS else "mbpp"
    assert list(card.stop) == [*ends, *utility.extra_eos_for_direct_completion(dataset)]
    assert list(card.stop_instruct) == [*ends, "\n```\n"]
    assert card.max_new_tokens == inspect.signature(DecoderBase.__init__).parameters["max_new_tokens"].default == 768


@pytest.mark.parametrize("name", ["humaneval-plus", "mbpp-plus"])
def test_a_base_model_is_asked_what_evalplus_asks(name: str, rows_of: dict[str, CodeTask]):
    task = rows_of[name]
    assert [p.text for p in task.prompts(None)] == [p.prompt.strip() + "\n" for p in task.problems]
    assert not any(p.messages for p in task.prompts(None))
    assert {p.stop for p in task.prompts(None)} == {load_task_card(name).stop}
    raw = other(task, strip_prompt=False)
    assert [p.text for p in raw.prompts(None)] == [p.prompt for p in raw.problems]


@pytest.mark.parametrize("template", [CHATML, LLAMA, MISTRAL, STARCODER])
@pytest.mark.parametrize("name", ["humaneval-plus", "mbpp-plus"])
def test_an_instruct_model_is_asked_what_evalplus_asks(
    name: str, template: str, rows_of: dict[str, CodeTask], tiny_model: HFModel
):
    from evalplus import codegen
    from evalplus.provider.utility import make_raw_chat_prompt

    begin, answer = INSTRUCTION.partition("\n```")[0], RESPONSE.partition("\n```")[0]
    source = inspect.getsource(codegen.run_codegen)
    assert f'instruction_prefix = "{begin}"' in source
    assert f'response_prefix = "{answer}"' in source
    tokenizer = tiny_model.codec.tokenizer.__class__.from_pretrained(tiny_model.path)
    tokenizer.chat_template, tokenizer.bos_token = template, "<s>"
    task = other(rows_of[name], prompt="instruct")
    for problem, prompt in zip(task.problems, task.prompts(30), strict=False):
        theirs = make_raw_chat_prompt(problem.prompt.strip() + "\n", begin, answer, tokenizer)
        assert chat_text(tokenizer, "tiny", prompt.messages) == theirs
        assert prompt.stop == load_task_card(name).stop_instruct


def test_what_is_asked_is_a_matter_of_the_card(rows_of: dict[str, CodeTask]):
    task = rows_of["humaneval-plus"]
    words = {"instruction": "Solve:\n{prompt}", "response": "Here:\n"}
    [prompt, *_] = other(task, prompt="instruct", **words).prompts(1)
    assert prompt.messages[0][1].startswith("Solve:\nfrom typing import List")
    assert prompt.messages[1] == ("assistant", "Here:\n")
    assert other(task, prompt="instruct", **words).describe()["response"] == "Here:\n"
    assert "response" not in other(task, **words).describe()  # plays no part


def test_a_template_that_drops_the_beginning_of_an_answer_is_an_error(chat: HFModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chat.codec.tokenizer, "chat_template", "{{ messages[0].content }}")
    with pytest.raises(ModelError, match="it drops the last message"):
        chat.codec.prompt((("user", "a"), ("assistant", "b")))


def test_the_template_writes_the_special_tokens_and_nobody_else_does(chat: HFModel):
    text = "<|endoftext|><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"
    ids = chat.codec.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert chat.codec.prompt((("user", "a"), ("assistant", "b"))) == ids


# as evalplus sanitises -----------------------------------------------------------------------------------------------

DEAD = "def unused():\n    return 1\n"
REPLY = f"import re\nimport os\n{DEAD}\ndef helper(x):\n\treturn x\n\ndef f(x):\n\treturn helper(x)\n"


def answered(task: CodeTask, text: str, problem: str, **changes: Any) -> Any:
    return task.record(Completion(key=Key(problem, 0, 0), text=text, tokens=1, finish="stop", seed=0, **changes))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A card of one problem f, sanitised by evalplus."""
    pytest.importorskip("evalplus")
    row = {"task_id": "f", "prompt": 'def f(x):\n    """Return x."""\n', "entry_point": "f", "test": "def check(c): pass"}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    card = tmp_path / "f.toml"
    card.write_text(
        'description = "one"\nfile = "f.jsonl"\nsanitiser = "evalplus"\nstop = ["\\n#"]\nstop_instruct = ["\\n```\\n"]\n'
    )
    return card


def test_a_reply_keeps_imports_and_what_the_entry_point_needs(rows: Path):
    task = loaded(str(rows), prompt="instruct")
    record = answered(task, REPLY + "\n```\nThis function\n# returns x", "f")
    wanted = "import re\nimport os\ndef helper(x):\n    return x\ndef f(x):\n    return helper(x)"
    assert (record.graded, record.whole, record.raw[:9]) == (wanted, True, "import re")
    assert task.program(record) == wanted
    as_it_is = loaded(str(rows), prompt="instruct", sanitiser="stop")
    record = answered(as_it_is, REPLY + "\n```\nThis", "f")
    assert (record.graded, record.whole) == (REPLY.rstrip(), True)


def test_an_answer_that_goes_on_from_the_prompt_is_kept_without_it(rows: Path):
    task = loaded(str(rows))
    record = answered(task, "    y = x\n    return y\n# end", "f")
    assert (record.graded, record.whole) == ("    y = x\n    return y", False)
    record = answered(task, f"    return helper(x)\n{DEAD}def helper(x):\n    return x\n", "f")
    assert (record.graded, record.whole) == ("    return helper(x)\ndef helper(x):\n    return x", False)


def test_a_broken_end_is_left_out(rows: Path):
    record = answered(loaded(str(rows)), "    return x\n\nprint(f(", "f")
    assert record.graded == "    return x"
    assert "print" in answered(loaded(str(rows), sanitiser="stop"), "    return x\n\nprint(f(", "f").graded


def test_half_a_character_which_ends_evalplus_is_graded_as_it_is(rows: Path):
    task = loaded(str(rows))
    text = "    return '\ud800'"
    assert task.program(answered(task, text, "f")).endswith(text)


def test_failures_and_empty_answers_stay_what_they_are(rows: Path):
    task = loaded(str(rows))
    assert answered(task, " \n", "f").graded == ""
    assert answered(task, "", "f", failure="out of memory").failure == "out of memory"
    assert answered(task, f"{REPLY}\n", "f", whole=True).graded.startswith("import re")


def test_programs_are_those_of_evalplus_codegen(rows_of: dict[str, CodeTask], data: Path):
    """On raw samples of a model, cut, sanitised and put behind the prompt as evalplus.codegen does it."""
    from evalplus.sanitize import sanitize

    task = other(rows_of["humaneval-plus"], sanitiser="evalplus")
    [path] = (data / "generations" / "starcoder2-15b-instruct").glob("*humaneval.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()][::16]
    for row in rows:
        problem = next(p for p in task.problems if p.id == row["task_id"])
        text = row["completion"] + "\n\n# a remark\nunused = 1\nprint(unused)\n"
        prompt = problem.prompt.strip() + "\n"
        ends = [place for stop in load_task_card("humaneval-plus").stop if (place := text.find(stop)) >= 0]
        theirs = sanitize(prompt + text[: min([10000, *ends])].replace("\t", "    "), entrypoint=problem.entry_point)
        assert task.program(answered(task, text, problem.id)) == theirs


def test_without_evalplus_its_sanitiser_is_missed_before_anything_is_drawn(rows: Path, monkeypatch: pytest.MonkeyPatch):
    task = loaded(str(rows))
    for name in [n for n in sys.modules if n == "evalplus" or n.startswith("evalplus.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evalplus", None)
    with pytest.raises(DataError, match=r"pip install 'spa-bench\[evalplus\]', or --set task\.sanitiser=program"):
        task.prompts(1)


# in a run ------------------------------------------------------------------------------------------------------------


def test_messages_reach_every_kind_of_request(three: Path, sandbox: Any, tmp_path: Path):
    three.write_text(three.read_text() + 'prompt = "instruct"\n')
    seen: list[Request] = []
    answers = {k: f"def {k.split('/')[1]}(a=0, b=0, x=0, xs=0):\n{v}" for k, v in RIGHT.items()}

    def answer(request: Request) -> str:
        seen.append(request)
        return answers[request.problem_id]

    folder = mock_run(tmp_path / "runs", three, MockModel(answer))
    assert {r.messages[1] for r in seen} == {("assistant", RESPONSE)}
    assert all(r.whole and r.graded.startswith("def ") for r in folder.record_log.rows())


def test_a_run_of_an_instruct_card_asks_in_chat(run: Call, three: Path, chat_folder: Path, tmp_path: Path, tiny_folder: Path):
    settings = ["--set", "task.prompt=instruct", "--noise-floor", "yes"]
    done = run("--n", 2, "--model", chat_folder, *settings, "--until", "generate", "--json")
    assert done.code == 0, done.err
    [path] = json.loads(done.out)
    folder = open_run(Path(path))
    assert folder.spec["task"]["prompt"] == "instruct"
    assert folder.spec["task"]["response"] == RESPONSE
    texts = {r.raw for r in folder.record_log.rows()}
    plain = run("--n", 2, "--model", chat_folder, "--until", "generate", "--json", "--out", tmp_path / "plain")
    assert texts != {r.raw for r in open_run(Path(json.loads(plain.out)[0])).record_log.rows()}
    assert folder.divergence_log.rows()[0].tokens > 0
    # without a template: one line, and nothing is made
    message = run("--n", 2, *settings, "--out", tmp_path / "none").error()
    assert message.startswith(f"model '{tiny_folder}' has no chat template")
    assert "--set task.prompt=completion" in message
    assert not (tmp_path / "none").exists()


def test_divergence_is_measured_where_the_model_is_asked(three: Path, chat: HFModel):
    task = load_task(load_task_card(str(three), {"prompt": "instruct"}))
    members = [Member(f"m{i}", None, Decoding()) for i in range(2)]
    asked = {p.problem_id: p for p in task.prompts(None)}
    [row, *_] = measure_divergence(task.problems, chat, members, (), asked=asked)
    problem = task.problems[0]
    assert row.tokens == len(chat.encode_pair("", problem.prompt + problem.reference)[1])
    [plain, *_] = measure_divergence(task.problems, chat, members, ())
    assert plain.tokens == len(chat.encode_pair("", problem.reference)[1])
    [one] = chat.next_token_logprobs([(asked[problem.id].messages, "x")], members[:1])
    text = chat_text(chat.codec.tokenizer, "chatty", asked[problem.id].messages)
    [other] = chat.next_token_logprobs([(text, "x")], members[:1])  # this tokenizer puts nothing in front
    assert (one == other).all()


# cards that cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "chat"}, "prompt"),
        ({"sanitiser": "evalplsu"}, "did you mean 'evalplus'"),
        ({"instruction": "Solve it."}, "instruction has no {prompt}"),
        ({"sha256": "123"}, "sha256 is '123'; it must be 64 hexadecimal digits, or empty for any data"),
        ({"sha256": ["1" * 64, "x"]}, "sha256 is 'x'"),
    ],
)
def test_a_card_that_cannot_be_is_one_line(settings: dict[str, object], message: str):
    with pytest.raises(CardError) as caught:
        load_task_card("humaneval", settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
