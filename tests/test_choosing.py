"""Multiple choice in a run: every member is asked, every draw chooses, and the model continues after its choice."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import Call, Lines, MockModel, sampler_card
from quiz import CARD, Quiz, run, three
from spa_bench.cards import registry
from spa_bench.compare.leaderboard import build_rows, check, from_runs, save
from spa_bench.errors import SpaBenchError, StoreError, UsageError
from spa_bench.metrics.choices import best
from spa_bench.models.hf.model import HFModel
from spa_bench.publish.show import ending, show
from spa_bench.publish.trackers.content import ended
from spa_bench.runs.choices import begin, choose
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job
from spa_bench.runs.plan import plan_lines
from spa_bench.runs.verify import verify
from spa_bench.samplers.base import sampler_kind
from spa_bench.samplers.mixture import Mixture
from spa_bench.support.seeds import draw_seed
from spa_bench.tasks.base import Asking
from spa_bench.types import Asked, Begun, Choices, Completion, Decoding, Key, Member, Prompt, Request

LOGS = ("choices.jsonl", "records.jsonl", "divergence.jsonl", "noise.jsonl", "grades.jsonl", "behaviours.jsonl")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quiz is a kind of task, and nobody may ask for a judge."""
    monkeypatch.setitem(registry.TABLES["task"], "quiz", "quiz:build")
    monkeypatch.setattr("spa_bench.runs.grade.make_judge", lambda *_: pytest.fail("a judge was made"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage cache of all runs here: adapters are trained once."""
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def whole(tiny_model: HFModel, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> RunFolder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TABLES["task"], "quiz", "quiz:build")
        return run(tiny_model, tmp_path_factory.mktemp("whole"), cache)


def chosen(folder: RunFolder) -> dict[Key, int | None]:
    return {key: record.choice for key, record in folder.records().items()}


def metrics(folder: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = folder.read_json("metrics.json")
    return content


# the choice ----------------------------------------------------------------------------------------------------------


def test_a_greedy_member_takes_the_most_probable_choice_and_never_one_that_is_only_scored(whole: RunFolder):
    asked = {one.problem_id: one for one in Quiz().asked(None)}
    rows = {c.problem: c for c in whole.choice_log.rows()}
    assert rows.keys() == asked.keys()
    for key, choice in chosen(whole).items():
        if key.problem in rows:
            some = np.array(rows[key.problem].logprobs[key.member][: asked[key.problem].choices])
            assert choice == some.argmax()
        else:
            assert choice is None
    tempting = [p for p, c in rows.items() if np.argmax(c.logprobs[0]) >= asked[p].choices]
    assert tempting, "no option behind the choices is more probable than they are, so nothing was shown"


def test_the_model_goes_on_after_its_choice(whole: RunFolder, tiny_model: HFModel, cache: Path):
    asked = {one.problem_id: one for one in Quiz().asked(None)}
    stage = (whole.read_json("adapters.json") or {})["stage"]
    members = [Member(f"m{k}", cache / stage / f"member-{k}", Decoding()) for k in range(3)]
    decoding = Decoding(max_new_tokens=8, stop=("\n\n",))
    requests = [
        Request(
            problem_id=k.problem,
            member=k.member,
            draw=0,
            kind="generate",
            prompt="".join(asked[k.problem].options[choice]),
            decoding=decoding,
            seed=0,
        )
        for k, choice in chosen(whole).items()
        if choice is not None
    ]
    expected = {c.key: c.text for c in tiny_model.generate(requests, members)}
    assert len(expected) == 12
    assert {k: r.raw for k, r in whole.records().items() if r.choice is not None} == expected


def test_what_members_think_is_kept_for_every_option(whole: RunFolder):
    rows = {c.problem: c for c in whole.choice_log.rows()}
    assert list(rows) == [one.problem_id for one in Quiz().asked(None)]
    even = rows["quiz/even/0"]
    assert np.shape(even.logprobs) == np.shape(even.greedy) == (3, 8)
    assert len(even.tokens) == 8
    assert {name: np.shape(m) for name, m in even.matrices.items()} == dict.fromkeys(
        ("kl[choices]", "js[choices]", "kl[first]", "js[first]"), (3, 3)
    )
    assert {name: np.shape(m) for name, m in even.members.items()} == {"entropy[choices]": (3,), "entropy[first]": (3,)}
    assert even.matrices["kl[choices]"][0][1] > 0


def test_choices_are_drawn_in_proportion_to_the_softmax_at_the_temperature():
    logprobs, temperature = [-1.0, -2.0, -4.0], 1.5
    wanted = np.exp(np.array(logprobs) / temperature)
    wanted /= wanted.sum()
    drawn = Counter(choose(logprobs, temperature, draw_seed(0, "quiz", "p", 0, draw)) for draw in range(20_000))
    np.testing.assert_allclose([drawn[i] / 20_000 for i in range(3)], wanted, atol=4 * np.sqrt(0.25 / 20_000))


def test_of_equal_choices_the_first_is_taken_at_temperature_0():
    assert choose([-2.0, -1.0, -1.0], 0, 7) == 1
    assert {choose([-1.0, -1.0], 1.0, seed) for seed in range(30)} == {0, 1}


def test_a_drawn_choice_depends_on_neither_n_nor_limit_nor_order():
    def begun(prompts: Sequence[Prompt], n: int, task: str = "quiz", seed: int = 0) -> dict[Any, Any]:
        members = [Member(str(k), None, Decoding(temperature=1.0)) for k in range(2)]
        rows = {
            p.problem_id: Choices(
                problem=p.problem_id, logprobs=[[-1.0, -1.1, -1.2]] * 2, greedy=[], tokens=[1, 1, 1], matrices={}, members={}
            )
            for p in prompts
        }
        asked = [Asked(p.problem_id, (("Q", " a"), ("Q", " b"), ("Q", " c")), 3) for p in prompts]
        made = begin(prompts, asked, rows, members=members, n=n, seed=seed, task=task)
        return {(p.problem_id, *place): b for p in made for place, b in p.begun.items()}

    prompts = [Prompt(problem_id=f"p{i}", text="Q", max_new_tokens=8, stop=()) for i in range(9)]
    few, many = begun(prompts, 4), begun(list(reversed(prompts))[:6], 16)
    both = few.keys() & many.keys()
    assert len(both) == 6 * 4
    assert all(few[k] == many[k] for k in both)
    assert {b.choice for b in few.values()} == {0, 1, 2}
    assert few != begun(prompts, 4, seed=1)
    assert few != begun(prompts, 4, task="other")
    assert few["p0", 0, 0].text == "Q" + (" a", " b", " c")[few["p0", 0, 0].choice]


def test_draws_of_a_warm_run_choose_differently_and_verify_knows_why(tiny_model: HFModel, tmp_path: Path, cache: Path):
    folder = run(tiny_model, tmp_path, cache, card=three(temperature=4.0), n=12)
    even = [choice for key, choice in chosen(folder).items() if key.problem == "quiz/even/0" and key.member == 0]
    assert len(even) == 4
    assert len({choice for key, choice in chosen(folder).items() if key.problem == "quiz/even/0"}) > 1
    assert verify(folder, Quiz()) == []


# runs ----------------------------------------------------------------------------------------------------------------


class Stopping:
    """`model`, which is interrupted when so many scores and answers are out."""

    def __init__(self, model: HFModel, after: int):
        self._model, self._left = model, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _counted(self, rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            yield row

    def option_scores(self, *a: Any) -> Iterator[Any]:
        return self._counted(self._model.option_scores(*a))

    def generate(self, *a: Any) -> Iterator[Any]:
        return self._counted(self._model.generate(*a))

    def divergence(self, *a: Any, **named: Any) -> Iterator[Any]:
        return self._counted(self._model.divergence(*a, **named))


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same_bytes(
    temperature: float, tiny_model: HFModel, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spa_bench.models.hf.scorer._ROWS", {"cpu": 6})  # several groups
    monkeypatch.setattr("spa_bench.runs.log._BATCH", 1)
    task, card = Quiz(repeated=2), three(temperature)
    expected = run(tiny_model, tmp_path / "at-once", cache, task, card, noise_floor=True)
    stops = 0
    for after in (0, 3, 9, 36, 39):
        out = tmp_path / f"after-{after}"
        try:
            run(Stopping(tiny_model, after), out, cache, task, card, noise_floor=True)
        except KeyboardInterrupt:
            stops += 1
        folder = run(tiny_model, out, cache, task, card, noise_floor=True)
        for name in (*LOGS, "metrics.json"):
            assert (folder.path / name).read_bytes() == (expected.path / name).read_bytes(), (after, name)
    assert stops == 5


def test_answers_that_are_no_programs_need_no_sandbox(whole: RunFolder):
    assert whole.spec["sandbox"] == "not-needed"
    assert [by["sandbox"] for by in whole.read_json("judged.json")["by"]] == ["not-needed"]


def test_metrics_are_those_of_the_choices(whole: RunFolder):
    content = metrics(whole)
    problems = content["problems"]
    right = [[g.verdict == "passed" for k, g in sorted(whole.grades().items()) if k.problem == p] for p in problems]
    assert content["values"]["pass@1"] == pytest.approx([np.mean(r) for r in right])
    for k in range(3):
        assert content["estimates"][f"pass@1[member={k}]"]["value"] == pytest.approx(np.mean([r[k] for r in right]))
    chances = [1 - (1 - 1 / c) ** 3 if c else None for c in (4, 4, 3, None, 2)]
    assert content["values"]["any_of_n[chance]"] == pytest.approx(chances)
    rows = {c.problem: c for c in whole.choice_log.rows()}
    asked = {one.problem_id: one for one in Quiz().asked(None)}
    takes = {p: best(np.array(c.logprobs)[:, : asked[p].choices]) for p, c in rows.items()}
    for place, problem in enumerate(problems):
        if problem in rows:
            assert content["values"]["distinct[choices]"][place] == len(set(takes[problem]))
            pairs = [takes[problem][i] == takes[problem][j] for i in range(3) for j in range(i)]
            assert content["values"]["agreement[choices]"][place] == pytest.approx(np.mean(pairs))
            kl = np.array(rows[problem].matrices["kl[first]"])
            assert content["values"]["kl[first,i<j]"][place] == pytest.approx(kl[np.triu_indices(3, 1)].mean())
            assert content["values"]["average_kl[i<j]"][place] == content["values"]["kl[first,i<j]"][place]
        else:
            assert content["values"]["distinct[choices]"][place] is None
    assert content["estimates"]["kl[choices]"] == content["estimates"]["kl[choices,i<j]"]
    assert content["values"]["average_kl[i<j]"][problems.index("quiz/open/0")] > 0


def test_metrics_of_syntax_trees_have_no_value_and_say_why(whole: RunFolder):
    content = metrics(whole)
    trees = {n: e for n, e in content["estimates"].items() if "ast" in n or n == "effective_diversity"}
    assert len(trees) > 8
    assert {e["value"] for e in trees.values()} == {None}
    assert all("no programs" in e["reason"] or "answers that are programs" in e["reason"] for e in trees.values())
    assert content["counts"]["invalid"] == 0
    assert content["estimates"]["diversity_score[exact]"]["value"] is not None
    assert content["estimates"]["majority_vote[behaviour]"]["value"] is not None


def test_the_library_s_own_scores_stand_beside_ours(whole: RunFolder, tmp_path: Path):
    own = metrics(whole)["own_scores"]
    each = [scores["quiz"]["acc,none"] for scores in own["members"]]
    assert own["harness"] == "quiz master 1"
    [row] = build_rows(from_runs([whole]))
    told = row.to_json()["metrics"]["own[quiz,acc,none]"]
    assert told["value"] == pytest.approx(np.mean(each))
    assert "quiz master 1" in told["reason"]
    tracked = ended(whole, "finished", samples=False).metrics
    assert tracked["own[quiz,acc,none]"] == told["value"]
    assert not any("alias" in name for name in row.metrics)
    result = from_runs([whole])[0]
    assert check(save(result, tmp_path)) == []


def test_no_task_of_code_can_claim_that_it_needed_no_sandbox(whole: RunFolder, tmp_path: Path):
    result = json.loads(json.dumps(from_runs([whole])[0]))
    result["spec"]["task"]["kind"] = "code"
    faults = check(save(result, tmp_path))
    assert "its spec says that it is judged in 'not-needed', which is no sandbox of ours" in faults


def test_a_run_is_verified_and_a_changed_choice_is_found(tiny_model: HFModel, tmp_path: Path, cache: Path):
    folder = run(tiny_model, tmp_path, cache)
    assert verify(folder, Quiz()) == []
    rows = folder.record_log.rows()
    other = 1 - min(1, rows[0].choice or 0)
    (folder.path / "records.jsonl").unlink()
    folder.record_log.append([replace(rows[0], choice=other), *rows[1:]])
    said = f"the choice of quiz/even/0, member 0, draw 0 is {other}, not {rows[0].choice}"
    assert any(said in fault for fault in verify(folder, Quiz()))
    (folder.path / "choices.jsonl").unlink()
    assert any("has rows for 0 of 4 multiple-choice problems" in fault for fault in verify(folder, Quiz()))


@pytest.mark.slow
def test_choices_are_taken_from_a_run_with_the_same_members(tiny_model: HFModel, tmp_path: Path, cache: Path):
    before = run(tiny_model, tmp_path, cache)

    class Deaf(Stopping):
        def option_scores(self, *a: Any) -> Iterator[Any]:
            raise AssertionError("asked again")

    again = run(Deaf(tiny_model, 10**6), tmp_path, cache, card=three(temperature=0.5), siblings=[before])
    assert again.choice_log.rows() == before.choice_log.rows()
    with pytest.raises(AssertionError, match="asked again"):
        run(Deaf(tiny_model, 10**6), tmp_path, cache, n=6)


def test_a_choice_that_leaves_no_room_to_go_on_is_an_answer():
    member, prompt = (
        Member("m", None, Decoding()),
        Prompt(problem_id="p", text="Q", max_new_tokens=8, stop=(), begun={(0, 0): Begun("Q a", 1)}),
    )

    class Full(MockModel):
        def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
            yield from (
                Completion(key=r.key, text="", tokens=0, finish="skipped", seed=r.seed, failure="no room") for r in requests
            )

    mixture = Mixture("m", [member])
    [found] = mixture.sample(Full(lambda r: ""), [prompt], 1, 0, task="t")
    assert (found.choice, found.failure, found.finish, found.text) == (1, "", "skipped", "")
    assert found.note == "no room"
    [without] = mixture.sample(Full(lambda r: ""), [replace(prompt, begun={})], 1, 0, task="t")
    assert (without.choice, without.failure, without.note) == (None, "no room", None)


def test_the_cause_for_which_no_text_stands_behind_a_choice_is_said(tiny_model: HFModel, tmp_path: Path, cache: Path):
    why = "out of memory with a prompt of 9 tokens: use a smaller dtype or fewer new tokens"

    class Full(Stopping):
        def generate(self, asked: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
            yield from (Completion(key=r.key, text="", tokens=0, finish="failed", seed=r.seed, failure=why) for r in asked)

    folder = run(Full(tiny_model, 10**6), tmp_path, cache)
    rows = folder.record_log.rows()
    there = [record for record in rows if record.choice is not None]
    assert {(r.failure, r.note) for r in there} == {("", why)}
    assert f"{len(there)} with an answer, but {why}" in ending(folder)
    assert "no text behind it" not in ending(folder)
    (folder.path / "records.jsonl").unlink()
    folder.record_log.append([replace(record, note=None) for record in rows])  # as runs of before have it
    grade(folder, Quiz(), Lines(), sandbox=None, workers=1)
    assert f"{len(there)} with a choice but no text behind it" in ending(folder)


def test_the_noise_floor_goes_on_after_the_choice_too(tiny_model: HFModel, tmp_path: Path, cache: Path):
    folder = run(tiny_model, tmp_path, cache, noise_floor=True)
    records, noise = folder.records(), folder.noise_log.rows()
    assert {(r.problem, r.choice) for r in noise} == {(p, records[p, 0, 0].choice) for p, m, _ in records if m == 0}
    assert all(r.raw == records[r.problem, 0, 0].raw for r in noise)


@pytest.mark.parametrize("kind", ["diverse-beam", "one-reply", "oversample-mmr", "oversample-dpp", "verbalized", "guided"])
def test_a_sampler_that_draws_whole_answers_is_refused_before_anything_is_done(kind: str, tmp_path: Path):
    card = sampler_card(kind=kind, options=sampler_kind(kind).options())
    job = Job(sampler=card, task=CARD, n=1, seed=0)
    with pytest.raises(SpaBenchError) as caught:
        generate(job, Quiz(), _Everything(), out=tmp_path / "out", cache=tmp_path / "cache", console=Lines())
    assert str(caught.value).startswith(
        f"quiz is multiple choice, and mock-sampler (kind {kind!r}) cannot continue after a choice"
    )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


class _Everything(MockModel):
    """A model that every kind of sampler can use."""

    def __init__(self) -> None:
        super().__init__(lambda r: "x")

    def diverse_beams(self, *a: Any) -> None: ...

    def check_chat(self) -> None: ...


def test_options_that_do_not_fit_are_refused_before_anything_is_trained(tiny_model: HFModel, tmp_path: Path):
    class Long(Quiz):
        def asked(self, limit: int | None) -> list[Asked]:
            return [replace(one, options=(("x " * 2000, " a"),)) for one in super().asked(limit)]

    with pytest.raises(
        UsageError, match=r"4 of 4 problems do not fit the model's context of 1024 tokens: with option 0, quiz/"
    ):
        generate(
            Job(sampler=three(), task=CARD, n=3, seed=0),
            Long(),
            tiny_model,
            out=tmp_path / "out",
            cache=tmp_path / "cache",
            console=Lines(),
        )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_a_task_may_refuse_a_model_itself(tiny_model: HFModel, tmp_path: Path):
    class Picky(Quiz):
        def asked_by(self, model: Any, limit: int | None) -> Asking:
            raise UsageError(f"{model.name} has no chat template")

    with pytest.raises(UsageError, match="tiny has no chat template"):
        generate(
            Job(sampler=three(), task=CARD, n=3, seed=0),
            Picky(),
            tiny_model,
            out=tmp_path / "out",
            cache=tmp_path / "cache",
            console=Lines(),
        )


def test_choices_without_their_adapters_json_are_not_gone_on_with(tiny_model: HFModel, tmp_path: Path, cache: Path):
    folder = run(tiny_model, tmp_path, cache)
    for name in ("adapters.json", "records.jsonl"):
        (folder.path / name).unlink()
    with pytest.raises(StoreError, match=r"adapters\.json is missing"):
        run(tiny_model, tmp_path, cache)


def test_a_record_without_a_choice_says_nothing_of_it(whole: RunFolder):
    lines = [json.loads(line) for line in (whole.path / "records.jsonl").read_text().splitlines()]
    assert {row["problem"] for row in lines if "choice" in row} == {c.problem for c in whole.choice_log.rows()}
    assert len(lines) == 15


# what a reader sees --------------------------------------------------------------------------------------------------


def test_show_has_a_table_of_choices_and_the_options_of_a_problem(whole: RunFolder):
    listed = show(whole, Quiz(), None)
    assert "agreement" in listed
    content = metrics(whole)
    asked = [i for i, chance in enumerate(content["values"]["any_of_n[chance]"]) if chance is not None]
    assert 0 < len(asked) < len(content["problems"]), "the quiz has problems of both kinds"
    head, _, row = next(block for block in listed.split("\n\n") if "by chance" in block).strip().splitlines()[:3]
    cells = dict(zip(re.split(r"\s{2,}", head.strip()), re.split(r"\s{2,}", row.strip()), strict=True))
    of_choices = [content["values"]["pass@1"][i] for i in asked]
    assert (cells["problems"], cells["accuracy"]) == (str(len(asked)), f"{sum(of_choices) / len(asked):.4g}")
    assert "three, seed 0, by quiz master 1's own scoring:" in listed
    text = show(whole, Quiz(), "quiz/even/0")
    lines = [line for line in text.splitlines() if line.lstrip().startswith(("0  ", "1  ", "2  ", "3  "))]
    choices = [whole.records()["quiz/even/0", k, 0].choice for k in range(3)]
    for k, choice in enumerate(choices):
        assert lines[choice or 0].split()[-3 + k].endswith("*")
        assert f"member {k}, draw 0, option {choice}" in text


def test_the_plan_says_what_is_multiple_choice_and_that_nothing_is_run(tiny_model: HFModel):
    lines = plan_lines(three(), Quiz(), tiny_model, n=3, seeds=[0], limit=None, embedded=False)
    assert any(line.startswith("choices: 4 problems are multiple choice: 24 options") for line in lines)
    assert any("no sandbox is needed" in line for line in lines)


def test_the_command_line_runs_a_quiz_and_verifies_it(call: Call, tiny_folder: Path, tmp_path: Path):
    card = tmp_path / "quiz.toml"
    card.write_text('description = "a quiz"\nkind = "quiz"\nproblems = "mini-code"\nversion = "1"\n')
    options = ["--task", card, "--model", tiny_folder, "--threads", 1, "--device", "cpu", "--out", tmp_path / "runs", "--n", 2]
    done = call("run", "--sampler", "base", *options)
    assert done.code == 0, done.err
    assert "by chance" in done.out
    assert "own scoring" in done.out
    [folder] = (tmp_path / "runs").iterdir()
    refused = call("run", "--sampler", "one-reply", *options)
    assert "cannot continue after a choice" in refused.err.splitlines()[-1]
    rows = json.loads(call("run", "--sampler", "base", *options, "--json").out)
    assert rows[0]["metrics"]["own[quiz,acc,none]"]["value"] is not None
    assert call("show", folder).code == 0
