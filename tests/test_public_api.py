"""The names that others build on. Changing one is a decision, not an accident."""

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import spa_bench
from notebook import Notebook
from spa_bench import errors, types
from spa_bench.cli import main as cli
from spa_bench.runs import spec
from spa_bench.tasks import judgement

FIELDS = {
    "Decoding": [
        *("temperature", "top_p", "top_k", "min_p", "max_new_tokens", "stop"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma", "mirostat_tau", "mirostat_eta"),
    ],
    "Member": ["name", "adapter", "decoding", "served"],
    "Problem": ["id", "prompt", "reference", "tests", "entry_point", "tags", "suites", "choices", "right"],
    "CallSuite": ["name", "inputs", "oracle", "atol", "identity"],
    "Example": ["prompt", "completion", "ending"],
    "Request": ["problem_id", "member", "draw", "kind", "prompt", "decoding", "seed", "continuation", "messages", "apart"],
    "Completion": ["key", "text", "tokens", "finish", "seed", "failure", "spent", "whole", "choice", "note", "reply"],
    "Record": [
        *(
            "problem",
            "member",
            "draw",
            "raw",
            "graded",
            "finish",
            "tokens",
            "seed",
            "whole",
            "failure",
            "spent",
            "choice",
            "note",
            "reply",
        ),
    ],
    "Grade": ["problem", "member", "draw", "verdict", "message", "call", "suite", "mark", "quality"],
    "Divergence": ["problem", "tokens", "matrices", "members", "overall"],
    "DivergenceSums": [
        "tokens",
        "top_k",
        "cross",
        "never",
        "tv",
        "pairs",
        "renyi",
        "amari",
        "top",
        "base",
        "mixture",
        "noise",
    ],
    "Behaviour": ["problem", "member", "draw", "digest", "ran", "right", "probes"],
    "Asked": ["problem_id", "options", "choices", "cut"],
    "Choices": ["problem", "logprobs", "greedy", "tokens", "matrices", "members"],
    "Begun": ["text", "choice"],
    "Prompt": ["problem_id", "text", "max_new_tokens", "stop", "messages", "begun", "program"],
    "Estimate": ["value", "low", "high", "n", "reason"],
}

KEPT = {  # of what a run keeps: nouns of fewer folders
    spec.RunSpec: [
        "sampler",
        "task",
        "model",
        "data",
        "n",
        "seed",
        "limit",
        "numerics",
        "sandbox",
        "grading",
        "versions",
        "code",
        "engine",
        "engines",
        "unable",
        "noise_floor",
        "embedding",
        "metrics",
    ],
    judgement.Judgement: ["problem", "asks", "first", "second", "reply", "said", "tokens"],
}


def test_nouns_are_these_and_no_others():
    defined = {name for name, value in vars(types).items() if inspect.isclass(value) and value.__module__ == types.__name__}
    assert defined == {*FIELDS, "Verdict", "Key"}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_a_noun_keep_their_names_and_order(name: str):
    assert [f.name for f in fields(getattr(types, name))] == FIELDS[name]


def test_fields_of_what_a_run_keeps_keep_their_names_and_order():
    assert {noun: [f.name for f in fields(noun)] for noun in KEPT} == KEPT


def test_verdicts_are_eight():
    assert [str(v) for v in types.Verdict] == [
        "passed",
        "wrong",
        "raised",
        "timeout",
        "memory",
        "crashed",
        "refused",
        "unjudged",
    ]


def test_a_key_is_problem_member_draw():
    assert types.Key._fields == ("problem", "member", "draw")
    request = types.Request(problem_id="p", member=1, draw=2, kind="generate", prompt="text", decoding=types.Decoding(), seed=0)
    assert request.key == ("p", 1, 2)


def test_all_errors_share_one_base():
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.SpaBenchError)}
    assert tree == {"SpaBenchError", "UsageError", "CardError", "DataError", "ModelError", "SandboxError", "StoreError"}


COMMANDS = ("run", "grade", "score", "show", "list", "leaderboard", "compare", "check", "log", "view", "doctor")
COMMANDS += (
    "verify",
    "audit",
    "synthesize",
    "describe",
    "rerun",
    "export",
    "study",
    "power",
    "report",
    "demo",
    "real",
    "model",
    "spa",
    "similarity",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main([command, "--help"]) == 0
    assert f"spa-bench {command}" in capsys.readouterr().out


def test_an_unknown_command_names_the_known_ones_and_there_are_no_others(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["frobnicate"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("spa-bench: ")
    assert error.count("\n") == 1
    known = re.search(r"choose from (.*)\)", error)
    assert known
    assert re.findall(r"\w+", known[1]) == list(COMMANDS)


# the names of `import spa_bench as sb` -------------------------------------------------------------------------------

SETTING = """
import spa_bench as sb

class Sums(sb.TextTask):
    def is_right(self, problem, answer):
        return answer == problem.reference.strip()

card = sb.TaskCard(name="sums", description="one sum", version="1", max_new_tokens=4, stop=("\\n",))
problem = sb.Problem(id="sums/1", prompt="1 + 1 =", reference=" 2")
task = Sums(card, [problem])
member = sb.Member("base", None, sb.Decoding(temperature=0.8))
request = sb.Request(
    problem_id="sums/1", member=0, draw=0, kind="generate", prompt="1 + 1 =", decoding=member.decoding, seed=0
)

def two(request):
    return " 2"

def made():
    return sb.run("base", task, model=two, n=2, quiet=True)
"""
EXAMPLES = {
    "__version__": "assert sb.__version__.count('.') == 2",
    "run": "assert sb.run('base', task, model=two, n=2, quiet=True).metrics['pass@1'].value == 1.0",
    "score": "assert sb.score(task, {'sums/1': [' 2', ' 3']}, quiet=True).metrics['pass@1'].value == 0.5",
    "load": "made()\nassert len(sb.load('runs')) == 1",
    "load_model": "try:\n    sb.load_model('embeded')\nexcept sb.UsageError as error:\n    said = str(error)\n"
    "assert said.endswith(\"did you mean 'embedded'?\")",
    "Run": "run = made()\nassert isinstance(run, sb.Run) and run.seed == 0",
    "Runs": "run = made()\nassert isinstance(sb.Runs([run]).where(seed=0), sb.Runs)",
    "Leaderboard": "board = made().leaderboard()\nassert isinstance(board, sb.Leaderboard) and len(board) == 1",
    "Comparison": "made()\nsb.run('base', task, model=sb.FunctionModel(lambda r: ' 3', 'three'), n=2, quiet=True)\n"
    "runs = sb.load('runs')\n"
    "assert isinstance(runs[0].compare(runs[1]), sb.Comparison)",
    "Check": "check = made().check(made())\nassert isinstance(check, sb.Check) and check.ok",
    "Sampler": "class Twice(sb.Sampler):\n    name = 'twice'\n"
    "    def __init__(self):\n        self.members = (member,)\n"
    "    def sample(self, model, prompts, n, seed, *, task, done=()):\n"
    "        return sb.Mixture('twice', self.members).sample(model, prompts, n, seed, task=task, done=done)\n"
    "assert sb.run(Twice(), task, model=two, n=2, quiet=True).sampler == 'twice'",
    "Task": "class Same(Sums, sb.Task):\n    pass\n"
    "assert sb.run('base', Same(card, [problem]), model=two, n=2, quiet=True).task == 'sums'",
    "TaskDefaults": "assert issubclass(sb.TextTask, sb.TaskDefaults) and list(task.asked(None)) == []",
    "TextTask": "assert task.is_right(problem, '2') and not task.is_right(problem, '3')",
    "CodeTask": "code = sb.CodeTask(card, [sb.Problem(id='f', prompt='def f():\\n', entry_point='f')], 'here')\n"
    "assert code.runs_code and code.problems[0].id == 'f'",
    "TaskCard": "assert card.kind == 'code' and card.stop == ('\\n',)",
    "Metric": "metric = sb.Metric(name='answers', description='x', compute=lambda s: float(len(s.texts)))\n"
    "assert sb.run('base', task, model=two, n=2, metrics=[metric], quiet=True).metrics['answers'].value == 2.0",
    "Samples": "def first(samples: sb.Samples):\n    return float(samples.passed[0])\n"
    "assert sb.run('base', task, model=two, n=2, metrics=[first], quiet=True).metrics['first'].value == 1.0",
    "Model": "class Own(sb.ModelDefaults, sb.Model):\n    name = 'own'\n    def generate(self, requests, members):\n"
    "        return (sb.Completion(key=r.key, text=' 2', tokens=1, finish='stop', seed=r.seed) for r in requests)\n"
    "assert sb.run('base', task, model=Own(), n=2, quiet=True).model == 'own'",
    "ModelDefaults": "class Own(sb.ModelDefaults):\n    name = 'own'\n    def generate(self, requests, members):\n"
    "        yield from ()\nassert Own().engines['draw'] == 'own' and 'score' in Own().unable",
    "FunctionModel": "[one] = sb.FunctionModel(two, 'two').generate([request], [member])\nassert one.text == ' 2'",
    "Mixture": "assert [r.draw for r in sb.Mixture('m', [member]).requests(task.prompts(None), 2, 0, task='sums')] == [0, 1]",
    "draw_seed": "assert sb.draw_seed(0, 'sums', 'sums/1', 0, 0) != sb.draw_seed(0, 'sums', 'sums/1', 0, 1)",
    "Completion": "c = sb.Completion(key=request.key, text=' 2', tokens=1, finish='stop', seed=0)\nassert c.failure == ''",
    "Decoding": "assert sb.Decoding().temperature == 0.0 and sb.Decoding(top_p=0.9).top_p == 0.9",
    "Estimate": "estimate = made().metrics['pass@1']\nassert isinstance(estimate, sb.Estimate) and estimate.n == 1",
    "Grade": "grade = sb.Grade(problem='p', member=0, draw=0, verdict=sb.Verdict.PASSED)\nassert grade.key == ('p', 0, 0)",
    "Key": "assert request.key == sb.Key('sums/1', 0, 0)",
    "Member": "assert member.adapter is None",
    "Problem": "assert problem.reference == ' 2' and problem.choices is None",
    "Prompt": "[prompt] = task.prompts(None)\nassert isinstance(prompt, sb.Prompt) and prompt.text == '1 + 1 ='",
    "Record": "record = task.record(sb.Completion(key=request.key, text=' 2\\nx', tokens=1, finish='stop', seed=0))\n"
    "assert isinstance(record, sb.Record) and record.graded == ' 2'",
    "Request": "assert request.prompt == '1 + 1 =' and request.decoding.temperature == 0.8",
    "Verdict": "assert set(made().samples().verdict) == {str(sb.Verdict.PASSED)}",
    "SpaBenchError": "try:\n    sb.load('nowhere')\nexcept sb.SpaBenchError as error:\n    said = str(error)\n"
    "assert 'nowhere' in said",
    "UsageError": "assert issubclass(sb.UsageError, sb.SpaBenchError)",
    "CardError": "assert issubclass(sb.CardError, sb.SpaBenchError)",
    "DataError": "assert issubclass(sb.DataError, sb.SpaBenchError)",
    "ModelError": "assert issubclass(sb.ModelError, sb.SpaBenchError)",
    "SandboxError": "assert issubclass(sb.SandboxError, sb.SpaBenchError)",
    "StoreError": "assert issubclass(sb.StoreError, sb.SpaBenchError)",
}


def test_the_public_names_are_these_and_no_others():
    assert sorted(spa_bench.__all__) == sorted(EXAMPLES)
    assert set(EXAMPLES) - set(dir(spa_bench)) == set()
    with pytest.raises(AttributeError, match="module 'spa_bench' has no attribute 'nothing'"):
        spa_bench.nothing  # noqa: B018


def test_the_stub_for_type_checkers_has_the_same_names_from_the_same_modules():
    stub = Path(spa_bench.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    declared = {name: module for module, name in re.findall(r"^from (\S+) import \w+ as (\w+)$", stub, re.MULTILINE)}
    named = {name for name in spa_bench.__all__ if name != "__version__"}
    assert declared.keys() == named
    for name, module in declared.items():
        assert getattr(spa_bench, name) is getattr(importlib.import_module(module), name)
    assert Path(spa_bench.__file__).with_name("py.typed").exists()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_public_name_has_a_docstring_and_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert name == "__version__" or inspect.getdoc(getattr(spa_bench, name))
    notebook = Notebook()
    notebook.run(SETTING)
    notebook.run(EXAMPLES[name])
