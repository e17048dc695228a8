"""Engines of a run: chosen by name and stage, named in the spec, and another one that draws changes nothing that is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import SANDBOX, Call, MockModel
from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.registry import known
from spa_bench.cards.source import source_hash
from spa_bench.errors import UsageError
from spa_bench.models.engine import STAGES
from spa_bench.models.mock import MockModel as DryModel
from spa_bench.models.mock import MockOptions, Reply, read_replies
from spa_bench.runs.engines import Chosen, chosen_engine, engine_of_spec
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.job import crowded
from spa_bench.tasks.base import Asking
from spa_bench.types import Asked, Decoding, Member, Prompt, Request

OTHER = "other_engine:KIND"
SMALL = ("--set", "lora.steps=1", "--set", "lora.batch=2", "--set", "data.examples=mini", "--set", "data.share=0.05")


def folders(out: Path) -> list[RunFolder]:
    return [open_run(spec.parent) for spec in sorted(out.glob("*/spec.json"))]


# choosing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "hf", "draw=hf", "train=hf,draw=hf"])
def test_the_usual_engine_has_no_place_in_a_spec(text: str | None):
    assert chosen_engine(text, {}) == Chosen()
    assert chosen_engine(text, {}).spec() == {}


def test_an_engine_has_stages_and_options_and_comes_back_from_a_spec():
    chosen = chosen_engine(OTHER, {"size": 3})
    assert chosen.stages == ("draw", "score")
    assert chosen.spec() == {"name": OTHER, "stages": ["draw", "score"], "options": {"size": 3}}
    assert engine_of_spec({"engine": chosen.spec()}) == chosen
    assert engine_of_spec({}) == Chosen()
    assert chosen_engine(f"draw={OTHER},score=hf", {}).spec() == {"name": OTHER, "stages": ["draw"], "options": {}}


def test_options_of_hf_have_a_place_in_a_spec_where_they_are_not_as_usual():
    settings = {"placement": "layers", "max_memory": "cpu=1GiB"}
    assert chosen_engine("draw=hf", settings).spec() == {"name": "hf", "stages": [], "options": settings}
    assert engine_of_spec({"engine": chosen_engine(None, settings).spec()}) == chosen_engine("hf", settings)
    assert chosen_engine(None, {"quantize": "none", "placement": "one"}).spec() == {}


def test_options_beside_a_spec_come_to_those_in_it():
    chosen = chosen_engine("vllm", {"max_num_seqs": 8})
    again = engine_of_spec({"engine": chosen.spec()}, {"base_url": "http://host:8000"})
    assert again == chosen_engine("vllm", {"max_num_seqs": 8, "base_url": "http://host:8000"})
    assert again.spec() == chosen.spec()
    for spec, key in (({"engine": chosen.spec()}, "max_num_seqs"), ({}, "placement")):
        with pytest.raises(UsageError, match=rf"^engine\.{key} is in the run's spec, which stays as it is"):
            engine_of_spec(spec, {key: 8})


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("vlm", {}, r"^unknown engine 'vlm'"),
        ("mok", {}, r"^unknown engine 'mok'; did you mean 'mock'\?$"),
        ("drew=mock", {}, r"^--engine takes NAME or STAGE=NAME; got 'drew=mock'; did you mean 'draw'\?$"),
        ("fly=mock", {}, r"^--engine takes NAME or STAGE=NAME; got 'fly=mock'; known: divergence, draw, score, train$"),
        ("draw=", {}, r"^--engine takes NAME or STAGE=NAME; got 'draw='"),
        ("mock,vllm", {}, r"^--engine mock,vllm names several engines: say which does which stage, as draw=vllm,score=hf$"),
        ("draw=vllm,draw=hf", {}, r"^--engine names the stage draw twice; give each stage one engine$"),
        (None, {"max_cost": 1}, r"^--max-cost is for an engine that is paid by the call, and engine hf is not: leave it out$"),
        ("mock", {"max_cost": 1}, r"paid by the call, and engine mock is not"),
        (f"draw=mock,score={OTHER}", {}, r"^--engine names mock and other_engine:KIND; one engine beside hf"),
        (None, {"size": 3}, r"^unknown key 'engine\.size' in engine hf"),
        (None, {"placement": "layer"}, r"^engine hf: engine\.placement is 'layer'; it must be one or layers$"),
        ("hf", {"quantize": "2bit"}, r"^engine hf: engine\.quantize is '2bit'; it must be none, 8bit or 4bit$"),
        (None, {"max_memory": "0=1GiB"}, r"engine\.max_memory has no effect without placement = \"layers\"$"),
        (None, {"placement": "layers", "max_memory": "a=1"}, r"engine\.max_memory has 'a=1'; give DEVICE=SIZE"),
        (OTHER, {"sise": 3}, r"^unknown key 'engine\.sise' in engine other_engine:KIND; did you mean 'engine\.size'\?$"),
        (OTHER, {"size": "x"}, r"engine\.size"),
        (OTHER, {"size": 0}, r"size is 0; it must be at least 1$"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(text: str | None, settings: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        chosen_engine(text, settings)


def test_every_engine_is_listed(call: Call):
    said = call("list", "engines").out
    for name in known("engine"):
        assert f"\n{name} " in said


# a run ---------------------------------------------------------------------------------------------------------------


def test_another_engine_draws_and_what_is_trained_stays(run: Call, tmp_path: Path):
    first = run("--sampler", "spa-random", *SMALL, "--set", "task.max_new_tokens=8")
    assert first.code == 0
    again = run("--sampler", "spa-random", *SMALL, "--set", "task.max_new_tokens=8", "--engine", OTHER)
    assert again.code == 0, again.err
    assert "from the stage cache" in again.err
    one, two = folders(tmp_path / "runs")
    if one.spec["engine"]:
        one, two = two, one
    assert one.spec["engines"] == dict.fromkeys(STAGES, "hf")
    assert two.spec["engines"] == {"train": "hf", "draw": "other", "score": "other", "divergence": "hf"}
    assert two.spec["engine"] == {"name": OTHER, "stages": ["draw", "score"], "options": {}}
    assert two.spec["code"]["engine"] == source_hash(OTHER)
    assert two.spec["numerics"]["other"] == {"version": "1", "size": 1}
    assert one.read_json("adapters.json") == two.read_json("adapters.json")
    assert [r.graded for r in one.record_log.rows()] == [r.graded for r in two.record_log.rows()]
    assert one.divergence_log.rows() == two.divergence_log.rows()


@pytest.mark.slow
def test_a_run_of_another_engine_is_verified_and_repeated(call: Call, run: Call, tmp_path: Path):
    run("--engine", OTHER, "--set", "engine.size=2", "--set", "task.max_new_tokens=8", "--json")
    [folder] = folders(tmp_path / "runs")
    assert call("verify", folder.path).code == 0
    repeated = call("rerun", folder.path, "--out", tmp_path / "again", "--sandbox", SANDBOX)
    assert repeated.code == 0, repeated.err


def test_a_table_says_the_numerics_of_each_engine(call: Call, run: Call, tmp_path: Path):
    run("--engine", OTHER, "--set", "task.max_new_tokens=8")
    call("leaderboard", tmp_path / "runs", "--write", tmp_path / "board.md")
    assert "; other: version 1, size 1" in (tmp_path / "board.md").read_text()


@pytest.mark.slow
def test_a_run_over_a_quantised_base_says_so_everywhere_and_is_repeated(call: Call, run: Call, tmp_path: Path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'spa-bench[quantize]'")
    plain = ("--sampler", "spa-random", *SMALL, "--set", "task.max_new_tokens=8")
    assert run(*plain).code == 0
    done = run(*plain, "--set", "engine.quantize=4bit")
    assert done.code == 0, done.err
    assert "weights 4bit nf4 (bitsandbytes " in done.err  # the plan
    assert "adapters: from the stage cache" not in done.err
    folder = next(f for f in folders(tmp_path / "runs") if f.spec["engine"])
    assert folder.spec["engine"] == {"name": "hf", "stages": [], "options": {"quantize": "4bit"}}
    assert folder.spec["engines"] == dict.fromkeys(STAGES, "hf")
    said = folder.spec["numerics"]["weights"]
    marks = [json.loads(m.read_text()) for m in (tmp_path / "cache").rglob("training.json")]
    assert marks
    assert {m["weights"] for m in marks} == {said}
    call("leaderboard", tmp_path / "runs", "--write", tmp_path / "board.md")
    assert f"weights {said}" in (tmp_path / "board.md").read_text()
    repeated = call("rerun", folder.path, "--out", tmp_path / "again", "--sandbox", SANDBOX)
    assert repeated.code == 0, repeated.err
    [again] = folders(tmp_path / "again")
    assert again.spec["engine"] == folder.spec["engine"]


# mock ----------------------------------------------------------------------------------------------------------------


def test_a_dry_run_has_all_parts_and_loads_no_model(call: Call, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spa_bench.runs.reopen.load_model", lambda *_: pytest.fail("a model is loaded"))
    command = ["run", "--sampler", "spa-influence", "--task", three, "--engine", "mock", "--out", tmp_path / "runs"]
    done = call(*command, "--sandbox", SANDBOX)
    assert done.code == 0, done.err
    [folder] = folders(tmp_path / "runs")
    assert folder.spec["engines"] == dict.fromkeys(STAGES, "mock")
    kl = folder.read_json("metrics.json")["estimates"]["average_kl[i!=j]"]["value"]
    assert 0 < kl < 1
    assert call("verify", folder.path).code == 0
    assert call("rerun", folder.path, "--out", tmp_path / "again", "--sandbox", SANDBOX).code == 0


def test_a_dry_run_of_choices_has_a_divergence_of_first_tokens(call: Call, tmp_path: Path, tiny_folder: Path):
    done = call(
        "run", "--sampler", "single", "--task", "mini-nlu", "--limit", 6, "--first", "--engine", "mock", "--out", tmp_path
    )
    assert done.code == 0, done.err
    [folder] = folders(tmp_path)
    assert len(folder.choice_log.rows()) == len(folder.divergence_log.rows()) == 6


MADE_UP = "made-up answers (engine mock): these numbers say nothing about any model"


def test_made_up_answers_are_marked_in_every_table_and_stand_in_none_with_those_of_a_model(
    call: Call, run: Call, three: Path, tiny_folder: Path, tmp_path: Path
):
    assert run("--set", "task.max_new_tokens=8").code == 0
    done = run("--engine", "mock")
    assert done.code == 0, done.err
    assert f"engine mock takes no model: --model {tiny_folder} has no effect" in done.err
    assert "--model embedded" not in done.err
    assert done.out.startswith(f"three 1, 3 problems; {MADE_UP}, model mock\n")
    call("leaderboard", tmp_path / "runs", "--write", tmp_path / "board.md")
    page = (tmp_path / "board.md").read_text()
    assert page.count("\n## three 1\n") == 2
    [dry] = [part for part in page.split("\n## ") if "model mock" in part]
    assert MADE_UP in dry
    assert "tiny" not in dry
    call("report", tmp_path / "runs", "-o", tmp_path / "out", "--problems", "none")
    assert MADE_UP in (tmp_path / "out" / "index.html").read_text()


def test_a_dry_study_says_that_its_verdicts_mean_nothing(call: Call, three: Path, tmp_path: Path):
    options = ["--task", three, "--seeds", "0", "--grid", "0.5,1", "--samplers", "single=base", "--n", 2, "--engine", "mock"]
    done = call(
        "study", "temperature", *options, "--sandbox", SANDBOX, "--out", tmp_path / "runs", "--write", tmp_path / "page"
    )
    assert done.code == 0, done.err
    assert "Made-up answers (engine mock): the numbers and verdicts say nothing about any model." in done.out
    [page] = (tmp_path / "page").glob("*.md")
    assert "**Made-up answers** (engine mock)" in page.read_text()


def test_an_engine_that_is_no_engine_is_one_line(run: Call):
    said = run("--engine", "json:dumps").error()
    assert said.startswith("engine kind 'json:dumps'")
    assert "docs/how-to/engines.md" in run("--engine", "builtins:str").error()


def test_several_options_name_the_stages_of_one_engine(run: Call):
    assert run("--engine", f"draw={OTHER}", "--engine", "score=hf", "--set", "task.max_new_tokens=8").code == 0
    assert "names several engines" in run("--engine", "mock", "--engine", "vllm").error()


def test_the_plan_says_how_many_prompts_leave_no_room():
    prompts = [Prompt(problem_id=str(size), text="x" * size, max_new_tokens=5, stop=()) for size in (3, 10, 11, 40)]
    options = Asked("40", (("x" * 40, " y"),), 1)  # a problem with options is checked by itself
    said = "context: 2 of 4 prompts leave no room for an answer in 10 tokens; their answers fail"
    assert crowded(Asking(tuple(prompts[:3])), DryModel(context=12)) == []
    assert crowded(Asking((*prompts[:3], prompts[2])), DryModel(context=11))[0].startswith("context: 2 of 4 prompts")
    assert crowded(Asking((prompts[0], prompts[0], prompts[1], prompts[2])), DryModel(context=10)) == [said]
    assert crowded(Asking(tuple(prompts), (options,)), DryModel(context=12)) == []


def test_scripted_replies_answer_the_requests_that_they_fit(tmp_path: Path):
    file = tmp_path / "replies.jsonl"
    rows = [
        {"text": "any"},
        {"text": "p, one", "problem": "p"},
        {"text": "p, two", "problem": "p"},
        {"text": "m1", "member": 1},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    model = DryModel(replies=read_replies(file))
    member = Member("base", None, Decoding(temperature=1.0, stop=(", o",)))

    def answers(problem: str, number: int, count: int = 20) -> set[tuple[str, str]]:
        asked = Request(
            problem_id=problem, member=number, draw=0, kind="generate", prompt="x", decoding=member.decoding, seed=0
        )
        requests = [replace(asked, draw=d, seed=d) for d in range(count)]
        return {(c.text, c.finish) for c in model.generate(requests, [member, member])}

    assert answers("q", 0) == {("any", "stop")}
    assert answers("q", 1) == {("m1", "stop")}
    assert answers("p", 0) == {("p", "stop"), ("p, two", "stop")}


def test_an_answer_of_the_mock_engine_is_cut_at_its_limit():
    decoding = Decoding(max_new_tokens=5)
    request = Request(problem_id="p", member=0, draw=0, kind="generate", prompt="xyz", decoding=decoding, seed=0)
    model, members = DryModel(replies=[Reply(text="abcdefgh")], context=100), [Member("base", None, decoding)]
    [long] = model.generate([request], members)
    assert (long.text, long.tokens, long.finish) == ("abcde", 5, "length")
    model.context = 3
    [skipped] = model.generate([request], members)
    assert (skipped.finish, skipped.text) == ("skipped", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the replies"),
        ("", "has no reply"),
        ("{", "line 1: not JSON"),
        ('{"text": "a"}\n\n{"txt": "a"}', "line 3: a reply is an object with text"),
        ('{"text": 3}', "line 1: text is 3"),
        ('{"text": "a", "member": true}', "line 1: member is True"),
    ],
)
def test_replies_that_cannot_be_read_are_one_line(call: Call, tmp_path: Path, content: str | None, said: str):
    file = tmp_path / "replies.jsonl"
    if content is not None:
        file.write_text(content)
    settings = ["--engine", "mock", "--set", f"engine.replies={file}"]
    assert said in call("run", "--sampler", "base", "--task", "mini-code", *settings, "--out", tmp_path / "runs").error()


def test_a_request_without_a_fitting_reply_is_one_line_and_the_run_goes_on_later(call: Call, three: Path, tmp_path: Path):
    file = tmp_path / "replies.jsonl"
    file.write_text(json.dumps({"text": "    return a + b\n", "problem": "three/add"}) + "\n")
    command = ["run", "--sampler", "base", "--task", three, "--n", 2, "--engine", "mock", "--sandbox", SANDBOX]
    said = call(*command, "--set", f"engine.replies={file}", "--out", tmp_path / "runs").error()
    assert said.startswith("no reply of the mock engine fits problem three/double, member 0, draw 0")
    [folder] = folders(tmp_path / "runs")
    assert len(folder.record_log.rows()) == 2


def test_the_mock_engine_does_all_stages_or_none(run: Call):
    assert run("--engine", "draw=mock").error() == "engine mock does all stages, or none; got draw. Give --engine mock"
    assert "context is 1" in run("--engine", "mock", "--set", "engine.context=1").error()
    assert MockOptions().context > 1


# what an engine cannot do --------------------------------------------------------------------------------------------


class Unable(MockModel):
    """A model that gives texts and nothing else, as a server does."""

    unable = {"train": "a server trains nothing", "divergence": "a server gives no distributions", "score": "no echo"}  # noqa: RUF012
    engines = {"train": "none", "draw": "server", "score": "none", "divergence": "none"}  # noqa: RUF012


def test_what_nobody_can_measure_has_no_value_and_the_reason(
    call: Call, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.runs.perform.load_model_for", lambda *_: Unable(lambda r: f"    return {r.seed}\n"))
    done = run("--n", 3)
    assert done.code == 0, done.err
    assert "divergence: not measured: a server gives no distributions" in done.err
    [folder] = folders(tmp_path / "runs")
    estimates = folder.read_json("metrics.json")["estimates"]
    assert estimates["entropy"]["value"] is None
    assert estimates["entropy"]["reason"] == "not measured: a server gives no distributions"
    assert estimates["diversity_score[exact]"]["value"] == 1.0
    assert folder.spec["engines"]["divergence"] == "none"
    assert call("verify", folder.path).code == 0


def test_a_stage_that_nobody_can_do_is_refused_before_anything_is_done(
    run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.runs.perform.load_model_for", lambda *_: Unable(lambda r: ""))
    said = run("--sampler", "single").error()
    assert said.startswith("single trains adapters, and mock cannot be trained here: a server trains nothing")
    assert "this task scores options, and mock cannot do that here: no echo" in run("--task", "mini-nlu").error()
    assert not list((tmp_path / "runs").glob("*/spec.json"))


def test_without_the_weights_an_engine_draws_and_scores_alike(call: Call, run: Call, tmp_path: Path):
    task = ["--set", "task.max_new_tokens=8", "--engine", OTHER]
    assert run(*task).code == 0
    done = run(*task, "--set", "engine.hf=false")
    assert done.code == 0, done.err
    assert "weights: not loaded here, so that nothing is trained and no divergence is measured" in done.err
    bare, whole = sorted(folders(tmp_path / "runs"), key=lambda f: f.spec["engines"]["train"], reverse=True)  # none, hf
    assert bare.spec["engines"] == {"train": "none", "draw": "other", "score": "other", "divergence": "none"}
    assert whole.spec["engines"]["train"] == "hf"
    assert bare.spec["model"] == whole.spec["model"]
    assert [r.graded for r in bare.record_log.rows()] == [r.graded for r in whole.record_log.rows()]
    assert not any(d.tokens for d in bare.divergence_log.rows())
    assert call("verify", bare.path).code == 0
    assert (
        "cannot be trained here: the weights are not loaded here"
        in run("--sampler", "single", *task, "--set", "engine.hf=false").error()
    )


def test_choices_scored_without_the_weights_have_no_divergence(run: Call, tmp_path: Path):
    done = run(
        "--task", "mini-nlu", "--limit", 4, "--engine", OTHER, "--set", "engine.hf=false", "--set", "task.max_new_tokens=4"
    )
    assert done.code == 0, done.err
    [folder] = folders(tmp_path / "runs")
    estimates = folder.read_json("metrics.json")["estimates"]
    assert "NaN" not in (folder.path / "choices.jsonl").read_text()
    assert estimates["entropy[choices]"]["value"] > 0
    assert estimates["entropy[first]"]["value"] is None
    assert estimates["entropy"]["value"] is None


def test_overrides_of_an_engine_have_their_prefix():
    assert parse_overrides(["engine.size=3"]).engine == {"size": 3}
