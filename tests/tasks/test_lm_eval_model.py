"""Our samplers inside lm-eval: its own evaluation, its registry, its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_lm_eval_scoring import MEAN, choice_task, rows_of, text_task

from doubles import MockModel
from nlu_reference import define, reference
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.tasks.lm_eval.library import quiet
from spa_bench.types import Decoding, Member

if find_spec("lm_eval") is None:
    pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'", allow_module_level=True)

TASKS = ["flags", "sums", "words", "essays"]


def four(folder: Path) -> Path:
    """A task of each kind: a choice, a generated answer, one right text, whole texts longer than the context."""
    choice_task(folder, "flags", 7)
    text_task(folder, "sums")
    rows = [{"text": "The sky is", "answer": "blue"}, {"text": "def f(x):", "answer": "return x"}]
    own = {"output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": " {{answer}}"}
    define(folder, "words", {**rows_of(folder, "words", rows), **own, "metric_list": [{"metric": "acc", **MEAN}]})
    essays = [{"text": "a short one"}, {"text": "def add(a, b): return a + b\n" * 120}]
    metric = {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}
    whole = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}", "metric_list": [metric]}
    define(folder, "essays", {**rows_of(folder, "essays", essays), **whole})
    return folder


def evaluate(model: Any, name: str, folder: Path, **settings: Any) -> dict[str, Any]:
    with quiet():
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found = simple_evaluate(model=model, tasks=[name], task_manager=manager, bootstrap_iters=0, **settings)
    scores: dict[str, Any] = found["results"][name]
    return {k: v for k, v in scores.items() if "," in k}


@pytest.mark.parametrize("name", [TASKS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in TASKS[1:])])
def test_one_greedy_member_in_lm_eval_is_lm_evals_own_model(name: str, tiny_folder: Path, tmp_path: Path):
    import spa_bench.lm_eval  # noqa: F401  # puts spa-bench among lm-eval's models

    folder = four(tmp_path / "yaml")
    greedy = tmp_path / "greedy.toml"
    greedy.write_text('description = "greedy"\n[decoding]\ntemperature = 0.0\n')
    arguments = {"sampler": str(greedy), "model": str(tiny_folder), "member": 0, "threads": 1}
    ours = evaluate("spa-bench", name, folder, model_args=arguments, device="cpu")
    theirs = reference(folder, name, tiny_folder, bootstrap_iters=0).results[name]
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == (pytest.approx(value, rel=1e-4) if key.startswith("word_perplexity,") else value), key


class Thinking(MockModel):
    """Two members that think differently: 0.5 and 0.25 of every text, the first greedily. What is written is the member."""

    def option_scores(self, asked: Any, members: Any, done: Any = ()) -> Any:
        for one in reversed(asked):
            mine = [0.5, 0.25] if len(members) == 2 else [float(members[0].name)]
            logprobs = np.log(np.array(mine))[:, None]
            yield SimpleNamespace(problem=one.problem_id, logprobs=logprobs, greedy=logprobs > np.log(0.3))

    def rolling(self, request: Any, member: Member) -> float:
        return float(np.log(float(member.name)))


def asked(*arguments: Any, doc: int = 0) -> Any:
    return SimpleNamespace(args=arguments, task_name="flags", doc_id=doc)


def sampler(member: int | str = "mixture", **settings: Any) -> Any:
    from spa_bench.tasks.lm_eval.model import SamplerLM

    members = [Member("0.5", None, Decoding(temperature=0.7)), Member("0.25", None, Decoding())]
    return SamplerLM(Thinking(lambda request: f"{request.member}"), members, member=member, **settings)


def test_a_mixtures_probability_is_the_mean_of_its_members():
    pairs = [asked("The sky is", " blue"), asked("", " red")]
    assert sampler(0).loglikelihood(pairs) == [(pytest.approx(np.log(0.5)), True)] * 2
    assert sampler(1).loglikelihood(pairs) == [(pytest.approx(np.log(0.25)), False)] * 2
    assert sampler().loglikelihood(pairs) == [(pytest.approx(np.log(0.375)), False)] * 2  # no majority is greedy
    assert sampler().loglikelihood_rolling([asked("all of it")]) == [pytest.approx(np.log(0.375))]


def test_a_mixture_writes_each_answer_by_one_member_and_by_the_seed():
    requests = [asked("Go on", {"until": ["\n"], "max_gen_toks": 5}, doc=i // 4) for i in range(40)]
    texts = sampler().generate_until(requests)
    assert set(texts) == {"0", "1"}
    assert any(len(set(texts[i : i + 4])) == 2 for i in range(0, 40, 4))  # repeats are draws of their own
    assert sampler().generate_until(requests) == texts
    assert sampler(seed=1).generate_until(requests) != texts
    assert sampler(1).generate_until(requests) == ["1"] * 40


def test_how_text_is_drawn_is_the_samplers_and_where_it_ends_the_tasks():
    lm, seen = sampler(0), []
    lm._model = MockModel(lambda request: seen.append(request) or "x")  # type: ignore[func-returns-value]
    lm.generate_until([asked("Go on", {"until": "\n", "max_gen_toks": 5, "temperature": 0.1, "do_sample": False})])
    assert seen[0].decoding == Decoding(temperature=0.7, max_new_tokens=5, stop=("\n",))
    assert seen[0].prompt == "Go on"


@pytest.mark.parametrize("member", [2, -1, "all"])
def test_a_member_that_is_not_there_is_one_line(member: int | str):
    with pytest.raises(UsageError, match=r"member is .*; it is 'mixture' or a number from 0 to 1"):
        sampler(member)


def test_a_sampler_that_is_no_mixture_is_one_line(tiny_folder: Path):
    from spa_bench.lm_eval import SpaBenchLM

    with pytest.raises(UsageError, match="is no mixture of members"):
        SpaBenchLM("diverse-beam", str(tiny_folder))


def test_what_is_wrong_with_a_sampler_is_one_line_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from spa_bench.lm_eval import SpaBenchLM, main

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: SpaBenchLM("bass"))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "spa-bench: unknown sampler 'bass'; did you mean 'base'?\n"


def test_what_lm_eval_says_of_its_arguments_is_one_line_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from spa_bench.lm_eval import main

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["run", "--model", "spa-bench", "--include_path", str(folder), *arguments])
        assert end.value.code == 2
        return capsys.readouterr().err.rstrip().rpartition("\n")[2]

    import lm_eval.tasks

    folder, manager = four(tmp_path / "yaml"), lm_eval.tasks.TaskManager
    # reading all of lm-eval's own definitions takes ten seconds
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda *a, **k: manager(include_path=folder, include_defaults=False))
    assert said("--tasks", "nope").startswith("spa-bench: lm-eval: Tasks not found: nope; `lm-eval ls tasks` lists them")
    assert "lm-eval: ValueError: Attempted to load model 'nope'" in said("--tasks", "flags", "--model", "nope")
    assert "seed is 'x'; it must be a whole number" in said("--tasks", "flags", "--model_args", "seed=x")
    assert "multiple values" in said("--tasks", "flags", "--model_args", "sampler=base,batch_size=2")
    define(folder, "away", {"task": "away", "dataset_path": "someone/away", "doc_to_text": "q", "doc_to_target": "a"})
    assert "the data of a task cannot be read" in said("--tasks", "away")


def test_a_fault_of_our_own_behind_lm_evals_command_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    from spa_bench.lm_eval import SpaBenchLM, main

    monkeypatch.setattr("spa_bench.lm_eval.load_sampler_card", lambda *_: {}["fault"])
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", SpaBenchLM)
    with pytest.raises(KeyError, match="fault"):
        main()


def test_a_device_that_is_not_there_is_the_cpu_as_for_lm_evals_own_models(tiny_folder: Path, tmp_path: Path):
    import torch

    import spa_bench.lm_eval  # noqa: F401

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    arguments = {"sampler": "base", "model": str(tiny_folder), "member": 0, "threads": 1}
    # what lm-eval's command asks for by itself
    assert evaluate("spa-bench", "flags", four(tmp_path / "yaml"), model_args=arguments, device="cuda:0")


def test_an_argument_that_is_none_is_named():
    from spa_bench.lm_eval import SpaBenchLM

    with pytest.raises(UsageError, match="unknown argument 'membr' of spa-bench; did you mean 'member'"):
        SpaBenchLM(membr=1)


def test_an_argument_with_a_dot_is_a_key_of_the_card(tiny_folder: Path, tmp_path: Path):
    import spa_bench.lm_eval  # puts spa-bench among lm-eval's models

    folder = four(tmp_path / "yaml")
    greedy = tmp_path / "greedy.toml"
    greedy.write_text('description = "greedy"\n[decoding]\ntemperature = 0\n')
    given = {"model": str(tiny_folder), "member": 0, "threads": 1}
    cards = [{"sampler": str(greedy)}, {"sampler": "base", "decoding.temperature": 0}]
    one, other = (evaluate("spa-bench", "sums", folder, model_args={**given, **card}, device="cpu") for card in cards)
    assert one == other
    with pytest.raises(SpaBenchError, match=r"unknown key 'decoding\.temprature'"):
        spa_bench.lm_eval.SpaBenchLM(model=str(tiny_folder), **{"decoding.temprature": 0})


@pytest.mark.slow
def test_lm_evals_command_knows_our_samplers(tiny_folder: Path, tmp_path: Path):
    folder = four(tmp_path / "yaml")
    arguments = f"sampler=base,model={tiny_folder},member=0,threads=1"
    command = [sys.executable, "-m", "spa_bench.lm_eval", "run", "--model", "spa-bench", "--model_args", arguments]
    command += ["--tasks", "flags", "--include_path", str(folder), "--device", "cpu", "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").rglob("results_*.json")
    assert 0 <= json.loads(file.read_text())["results"]["flags"]["acc,none"] <= 1
