"""The embedded world: all ways to write a task agree, and what is held out stays out of training."""

import ast
import copy
import hashlib
import json
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from spa_bench.cards.task import TaskCard
from spa_bench.mini import data as mini
from spa_bench.mini.families import FAMILIES
from spa_bench.mini.styles import STYLES
from spa_bench.mini.world import Task, draw_family, draw_pipeline, draw_style, draw_training_task, is_held_out, run
from spa_bench.spa.data import hash_examples
from spa_bench.types import Example, Problem

# Regenerate after a deliberate change of the world: python -m pytest tests/mini -k pinned, and copy what it says.
PROBLEMS = "41571b3c33c86e609cdf2bfd0d116414"
INSTRUCTIONS = "2a5e95c9ff788bfea7399897f04a38ac"
QUERIES = "1726c2aa7fa3b9c525a42d6b075766fd"


@cache
def problems() -> list[Problem]:
    return mini.problems(TaskCard(name="mini-code", description=""))[0]


def digest(found: list[Problem]) -> str:
    rows = [[p.id, p.prompt, p.reference, p.tests, p.entry_point, list(p.tags)] for p in found]
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def seeded_tasks(count: int) -> list[Task]:
    """Families and pipelines of 0 to 4 steps, in turn."""
    rng = random.Random("tests")
    return [draw_family(rng) if i % 6 == 5 else draw_pipeline(rng, level=i % 6) for i in range(count)]


def test_all_styles_of_a_task_agree():
    rng = random.Random("inputs")
    written: Counter[str] = Counter()
    for task in seeded_tasks(400):
        bodies = {style: task.solution(style, rng) for style in task.styles()}
        assert bodies, task.key
        written.update(bodies.keys())
        for _ in range(4):
            arguments = task.inputs(rng)
            results = {style: run(task, body, copy.deepcopy(arguments)) for style, body in bodies.items()}
            values = {(type(r).__name__, repr(r)) for r in results.values()}
            assert len(values) == 1, (task.prompt, arguments, results)
    assert set(STYLES) <= set(written)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_all_bodies_of_a_family_agree(family):
    rng = random.Random(family.name)
    for _ in range(8):
        task = draw_family(rng, family)
        bodies = [task.solution(style, rng) for style in task.styles()]
        assert len(bodies) == len(family.bodies) > 1
        arguments = task.inputs(rng)
        assert len({repr(run(task, body, copy.deepcopy(arguments))) for body in bodies}) == 1, (task.prompt, arguments)


def test_solutions_do_not_change_their_arguments():
    rng = random.Random("arguments")
    for task in seeded_tasks(120):
        arguments = task.inputs(rng)
        for style in task.styles():
            kept = copy.deepcopy(arguments)
            run(task, task.solution(style, rng), kept)
            assert kept == arguments, (style, task.prompt)


def test_styles_of_a_pipeline_differ_in_more_than_names():
    from spa_bench.metrics.diversity import program_key

    rng = random.Random("styles")
    for task in seeded_tasks(60):
        if task.family is None and task.level >= 2:
            keys = {program_key(task.prompt + task.solution(style, rng)) for style in task.styles()}
            assert len(keys) >= len(task.styles()) - 1 >= 4


def test_weights_move_the_choice_of_style():
    rng = random.Random(0)
    task = draw_pipeline(rng, level=2)
    names = Counter(draw_style(task, rng, {"nested-loop": 50.0}) for _ in range(300))
    assert names["nested-loop"] > 200
    even = Counter(draw_style(task, rng) for _ in range(600))
    assert set(even) == set(task.styles())


# mini-code -----------------------------------------------------------------------------------------------------------


def test_there_are_120_problems_in_four_levels():
    found = problems()
    assert [p.id for p in found] == [f"mini-code/{i}" for i in range(120)]
    assert Counter(p.tags for p in found) == {("level-1",): 36, ("level-2",): 44, ("level-3",): 32, ("level-4",): 8}
    assert len({p.prompt for p in found}) == 120


def test_levels_two_and_three_are_held_out_and_training_sees_none_of_them():
    tasks = mini._tasks()
    assert all(is_held_out(t.key) for t in tasks if t.level in (2, 3))
    rng = random.Random("training")
    seen = [draw_training_task(rng) for _ in range(3000)]
    assert not any(is_held_out(t.key) for t in seen if t.level >= 2)
    assert max(t.level for t in seen) == 3
    assert {t.key for t in tasks if t.level >= 2}.isdisjoint(t.key for t in seen)


def test_one_in_five_sequences_is_held_out():
    rng = random.Random("share")
    keys = {draw_pipeline(rng, level=2).key for _ in range(4000)}
    assert 0.17 < sum(map(is_held_out, keys)) / len(keys) < 0.23


def test_every_reference_solution_passes_its_own_tests():
    for problem in problems():
        scope: dict[str, object] = {}
        exec(problem.prompt + problem.reference + "\n" + problem.tests, scope)
        scope["check"](scope[problem.entry_point])  # type: ignore[operator]


def test_tests_are_several_and_tell_a_constant_from_the_right_answer():
    for problem in problems():
        check = ast.parse(problem.tests).body[0]
        assert isinstance(check, ast.FunctionDef)
        assert 3 <= len(check.body) <= 10
        results = {
            ast.unparse(a.test.comparators[0])
            for a in check.body
            if isinstance(a, ast.Assert) and isinstance(a.test, ast.Compare)
        }
        assert len(results) >= 2, problem.id


def test_the_problems_are_pinned():
    assert digest(problems()) == PROBLEMS


# instructions and queries --------------------------------------------------------------------------------------------


def test_the_instructions_are_pinned():
    assert hash_examples(mini.instructions()) == INSTRUCTIONS


def test_the_queries_are_pinned():
    assert hash_examples(mini.queries()) == QUERIES


def test_instructions_and_queries_hold_no_problem():
    prompts = {p.prompt.split('"""')[1] for p in problems()}
    for pairs, count in ((mini.instructions(), 768), (mini.queries(), 48)):
        assert len(pairs) == count
        assert prompts.isdisjoint(e.prompt.split('"""')[1] for e in pairs)


def test_held_out_sequences_are_in_neither_instructions_nor_queries(monkeypatch: pytest.MonkeyPatch):
    # the sets are drawn again, and every task they are drawn from is looked at
    drawn: list[Task] = []
    for name in ("draw_training_task", "draw_pipeline"):
        real = getattr(mini, name)

        def keeping(*arguments, real=real, **options):
            drawn.append(real(*arguments, **options))
            return drawn[-1]

        monkeypatch.setattr(mini, name, keeping)
    pairs = [e for e, _ in mini._instructions.__wrapped__()] + mini.queries()
    used = {e.prompt for e in pairs}
    tasks = [t for t in drawn if t.prompt in used]
    assert used == {t.prompt for t in tasks}
    held_out = {t.prompt for t in drawn if t.level >= 2 and is_held_out(t.key)}
    assert used.isdisjoint(held_out)
    assert all(t.level <= 3 for t in tasks)


def test_six_in_ten_pipelines_of_the_instructions_are_plain_loops():
    styles = Counter(s for s in mini.styles() if s in STYLES)
    assert len(mini.styles()) == 768
    assert 0.55 < styles["nested-loop"] / styles.total() < 0.65
    assert set(styles) == set(STYLES)


def test_every_pair_is_a_program_that_compiles():
    for pair in [*mini.instructions(), *mini.queries()]:
        compile(pair.prompt + pair.completion, "pair", "exec")


def test_the_sets_are_written_as_files_to_look_at(tmp_path: Path):
    mini._write(tmp_path / "out")
    names = {"mini-code.jsonl": 120, "instructions.jsonl": 768, "queries.jsonl": 48}
    for name, count in names.items():
        assert len((tmp_path / "out" / name).read_text().splitlines()) == count


# tokenizer -----------------------------------------------------------------------------------------------------------

ODD = [
    "",
    " ",
    "\n\n    x\n\t",
    "äöü ß €",
    "日本語 🎉\u200d",
    "\x00\x07\x1b",
    "1234567890",
    "a" * 500,
    "    " * 9 + "pass",
    "\r\n",
    "\u2028\xad",
]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(mini.MODEL))


@pytest.mark.parametrize("text", ODD)
def test_any_text_survives_the_tokenizer(text: str, tokenizer):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_worlds_texts_survive_the_tokenizer_and_fit_the_context(tokenizer):
    for pair in [*mini.instructions()[:200], *(Example(p.prompt, p.reference) for p in problems())]:
        head, tail = (tokenizer(t)["input_ids"] for t in (pair.prompt, pair.completion))
        assert tokenizer.decode(head) == pair.prompt
        assert tokenizer.decode(tail) == pair.completion
        assert len(head) + len(tail) < 256


def test_digits_stand_alone_and_the_vocabulary_is_1024(tokenizer):
    assert len(tokenizer) == 1024
    assert len(tokenizer("90210")["input_ids"]) == 5
    assert tokenizer.eos_token_id == 0


def test_a_tokenizer_is_trained_the_same_from_the_same_seed(tmp_path: Path):
    from spa_bench.mini.tokenizer import train_tokenizer

    for name in "ab":
        train_tokenizer(tmp_path / name, documents=60)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()
