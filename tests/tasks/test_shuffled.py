"""A seeded order of problems: a random subset instead of the first problems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doubles import Call
from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError
from spa_bench.models.hf.model import HFModel
from spa_bench.runs.job import load_task
from spa_bench.tasks.base import Task, TextsTask
from spa_bench.tasks.shuffled import same_problems

ROOT = Path(__file__).resolve().parents[2]
DAYS = ROOT / "docs" / "examples" / "lm_eval"


def names(task: Task, limit: int | None = None) -> list[str]:
    return [p.id for p in task.problems[:limit]]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A task of twenty problems in HumanEval's shape."""
    rows = [
        {
            "task_id": f"many/{i}", "prompt": f"def f{i}():\n", "entry_point": f"f{i}",
            "test": "def check(candidate):\n    assert candidate() == 1\n", "canonical_solution": "    return 1\n",
        }
        for i in range(20)
    ]  # fmt: skip
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "many.toml").write_text('description = "many"\nfile = "many.jsonl"\nversion = "1"\n')
    return tmp_path / "many.toml"


def test_the_order_is_a_permutation_by_the_seed_alone(many: Path):
    plain, one, again, two = (
        load_task(load_task_card(str(many), s)) for s in ({}, {"shuffle": 1}, {"shuffle": 1}, {"shuffle": 2})
    )
    assert names(one) == names(again) != names(two) != names(plain)
    assert sorted(names(one)) == sorted(names(two)) == sorted(names(plain))
    assert isinstance(one, TextsTask)
    hashes = {task.describe()["problems_hash"] for task in (plain, one, two)}
    assert len(hashes) == 3  # their first problems are not the same ones: no table may pair them


def test_a_drawn_part_is_known_as_a_part_of_the_whole(many: Path):
    settings: list[dict[str, object]] = [{}, {"shuffle": 0, "stratify": True}, {"shuffle": 0}]
    plain, by_tags, mixed = (load_task(load_task_card(str(many), s)).describe() for s in settings)
    assert same_problems(plain, by_tags)
    assert same_problems(mixed, plain)
    assert same_problems(mixed, mixed)
    assert not same_problems(by_tags, mixed)  # neither hash tells that of the whole
    assert not same_problems({**plain, "problems_hash": "another"}, by_tags)


def test_the_order_in_the_file_has_no_effect(many: Path, tmp_path: Path):
    before = names(load_task(load_task_card(str(many), {"shuffle": 3})))
    lines = (tmp_path / "many.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "many.jsonl").write_text("".join(reversed(lines)))
    assert names(load_task(load_task_card(str(many), {"shuffle": 3}))) == before


def test_prompts_are_those_of_the_first_problems(many: Path, tiny_model: HFModel):
    plain, mixed = (load_task(load_task_card(str(many), s)) for s in ({}, {"shuffle": 0}))
    asked = {p.problem_id: p for p in plain.asked_by(tiny_model, None).prompts}
    few = mixed.asked_by(tiny_model, 5).prompts
    assert [p.problem_id for p in few] == names(mixed, 5)
    assert all(asked[p.problem_id] == p for p in few)


def test_every_problem_is_as_likely_to_be_in_a_subset(many: Path):
    """200 subsets of 5 of 20: each problem is in 50 of them on average, with a standard deviation of 6."""
    count = dict.fromkeys(names(load_task(load_task_card(str(many)))), 0)
    for seed in range(200):
        for name in names(load_task(load_task_card(str(many), {"shuffle": seed})), 5):
            count[name] += 1
    assert sum(count.values()) == 1000
    assert all(50 - 25 < n < 50 + 25 for n in count.values())


def test_a_seed_is_a_whole_number(many: Path):
    with pytest.raises(CardError, match=r"'shuffle' in .* must be a whole number; got"):
        load_task_card(str(many), {"shuffle": "yes"})


@pytest.mark.slow
def test_a_run_of_a_subset_resumes_verifies_and_says_so(run: Call, call: Call, three: Path, tmp_path: Path):
    done = run("--subset", 2, "--n", 2)
    assert done.code == 0, done.err
    assert "2 of 3 problems at random (shuffle 0)" in done.err
    (folder,) = (tmp_path / "runs").iterdir()
    task = load_task(load_task_card(str(three), {"shuffle": 0}))
    records = [json.loads(line.split("\t")[0]) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert {r["problem"] for r in records} == set(names(task, 2)) != {"three/add", "three/double"}
    spec = json.loads((folder / "spec.json").read_text())
    assert (spec["limit"], spec["task"]["shuffle"]) == (2, 0)
    assert call("verify", folder).code == 0
    assert call("rerun", folder, "--out", tmp_path / "again", "--sandbox", "none-i-trust-this-code").code == 0
    table = call("leaderboard", tmp_path / "runs")
    assert "2 of 3 problems at random (shuffle 0)" in table.out
    run("--limit", 2, "--n", 2)
    assert call("leaderboard", tmp_path / "runs").out.count("2 of 3 problems") == 2  # two tables: other problems
    assert call("show", folder, "--problem", names(task, 1)[0]).code == 0


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    """A task of 12 easy and 6 middling problems and 2 hard ones, in that order in the file."""
    tags = ["easy"] * 12 + ["middling"] * 6 + ["hard"] * 2
    rows = [
        {
            "task_id": f"levels/{i}", "prompt": f"def f{i}():\n", "entry_point": f"f{i}", "tags": [tag],
            "test": "def check(candidate):\n    assert candidate() == 1\n", "canonical_solution": "    return 1\n",
        }
        for i, tag in enumerate(tags)
    ]  # fmt: skip
    (tmp_path / "levels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "levels.toml").write_text('description = "levels"\nfile = "levels.jsonl"\nversion = "1"\n')
    return tmp_path / "levels.toml"


def stratified_task(levels: Path, seed: int) -> Task:
    return load_task(load_task_card(str(levels), {"shuffle": seed, "stratify": True}))


def test_every_prefix_of_a_stratified_order_has_the_tags_in_proportion(levels: Path):
    share = {"easy": 0.6, "middling": 0.3, "hard": 0.1}
    for seed in range(50):
        tags = [p.tags[0] for p in stratified_task(levels, seed).problems]
        for size in range(1, 21):
            for tag, part in share.items():
                assert abs(tags[:size].count(tag) - part * size) < 2, (seed, size, tag)
    assert sorted(p.id for p in stratified_task(levels, 0).problems) == sorted(names(load_task(load_task_card(str(levels)))))


def test_every_problem_is_as_likely_to_be_in_a_stratified_subset(levels: Path):
    """400 subsets of 5 of 20: each problem is in 100 of them on average, with a standard deviation of 9."""
    count = dict.fromkeys(names(load_task(load_task_card(str(levels)))), 0)
    for seed in range(400):
        for name in names(stratified_task(levels, seed), 5):
            count[name] += 1
    assert all(100 - 36 < n < 100 + 36 for n in count.values()), count


@pytest.mark.slow
def test_a_limit_draws_over_the_tags_and_first_takes_the_order_of_the_data(run: Call, levels: Path, tmp_path: Path):
    """The first five problems of the file are easy; of five that are drawn two are not."""

    def of(folder: str) -> tuple[set[str], dict[str, object]]:
        (path,) = (tmp_path / folder).iterdir()
        records = [json.loads(line.split("\t")[0]) for line in (path / "records.jsonl").read_text().splitlines()]
        return {r["problem"] for r in records}, json.loads((path / "spec.json").read_text())

    words = ["--task", levels, "--limit", 5, "--n", 1, "--until", "generate"]
    drawn, first = run(*words, "--out", tmp_path / "drawn"), run(*words, "--first", "--out", tmp_path / "first")
    assert "5 of 20 problems at random by tags (shuffle 0)" in drawn.err
    assert "5 of 20 problems, the first ones" in first.err
    asked, spec = of("drawn")
    assert asked == set(names(stratified_task(levels, 0), 5))
    assert (spec["limit"], spec["task"]["shuffle"], spec["task"]["stratify"]) == (5, 0, True)
    asked, spec = of("first")
    assert asked == {f"levels/{i}" for i in range(5)}
    assert "shuffle" not in spec["task"]
    again = run(*words, "--set", "task.shuffle=4", "--out", tmp_path / "other")
    assert "at random by tags (shuffle 4)" in again.err
    assert of("other")[0] == set(names(stratified_task(levels, 4), 5))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--first"], "--first says which problems --limit takes; give --limit L too"),
        (
            ["--first", "--limit", 2, "--set", "task.shuffle=1"],
            "--first takes the order of the data, and task.shuffle sets another",
        ),
        (["--set", "task.stratify=true"], "stratify is true, and the problems come in the order of the data; give shuffle"),
    ],
)
def test_wishes_for_an_order_that_contradict_each_other_are_refused(run: Call, words: list[object], line: str):
    done = run(*words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert line in done.err


def test_limit_and_subset_exclude_each_other(run: Call):
    done = run("--subset", 2, "--limit", 2)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--limit and --subset both say how many problems; give one of them" in done.err


def test_the_seed_of_a_subset_can_be_chosen(run: Call, tmp_path: Path):
    assert run("--subset", 1, "--set", "task.shuffle=5", "--until", "generate").code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "spec.json").read_text())["task"]["shuffle"] == 5


def test_multiple_choice_keeps_options_beside_their_problems(tiny_model: HFModel):
    pytest.importorskip("lm_eval")
    options = {"options.include": str(DAYS)}
    settings = options, options | {"shuffle": 0}
    plain, mixed = (load_task(load_task_card("lm-eval:example_days", each)) for each in settings)
    assert not isinstance(mixed, TextsTask)
    assert names(mixed) != names(plain)
    options = {one.problem_id: one for one in plain.options(None)}
    assert [one.problem_id for one in mixed.options(3)] == names(mixed, 3)
    assert all(options[one.problem_id] == one for one in mixed.options(3))
    asking = mixed.asked_by(tiny_model, 3)
    assert [a.problem_id for a in asking.asked] == [p.problem_id for p in asking.prompts] == names(mixed, 3)
