"""QDAIF: what enters the archive, what the search asks, what is kept; and that hidden tests are out of its reach."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from doubles import SANDBOX, Call, Lines
from scripted import CODE, TEXT, Scripted, card_of, ended, lost
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError, ModelError, UsageError
from spa_bench.runs.generate import generate
from spa_bench.runs.job import Job, load_task
from spa_bench.samplers.asking import qdaif
from spa_bench.samplers.asking.archive import Archive, Axes, Candidate, control_nodes
from spa_bench.samplers.asking.case import Answer
from spa_bench.samplers.asking.qdaif import QdaifOptions, label_in
from spa_bench.samplers.base import Aided, Graded, Tried, Wants, sampler_kind
from spa_bench.tasks.base import Asking
from spa_bench.types import Completion, Key, Prompt, Request

pytest.importorskip("ribs")
EXAMPLES = replace(CODE, text='def f(x):\n    """Double.\n    >>> f(2)\n    4\n    """\n', max_new_tokens=400)


class Bench:
    """Aids that tell right programs by a word in them, and note what they were given."""

    ranges = ((0.0, 8.0), (0.0, 8.0))

    def __init__(self, *, of: int = 2):
        self.of, self.given = of, list[str]()

    def graded(self, answers: Sequence[Completion]) -> list[Graded]:
        whole = [("" if c.whole else EXAMPLES.text) + c.text for c in answers]
        return [Graded(c.text.strip(), text.partition("\n# beside")[0]) for c, text in zip(answers, whole, strict=True)]

    def tried(self, prompt: Prompt, programs: Sequence[str]) -> list[Tried]:
        self.given += programs
        return [Tried(p[-20:] if self.of else "", p.count("right") if self.of else 0, self.of) for p in programs]

    def coordinates(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text) % 8 + 0.5, 0.5] for text in texts])


def fenced(body: str) -> str:
    return f"### Answer\n```python\n{body}\n```"


def searched(
    model: Scripted,
    prompt: Prompt = EXAMPLES,
    *,
    n: int = 2,
    aids: Bench | None = None,
    done: Sequence[Key] = (),
    **options: object,
) -> list[Completion]:
    sampler = sampler_kind("qdaif").build(card_of("qdaif", **options), [])
    assert isinstance(sampler, Aided)
    found = sampler.aided(aids or Bench()).sample(model, [prompt], n, 0, task="t", done=done)
    return sorted(found, key=lambda c: c.key)


LIKELIHOOD = {"quality": "likelihood", "axes": ("length",), "bins": 1}
OF_SIMILARITY = {"axes": ("similarity",), "quality": "none"}
BEGUN = "### Answer\n\n```python\n"


class Scoring(Scripted):
    """A text loses a nat for each "unlikely" in it; a token is a character."""

    def __init__(self, answer: Callable[[Request], str]):
        super().__init__(answer)
        self.scored: list[Request] = []

    def loglikelihood(self, requests, members):  # type: ignore[no-untyped-def]
        for r in requests:
            self.scored.append(r)
            yield r, -float(r.continuation.count("unlikely")), False


def test_drafts_come_first_then_answers_to_elites_until_the_pool_is_drawn():
    model = Scripted(lambda r: fenced(f"def f(x):\n    return {r.draw}"))
    searched(model, pool=9, drafts=3, batch=2)
    kinds = ["Answers of others" in q for q in model.questions]
    assert kinds == [False] * 3 + [True] * 6
    shown = [q for q in model.questions if "Answers of others" in q]
    assert all("### Answer 1\n\n```python\ndef f(x):\n    return " in q for q in shown)
    assert {q.count("```python") for q in shown} == {2}  # two elites, and not one of them twice


def test_the_better_program_keeps_the_cell_and_the_best_elites_are_the_answers():
    bodies = [
        "def f(x):\n    return 1  # aaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "def f(x):\n    return 2  # right",
        "def f(x):\n    return 3  # right right",
    ]
    model = Scripted(lambda r: fenced(bodies[r.draw]))
    both = searched(model, pool=3, drafts=3, axes=("syntax",))
    # one cell: all three have one function and no more; the second answer is the best of the rest
    assert [c.text.strip() for c in both] == [bodies[2], bodies[1]]
    assert [c.note for c in both] == [None, "not an elite"]
    apart = searched(model, pool=3, drafts=3, axes=("behaviour",))
    assert [c.text.strip() for c in apart] == [bodies[2], bodies[1]]
    assert [c.note for c in apart] == [None, None]


def test_all_tokens_of_the_search_are_spent_and_the_same_answers_come_again():
    def answer(r: Request) -> str:
        return fenced(f"def f(x):\n    return {r.seed % 7}")

    model = Scripted(answer)
    first = searched(model, n=3, pool=8)
    spent = sum(len(answer(r)) for r in model.requests)
    assert sum(c.spent or 0 for c in first) == spent
    again = searched(Scripted(answer), n=3, pool=8, done=[first[0].key])
    assert again == first[1:]


def test_replies_without_an_answer_do_not_enter_and_are_counted():
    def answer(r: Request) -> str | Completion:
        return lost(r) if r.draw % 2 else fenced(f"def f(x):\n    return {r.draw}")

    found = searched(Scripted(answer), n=4, pool=6, drafts=6)
    assert [bool(c.failure) for c in found] == [False, False, False, True]
    assert found[3].failure == "3 of 6 replies hold an answer; of the others, the first: no room"
    assert found[3].finish == "skipped"


def test_an_archive_in_which_nothing_is_valid_says_so():
    model = Scripted(lambda r: f"<think>\n{r.draw}")
    found = searched(model, n=2, pool=6)
    assert {c.reply for c in found} == {"<think>\n0"}
    assert [c.failure for c in found] == [
        "0 of 6 replies hold an answer; of the others, the first: the reply holds no answer"
    ] * 2
    assert {c.finish for c in found} == {"failed"}
    assert len(model.requests) == 6
    assert all("Answers of others" not in q for q in model.questions)


def test_no_room_in_the_context_is_the_cause_that_is_told():
    found = searched(Scripted(lambda r: lost(r, "the prompt leaves no room")), n=2, pool=4)
    assert {(c.failure, c.finish) for c in found} == {
        ("0 of 4 replies hold an answer; of the others, the first: the prompt leaves no room", "skipped")
    }


def test_answers_that_were_cut_are_noted():
    model = Scripted(lambda r: ended(r, "def f(x):\n    return") if r.draw else fenced("def f(x):\n    return 1"))
    found = searched(model, n=2, pool=3, drafts=3, axes=("length",))
    assert all("2 of 3 answers of the pool were cut at their limit" in (c.note or "") for c in found)


def test_a_prompt_without_examples_keeps_the_first_of_a_cell_and_notes_it():
    model = Scripted(lambda r: fenced(f"def f(x):\n    return {r.draw}"))
    found = searched(model, n=1, pool=4, aids=Bench(of=0))
    assert found[0].text.strip().endswith("return 0")
    assert found[0].note == "no example in the prompt: the first of a cell was kept"


def test_quality_by_likelihood_keeps_the_likelier_answer_a_token():
    bodies = ["def f(x):\n    return 1  # unlikely unlikely", "def f(x):\n    return 2", "def f(x):\n    return 3  # unlikely"]
    model = Scoring(lambda r: fenced(bodies[r.draw]))
    found = searched(model, n=1, pool=3, drafts=3, **LIKELIHOOD)
    assert found[0].text.strip() == bodies[1]
    assert all(r.messages[-1][1].startswith("Solve the task below") for r in model.scored)
    assert [r.continuation for r in model.scored] == [BEGUN, *(f"{BEGUN}{body}\n" for body in bodies)]


def test_the_likelihood_is_divided_by_the_tokens_that_were_scored():
    """Two answers with the same surprise: the longer one is likelier a token, however much stands around it in its reply."""
    short, long = "def f(x):\n    return 1  # unlikely", "def f(x):\n    return 1 + 1 - 1  # unlikely"
    replies = [f"<think>{'so ' * 99}</think>{fenced(short)}", fenced(long)]
    for order in (replies, replies[::-1]):
        found = searched(Scoring(lambda r, order=order: order[r.draw]), n=1, pool=2, drafts=2, **LIKELIHOOD)  # type: ignore[misc]
        assert found[0].text.strip() == long


def test_texts_are_scored_behind_the_marker_and_one_without_room_comes_last():
    model = Scoring(lambda r: f"### Answer\n{['red', 'green ' * 700][r.draw]}")
    found = searched(model, replace(TEXT, max_new_tokens=9000), n=2, pool=2, drafts=2, **LIKELIHOOD)
    assert [r.continuation for r in model.scored] == ["### Answer\n\n", "### Answer\n\nred"]
    assert [c.text[:5] for c in found] == ["red", "green"]


def test_without_a_quality_the_first_of_a_cell_stays():
    model = Scripted(lambda r: f"### Answer\n{'red' if r.draw else 'pink'}")
    bench = Bench()
    found = searched(model, TEXT, n=2, pool=2, drafts=2, aids=bench, quality="none", axes=("length",), bins=1)
    assert [(c.text, c.note) for c in found] == [("pink", None), ("red", "not an elite")]
    assert not bench.given


def test_the_model_s_judgement_is_an_axis():
    def answer(r: Request) -> str:
        question = r.messages[-1][1]
        if "Which of these words" in question:
            assert "fits the approach best: loop, recursion?" in question
            return "Recursion." if "f(x - 1)" in question else "It is a loop" if "for" in question else "dunno"
        bodies = ["def f(x):\n    return f(x - 1)", "def f(x):\n    for i in x: pass", "def f(x):\n    return 0"]
        return fenced(bodies[r.draw])

    model = Scripted(answer)
    options = {"axes": ("judged",), "labels": ("loop", "recursion"), "attribute": "the approach"}
    found = searched(model, n=3, pool=3, drafts=3, **options)
    # three cells: recursion, loop, none of them
    assert {c.note for c in found} == {"1 of 3 judgements name no label"}


JUDGED = {"axes": ("judged",), "labels": ("loop", "recursion"), "attribute": "the approach", "quality": "none"}


def test_judgements_that_name_no_label_are_noted_with_their_cause():
    def answer(r: Request) -> str | Completion:
        if "Which of these words" not in r.messages[-1][1]:
            return fenced(f"def f(x):\n    return {r.draw}")
        said = ["<think>A loop? No.</think>recursion", ended(r, "<think>A loop or"), lost(r), "neither"]
        return said[r.draw - 4]

    found = searched(Scripted(answer), n=4, pool=4, **JUDGED)
    assert {(c.note or "").removesuffix("; not an elite") for c in found} == {
        "3 of 4 judgements name no label (1 cut at the limit, 1 not answered)"
    }
    assert sum("not an elite" in (c.note or "") for c in found) == 2  # two cells: recursion, and none of them


def test_the_limit_of_a_judgement_is_an_option():
    for options, limit in (({}, 16), ({"judgement_tokens": 900}, 900)):
        model = Scripted(lambda r: fenced("def f(x):\n    return 1"))
        searched(model, pool=2, drafts=2, **JUDGED, **options)
        assert [r.decoding.max_new_tokens for r in model.requests] == [400, 400, limit, limit]


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("loop", 0),
        ("A LOOP, not recursion", 0),
        ("recursion", 1),
        ("loops", 3),
        ("", 3),
        ("tail recursion", 2),
        ("a recursion", 1),
        ("<think>Is it a loop? No.</think>recursion", 1),
        ("<think>a loop, or", 3),
        ("**Recursion**", 1),
        ("It is not a loop but recursion.", 1),
        ("It is not a loop.", 3),
        ("Answer: recursion (no loop)", 1),
        ("Of loop and recursion, I choose recursion.", 3),  # which of both is not told safely
        ("loop, recursion or tail recursion", 3),
    ],
)
def test_the_only_label_counts_or_the_one_that_a_reply_begins_with(reply: str, place: int):
    assert label_in(reply, ("loop", "recursion", "tail recursion")) == place


def test_a_learned_similarity_gives_two_axes():
    model = Scripted(lambda r: fenced("def f(x):\n    return " + "1" * r.draw))
    found = searched(model, n=4, pool=4, drafts=4, axes=("similarity",), similarity="somewhere", bins=8)
    assert [c.note for c in found] == [None] * 4  # texts of four lengths lie in four cells


def test_the_card_qdhf_asks_for_a_similarity_in_one_line(call: Call, tmp_path: Path):
    done = call("run", "--sampler", "qdhf", "--task", "mini-code", "--engine", "mock", "--out", tmp_path / "runs")
    assert done.error() == (
        "there is no learned similarity in FOLDER; make one with `spa-bench similarity learn`, and name its folder: --set "
        "options.similarity=FOLDER"
    )
    assert not (tmp_path / "runs").exists()
    given = load_sampler_card("qdhf", {"options.similarity": "mine"})
    assert qdaif.wants(given) == Wants(graded=True, trials=True, similarity="mine")


def test_programs_are_tried_as_they_are_graded():
    bench = Bench()
    model = Scripted(lambda r: fenced(EXAMPLES.text + "    return 2 * x" if r.draw else "def f(x):\n    return x"))
    searched(model, pool=2, drafts=2, aids=bench)
    assert [p.strip() for p in bench.given[:2]] == ["def f(x):\n    return x", EXAMPLES.text + "    return 2 * x"]


def test_the_search_looks_at_the_program_of_an_answer_that_has_more_beside_it():
    bench, body = Bench(), "def f(x):\n    return 2"
    model = Scoring(lambda r: "recursion" if "Which of these" in r.messages[-1][1] else fenced(f"{body}\n# beside\nx = 1"))
    [kept] = searched(model, n=1, pool=2, drafts=1, parents=1, aids=bench, **JUDGED | {"quality": "likelihood"})
    judged, changed = (next(q for q in model.questions if words in q) for words in ("Which of these", "Answers of others"))
    assert all(f"```python\n{body}\n```" in question for question in (judged, changed))
    assert [r.continuation for r in model.scored] == [BEGUN, BEGUN + body] * 2
    assert kept.text == f"{body}\n# beside\nx = 1\n"  # the answer stays as it is


def test_a_similarity_places_the_text_that_is_graded():
    class Placed(Bench):
        def coordinates(self, texts: Sequence[str]) -> np.ndarray:
            self.given += texts
            return super().coordinates(texts)

    bench = Placed()
    model = Scripted(lambda r: fenced(EXAMPLES.text + "    return 2 * x" if r.draw else "def f(x):\n    return x"))
    searched(model, pool=2, drafts=2, aids=bench, similarity="somewhere", **OF_SIMILARITY)
    assert bench.given == ["def f(x):\n    return x", "return 2 * x"]


# bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pool": 0}, "pool is 0"),
        ({"pool": 10**9}, "pool is 1000000000; it must be between 1 and 1,000"),
        ({"batch": 1001}, "batch is 1001; it must be between 1 and 1,000"),
        ({"parents": 1001}, "parents is 1001; it must be between 1 and 1,000"),
        ({"bins": 100_000}, "bins is 100000; it must be between 1 and 1,000"),
        (
            {"bins": 1000, "axes": ("length", "syntax")},
            "axes is length, syntax, which makes an archive of 1,000,000 cells; 100,000",
        ),
        (
            {"bins": 320, "axes": ("similarity",), "similarity": "x"},
            "axes is similarity, which makes an archive of 102,400 cells",
        ),
        ({"judgement_tokens": 0}, "judgement_tokens is 0; it must be at least 1"),
        ({"pool": 2, "drafts": 3}, "drafts is 3, of a pool of 2"),
        ({"axes": ()}, "axes is empty"),
        ({"axes": ("lenght",)}, "axes has 'lenght'; did you mean 'length'?"),
        ({"axes": ("length", "length")}, "axes names one twice"),
        ({"quality": "tests"}, "quality is 'tests'; known: examples, likelihood, none"),
        ({"labels": ("a", "b")}, "belong to the axis 'judged'"),
        ({"axes": ("judged",), "labels": ("a", "A"), "attribute": "x"}, "labels has one twice"),
        ({"axes": ("similarity",)}, "similarity is the folder"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], said: str):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        QdaifOptions(**options)  # type: ignore[arg-type]


def test_n_beyond_the_pool_is_refused():
    with pytest.raises(UsageError, match="keeps answers of a pool of 16"):
        qdaif.check_n(card_of("qdaif"), 17)


def test_measures_of_programs_are_refused_for_other_answers():
    prompts = [CODE, TEXT]
    with pytest.raises(UsageError, match="the axis 'behaviour' is of programs, and the answers to text are none"):
        qdaif.check_prompts(card_of("qdaif"), prompts)
    with pytest.raises(UsageError, match='quality = "examples" is of programs'):
        qdaif.check_prompts(card_of("qdaif", axes=("length",)), prompts)
    qdaif.check_prompts(card_of("qdaif"), [CODE])
    qdaif.check_prompts(card_of("qdaif", axes=("length",), quality="none"), prompts)


def test_what_it_cannot_do_is_refused_before_anything_is_written(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = load_task_card(str(three))
    task = load_task(loaded)

    def refused(model: Scripted, error: type[Exception], said: str, **options: object) -> None:
        job = Job(sampler=card_of("qdaif", **options), task=loaded, n=2, seed=0)
        with pytest.raises(error, match=said):
            generate(job, task, model, out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines())
        assert not (tmp_path / "runs").exists()

    model = Scripted(lambda r: "")
    refused(
        model, ModelError, "there is no learned similarity in .*nowhere", **OF_SIMILARITY, similarity=str(tmp_path / "nowhere")
    )
    for ranges, kind, said in (
        ([[0.0, 1.0]], UsageError, "has one coordinate; an archive over it needs two: --dims 2"),
        (None, ModelError, "similarity.json has no ranges of its coordinates; learn the similarity again"),
        ([[1.0, 1.0], [0.0, 1.0]], ModelError, "has no ranges"),
        ("wide", ModelError, "has no ranges"),
    ):
        about = {"version": 1, "ranges": ranges} if ranges is not None else {"version": 1}
        (tmp_path / "similarity.json").write_text(json.dumps(about))
        refused(model, kind, said, **OF_SIMILARITY, similarity=str(tmp_path))
    monkeypatch.setattr(type(task), "asked_by", lambda *_: Asking(prompts=(TEXT,)))
    refused(model, UsageError, "the axis 'behaviour' is of programs")
    monkeypatch.setitem(sys.modules, "ribs.archives", None)
    refused(model, UsageError, r"pip install 'spa-bench\[search\]'")


def test_a_model_that_cannot_score_is_refused_where_quality_is_its_likelihood():
    model = Scripted(lambda r: "")
    model.unable = {"score": "it only chats"}  # type: ignore[misc]
    with pytest.raises(ModelError, match="it only chats"):
        qdaif.check_model(card_of("qdaif", quality="likelihood"), model)
    qdaif.check_model(card_of("qdaif", quality="none"), model)
    bare = type("Bare", (), {"name": "bare", "unable": {}})()
    with pytest.raises(ModelError, match="need a model with a tokenizer here, and 'bare' has none"):
        qdaif.check_model(card_of("qdaif", quality="likelihood"), bare)


def test_what_it_wants_beside_the_model():
    assert qdaif.wants(card_of("qdaif")) == Wants(graded=True, trials=True)
    length = card_of("qdaif", axes=("length",), quality="likelihood")
    assert qdaif.wants(length) == Wants(graded=True)


# the archive ---------------------------------------------------------------------------------------------------


def candidate(text: str, quality: float, behaviour: str = "") -> Candidate:
    return Candidate(answer=Answer(text=text, tokens=1), quality=quality, behaviour=behaviour)


def test_a_cell_keeps_the_better_and_of_equals_the_first():
    archive = Archive(Axes(names=("behaviour",), bins=4, pool=8, labels=0, ranges=()), 0)
    for text, quality, behaviour in [("a", 0.5, "x"), ("b", 0.5, "x"), ("c", 0.2, "y"), ("d", 0.9, "x"), ("e", 0.2, "z")]:
        archive.add(candidate(text, quality, behaviour))
    assert [archive.candidates[place].answer.text for place in archive.elites()] == ["d", "c", "e"]
    assert [c.answer.text for c, _ in archive.chosen(4)] == ["d", "c", "e", "a"]
    assert [is_elite for _, is_elite in archive.chosen(4)] == [True, True, True, False]


def test_copies_are_kept_last():
    archive = Archive(Axes(names=("behaviour",), bins=4, pool=8, labels=0, ranges=()), 0)
    for text, quality in [("a", 0.5), ("a", 0.5), ("a", 0.4), ("b", 0.1)]:
        archive.add(candidate(text, quality, "x"))
    assert [c.answer.text for c, _ in archive.chosen(3)] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("program", "nodes"),
    [
        ("x = 1", 0),
        ("def f(x):\n    return [y for y in x if y]", 2),
        ("for i in x:\n    if i: pass", 2),
        ("def", 0),
        ("if x: pass\n" * 40, 15),
    ],
)
def test_the_syntax_axis_counts_control(program: str, nodes: int):
    assert control_nodes(program) == nodes


# hidden tests --------------------------------------------------------------------------------------------------


def test_a_leak_that_is_planted_is_caught(three: Path, monkeypatch: pytest.MonkeyPatch):
    """Aids whose examples come from the hidden tests stop the run, by name."""
    from spa_bench.runs import aids
    from spa_bench.samplers.asking.examples import Examples

    task = load_task(load_task_card(str(three)))
    assert "candidate(1, 2) == 3" in task.problems[0].tests  # what leaks
    leaked = Examples(entry_point="add", calls=(((1, 2), 3),), sources=("add(1, 2) == 3",))
    monkeypatch.setattr(aids, "examples_in", lambda prompt: leaked)
    prompt = replace(CODE, text=task.problems[0].prompt, problem_id=task.problems[0].id)
    with pytest.raises(UsageError, match="the example 'add\\(1, 2\\) == 3' does not stand in the prompt"):
        aids.OwnAids(Wants(trials=True), task, SANDBOX).tried(prompt, ["def add(a, b): return a + b"])


def problem_file(folder: Path, hidden: str) -> Path:
    row = {"task_id": "t/0", "prompt": DOUBLE, "canonical_solution": "    return 2 * x\n", "entry_point": "double"}
    row["test"] = f"def check(candidate):\n    assert candidate({hidden}) == 2 * {hidden}\n"
    (folder / f"{hidden}.jsonl").write_text(json.dumps(row) + "\n")
    (folder / f"{hidden}.toml").write_text(f'description = "doubles"\nfile = "{hidden}.jsonl"\nversion = "1"\n')
    return folder / f"{hidden}.toml"


ANSWERS = [
    "def double(x):\n    return 2 * x",
    "def double(x):\n    return 4",
    "def double(x):\n    return x + x",
    "def double(x): return 0",
]


def test_a_run_chooses_by_the_prompt_s_examples_and_not_by_the_tests(call: Call, tmp_path: Path):
    """With other hidden tests, which other programs pass, the same answers are chosen."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text("".join(json.dumps({"text": fenced(text)}) + "\n" for text in ANSWERS))
    texts = {}
    for hidden in ("7", "0"):  # on 0 the last answer is right too
        task = problem_file(tmp_path, hidden)
        words = ["--sampler", "qdaif", "--task", task, "--engine", "mock", "--set", f"engine.replies={replies}", "--n", "3"]
        done = call("run", *words, "--set", "options.pool=12", "--sandbox", SANDBOX, "--out", tmp_path / hidden)
        assert done.code == 0, done.err
        [folder] = (tmp_path / hidden).iterdir()
        texts[hidden] = [json.loads(line)["raw"] for line in (folder / "records.jsonl").read_text().splitlines()]
        assert call("verify", folder).code == 0
    assert texts["7"] == texts["0"]
    assert {ANSWERS[0], ANSWERS[2]} & {text.strip() for text in texts["7"]}


DOUBLE = 'def double(x):\n    """Return twice x.\n    >>> double(2)\n    4\n    >>> double(3)\n    6\n    """\n'
RIGHT = "def double(x):\n    return 2 * x"


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        f"```python\n{RIGHT}\n```\n\nFor example:\n\n```python\nprint(double(2))\n```",
        f"{RIGHT}\n\nIt returns twice what it is given.",
        f"{DOUBLE}    return 2 * x\n\nSo.",
    ],
)
def test_the_trial_of_a_program_is_that_of_what_is_graded(answer: str, tmp_path: Path):
    """A reply with a second block, or with prose behind a bare program, was no Python, and right on no example."""
    from spa_bench.runs.aids import OwnAids

    task = load_task(load_task_card(str(problem_file(tmp_path, "7"))))
    [prompt] = task.asked_by(Scripted(lambda r: ""), None).prompts
    with closing(OwnAids(Wants(trials=True), task, SANDBOX)) as aids:
        [graded] = aids.graded([Answer(text=answer, tokens=1).completion(Key(prompt.problem_id, 0, 0), prompt)])
        assert aids.tried(prompt, [graded.whole]) == aids.tried(prompt, [RIGHT])
        assert aids.tried(prompt, [RIGHT])[0].right == 2
    assert graded.text in (RIGHT, "return 2 * x")


def test_the_answer_that_is_right_on_the_examples_is_kept_with_what_is_beside_it(call: Call, tmp_path: Path):
    replies = tmp_path / "replies.jsonl"
    texts = [fenced(RIGHT) + "\n\nFor example:\n```python\nprint(double(2))\n```", *map(fenced, ANSWERS[1::2])]
    replies.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = ["--sampler", "qdaif", "--task", problem_file(tmp_path, "7"), "--engine", "mock", "--n", "1", "--sandbox", SANDBOX]
    done = call("run", *words, "--set", f"engine.replies={replies}", "--set", "options.pool=12", "--out", tmp_path / "runs")
    assert done.code == 0, done.err
    [folder] = (tmp_path / "runs").iterdir()
    [record], [grade] = ((folder / f"{name}.jsonl").read_text().splitlines() for name in ("records", "grades"))
    assert json.loads(record)["graded"] == RIGHT
    assert json.loads(grade)["verdict"] == "passed"


def test_an_unknown_axis_in_a_card_is_one_line(call: Call):
    done = call("run", "--sampler", "qdaif", "--task", "mini-code", "--set", 'options.axes=["size"]', "--engine", "mock")
    assert done.code == 2
    assert "axes has 'size'" in done.err
    assert "Traceback" not in done.err
    with pytest.raises(CardError):
        raise CardError(done.err)
