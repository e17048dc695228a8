"""Embeddings of a run: one row a text, made once, kept with a checksum, and enough to compute the metrics again."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from doubles import RIGHT, WRONG, InProcessJudge, Lines, MockModel, ignore
from spa_bench.cards.task import load_task_card
from spa_bench.errors import StoreError
from spa_bench.metrics.vendi import vendi_from_features
from spa_bench.runs import embeddings
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.verify import verify
from spa_bench.tasks.base import Task
from spa_bench.types import Record, Request

SPEC: dict[str, object] = {"name": "letters", "hash": "h"}


class Letters:
    """Counts letters; keeps the texts it was asked for, and is interrupted after `stop_after` of them."""

    def __init__(self, *, stop_after: int | None = None):
        self.asked: list[str] = []
        self._stop_after = stop_after

    def describe(self) -> dict[str, object]:
        return SPEC

    def numerics(self) -> dict[str, object]:
        return {"device": "none"}

    def embed(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        for text in texts:
            if len(self.asked) == self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(text)
            yield vector(text)


def vector(text: str) -> np.ndarray:
    return np.array([1, *(text.count(c) for c in "abnx")], np.float32)


def answer(request: Request) -> str:
    return [RIGHT[request.problem_id], WRONG, "    return 7\n", WRONG][request.draw]


@pytest.fixture
def task(three: Path) -> Task:
    return load_task(load_task_card(str(three)))


@pytest.fixture
def drawn(sandbox: InProcessJudge, three: Path, task: Task, tmp_path: Path) -> RunFolder:
    """Four answers to each of three problems, of which three differ; two are the same for all problems."""
    from doubles import sampler_card

    job = Job(sampler=sampler_card(), task=load_task_card(str(three)), n=4, seed=0, embedding=SPEC)
    return generate(job, task, MockModel(answer), out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines())  # type: ignore[arg-type]


TEXTS = ["return a + b", "return None", "return 7", "return 2 * x", "return xs[-1]"]
Grade = Callable[[Letters], dict]


@pytest.fixture
def graded(drawn: RunFolder, task: Task) -> Grade:
    def done(letters: Letters) -> dict:
        grade(drawn, task, Lines(), sandbox=None, workers=1, embedder=lambda: letters)  # type: ignore[arg-type]
        content: dict = drawn.read_json("metrics.json")
        return content

    return done


def array(folder: RunFolder) -> np.ndarray:
    rows: np.ndarray = np.load(io.BytesIO((folder.path / "embeddings.npy").read_bytes()), allow_pickle=False)
    return rows


def test_there_is_a_row_for_each_distinct_text_in_order_of_first_appearance(drawn: RunFolder, graded: Grade):
    letters = Letters()
    graded(letters)
    assert letters.asked == TEXTS
    assert array(drawn).dtype == np.float32
    assert array(drawn).tolist() == [vector(t).tolist() for t in TEXTS]
    about = json.loads((drawn.path / "embeddings.json").read_text())
    assert (about["model"], about["hash"], about["rows"], about["numerics"]) == ("letters", "h", 5, {"device": "none"})


def test_the_embedding_kernel_is_that_of_the_rows(graded: Grade):
    values = graded(Letters())["values"]
    for place, right in enumerate((TEXTS[0], TEXTS[3], TEXTS[4])):
        features = np.stack([vector(t) for t in (right, "return None", "return 7", "return None")]).astype(float)
        expected = vendi_from_features(features, order=1.0)
        assert values["vendi[embedding,q=1]"][place] == pytest.approx(expected, rel=1e-6)


def test_without_embeddings_the_metric_is_missing_and_the_reason_names_the_option(
    sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    from doubles import mock_run

    content = mock_run(tmp_path / "runs", three, answer, n=4).read_json("metrics.json")
    assert set(content["values"]["vendi[embedding,q=1]"]) == {None}
    assert "--embedding" in content["estimates"]["vendi[embedding,q=1]"]["reason"]


def test_the_model_is_in_the_spec(drawn: RunFolder):
    assert drawn.spec["embedding"] == SPEC


def test_what_is_there_is_not_made_again_and_needs_no_model(drawn: RunFolder, graded: Grade, task: Task):
    before = graded(Letters())
    again = Letters()
    assert graded(again) == before
    assert again.asked == []
    grade(drawn, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]


def test_an_interrupted_embedding_goes_on_where_it_was_to_the_same_bytes(drawn: RunFolder, graded: Grade, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        graded(Letters(stop_after=2))
    assert len(array(drawn)) == 2
    rest = Letters()
    parts = graded(rest)
    assert rest.asked == TEXTS[2:]
    shutil.copytree(drawn.path, tmp_path / "parts")
    for name in ("embeddings.npy", "embeddings.json"):
        (drawn.path / name).unlink()
    assert graded(Letters()) == parts
    for name in ("embeddings.npy", "embeddings.json"):
        assert (drawn.path / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_rows_of_other_texts_of_another_model_or_with_other_bytes_are_made_again(drawn: RunFolder, graded: Grade):
    graded(Letters())
    path = drawn.path / "embeddings.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x01")
    letters = Letters()
    graded(letters)
    assert letters.asked == TEXTS
    assert path.read_bytes() == whole
    about = drawn.read_json("embeddings.json")
    for change in ({"hash": "other"}, {"texts": "other"}, {"rows": 4}):
        drawn.write_json("embeddings.json", about | change)
        assert embeddings.missing(drawn)
    drawn.write_json("embeddings.json", about)
    assert not embeddings.missing(drawn)


def test_metrics_without_their_embeddings_are_an_error_that_says_what_to_do(drawn: RunFolder, task: Task):
    with pytest.raises(StoreError, match=r"has 0 of 5 embeddings that fit; make them with: spa-bench grade"):
        grade(drawn, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]


def test_texts_count_without_the_white_space_around_them():
    records = [
        Record(problem="p", member=0, draw=i, raw="", graded=text, finish="stop", tokens=1, seed=0)
        for i, text in enumerate(["  b\n", "a", "b", " a"])
    ]
    assert embeddings.texts_of(records) == ["b", "a"]


# verify --------------------------------------------------------------------------------------------------------------


def test_a_run_with_embeddings_is_verified_without_the_model(drawn: RunFolder, graded: Grade, task: Task):
    graded(Letters())
    assert verify(open_run(drawn.path), task) == []


@pytest.mark.parametrize("name", ["embeddings.npy", "embeddings.json"])
def test_one_changed_byte_is_found(name: str, drawn: RunFolder, graded: Grade, task: Task):
    graded(Letters())
    path = drawn.path / name
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert any(name in fault for fault in verify(open_run(drawn.path), task)), place


@pytest.mark.parametrize("name", ["embeddings.npy", "embeddings.json"])
def test_a_missing_half_is_found(name: str, drawn: RunFolder, graded: Grade, task: Task):
    graded(Letters())
    (drawn.path / name).unlink()
    assert any("embeddings.npy" in fault for fault in verify(open_run(drawn.path), task))


def test_embeddings_of_another_model_than_the_specs_are_found(drawn: RunFolder, graded: Grade, task: Task):
    graded(Letters())
    drawn.write_json("embeddings.json", drawn.read_json("embeddings.json") | {"hash": "other"})
    assert any("the model is letters (other)" in fault for fault in verify(open_run(drawn.path), task))


def test_a_run_without_samples_embeds_nothing(drawn: RunFolder):
    (drawn.path / "records.jsonl").unlink()
    assert not embeddings.missing(drawn)
    embeddings.embed(drawn, Letters(), ignore)
    assert not (drawn.path / "embeddings.npy").exists()
