"""Tasks without a right answer: prompts, classes of answers, their quality, and what a judge's replies become."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError, DataError, UsageError
from spa_bench.metrics.novelty import partition
from spa_bench.runs.job import load_task, prompted
from spa_bench.tasks.base import TextsTask
from spa_bench.tasks.judgement import Judgement
from spa_bench.tasks.open_ended.asking import Appraiser, JudgeModel, Question, fill, rating, read_template, yes_or_no
from spa_bench.tasks.open_ended.partition import Pair, in_rounds, name_of, normal
from spa_bench.tasks.open_ended.prompts import read_prompts
from spa_bench.tasks.open_ended.tables import REWARDS, score_of_reward
from spa_bench.tasks.open_ended.task import OpenTask
from spa_bench.types import Key, Record, Verdict

PROMPTS = [{"id": "city", "prompt": "Name a city.", "category": "facts"}, {"id": "colour", "prompt": "Name a colour."}]


def lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def card_at(folder: Path, **options: object) -> Path:
    """A card of the two PROMPTS with these options."""
    lines(folder / "prompts.jsonl", PROMPTS)
    said = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {"prompts": "prompts.jsonl", **options}.items())
    card = folder / "two.toml"
    card.write_text(f'kind = "open"\nversion = "1"\nmax_new_tokens = 16\n[options]\n{said}', encoding="utf-8")
    return card


def task_at(folder: Path, **options: object) -> OpenTask:
    loaded = load_task(load_task_card(str(card_at(folder, **options))))
    assert isinstance(loaded, OpenTask)
    return loaded


def records(answers: Mapping[str, Sequence[str]]) -> list[Record]:
    return [
        Record(problem=problem, member=0, draw=draw, raw=text, graded=text.strip(), finish="stop", tokens=1, seed=0)
        for problem, texts in answers.items()
        for draw, text in enumerate(texts)
    ]


class Judge:
    """An Appraiser whose judge is a function of a question; it counts the questions."""

    def __init__(self, answers: Sequence[Record], reply: Callable[[Question], str] = lambda _: "", vectors: Any = None):
        self.records, self._reply, self._vectors, self.asked = answers, reply, vectors or {}, list[Question]()

    def judgements(self, questions: Sequence[Question], judge: JudgeModel) -> list[Judgement]:
        self.asked += questions
        each = [(q, self._reply(q)) for q in questions]
        return [
            Judgement(problem=q.problem, asks=q.asks, first=q.first, second=q.second, reply=r, said=q.read(r)) for q, r in each
        ]

    def vectors(self, texts: Sequence[str], embedder: str) -> list[NDArray[np.float32]]:
        return [np.asarray(self._vectors[text], np.float32) for text in texts]


def classes(task: OpenTask, answers: Sequence[Record], judge: Judge | None = None) -> dict[str, list[int]]:
    """Problem -> the number of each answer's class, by `appraise`."""
    known = task.appraise(answers, judge)
    found: dict[str, list[int]] = {}
    for record in answers:
        found.setdefault(record.problem, []).append(known[record.key].place)
    return found


# prompts -------------------------------------------------------------------------------------------------------------


def test_the_shipped_prompts_are_40_of_four_kinds():
    problems, found = read_prompts("open-mini")
    assert found == "open-mini"
    assert Counter(p.tags for p in problems) == {("creative",): 10, ("advice",): 10, ("random",): 10, ("facts",): 10}
    assert len({p.prompt for p in problems}) == len({p.id for p in problems}) == 40


def test_the_shipped_card_and_those_of_the_benchmark_are_open_tasks():
    assert len(load_task(load_task_card("open-mini")).problems) == 40
    for split in ("curated", "wildchat"):
        card = load_task_card(f"noveltybench-{split}")
        assert card.kind == "open"
        assert f"hub:yimingzhang/novelty-bench:{split}" in repr(card.options)


def test_the_sets_of_the_benchmark_are_read_from_the_hub(monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    rows = [{"id": "curated-0", "prompt": "Tell me a joke."}, {"id": "curated-1", "prompt": " "}]
    asked = {("yimingzhang/novelty-bench", "curated"): rows}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, *, split, revision: asked[name, split])
    task = load_task(load_task_card("noveltybench-curated"))
    assert [p.id for p in task.problems] == ["curated-0"]
    assert task.found == "hub:yimingzhang/novelty-bench:curated (1 rows with a blank prompt are left out)"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "holds no prompts"),
        ([{"id": "a", "prompt": "  "}], "holds no prompts"),
        ([{"id": "a"}], "line 1 lacks the text 'prompt'; a row of prompts has id and prompt, and this one has the keys id"),
        ([{"prompt": "x"}], "line 1 lacks the text 'id'"),
        ([["x"]], "line 1 lacks the text 'id'"),
        ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], "line 2 repeats the id 'a'"),
        ([{"id": "a", "prompt": "x", "category": 3}], "line 1: category is 3; it must be a text"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused(tmp_path: Path, rows: list[object], said: str):
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read_prompts(str(lines(tmp_path / "p.jsonl", rows)))


def test_a_prompt_goes_by_the_chat_template_where_there_is_one_and_is_continued_elsewhere(tmp_path: Path):
    card = load_task_card(str(card_at(tmp_path, continued="Q: {prompt}\nA:")))
    assert card.prompt == "auto"
    plain, chat = (load_task(one).asked_by(_Named(), 1).prompts[0] for one in prompted(card))
    assert (plain.text, plain.messages) == ("Q: Name a city.\nA:", ())
    assert chat.messages == (("user", "Name a city."),)


class _Named:
    name = "m"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"equivalence": "exakt"}, "options.equivalence is 'exakt'; choose one of exact, embedding, judge, file"),
        ({"quality": "good"}, "options.quality is 'good'; choose one of none, judge, file"),
        ({"equivalence": "embedding"}, "options.embedder is missing with equivalence = 'embedding'"),
        ({"equivalence": "file"}, "options.classes is missing with equivalence = 'file'"),
        ({"classes": "c.jsonl"}, "plays no part with equivalence = 'exact'"),
        ({"quality": "file"}, "options.scores is missing with quality = 'file'"),
        ({"equivalence": "judge"}, "options.judge is missing"),
        ({"judge": "smollm2"}, "nothing is asked of it"),
        ({"threshold": 2.0}, "threshold is 2.0; a cosine lies between -1 and 1"),
        ({"patience": 0.0}, "patience is 0.0"),
        ({"most_unread": 3.0}, "most_unread is 3.0"),
        ({"judge_tokens": 0}, "judge_tokens is 0"),
        ({"continued": "x"}, "continued has no {prompt}"),
        ({"prompts": ""}, "options.prompts is missing"),
        ({"same_template": "no-such"}, "same_template is 'no-such': neither a path of yours"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(tmp_path: Path, options: dict[str, object], said: str):
    if "same_template" in options:
        options |= {"equivalence": "judge", "judge": "m"}
    with pytest.raises(CardError, match=said.replace("{", r"\{")):
        task_at(tmp_path, **options)


def test_a_key_of_code_tasks_is_refused_but_for_those_of_prompts(tmp_path: Path):
    card = card_at(tmp_path)
    assert load_task_card(str(card), {"prompt": "completion"}).prompt == "completion"
    with pytest.raises(CardError, match="suites plays a part for kind 'code' alone"):
        load_task_card(str(card), {"suites": ["base"]})
    with pytest.raises(CardError, match=r"the prompts of kind 'open' are options\.prompts"):
        load_task_card(str(card), {"file": "prompts.jsonl"})


# exact equivalence ---------------------------------------------------------------------------------------------------


def test_case_white_space_and_marks_at_the_ends_do_not_tell_answers_apart():
    same = ["Blue", " blue.", "**Blue**", "“BLUE”!", "Ｂｌｕｅ", "blue\n"]
    assert {normal(text) for text in same} == {"blue"}
    assert len({name_of(text) for text in same}) == 1
    assert normal("light  \n blue") == "light blue"
    assert (normal(" ?! "), normal("...")) == ("?!", "...")
    assert len({name_of(text) for text in ("blue", "light blue", "blue?no", "bleu")}) == 4


def test_no_answer_is_right_or_wrong_and_each_has_a_class(tmp_path: Path):
    task = task_at(tmp_path)
    answers = records({"city": ["Paris", "paris.", "Rome", "", "Oslo"], "colour": ["Rome"] * 2})
    grades = list(task.score(answers, None))
    assert {g.verdict for g in grades} == {Verdict.UNJUDGED}
    assert [g.message for g in grades[:5]] == [
        "class 1 of 3", "class 1 of 3", "class 2 of 3", "the answer is empty", "class 3 of 3",
    ]  # fmt: skip
    assert [g.mark for g in grades[:5]] == ["", "", "", "no text", ""]
    assert {g.quality for g in grades} == {None}
    digests = [b.digest for b in task.behave(answers, None)]
    assert digests[0] == digests[1]
    assert digests[3] == ""
    assert len({*digests[:5]}) == 4
    assert isinstance(task, TextsTask)


def test_a_failed_answer_has_no_class(tmp_path: Path):
    [record] = records({"city": ["Paris"]})
    [grade] = task_at(tmp_path).score([replace(record, failure="no room")], None)
    assert (grade.verdict, grade.message, grade.mark) == (Verdict.UNJUDGED, "no room", "")


# partitions ----------------------------------------------------------------------------------------------------------


def test_classes_are_those_of_the_benchmarks_greedy_loop_for_every_relation_of_five_answers():
    """An answer joins the first class whose first member it is the same as, whether or not the relation is transitive."""
    texts = list("abcde")
    pairs = list(itertools.combinations(range(5), 2))
    for bits in range(2 ** len(pairs)):
        related = {pair for i, pair in enumerate(pairs) if bits >> i & 1}

        def same(asked: Sequence[Pair], related: set[tuple[int, int]] = related) -> list[bool]:
            return [(p.first, p.other) in related for p in asked]

        wanted = partition(range(5), lambda first, other, related=related: (first, other) in related)
        assert in_rounds({"p": texts}, same) == {"p": wanted}


def test_equal_answers_are_asked_about_once_and_problems_together():
    rounds: list[list[Pair]] = []

    def same(pairs: Sequence[Pair]) -> list[bool]:
        rounds.append(list(pairs))
        return [False] * len(pairs)

    found = in_rounds({"p": ["a", "A.", "b"], "q": ["x", "y", "z"], "r": []}, same)
    assert found == {"p": [0, 0, 1], "q": [0, 1, 2], "r": []}
    assert rounds == [[Pair("p", 0, 2), Pair("q", 0, 1), Pair("q", 0, 2)], [Pair("q", 1, 2)], []]


def test_a_partition_by_embeddings_takes_the_threshold_as_the_least_cosine(tmp_path: Path):
    answers = records({"city": ["a", "b", "c"], "colour": ["a"]})
    rows = {"a": (2.0, 0.0), "b": (3.0, 4.0), "c": (0.0, 1.0)}  # cosines: ab 0.6, ac 0, bc 0.8
    judge = Judge(answers, vectors=rows)
    options = {"equivalence": "embedding", "embedder": "mini"}
    assert classes(task_at(tmp_path, threshold=0.59, **options), answers, judge)["city"] == [0, 0, 1]
    # a and b are two now, and c is compared with b, which opened a class
    assert classes(task_at(tmp_path, threshold=0.61, **options), answers, judge)["city"] == [0, 1, 1]
    assert classes(task_at(tmp_path, threshold=0.81, **options), answers, judge)["city"] == [0, 1, 2]


# a judge -------------------------------------------------------------------------------------------------------------


def test_the_judge_sees_prompt_and_answers_and_its_yes_joins_them(tmp_path: Path):
    answers = records({"city": ["Paris", "the capital of France", "Rome"], "colour": ["red"]})
    judge = Judge(answers, lambda q: "Yes." if "capital" in q.text and "Paris" in q.text else "no")
    task = task_at(tmp_path, equivalence="judge", judge="m")
    assert classes(task, answers, judge) == {"city": [0, 0, 1], "colour": [0]}
    assert [q.problem for q in judge.asked] == ["city", "city"]
    first = judge.asked[0].text
    assert first.index("Name a city.") < first.index("Paris") < first.index("the capital of France")


def test_grading_some_answers_knows_the_others_to_their_problem(tmp_path: Path):
    """A resumed run grades what is missing: its classes are those of the whole run."""
    answers = records({"city": ["Paris", "Rome", "Paris", "Oslo"], "colour": ["red"]})
    task = task_at(tmp_path)
    judge = Judge(answers)
    assert isinstance(judge, Appraiser)
    whole = {b.key: b for b in task.behave(answers, judge)}  # type: ignore[arg-type]
    some = list(task.score(answers[3:4], judge))  # type: ignore[arg-type]
    assert [g.message for g in some] == ["class 3 of 3"]
    assert list(task.behave(answers[2:], judge)) == [whole[r.key] for r in answers[2:]]  # type: ignore[arg-type]


def test_replies_without_a_verdict_are_marked_and_too_many_are_refused(tmp_path: Path):
    answers = records({"city": ["a", "b", "c"], "colour": ["red"]})  # asked: ab, ac, then bc
    judge = Judge(answers, lambda q: "hmm" if "Answer B:\nc" in q.text and "Answer A:\na" in q.text else "no")
    task = task_at(tmp_path, equivalence="judge", judge="m", most_unread=0.34)
    known = task.appraise(answers, judge)
    assert [known[Key("city", 0, d)].unread for d in range(3)] == [False, False, True]
    assert [g.mark for g in task.score(answers, judge)] == ["", "", "no verdict", ""]  # type: ignore[arg-type]
    strict = task_at(tmp_path, equivalence="judge", judge="m", most_unread=0.33)
    with pytest.raises(DataError, match=r"1 of 3 replies of the judge hold no verdict \(same\).*0\.33.*the first is 'hmm'"):
        strict.appraise(answers, judge)


def test_a_judge_that_never_answers_is_given_up_early(tmp_path: Path):
    answers = records({"city": [f"answer {i}" for i in range(30)]})
    judge = Judge(answers, lambda _: "I cannot say")
    with pytest.raises(DataError, match="29 of 29 replies"):
        task_at(tmp_path, equivalence="judge", judge="m").appraise(answers, judge)


def test_judged_quality_is_a_number_for_each_different_answer(tmp_path: Path):
    answers = records({"city": ["Paris", "paris.", "Rome"], "colour": ["red"]})
    judge = Judge(
        answers, lambda q: {"Paris": "[[8]]", "Rome": "Rating: 5"}.get(q.text.split("Answer:\n")[1].split("\n")[0], "3")
    )
    task = task_at(tmp_path, quality="judge", judge="m")
    assert [g.quality for g in task.score(answers, judge)] == [8.0, 8.0, 5.0, 3.0]  # type: ignore[arg-type]
    assert len(judge.asked) == 3


def test_a_task_that_asks_a_model_cannot_be_scored_without_a_run(tmp_path: Path):
    with pytest.raises(UsageError, match="only grading a run can ask"):
        list(task_at(tmp_path, equivalence="judge", judge="m").score(records({"city": ["a", "b"]}), None))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("yes", "yes"), ("Yes, they are.", "yes"), ("**No**", "no"), ("No. Yes would be wrong", "no"),
        ("The answer is yes.", "yes"), ("They differ: no", "no"), ("<think>no, or yes?</think>\nyes", "yes"),
        ("<think>yes they", ""), ("\n<think>\nno", ""), ("no, hm </think>yes", "yes"),
        ("", ""), ("maybe", ""), ("It is yes or no", ""), ("nothing", ""), ("yesterday", ""),
        ("Yes/No", ""), ("Noël", ""), ("yes/no: no", ""),
    ],
)  # fmt: skip
def test_a_verdict_is_the_first_word_or_the_only_one(reply: str, said: str):
    assert yes_or_no(reply) == said


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("[[7]]", "7"), ("I give 3 reasons. [[ 9 ]]", "9"), ("8", "8"), ("8/10", "8"), ("Score: 7.5", "7.5"),
        ("6 out of 10", "6"),
        ("[[10]]", "10"), ("[[0]]", ""), ("[[11]]", ""), ("-3", ""), ("", ""), ("good", ""), ("between 5 and 7", ""),
        ("[[4]] or [[5]]", ""), ("[[4]], so [[4]]", "4"), ("<think>9?</think>2", "2"), ("<think>maybe [[3]] or", ""),
        ("v2", ""), ("5/5", ""), ("[[5/5]]", ""), ("5 out of 5", ""), ("3 of 3 stars", ""), ("8 %", ""), ("10/10", "10"),
        ("6 of 10", "6"), ("4/5, so [[8]]", "8"),
    ],
)  # fmt: skip
def test_a_rating_is_the_number_in_brackets_or_the_only_one(reply: str, said: str):
    assert rating(reply) == said


def test_a_template_is_filled_once_and_must_show_the_answers(tmp_path: Path):
    assert fill("{first} {second} {other}", {"first": "{second}", "second": "b"}) == "{second} b {other}"
    for asks, name in (("same", "same-answer"), ("quality", "answer-quality")):
        assert "{prompt}" in read_template(name, asks)
    own = tmp_path / "own.txt"
    own.write_text("{prompt} {first}", encoding="utf-8")
    with pytest.raises(CardError, match=r"has no \{second\}"):
        read_template(str(own), "same")


# files of classes and scores -----------------------------------------------------------------------------------------

ANSWERS = {"city": ["Paris", "Rome", "Paris"], "colour": ["red"]}


def by_classes(folder: Path, rows: Sequence[object]) -> OpenTask:
    lines(folder / "c.jsonl", rows)
    return task_at(folder, equivalence="file", classes="c.jsonl")


def test_classes_come_from_a_file_by_text_by_place_or_in_the_benchmarks_shape(tmp_path: Path):
    wanted = {"city": [0, 1, 0], "colour": [0]}
    by_text = [
        {"id": "city", "answer": "PARIS", "class": "france"},
        {"problem": "city", "answer": "Rome", "class": 2},
        {"id": "colour", "answer": "red", "class": 1},
    ]
    assert classes(by_classes(tmp_path, by_text), records(ANSWERS)) == wanted
    by_place = [{"id": "city", "draw": d, "class": c} for d, c in enumerate("xyx")]
    by_place.append({"id": "colour", "member": 0, "draw": 0, "class": "z"})
    assert classes(by_classes(tmp_path, by_place), records(ANSWERS)) == wanted
    theirs = [
        {
            "id": "city",
            "prompt": "Name a city.",
            "model": "m",
            "generations": ["Paris", "Rome", "Paris"],
            "partition": [0, 1, 0],
        },
        {"id": "colour", "generations": ["red"], "partition": [0]},
    ]
    assert classes(by_classes(tmp_path, theirs), records(ANSWERS)) == wanted
    joined = [{"id": "city", "answer": a, "class": 0} for a in ("Paris", "Rome")] + by_text[2:]
    assert classes(by_classes(tmp_path, joined), records(ANSWERS)) == {"city": [0, 0, 0], "colour": [0]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"id": "city", "answer": "Paris", "class": 1}],
            r"has no class for 2 of 4 answers; the first is of member 0, draw 1 to city: 'Rome'",
        ),
        (
            [{"id": "city", "answer": "Paris", "class": 1}, {"id": "city", "answer": " Paris\n", "class": 2}],
            "line 2 contradicts an earlier line: this answer to city has the class '1' there and '2' here",
        ),
        (
            [{"id": "city", "answer": "Paris", "class": 1}, {"id": "city", "draw": 0, "class": 2}],
            "contradicts itself: the answer of member 0, draw 0 to city has the class '2' by its place and '1' by its text",
        ),
        ([{"id": "town", "answer": "Paris", "class": 1}], "line 1: the task has no problem 'town'"),
        ([{"id": "city", "answer": "Paris"}], "line 1 lacks 'class'"),
        ([{"id": "city", "class": 1}], "line 1 names no answer"),
        ([{"id": "city", "answer": 3, "class": 1}], "line 1: an answer is 3; it must be a text"),
        ([{"id": "city", "answer": "Paris", "class": 1.5}], "line 1: class is 1.5"),
        ([{"id": "city", "generations": ["a"], "partition": [0, 1]}], "line 1: partition must have a class for each"),
        (["x"], 'line 1 is "x"; it must be an object'),
        ([], "is empty"),
    ],
)
def test_a_file_of_classes_that_misses_answers_or_contradicts_itself_is_refused(tmp_path: Path, rows: list[object], said: str):
    with pytest.raises(DataError, match=said):
        by_classes(tmp_path, rows).appraise(records(ANSWERS), None)


def test_texts_that_differ_in_case_or_marks_may_have_two_classes_and_scores(tmp_path: Path):
    """NoveltyBench's classifier tells Paris from Paris. with a full stop: words of short answers are compared as they are."""
    answers = records({"city": ["Paris", "Paris.", "Rome"]})
    theirs = [{"id": "city", "generations": ["Paris", "Paris.", "Rome"], "partition": [0, 1, 2]}]
    assert classes(by_classes(tmp_path, theirs), answers) == {"city": [0, 1, 2]}
    rows = [{"id": "city", "answer": a, "reward": r} for a, r in (("Paris", -8), ("Paris.", 0), ("rome", -5))]
    lines(tmp_path / "s.jsonl", rows)
    graded = task_at(tmp_path, quality="file", scores="s.jsonl").score(answers, None)
    assert [one.quality for one in graded] == [1, 10, 6]


def test_a_text_without_a_row_of_its_own_that_equals_texts_of_two_classes_is_refused(tmp_path: Path):
    rows = [{"id": "city", "answer": a, "class": c} for a, c in (("Paris", 1), ("Paris.", 2))]
    said = "no row for the answer of member 0, draw 0 to city, 'PARIS', and to equal texts it gives the class '1' "
    with pytest.raises(DataError, match=said):
        by_classes(tmp_path, rows).appraise(records({"city": ["PARIS"]}), None)
    placed = [*rows, {"id": "city", "draw": 0, "class": 3}]
    assert classes(by_classes(tmp_path, placed), records({"city": ["PARIS", "Paris", "Paris."]})) == {"city": [0, 1, 2]}


def test_numbers_that_no_float_holds_are_scores_as_others_are(tmp_path: Path):
    task = task_at(tmp_path, quality="file", scores="s.jsonl")
    answer = records({"city": ["Paris"]})
    lines(tmp_path / "s.jsonl", [{"id": "city", "answer": "Paris", "reward": 10**400}])
    assert [one.quality for one in task.score(answer, None)] == [10]
    lines(tmp_path / "s.jsonl", [{"id": "city", "answer": "Paris", "score": 10**400}])
    with pytest.raises(DataError, match=r"score is 10{56}\.\.\.; a quality lies between 1 and 10"):
        task.appraise(answer, None)


def test_a_row_with_a_reward_and_another_score_is_refused(tmp_path: Path):
    task = task_at(tmp_path, quality="file", scores="s.jsonl")
    answer = records({"city": ["Paris"]})
    lines(tmp_path / "s.jsonl", [{"id": "city", "answer": "Paris", "reward": -8.0, "score": 1}])
    assert [one.quality for one in task.score(answer, None)] == [1]
    lines(tmp_path / "s.jsonl", [{"id": "city", "answer": "Paris", "reward": -8.0, "score": 9}])
    with pytest.raises(DataError, match=r"score is 9 and reward -8\.0 is a score of 1; give one of them$"):
        task.appraise(answer, None)


def test_scores_come_from_a_file_and_lie_between_1_and_10(tmp_path: Path):
    rows = [{"id": "city", "answer": "Paris", "score": 8}, {"id": "city", "answer": "Rome", "reward": -5.0}]
    lines(tmp_path / "s.jsonl", [*rows, {"id": "colour", "answer": "red", "score": 1.5}])
    task = task_at(tmp_path, quality="file", scores="s.jsonl")
    assert [g.quality for g in task.score(records(ANSWERS), None)] == [8.0, 6.0, 8.0, 1.5]
    for value, said in ((0, "score is 0; a quality lies between 1 and 10"), (11, "score is 11"), ("9", 'score is "9"')):
        lines(tmp_path / "s.jsonl", [{"id": "city", "answer": "Paris", "score": value}])
        with pytest.raises(DataError, match=said):
            task.appraise(records(ANSWERS), None)
    lines(tmp_path / "s.jsonl", [{"id": "city", "answer": "Paris", "score": 8}])
    with pytest.raises(DataError, match="has no score for 2 of 4 answers"):
        task.appraise(records(ANSWERS), None)


def test_rewards_become_scores_by_the_thresholds_of_the_released_code():
    """bisect_left + 1: a reward on a threshold has the lower score."""
    assert [score_of_reward(r) for r in (-100.0, REWARDS[0], -7.0, REWARDS[-1], 0.0)] == [1.0, 1.0, 2.0, 9.0, 10.0]
    assert list(REWARDS) == sorted(REWARDS)
    assert len(REWARDS) == 9


# specs ---------------------------------------------------------------------------------------------------------------


def test_how_answers_are_compared_is_part_of_what_the_problems_are(tmp_path: Path):
    """Runs with other rules of equivalence are in other tables; where the prompts lie plays no part."""
    plain = task_at(tmp_path).describe()
    (tmp_path / "b").mkdir()
    assert task_at(tmp_path / "b").describe() == plain
    own = tmp_path / "own.txt"
    own.write_text("{prompt} {first} {second}?", encoding="utf-8")
    others = [
        task_at(tmp_path, patience=0.5),
        task_at(tmp_path, equivalence="judge", judge="m"),
        task_at(tmp_path, equivalence="judge", judge="n"),
        task_at(tmp_path, equivalence="judge", judge="m", same_template=str(own)),
    ]
    hashes = [plain["problems_hash"], *(task.describe()["problems_hash"] for task in others)]
    assert len(set(hashes)) == len(hashes)
    assert str(tmp_path) not in json.dumps([task.describe() for task in others])


def test_another_file_of_classes_than_that_of_the_run_is_refused(tmp_path: Path):
    rows = [{"id": "city", "answer": a, "class": a} for a in ("Paris", "Rome")] + [
        {"id": "colour", "answer": "red", "class": 1}
    ]
    options = by_classes(tmp_path, rows).describe()["options"]
    assert isinstance(options, dict)
    pinned = task_at(tmp_path, equivalence="file", classes="c.jsonl", classes_hash=options["classes_hash"])
    assert pinned.describe()["options"] == options
    lines(tmp_path / "c.jsonl", rows[:1])
    with pytest.raises(DataError, match="holds other classes"):
        task_at(tmp_path, equivalence="file", classes="c.jsonl", classes_hash=options["classes_hash"]).describe()
