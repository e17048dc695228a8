"""Runs of tasks without a right answer, from samples or draws to boards, gate and verify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import Call
from openai_server import NO_KEY, Served
from spa_bench.compare.gate import check as gate_check
from spa_bench.compare.leaderboard import build_rows, find_results, markdown, save, table
from spa_bench.compare.leaderboard.check import check
from spa_bench.compare.leaderboard.compare import compare_with_reference, front_of, summary
from spa_bench.errors import DataError, SpaBenchError, StoreError, UsageError
from spa_bench.metrics.suite import Metric, Samples
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.publish.export import export
from spa_bench.publish.report.data import read
from spa_bench.publish.report.write import ReportOptions, write_report
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.options import GradeOptions, JudgeOptions, RunOptions, ScoreOptions
from spa_bench.runs.own_metrics import values_of
from spa_bench.runs.perform import grade_runs, run, score
from spa_bench.runs.reopen import task_of
from spa_bench.runs.verify import verify

# two prompts in NoveltyBench's file shape, and four answers to each
PROMPTS = [{"id": "city", "prompt": "Name a city."}, {"id": "colour", "prompt": "Name a colour."}]
GENERATIONS = [
    {"id": "city", "prompt": "Name a city.", "model": "m", "generations": ["Paris", "paris.", "Rome", "Oslo"]},
    {"id": "colour", "prompt": "Name a colour.", "model": "m", "generations": ["Blue."] * 4},
]
SCORES = [
    *({"id": "city", "answer": a, "score": s} for a, s in (("Paris", 8), ("Rome", 5), ("Oslo", 10))),
    {"id": "colour", "answer": "blue", "score": 6},
]
# By hand, with exact equivalence, p = 0.8 and k = 4, so that the weights 1, 0.8, 0.64, 0.512 add up to 2.952:
#   city:   classes 0 0 1 2, distinct_k 3, utility_k (8 + 0 + 0.64 * 5 + 0.512 * 10) / 2.952 = 16.32 / 2.952 = 5.528455285
#   colour: classes 0 0 0 0, distinct_k 1, utility_k 6 / 2.952 = 2.032520325
# distinct_k is 2 in the mean, utility_k 3.780487805, and quality the mean of (8 + 8 + 5 + 10) / 4 and 6, which is 6.875.
BY_HAND = {"distinct_k": 2.0, "utility_k": 3.780487805, "quality[judged]": 6.875}


def lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The card of the two prompts, with the scores in a file."""
    lines(tmp_path / "prompts.jsonl", PROMPTS)
    lines(tmp_path / "scores.jsonl", SCORES)
    path = tmp_path / "two.toml"
    path.write_text('kind = "open"\nversion = "1"\n[options]\nprompts = "prompts.jsonl"\n', encoding="utf-8")

    return path


def scored(card: Path, rows: Sequence[object] = GENERATIONS, name: str = "theirs", **options: Any) -> RunFolder:
    """The run folder of samples, with options of the task."""
    samples = lines(card.parent / f"{name}.jsonl", rows)
    settings = tuple(f"task.options.{key}={json.dumps(value)}" for key, value in options.items())
    return score(str(card), [samples], ScoreOptions(out=card.parent / "runs", settings=settings, quiet=True))


def by_scores(card: Path, rows: Sequence[object] = GENERATIONS, name: str = "theirs") -> RunFolder:
    return scored(card, rows, name, quality="file", scores=str(card.parent / "scores.jsonl"))


def judged(card: Path, replies: Sequence[object], **options: Any) -> RunFolder:
    """The run folder of samples that the mock engine judges with these replies."""
    settings = [f"replies={lines(card.parent / 'replies.jsonl', replies)}"]
    return scored(card, judge_engine="mock", judge_settings=settings, **options)


def test_a_run_of_the_benchmarks_file_shape_has_the_numbers_worked_out_by_hand(card: Path):
    folder = by_scores(card)
    found = folder.metrics()["estimates"]
    assert {name: found[name]["value"] for name in BY_HAND} == pytest.approx(BY_HAND)
    assert folder.metrics()["values"]["distinct_k[class]"] == [3, 1]
    assert folder.metrics()["values"]["utility_k[class]"] == pytest.approx([16.32 / 2.952, 6 / 2.952])
    assert (found["pass@1"]["value"], found["pass@1"]["reason"][:15]) == (None, "no right answer")
    assert folder.metrics()["verdicts"] == {"unjudged": 8}
    by_problem: dict[str, list[str]] = {}
    for behaviour in folder.behaviour_log.rows():
        by_problem.setdefault(behaviour.problem, []).append(behaviour.digest)
    assert [len(set(digests)) for digests in by_problem.values()] == [3, 1]
    assert verify(folder, task_of(folder)) == []


def test_patience_is_that_of_the_card(card: Path):
    folder = scored(card, quality="file", scores=str(card.parent / "scores.jsonl"), patience=0.5)
    # weights 1, 0.5, 0.25, 0.125, together 1.875
    assert folder.metrics()["values"]["utility_k[class]"] == pytest.approx([(8 + 0.25 * 5 + 0.125 * 10) / 1.875, 6 / 1.875])


def test_without_quality_utility_is_null_with_the_reason(card: Path):
    found = scored(card).metrics()["estimates"]
    assert found["distinct_k"]["value"] == 2
    for name in ("utility_k", "quality[judged]"):
        assert found[name]["value"] is None
        assert found[name]["reason"].startswith("no quality is judged")


def test_an_answer_without_a_text_adds_nothing_to_any_metric(card: Path):
    """It would look like one more text in Vendi scores and counts, and would take from self-BLEU what the others repeat."""
    empty = [{**g, "generations": [*g["generations"][:2], " ", ""]} for g in GENERATIONS]  # type: ignore[misc, index]
    full = [{**g, "generations": g["generations"][:2]} for g in GENERATIONS]  # type: ignore[index]
    found, wanted = (scored(card, rows, name).metrics()["values"] for rows, name in ((empty, "empty"), (full, "full")))
    for name in ("vendi[ngram,q=1]", "self_bleu", "distinct[n=1]", "distinct_k[exact]", "distinct_k[class]"):
        assert found[name] == wanted[name], name


def test_a_prompt_to_which_nothing_was_answered_has_utility_0(card: Path):
    rows = [GENERATIONS[0], {**GENERATIONS[1], "generations": [""] * 4}]
    folder = by_scores(card, rows)
    assert folder.metrics()["values"]["utility_k[class]"] == pytest.approx([16.32 / 2.952, 0])
    assert folder.metrics()["values"]["distinct_k[class]"] == [3, 0]
    assert folder.metrics()["values"]["quality[judged]"] == [7.75, None]
    assert verify(folder, task_of(folder)) == []


def test_half_a_surrogate_pair_is_compared_by_models_as_the_sign_that_stands_for_it(card: Path):
    rows = [{**GENERATIONS[0], "generations": ["\ud800", "Rome"]}, {**GENERATIONS[1], "generations": ["red", "\udfff red"]}]
    folder = scored(card, rows, equivalence="embedding", embedder=EMBEDDED, threshold=-1.0)
    assert folder.metrics()["values"]["distinct_k[class]"] == [1, 1]
    options = {"equivalence": "judge", "judge": EMBEDDED, "judge_tokens": 1, "most_unread": 1.0}
    assert scored(card, rows, **options).metrics()["verdicts"] == {"unjudged": 4}


def test_samples_of_another_version_of_the_prompts_are_refused(card: Path):
    other = [{**GENERATIONS[0], "prompt": "Name a town."}, GENERATIONS[1]]
    with pytest.raises(DataError, match="line 1: city is another prompt in task two"):
        scored(card, other)
    with pytest.raises(DataError, match="line 3 repeats the id 'city'; a row has all answers to its prompt"):
        scored(card, [*GENERATIONS, GENERATIONS[0]])
    with pytest.raises(DataError, match="has no problem 'town'"):
        scored(card, [{**GENERATIONS[0], "id": "town"}])


def test_a_judge_is_asked_once_and_its_replies_are_in_the_run(card: Path):
    """Draw 2 (Rome) is the same as what was before it, draw 3 (Oslo) is not; every answer has the quality 7."""
    replies = [
        {"text": "Yes", "problem": "city", "draw": 2},
        {"text": "No", "problem": "city", "draw": 3},
    ]
    folder = judged(card, replies, equivalence="judge")
    assert folder.metrics()["values"]["distinct_k[class]"] == [2, 1]
    rows = folder.judgement_log.rows()
    assert [(r.problem, r.asks, r.reply, r.said) for r in rows] == [
        ("city", "same", "Yes", "yes"),
        ("city", "same", "No", "no"),
    ]
    about = folder.read_json("judge.json")
    assert about is not None
    assert about["judge"]["name"] == "mock"
    before = (folder.path / "judgements.jsonl").read_bytes()
    classes = (folder.path / "behaviours.jsonl").read_bytes()
    for name in ("grades.jsonl", "behaviours.jsonl", "judged.json", "metrics.json"):
        (folder.path / name).unlink()
    lines(card.parent / "replies.jsonl", [{"text": "nonsense"}])  # it would be refused if it were asked
    grade_runs([folder.path], GradeOptions(judge=JudgeOptions()))
    assert (folder.path / "judgements.jsonl").read_bytes() == before
    assert (folder.path / "behaviours.jsonl").read_bytes() == classes
    assert verify(folder, task_of(folder)) == []


def test_a_grading_that_was_stopped_asks_what_is_missing_and_ends_the_same(card: Path):
    replies = [{"text": "No"}, {"text": "Yes", "problem": "city", "draw": 3}]
    folder = judged(card, replies, equivalence="judge")
    whole = {name: (folder.path / name).read_bytes() for name in ("judgements.jsonl", "behaviours.jsonl", "grades.jsonl")}
    kept = whole["judgements.jsonl"].splitlines(keepends=True)[:1]
    (folder.path / "judgements.jsonl").write_bytes(kept[0] + b'{"problem": "ci')  # killed within the second line
    (folder.path / "grades.jsonl").write_bytes(whole["grades.jsonl"].splitlines(keepends=True)[0])
    for name in ("behaviours.jsonl", "metrics.json"):
        (folder.path / name).unlink()
    grade_runs([folder.path], GradeOptions(judge=JudgeOptions()))
    assert {name: (folder.path / name).read_bytes() for name in whole} == whole


def test_what_the_judge_takes_is_counted_apart_from_the_run_and_over_parts(card: Path, served: Served):
    options = [f"base_url={served.url}", f"api_key_env={NO_KEY}", "price_in=1", "price_out=2"]
    asked = {"equivalence": "judge", "most_unread": 1.0, "judge": "toy", "judge_engine": "openai", "judge_settings": options}
    folder = scored(card, **asked)
    rows = folder.judgement_log.rows()
    spent = folder.timings()["judge_spent"]
    assert len(rows) == 3  # paris-rome, paris-oslo, rome-oslo
    assert sum(row.tokens for row in rows) > 0
    assert spent["calls"] > len(rows)  # a probe of the server comes before
    assert spent["new_tokens"] > sum(row.tokens for row in rows)
    assert spent["cost"] == pytest.approx((spent["prompt_tokens"] + 2 * spent["new_tokens"]) / 1e6)
    assert "spent" not in folder.timings()
    log = folder.path / "judgements.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))  # stopped before the third reply
    for name in ("grades.jsonl", "behaviours.jsonl", "judged.json", "metrics.json"):
        (folder.path / name).unlink()
    grade_runs([folder.path], GradeOptions(judge=JudgeOptions()))
    assert folder.judgement_log.rows() == rows
    assert spent["cost"] < folder.timings()["judge_spent"]["cost"] < 2 * spent["cost"]


def test_a_judged_quality_gives_utility(card: Path):
    folder = judged(card, [{"text": "[[7]]"}], quality="judge")
    assert folder.metrics()["estimates"]["quality[judged]"]["value"] == 7
    assert folder.metrics()["values"]["utility_k[class]"] == pytest.approx([7 * (1 + 0.64 + 0.512) / 2.952, 7 / 2.952])


def test_replies_without_a_verdict_stop_grading_and_another_judge_is_not_mixed_in(card: Path):
    with pytest.raises(DataError, match="3 of 3 replies of the judge hold no verdict"):
        judged(card, [{"text": "hmm"}], equivalence="judge")
    [path] = (card.parent / "runs").iterdir()
    assert not (path / "metrics.json").exists()
    rows = (path / "judgements.jsonl").read_text().splitlines()
    (path / "judgements.jsonl").write_text("\n".join(rows[:1]) + "\n")  # as if it had been stopped there
    with pytest.raises(StoreError, match=r"the judge was 'mock' .* and is 'mock'"):
        judged(card, [{"text": "no"}], equivalence="judge")
    (path / "judge.json").unlink()
    with pytest.raises(StoreError, match=r"judge\.json is missing"):
        judged(card, [{"text": "no"}], equivalence="judge")


def test_some_replies_without_a_verdict_are_counted(card: Path):
    replies = [{"text": "No"}, {"text": "hmm", "problem": "city", "draw": 3}]
    folder = judged(card, replies, equivalence="judge", most_unread=0.7)
    assert folder.metrics()["marks"] == {"no verdict": 1}
    assert folder.metrics()["values"]["distinct_k[class]"] == [3, 1]


def test_embeddings_of_a_model_compare_answers(card: Path):
    folder = scored(card, equivalence="embedding", embedder=EMBEDDED, threshold=-1.0)
    assert folder.metrics()["values"]["distinct_k[class]"] == [1, 1]
    about = folder.read_json("judge.json")
    assert about is not None
    assert about["embedder"]["name"] == EMBEDDED


def drawn(tmp_path: Path, sampler: str, **changes: Any) -> RunFolder:
    options = RunOptions(engine="mock", limit=6, out=tmp_path / "runs", quiet=True, **changes)
    [folder] = run(sampler, "open-mini", options)
    return folder


def test_draws_of_members_are_run_by_the_mock_engine(tmp_path: Path):
    folder = drawn(tmp_path, "seeds", n=4)
    content = folder.metrics()
    assert content["verdicts"] == {"unjudged": 24}
    assert content["estimates"]["distinct_k"]["n"] == 6
    assert content["estimates"]["average_kl"]["value"] is None  # there is no reference to read
    assert not any(name.startswith("pass@1[member") for name in content["values"])
    assert verify(folder, task_of(folder)) == []


ANSWERS = ("Paris", "Rome", "Oslo", "Lima")


def board(card: Path) -> list[Any]:
    """Two samplers: one whose answers all differ, one that repeats itself."""
    made = {
        "wide": [{"id": p["id"], "generations": [f"{a} {p['id']}" for a in ANSWERS]} for p in PROMPTS],
        "narrow": [{"id": p["id"], "generations": [f"Paris {p['id']}"] * 4} for p in PROMPTS],
    }
    every = [{"id": p["id"], "answer": f"{a} {p['id']}", "score": 6 + i} for p in PROMPTS for i, a in enumerate(ANSWERS)]
    lines(card.parent / "scores.jsonl", every)
    for name, rows in made.items():
        by_scores(card, rows, name)
    return build_rows(find_results([card.parent / "runs"]))


def test_a_board_is_sorted_by_utility_and_its_columns_are_those_of_open_tasks(card: Path):
    rows = board(card)
    assert [row.label for row in rows] == ["wide", "narrow"]
    page = markdown(rows, reference="wide", command="x")
    [head] = {line for line in page.splitlines() if line.startswith("| sampler") and "utility_k" in line}
    assert "pass@1" not in head
    assert "| distinct_k" in head
    assert "No signal" not in page
    assert "judged quality / 10, distinct_k / n" in page
    [against] = compare_with_reference(rows, "wide")
    assert against.decisions["distinct_k"].difference.value == 3
    assert "distinct_k" in against.sentence("wide")
    assert "at equal quality" in summary([against], "wide")
    front = front_of(rows)
    assert front is not None
    # quality / 10 and classes / 4: (0.75, 1) and (0.6, 0.25)
    assert front[0].hypervolume.value == pytest.approx(0.75)


def test_a_board_without_quality_has_the_columns_of_diversity_alone(card: Path):
    scored(card)
    scored(card, [{"id": p["id"], "generations": ["a", "b", "c", "d"]} for p in PROMPTS], "wide")
    rows = build_rows(find_results([card.parent / "runs"]))
    assert [row.label for row in rows] == ["wide", "theirs"]
    [head, *_] = table(rows).splitlines()
    assert ("distinct_k" in head, "utility_k" in head, "quality" in head) == (True, False, False)
    found = compare_with_reference(rows, "wide")
    assert found[0].sentence("wide").startswith("wide against theirs: no quality is judged;")
    assert summary(found, "wide") == "No quality is judged: nothing is said at equal quality."
    assert front_of(rows) is None


def test_a_result_of_an_open_task_is_found_free_of_contradictions_and_a_wrong_one_is_not(card: Path, tmp_path: Path):
    board(card)
    for result in find_results([card.parent / "runs"]):
        path = save(result, tmp_path / "results")
        assert check(path) == []
        broken = json.loads(json.dumps(result))
        broken["runs"][0]["values"]["utility_k[class]"][0] = 11.0
        assert any("utility_k[class]" in fault for fault in check(save(broken, tmp_path / "broken")))
        faked = json.loads(json.dumps(result))
        faked["runs"][0]["values"]["pass@1"] = [1.0] * 2
        assert any(
            fault.endswith("pass@1 is null for 0 of 2 problems; all must be null here")
            for fault in check(save(faked, tmp_path / "faked"))
        )


def test_the_gate_sees_answers_that_become_alike(tmp_path: Path):
    """The baseline draws at temperature 1; at temperature 0 all answers to a problem are one."""
    options = RunOptions(engine="mock", n=4, quiet=True, out=tmp_path / "before", seeds=(0, 1, 2, 3, 4))
    run("base", "open-mini", options)
    assert gate_check(tmp_path / "before", save_all(tmp_path / "before", tmp_path / "b")).ok
    run("base", "open-mini", replace(options, out=tmp_path / "now", seeds=(5, 6), settings=("decoding.temperature=0",)))
    verdict = gate_check(tmp_path / "now", save_all(tmp_path / "before", tmp_path / "b"), metrics=["distinct_k"])
    [line] = [line for subject in verdict.subjects for line in subject.red]
    assert (line.metric, line.now) == ("distinct_k[class]", 1)


def save_all(runs: Path, folder: Path) -> Path:
    for result in find_results([runs]):
        save(result, folder)
    return folder


def test_commands_on_a_run_of_an_open_task(tmp_path: Path, call: Call):
    folder = drawn(tmp_path, "base", n=4)
    board = call("leaderboard", tmp_path / "runs", "--at-equal", "tokens")
    assert (board.code, "distinct_k" in board.out, "| pass@1" in board.out) == (0, True, False)
    listed = call("show", folder.path)
    assert (listed.code, "4 unjudged" in listed.out) == (0, True)
    one = call("show", folder.path, "--problem", folder.record_log.rows()[0].problem)
    assert (one.code, "class 1 of" in one.out) == (0, True)


def test_a_page_of_open_runs_has_classes_and_no_pass_rate(card: Path, tmp_path: Path):
    pytest.importorskip("altair")
    board(card)
    [path, *_] = write_report([card.parent / "runs"], ReportOptions(out=tmp_path / "page"), lambda _: None)
    page = path.read_text()
    assert "utility k" in page
    assert "pass@1</" not in page
    assert [p.passed() for p in read([card.parent / "runs"]).problems] == [(0, 0), (0, 0)]


def test_exports_of_verdicts_refuse_answers_that_are_neither_right_nor_wrong(card: Path, tmp_path: Path):
    folder = by_scores(card)
    task = task_of(folder)
    for form in ("every-eval-ever", "lm-eval-results"):
        with pytest.raises(UsageError, match="neither right nor wrong"):
            export(folder, task, to=form, out=tmp_path / form)
    export(folder, task, to="inspect", out=tmp_path / "inspect")
    [log] = (tmp_path / "inspect" / "logs").glob("*.json")
    scores = [sample["scores"] for sample in json.loads(log.read_text())["samples"]]
    assert [next(iter(score.values()))["value"] for score in scores] == [8, 8, 5, 10, 6, 6, 6, 6]


def test_an_exported_run_is_compared_by_another_rule_without_being_drawn_again(card: Path, tmp_path: Path):
    folder = by_scores(card)
    export(folder, task_of(folder), to="noveltybench", out=tmp_path / "theirs")
    rows = [json.loads(line) for line in (tmp_path / "theirs" / "generations.jsonl").read_text().splitlines()]
    assert [(row["id"], row["generations"]) for row in rows] == [(g["id"], g["generations"]) for g in GENERATIONS]
    # as its partition.py writes them; `distinct` is the largest number of a class
    partitions = [{**row, "partition": p, "distinct": max(p)} for row, p in zip(rows, ([0, 0, 1, 1], [0] * 4), strict=True)]
    classes = str(lines(tmp_path / "partitions.jsonl", partitions))
    again = scored(card, rows, "again", equivalence="file", classes=classes)
    assert again.metrics()["values"]["distinct_k[class]"] == [2, 1]
    assert verify(again, task_of(again)) == []


def test_a_pilot_without_right_answers_asks_for_another_metric(card: Path, call: Call):
    one, other = scored(card), scored(card, [{"id": p["id"], "generations": ["a", "b", "c", "d"]} for p in PROMPTS], "wide")
    said = call("power", "--pilot", one.path, other.path).error()
    assert (
        said
        == f"{one.path} has no value of pass@1 for any problem; give --metric with one that it has, such as diversity_score"
    )
    assert call("power", "--pilot", one.path, other.path, "--metric", "distinct_k").code == 0


def test_a_result_of_open_mini_is_recomputed_from_its_samples(tmp_path: Path, call: Call):
    drawn(tmp_path, "base", n=4)
    place = tmp_path / "open-mini.json"
    assert call("leaderboard", tmp_path / "runs", "--save", place, "--samples", "--measured-by", "me").code == 0
    done = call("leaderboard", place, "--submit", "--from-samples", "regrade")
    assert (done.code, "complete and consistent" in done.out) == (0, True), done.out
    [row] = json.loads(call("leaderboard", place, "--json").out)
    assert row["metrics"]["distinct_k[class]"]["value"] is not None
    assert row["metrics"]["pass@1"]["reason"].startswith("no right answer")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"equivalence": "judge", "judge": "nope"}, "cannot load model 'nope'"),
        ({"quality": "judge", "judge": "x", "judge_engine": "nope"}, "unknown engine 'nope'"),
        ({"quality": "judge", "judge_engine": "openai"}, "the judge: engine openai needs the name of a model"),
        ({"quality": "judge", "judge_engine": "mock", "judge_settings": ["replys=x"]}, "unknown key 'engine.replys'"),
        ({"equivalence": "embedding", "embedder": "nope"}, "cannot load model 'nope'"),
    ],
)
def test_a_judge_that_cannot_be_had_is_told_before_anything_is_drawn(tmp_path: Path, options: dict[str, Any], said: str):
    settings = tuple(f"task.options.{key}={json.dumps(value)}" for key, value in options.items())
    with pytest.raises(SpaBenchError, match=said):
        drawn(tmp_path, "base", n=2, settings=settings)
    assert not (tmp_path / "runs").exists()


def test_a_users_metric_of_right_answers_is_null_too():
    one = Samples(
        problem="p", texts=["a"], programs=None, passed=[False], failed=[False], members=1, k=1, judged=False
    )  # fmt: skip
    share = Metric(name="share", description="", compute=lambda s: float(sum(s.passed)), of_verdicts=True)
    assert values_of(share, [one, replace(one, judged=True, passed=[True])]) == [None, 1.0]
    assert values_of(replace(share, of_verdicts=False), [one]) == [0.0]
