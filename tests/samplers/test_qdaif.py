"""QDAIF: what enters the archive, what the search asks, what is kept; and that hidden tests are out of its reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from doubles import SANDBOX, Call
from scripted import CODE, TEXT, Scripted, card_of, lost
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError, ModelError, UsageError
from spa_bench.samplers.asking import qdaif
from spa_bench.samplers.asking.archive import Archive, Axes, Candidate, control_nodes
from spa_bench.samplers.asking.case import Answer
from spa_bench.samplers.asking.qdaif import QdaifOptions, label_in
from spa_bench.samplers.base import Aided, Tried, Wants, sampler_kind
from spa_bench.types import Completion, Key, Prompt, Request

pytest.importorskip("ribs")
EXAMPLES = replace(CODE, text='def f(x):\n    """Double.\n    >>> f(2)\n    4\n    """\n', max_new_tokens=400)


class Bench:
    """Aids that tell right programs by a word in them, and note what they were given."""

    ranges = ((0.0, 8.0), (0.0, 8.0))

    def __init__(self, *, of: int = 2):
        self.of, self.given = of, list[str]()

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


def test_drafts_come_first_then_answers_to_elites_until_the_pool_is_drawn():
    model = Scripted(lambda r: fenced(f"def f(x):\n    return {r.draw}"))
    searched(model, pool=9, drafts=3, batch=2)
    kinds = ["Answers of others" in q for q in model.questions]
    assert kinds == [False] * 3 + [True] * 6
    shown = [q for q in model.questions if "Answers of others" in q]
    assert all("### Answer 1\n\n```python\ndef f(x):\n    return " in q for q in shown)
    assert {q.count("```python") for q in shown} <= {1, 2}  # up to two elites, and not one of them twice
    assert any(q.count("```python") == 2 for q in shown)


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
    assert found[3].failure == "3 of 6 replies hold an answer"


def test_an_archive_in_which_nothing_is_valid_says_so():
    model = Scripted(lambda r: "")
    found = searched(model, n=2, pool=6)
    assert [c.failure for c in found] == ["0 of 6 replies hold an answer"] * 2
    assert len(model.requests) == 6
    assert all("Answers of others" not in q for q in model.questions)


def test_a_prompt_without_examples_keeps_the_first_of_a_cell_and_notes_it():
    model = Scripted(lambda r: fenced(f"def f(x):\n    return {r.draw}"))
    found = searched(model, n=1, pool=4, aids=Bench(of=0))
    assert found[0].text.strip().endswith("return 0")
    assert found[0].note == "no example in the prompt: the first of a cell was kept"


def test_quality_by_likelihood_keeps_the_likelier_answer_a_token():
    class Scoring(Scripted):
        def loglikelihood(self, requests, members):  # type: ignore[no-untyped-def]
            for r in requests:
                assert r.messages[-1][1].startswith("Solve the task below")
                yield r, -float(r.continuation.count("unlikely")), False

        def encode_pair(self, prompt, completion):  # type: ignore[no-untyped-def]
            return [1], [1, 2, 3]

    bodies = ["def f(x):\n    return 1  # unlikely unlikely", "def f(x):\n    return 2", "def f(x):\n    return 3  # unlikely"]
    model = Scoring(lambda r: fenced(bodies[r.draw]))
    found = searched(model, n=1, pool=3, drafts=3, quality="likelihood", axes=("length",), bins=1)
    assert found[0].text.strip() == bodies[1]


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
    assert [c.note for c in found] == [None] * 3  # three cells: recursion, loop, none of them


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
    ],
)
def test_the_label_that_stands_first_counts(reply: str, place: int):
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
    assert qdaif.wants(given) == Wants(trials=True, similarity="mine")


def test_programs_are_tried_as_they_are_graded():
    bench = Bench()
    model = Scripted(lambda r: fenced(EXAMPLES.text + "    return 2 * x" if r.draw else "def f(x):\n    return x"))
    searched(model, pool=2, drafts=2, aids=bench)
    assert [p.strip() for p in bench.given[:2]] == ["def f(x):\n    return x", EXAMPLES.text + "    return 2 * x"]


# bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pool": 0}, "pool is 0"),
        ({"pool": 2, "drafts": 3}, "drafts is 3, of a pool of 2"),
        ({"axes": ()}, "axes is empty"),
        ({"axes": ("lenght",)}, "axes has 'lenght'; did you mean 'length'?"),
        ({"axes": ("length", "length")}, "axes names one twice"),
        ({"quality": "tests"}, "quality is 'tests'; known: examples, likelihood"),
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
    with pytest.raises(UsageError, match="the axis 'behaviour' is of programs"):
        searched(Scripted(lambda r: "red"), TEXT)
    with pytest.raises(UsageError, match='quality = "examples" is of programs'):
        searched(Scripted(lambda r: "red"), TEXT, axes=("length",))


def test_a_model_that_cannot_score_is_refused_where_quality_is_its_likelihood():
    model = Scripted(lambda r: "")
    model.unable = {"score": "it only chats"}  # type: ignore[misc]
    with pytest.raises(ModelError, match="it only chats"):
        qdaif.check_model(card_of("qdaif", quality="likelihood"), model)


def test_what_it_wants_beside_the_model():
    assert qdaif.wants(card_of("qdaif")) == Wants(trials=True)
    length = card_of("qdaif", axes=("length",), quality="likelihood")
    assert qdaif.wants(length) == Wants()


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
    from spa_bench.cards.task import load_task_card
    from spa_bench.runs import aids
    from spa_bench.runs.job import load_task
    from spa_bench.samplers.asking.examples import Examples

    task = load_task(load_task_card(str(three)))
    assert "candidate(1, 2) == 3" in task.problems[0].tests  # what leaks
    leaked = Examples(entry_point="add", calls=(((1, 2), 3),), sources=("add(1, 2) == 3",))
    monkeypatch.setattr(aids, "examples_in", lambda prompt: leaked)
    prompt = replace(CODE, text=task.problems[0].prompt, problem_id=task.problems[0].id)
    with pytest.raises(UsageError, match="the example 'add\\(1, 2\\) == 3' does not stand in the prompt"):
        aids.OwnAids(Wants(trials=True), task, SANDBOX).tried(prompt, ["def add(a, b): return a + b"])


def problem_file(folder: Path, hidden: str) -> Path:
    prompt = 'def double(x):\n    """Return twice x.\n    >>> double(2)\n    4\n    >>> double(3)\n    6\n    """\n'
    row = {"task_id": "t/0", "prompt": prompt, "canonical_solution": "    return 2 * x\n", "entry_point": "double"}
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


def test_a_similarity_with_one_coordinate_is_refused():
    bench = Bench()
    bench.ranges = ((0.0, 1.0),)  # type: ignore[assignment]
    with pytest.raises(UsageError, match="has one coordinate"):
        searched(Scripted(lambda r: ""), aids=bench, axes=("similarity",), similarity="x")


def test_an_unknown_axis_in_a_card_is_one_line(call: Call):
    done = call("run", "--sampler", "qdaif", "--task", "mini-code", "--set", 'options.axes=["size"]', "--engine", "mock")
    assert done.code == 2
    assert "axes has 'size'" in done.err
    assert "Traceback" not in done.err
    with pytest.raises(CardError):
        raise CardError(done.err)
