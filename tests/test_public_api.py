"""The names that others build on. Changing one is a decision, not an accident."""

import inspect
import re
from dataclasses import fields

import pytest

from spa_bench import errors, types
from spa_bench.cli import main as cli

FIELDS = {
    "Decoding": ["temperature", "top_p", "top_k", "min_p", "max_new_tokens", "stop"],
    "Member": ["name", "adapter", "decoding", "served"],
    "Problem": ["id", "prompt", "reference", "tests", "entry_point", "tags", "suites", "choices", "right"],
    "CallSuite": ["name", "inputs", "oracle", "atol", "identity"],
    "Example": ["prompt", "completion", "ending"],
    "Request": ["problem_id", "member", "draw", "kind", "prompt", "decoding", "seed", "continuation", "messages", "apart"],
    "Completion": ["key", "text", "tokens", "finish", "seed", "failure", "spent", "whole", "choice"],
    "Record": ["problem", "member", "draw", "raw", "graded", "finish", "tokens", "seed", "whole", "failure", "spent", "choice"],
    "Grade": ["problem", "member", "draw", "verdict", "message", "call", "suite", "mark"],
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
    "Prompt": ["problem_id", "text", "max_new_tokens", "stop", "messages", "begun"],
    "Estimate": ["value", "low", "high", "n", "reason"],
    "RunSpec": [
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
}


def test_nouns_are_these_and_no_others():
    defined = {name for name, value in vars(types).items() if inspect.isclass(value) and value.__module__ == types.__name__}
    assert defined == {*FIELDS, "Verdict", "Key"}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_a_noun_keep_their_names_and_order(name: str):
    assert [f.name for f in fields(getattr(types, name))] == FIELDS[name]


def test_verdicts_are_seven():
    assert [str(v) for v in types.Verdict] == ["passed", "wrong", "raised", "timeout", "memory", "crashed", "refused"]


def test_a_key_is_problem_member_draw():
    assert types.Key._fields == ("problem", "member", "draw")
    request = types.Request(problem_id="p", member=1, draw=2, kind="generate", prompt="text", decoding=types.Decoding(), seed=0)
    assert request.key == ("p", 1, 2)


def test_all_errors_share_one_base():
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.SpaBenchError)}
    assert tree == {"SpaBenchError", "UsageError", "CardError", "DataError", "ModelError", "SandboxError", "StoreError"}


COMMANDS = ("run", "grade", "score", "show", "list", "leaderboard", "compare", "check", "log", "view", "doctor")
COMMANDS += ("verify", "audit", "rerun", "export", "study", "power", "report", "demo", "real", "model", "spa")


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
