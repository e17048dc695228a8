"""`spa-bench similarity`: triplets from files and runs, and the folder that takes the place of an embedding model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from doubles import SANDBOX, Call, InProcessJudge
from spa_bench.cards.task import load_task_card
from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.models.learned import load_learned
from spa_bench.runs.job import load_task
from spa_bench.runs.origins import Origin, described_embedder, known_of, origins_of
from spa_bench.runs.reopen import load_embedder, load_encoder
from spa_bench.runs.triplets import Triplet, read_triplets, write_triplets
from spa_bench.support.provenance import hash_folder

ROWS = [
    Triplet(anchor=f"def f{i}(x): return x", near=f"def f{i}(y): return y", far=f"def f{i}(): pass # {i}", group=f"p{i}")
    for i in range(12)
]


def file_of(rows: list[dict[str, object]], place: Path) -> Path:
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def row(near: str = "b", far: str = "c", **others: object) -> dict[str, object]:
    return {"anchor": "a", "near": near, "far": far, **others}


# reading -------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path):
    write_triplets(ROWS, tmp_path / "t.jsonl")
    read = read_triplets([tmp_path / "t.jsonl"])
    assert list(read.triplets) == ROWS
    assert (read.rows, read.outvoted, read.even) == (12, 0, 0)


def test_the_anchor_is_the_group_where_none_is_named(tmp_path: Path):
    read = read_triplets([file_of([row(), row(anchor="z", group="mine")], tmp_path / "t.jsonl")])
    assert [t.group for t in read.triplets] == ["a", "mine"]


def test_the_majority_counts_and_even_questions_are_left_out(tmp_path: Path):
    rows = [row(), row(), row("c", "b"), row("d", "e"), row("e", "d"), row("d", "c")]
    read = read_triplets([file_of(rows, tmp_path / "t.jsonl")])
    assert [(t.near, t.far) for t in read.triplets] == [("b", "c"), ("d", "c")]
    assert (read.rows, read.outvoted, read.even) == (6, 1, 2)
    assert read.line() == "6 judgements on 2 questions; 3 contradict others: 1 outvoted, 2 left out as even"


def test_a_folder_is_no_file_of_triplets(tmp_path: Path):
    with pytest.raises(UsageError, match=r"is a folder; give its files of triplets$"):
        read_triplets([tmp_path])


def test_judgements_that_all_contradict_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="all 2 judgements contradict others"):
        read_triplets([file_of([row(), row("c", "b")], tmp_path / "t.jsonl")])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"anchor": "a", "near": "b"}, "line 1: 'far' is None; it must be a text"),
        (row(near=""), "line 1: 'near' is ''; it must be a text"),
        (row(far=3), "line 1: 'far' is 3; it must be a text"),  # type: ignore[arg-type]
        (row("b", "b"), "line 1: near and far are the same text"),
        (row("a", "b"), "line 1: anchor and near are the same text"),
        (row("b", "a"), "line 1: anchor and far are the same text"),
        (row(group=1), "line 1: 'group' is 1; it must be a text"),
        (row(problem=1), "line 1: 'problem' is 1; it must be a text"),
    ],
)
def test_a_row_that_is_no_triplet_is_named(bad: dict[str, object], said: str, tmp_path: Path):
    with pytest.raises(DataError, match=said):
        read_triplets([file_of([bad], tmp_path / "t.jsonl")])


def test_judgements_of_two_tasks_on_one_question_are_votes_on_it(tmp_path: Path):
    of = [{"problem": "x/0", "task": task, "problems_hash": "1"} for task in ("some", "more")]
    same = read_triplets([file_of([row(**of[0]), row(**of[1]), row()], tmp_path / "t.jsonl")])
    assert ([(t.near, t.far) for t in same.triplets], same.outvoted, same.unnamed) == ([("b", "c")], 0, 1)
    assert same.origins == (Origin("more", "1", "x/0"), Origin("some", "1", "x/0"))
    with pytest.raises(DataError, match="all 2 judgements contradict others"):
        read_triplets([file_of([row(**of[0]), row("c", "b", **of[1])], tmp_path / "t.jsonl")])


def test_a_question_is_one_whoever_was_asked_it(tmp_path: Path):
    """Else it would be learned from in one session and held out in another, or contradict itself unseen."""
    rows = [row(group="one"), row(group="two"), row("c", "b", group="three"), row("d", "e", group="two")]
    read = read_triplets([file_of(rows, tmp_path / "t.jsonl")])
    assert [(t.near, t.far, t.group) for t in read.triplets] == [("b", "c", "one"), ("d", "e", "two")]
    assert (read.rows, read.outvoted, read.even) == (4, 1, 0)
    with pytest.raises(DataError, match="all 2 judgements contradict others"):
        read_triplets([file_of([row(group="one"), row("c", "b", group="two")], tmp_path / "t.jsonl")])


@pytest.mark.parametrize("text", ["", "[]", "[1]"])
def test_a_file_without_triplets_is_refused(text: str, tmp_path: Path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError):
        read_triplets([tmp_path / "t.json"])


# the command, and the folder that it makes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from spa_bench.cli.main import main

    base = tmp_path_factory.mktemp("similarity")
    write_triplets(ROWS, base / "t.jsonl")
    words = ["similarity", "learn", f"{base}/t.jsonl", "--encoder", "embedded", "--dims", "3", "--out", f"{base}/made"]
    assert main(words) == 0
    return base / "made"


def test_the_folder_says_what_it_was_learned_from_and_how_well(learned: Path):
    about = json.loads((learned / "similarity.json").read_text())
    assert about["encoder"]["name"] == "embedded"
    assert about["triplets"]["questions"] == 12
    assert about["held_out"]["groups"] == 2
    assert 0 <= about["held_out"]["learned"]["value"] <= 1
    assert [len(pair) for pair in about["ranges"]] == [2, 2, 2]


def test_its_vectors_are_the_projected_embeddings(learned: Path):
    arrays = load_file(learned / "projection.safetensors")
    texts = ["def f(x): return x", "pass"]
    plain = np.stack(list(load_encoder("embedded").embed(texts))).astype(np.float64)
    found = np.stack(list(load_embedder(str(learned)).embed(texts)))
    assert found.shape == (2, 3)
    assert np.allclose(found, (plain - arrays["mean"]) @ arrays["weights"], rtol=1e-5)


def test_a_run_measures_with_it_and_verifies(learned: Path, call: Call, tmp_path: Path):
    words = ["--sampler", "base", "--task", "mini-code", "--limit", "2", "--n", "3", "--out", f"{tmp_path}/runs"]
    call("run", *words, "--embedding", str(learned))
    [folder] = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "spec.json").read_text())["embedding"]["name"] == str(learned)
    assert json.loads((folder / "metrics.json").read_text())["estimates"]["vendi[embedding,q=1]"]["value"] >= 1
    call("verify", str(folder))


# what it was learned on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("humaneval", "1", "HumanEval/0"), ("humaneval-plus", "2", "HumanEval/0"), True),
        (("humaneval", "1", "HumanEval/0"), ("humaneval", "1", "HumanEval/1"), False),
        (("a", "1", "7"), ("b", "2", "7"), False),  # a number means another problem in each task
        (("a", "1", "7"), ("a", "2", "7"), True),
        (("a", "1", "7"), ("b", "1", "7"), True),  # another name of the same problems
        (("", "", "7"), ("b", "2", "7"), True),
    ],
)
def test_a_problem_is_known_in_other_tasks(one: tuple[str, str, str], other: tuple[str, str, str], same: bool):
    assert Origin(*one).is_same(Origin(*other)) is Origin(*other).is_same(Origin(*one)) is same


def copied(learned: Path, place: Path, origins: object) -> Path:
    """The similarity, learned on these problems."""
    place.mkdir()
    about = json.loads((learned / "similarity.json").read_text())
    (place / "similarity.json").write_text(json.dumps(about | {"origins": origins}))
    (place / "projection.safetensors").write_bytes((learned / "projection.safetensors").read_bytes())
    return place


def test_the_folder_names_the_problems_of_all_triplets(call: Call, tmp_path: Path):
    of = [replace(t, origin=Origin("t" if i % 2 else "u", "1", t.group)) for i, t in enumerate(ROWS)]
    write_triplets(of, tmp_path / "t.jsonl")
    out = tmp_path / "made"
    assert call("similarity", "learn", tmp_path / "t.jsonl", "--encoder", "embedded", "--dims", "2", "--out", out).code == 0
    about = json.loads((out / "similarity.json").read_text())
    assert [(o["task"], len(o["problems"])) for o in about["origins"]] == [("t", 6), ("u", 6)]
    assert about["triplets"]["unnamed"] == 0
    assert set(origins_of(out) or ()) == {t.origin for t in of}


def test_a_sampler_is_refused_on_problems_that_its_similarity_was_learned_on(
    learned: Path, call: Call, three: Path, tmp_path: Path
):
    pytest.importorskip("ribs")
    options = {"quality": "likelihood", "pool": 4}
    words = ["--sampler", "qdhf", "--task", three, "--engine", "mock", "--n", "2", "--sandbox", SANDBOX, "--limit", "1"]
    words += [word for key, value in options.items() for word in ("--set", f"options.{key}={value}")]
    words += ["--out", tmp_path / "runs", "--until", "generate"]
    first = load_task(load_task_card(str(three), {"shuffle": 0, "stratify": True})).problems[0].id
    mine = copied(learned, tmp_path / "mine", [{"task": "three", "problems_hash": "1", "problems": [first, "three/none"]}])
    said = call("run", *words, "--set", f"options.similarity={mine}").error()
    assert said == (
        f"qdhf uses the similarity in {mine}, which was learned from what answers to 1 of these 1 problems ({first}) of three "
        "do in hidden tests, and no sampler may see these; learn it on other problems: spa-bench similarity triplets RUNS, of "
        "another task"
    )
    assert not (tmp_path / "runs").exists()
    others = [p for p in ("three/add", "three/double", "three/last") if p != first]  # which this run does not ask
    apart = copied(learned, tmp_path / "apart", [{"task": "three", "problems_hash": "1", "problems": others}])
    done = call("run", *words, "--set", f"options.similarity={apart}")
    assert (done.code, f"similarity: {apart}, learned on 2 problems of three" in done.err) == (0, True)
    done = call("run", *words, "--set", f"options.similarity={learned}")
    assert (done.code, "which does not say on which problems it was learned" in done.err) == (0, True)


def test_a_vendi_score_of_problems_that_its_kernel_was_learned_on_is_marked(
    learned: Path, call: Call, three: Path, tmp_path: Path, sandbox: InProcessJudge
):
    mine = copied(learned, tmp_path / "mine", [{"task": "", "problems_hash": "", "problems": ["three/add", "three/last"]}])
    words = ["--sampler", "base", "--task", three, "--engine", "mock", "--n", "2", "--sandbox", SANDBOX]
    said = "vendi[embedding,...] by a similarity that was learned on answers to 2 of these problems"
    done = call("run", *words, "--embedding", mine, "--out", tmp_path / "runs")
    assert (done.code, f"embedding: {said}" in done.err, f"; {said}" in done.out) == (0, True, True)
    [folder] = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "spec.json").read_text())["embedding"]["learned_on"] == 2
    assert call("verify", folder).code == 0
    task = load_task(load_task_card(str(three)))
    assert "learned_on" not in described_embedder(load_embedder(str(mine)), task, ["three/double"])
    assert "learned_on" not in described_embedder(load_embedder(str(learned)), task, ["three/add"])


def test_classes_of_answers_by_a_similarity_that_was_learned_on_them_are_marked(learned: Path, call: Call, tmp_path: Path):
    ids = [f"open-mini/creative-{i}" for i in range(200)]
    mine = copied(learned, tmp_path / "mine", [{"task": "open-mini", "problems_hash": "1", "problems": ids}])
    words = ["--sampler", "base", "--task", "open-mini", "--limit", "2", "--first", "--n", "2", "--engine", "mock"]
    for embedder, wanted in ((mine, True), (learned, False)):
        by = ["--set", "task.options.equivalence=embedding", "--set", f"task.options.embedder={embedder}"]
        done = call("run", *words, *by, "--out", tmp_path / f"runs-{wanted}")
        said = "classes by a similarity that was learned on answers to 2 of these 2 problems (open-mini/creative-0, "
        assert (done.code, said in done.err) == (0, wanted), done.err


def test_folders_of_before_open_and_damaged_ones_are_refused(learned: Path, three: Path, tmp_path: Path):
    task = load_task(load_task_card(str(three)))
    about = json.loads((learned / "similarity.json").read_text())
    (tmp_path / "similarity.json").write_text(json.dumps({key: value for key, value in about.items() if key != "origins"}))
    assert origins_of(tmp_path) is None
    assert known_of(tmp_path, task.describe(), ["three/add"]) == []
    for wrong in (3, [3], [{"task": "t"}], [{"task": 1, "problems_hash": "", "problems": ["a"]}]):
        (tmp_path / "similarity.json").write_text(json.dumps(about | {"origins": wrong}))
        with pytest.raises(ModelError, match="origins is not as it was written"):
            origins_of(tmp_path)


# what is refused -----------------------------------------------------------------------------------------------


def test_another_encoder_than_the_one_it_was_learned_on_is_refused(learned: Path, tmp_path: Path):
    about = json.loads((learned / "similarity.json").read_text())
    (tmp_path / "similarity.json").write_text(json.dumps(about | {"encoder": {"name": "embedded", "hash": "0"}}))
    with pytest.raises(ModelError, match="was learned on the encoder embedded with hash 0"):
        load_embedder(str(tmp_path))


def test_damaged_folders_are_refused(learned: Path, tmp_path: Path):
    encoder = load_encoder("embedded")
    (tmp_path / "similarity.json").write_bytes((learned / "similarity.json").read_bytes())
    with pytest.raises(ModelError, match="cannot read"):
        load_learned(tmp_path, encoder)
    save_file({"mean": np.zeros(4), "weights": np.zeros((3, 2))}, tmp_path / "projection.safetensors")
    with pytest.raises(ModelError, match=r"mean of shape \(4,\) and weights of shape \(3, 2\)"):
        load_learned(tmp_path, encoder)
    for text in ("{", "[]", '{"version": 2}'):
        (tmp_path / "similarity.json").write_text(text)
        with pytest.raises(ModelError, match=r"similarity\.json"):
            load_learned(tmp_path, encoder)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dims", "0"], "--dims is 0; it must be at least 1"),
        (["--dims", "100000"], "give at most that"),
        (["--dims", "32"], "--dims is 32, and the 30 texts that are learned from differ in 29 directions; give at most 29"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["--out", "{here}"], "which is there already"),
        (["--encoder", "{learned}"], "which is a learned similarity itself"),
    ],
)
def test_what_cannot_be_learned_is_one_line(more: list[str], said: str, learned: Path, call: Call, tmp_path: Path):
    write_triplets(ROWS, tmp_path / "t.jsonl")
    more = [word.format(here=tmp_path, learned=learned) for word in more]
    words = ["--encoder", "embedded", "--out", f"{tmp_path}/made"]
    assert said in call("similarity", "learn", f"{tmp_path}/t.jsonl", *words, *more).err


def test_held_out_triplets_with_texts_that_were_learned_from_are_counted(learned: Path, call: Call, tmp_path: Path):
    assert json.loads((learned / "similarity.json").read_text())["held_out"]["shared"] == 0
    common = [replace(triplet, far="one text in all of them") for triplet in ROWS]
    write_triplets(common, tmp_path / "t.jsonl")
    words = ["--encoder", "embedded", "--dims", "3", "--out", f"{tmp_path}/made"]
    done = call("similarity", "learn", f"{tmp_path}/t.jsonl", *words)
    assert "2 of the 2 held-out triplets have a text that was learned from too" in done.err
    assert json.loads((tmp_path / "made/similarity.json").read_text())["held_out"]["shared"] == 2


def test_too_few_groups_are_refused(call: Call, tmp_path: Path):
    write_triplets(ROWS[:9], tmp_path / "t.jsonl")
    shown = call("similarity", "learn", f"{tmp_path}/t.jsonl", "--encoder", "embedded", "--out", f"{tmp_path}/made")
    assert "have 9 groups (problems or anchors), and a fifth is held out: give at least 10" in shown.err


def test_the_second_word_is_asked_for(call: Call):
    assert "the following arguments are required: STEP" in call("similarity").err
    assert "did you mean 'learn'?" in call("similarity", "lern").err


@pytest.mark.slow
def test_an_archive_over_it_names_its_hash_in_the_spec_and_is_repeated(learned: Path, call: Call, three: Path, tmp_path: Path):
    pytest.importorskip("ribs")
    options = {"axes": '["similarity"]', "quality": "likelihood", "similarity": learned, "pool": 4}
    settings = [word for key, value in options.items() for word in ("--set", f"options.{key}={value}")]
    words = ["--sampler", "qdaif", "--task", three, "--engine", "mock", "--n", "2", "--sandbox", SANDBOX, *settings]
    done = call("run", *words, "--out", tmp_path / "runs")
    assert done.code == 0, done.err
    [folder] = (tmp_path / "runs").iterdir()
    named = json.loads((folder / "spec.json").read_text())["sampler"]["options"]["similarity"]
    assert named == f"{learned}@{hash_folder(learned)}"
    assert call("rerun", folder, "--out", tmp_path / "again").code == 0
    other = call("run", *words, "--set", f"options.similarity={learned}@{'0' * 32}", "--out", tmp_path / "runs")
    assert (other.code, f"has hash {hash_folder(learned)}, and {'0' * 32} is asked for" in other.err) == (2, True)
    nowhere = call("run", *words, "--set", "options.similarity=nowhere", "--out", tmp_path / "runs")
    assert (nowhere.code, "there is no learned similarity in nowhere" in nowhere.err) == (2, True)
