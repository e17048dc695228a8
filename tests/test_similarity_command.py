"""`spa-bench similarity`: triplets from files and runs, and the folder that takes the place of an embedding model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from doubles import RIGHT, SANDBOX, Call, InProcessJudge, Lines, MockModel, sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.models.learned import load_learned
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.reopen import load_embedder, load_encoder
from spa_bench.runs.triplets import Triplet, read_triplets, triplets_of_runs, write_triplets
from spa_bench.support.provenance import hash_folder
from spa_bench.types import Request

ROWS = [Triplet(f"def f{i}(x): return x", f"def f{i}(y): return y", f"def f{i}(): pass # {i}", f"p{i}") for i in range(12)]


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
        (row(group=1), "line 1: 'group' is 1; it must be a text"),
    ],
)
def test_a_row_that_is_no_triplet_is_named(bad: dict[str, object], said: str, tmp_path: Path):
    with pytest.raises(DataError, match=said):
        read_triplets([file_of([bad], tmp_path / "t.jsonl")])


@pytest.mark.parametrize("text", ["", "[]", "[1]"])
def test_a_file_without_triplets_is_refused(text: str, tmp_path: Path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError):
        read_triplets([tmp_path / "t.json"])


# from runs -----------------------------------------------------------------------------------------------------


def answer(request: Request) -> str:
    return [RIGHT[request.problem_id], f"    # twice\n{RIGHT[request.problem_id]}", "    return 7\n", ""][request.draw]


@pytest.fixture
def drawn(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> RunFolder:
    card = load_task_card(str(three))
    job, task = Job(sampler=sampler_card(), task=card, n=4, seed=0), load_task(card)
    folder = generate(job, task, MockModel(answer), out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines())  # type: ignore[arg-type]
    grade(folder, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    return folder


def test_triplets_of_a_run_have_equal_behaviour_near_and_another_far(drawn: RunFolder):
    made = triplets_of_runs([drawn], a_problem=10, seed=0)
    does = {
        (r.problem, r.graded.strip()): b.digest
        for r in drawn.record_log.rows()
        for b in drawn.behaviour_log.rows()
        if b.key == r.key
    }
    assert made
    for t in made:
        assert t.anchor != t.near
        assert does[t.group, t.anchor] == does[t.group, t.near] != does[t.group, t.far]
    assert triplets_of_runs([drawn], a_problem=10, seed=0) == made
    assert len(triplets_of_runs([drawn], a_problem=1, seed=0)) == len({t.group for t in made})


def test_a_run_that_is_not_graded_is_refused(drawn: RunFolder):
    (drawn.path / "behaviours.jsonl").unlink()
    with pytest.raises(UsageError, match="has no behaviours"):
        triplets_of_runs([drawn], a_problem=10, seed=0)


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
        (["--out", "{here}"], "which is there already"),
        (["--encoder", "{learned}"], "which is a learned similarity itself"),
    ],
)
def test_what_cannot_be_learned_is_one_line(more: list[str], said: str, learned: Path, call: Call, tmp_path: Path):
    write_triplets(ROWS, tmp_path / "t.jsonl")
    more = [word.format(here=tmp_path, learned=learned) for word in more]
    words = ["--encoder", "embedded", "--out", f"{tmp_path}/made"]
    assert said in call("similarity", "learn", f"{tmp_path}/t.jsonl", *words, *more).err


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
