"""Reports by hand, tables and pictures of stages, and what is said of folders that are none."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import Lines, sampler_card
from spa_bench.cards.training import AttributionCard, LoraCard, PartitionCard
from spa_bench.errors import DataError, StoreError, UsageError
from spa_bench.models.hf.model import HFModel
from spa_bench.spa import report
from spa_bench.spa.describe import describe, text
from spa_bench.spa.picture import draw
from spa_bench.spa.stages import Stages, TrainingData
from spa_bench.spa.words import top_words
from spa_bench.types import Example

SUMS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n") for i in range(6)]
TEXTS = [Example(f"def g{i}(text):\n", f"    return text.lower()[{i}]\n") for i in range(6)]
PAIRS = [*SUMS, *TEXTS]
QUERIES = [Example("def a(nums):\n", "    return sum(nums)\n"), Example("def b(text):\n", "    return text.lower()\n")]
QUERIES.append(Example("def c(other):\n", "    return other\n"))
BY_SCORES = np.zeros((12, 3), np.float32)
BY_SCORES[:6, 0] = [9, 8, 7, 6, 5, 4]
BY_SCORES[6:, 1] = [4, 5, 6, 7, 8, 9]
HALVES = [0] * 6 + [1] * 6


def of_parts(labels: list[int], k: int, scores: np.ndarray | None, method: str = "argmax", scale: str = "none") -> Any:
    queries = QUERIES if scores is not None else []
    card = PartitionCard(method=method, scale=scale)
    found = report.of_parts(labels, k, card, examples=PAIRS, queries=queries, scores=scores)
    return json.loads(json.dumps(found))  # all of it is plain


# the report ----------------------------------------------------------------------------------------------------------


def test_a_query_has_its_quantiles_its_variance_and_its_nearest_examples():
    found = report.of_scores(BY_SCORES, PAIRS, QUERIES)
    first, _, third = found["queries"]
    assert [e["example"] for e in first["nearest"]] == [0, 1, 2]
    assert [e["score"] for e in first["nearest"]] == [9, 8, 7]
    np.testing.assert_allclose(first["quantiles"], np.quantile(BY_SCORES[:, 0], report.QUANTILES), rtol=1e-5)
    assert first["variance"] == pytest.approx(BY_SCORES[:, 0].var(), rel=1e-5)
    assert (third["variance"], [e["example"] for e in third["nearest"]]) == (0, [0, 1, 2])
    assert first["nearest"][0]["prompt"] == PAIRS[0].prompt
    assert first["nearest"][0]["completion"] == PAIRS[0].completion


def test_the_examples_that_define_a_part_have_the_highest_margin_of_their_querys_score():
    found = of_parts(HALVES, 2, BY_SCORES)
    assert [p["query"] for p in found["parts"]] == [0, 1]
    assert [[e["example"] for e in p["defining"]] for p in found["parts"]] == [[0, 1, 2], [11, 10, 9]]
    assert [e["margin"] for e in found["parts"][0]["defining"]] == [9, 8, 7]


def test_without_queries_of_their_own_parts_are_defined_by_distances_to_their_means():
    found = of_parts(HALVES, 2, BY_SCORES, "kmeans")
    assert [p["query"] for p in found["parts"]] == [None, None]
    own, other = BY_SCORES[:6].mean(0), BY_SCORES[6:].mean(0)
    margins = [np.linalg.norm(row - other) - np.linalg.norm(row - own) for row in BY_SCORES[:6]]
    best = sorted(range(6), key=lambda i: -margins[i])[:3]
    assert [e["example"] for e in found["parts"][0]["defining"]] == best
    assert found["parts"][0]["defining"][0]["margin"] == pytest.approx(max(margins), rel=1e-5)


def test_without_scores_parts_are_defined_by_their_words():
    labels = [0] * 5 + [1] * 7  # the last of the sums is among the texts
    found = of_parts(labels, 2, None, "random")
    assert {e["example"] for e in found["parts"][1]["defining"]} <= set(range(6, 12))
    assert found["queries"] == []
    assert found["silhouette"] == {"value": None, "rows": 0, "reason": "the method looks at no scores"}


def test_the_mean_of_each_part_on_each_query_is_that_of_the_scaled_scores():
    plain, scaled = (of_parts(HALVES, 2, BY_SCORES, scale=s)["queries"][0]["mean_by_part"] for s in ("none", "zscore"))
    assert plain == [6.5, 0]
    column = BY_SCORES[:, 0]
    np.testing.assert_allclose(scaled, (np.array(plain) - column.mean()) / column.std(), rtol=1e-5)


def test_the_silhouette_is_rousseeuws_by_hand():
    rows, labels = np.array([[0.0], [1.0], [10.0]]), np.array([0, 0, 1])
    first, second = 1 - 1 / 10, 1 - 1 / 9  # one alone counts 0
    assert report.silhouette(rows, labels) == {"value": pytest.approx((first + second) / 3, rel=1e-5), "rows": 3, "reason": ""}


@pytest.mark.parametrize(
    ("labels", "reason"), [([0, 0, 0], "there is one part alone"), ([0, 1, 2], "every example is a part of its own")]
)
def test_a_silhouette_that_cannot_be_says_why(labels: list[int], reason: str):
    found = report.silhouette(np.array([[0.0], [1.0], [10.0]]), np.array(labels))
    assert (found["value"], found["reason"]) == (None, reason)


def test_the_silhouette_of_many_examples_is_taken_from_a_fixed_sample():
    rows = np.random.default_rng(0).standard_normal((2500, 2))
    labels = (rows[:, 0] > 0).astype(int)
    found = report.silhouette(rows, labels)
    assert found == report.silhouette(rows, labels)
    assert found["rows"] == 2048
    assert 0.2 < found["value"] < 0.5


def test_words_that_set_a_part_apart_are_log_odds_by_hand():
    texts, labels = ["red red blue", "green blue", "blue 7 x"], [0, 1, 1]
    [first, second] = top_words(texts, labels, 2, 5)
    # red: 2 of 3 words here, 0 of 3 there; the prior is the corpus: 2 of 6
    odds = math.log(4 / (3 + 6 - 4)) - math.log(2 / (3 + 6 - 2))
    assert first == [("red", pytest.approx(odds / math.sqrt(1 / 4 + 1 / 2)))]
    assert [word for word, _ in second] == ["green", "blue"]


def test_equal_parts_have_no_words_of_their_own_and_neither_have_texts_without_words():
    assert top_words(["a1 b2", "a1 b2"], [0, 1], 2, 5) == [[], []]
    assert top_words(["1 +", "2 -"], [0, 1], 2, 5) == [[], []]
    assert top_words(["word", "word"], [0, 1], 2, 5) == [[], []]


def test_partitions_that_differ_in_names_alone_agree_and_independent_ones_do_not():
    assert report.agreement([0, 0, 1, 1], ["b", "b", "a", "a"]) == {"nmi": 1.0, "ami": 1.0}
    rng = np.random.default_rng(0)
    chance = report.agreement(rng.integers(0, 8, 60).tolist(), rng.integers(0, 8, 60).tolist())
    assert chance["nmi"] > 0.1 > abs(chance["ami"])
    crossed = report.agreement([0, 0, 1, 1], [0, 1, 0, 1])
    assert crossed["nmi"] == pytest.approx(0, abs=1e-6)


# folders -------------------------------------------------------------------------------------------------------------


def stages(model: HFModel, cache: Path, seed: int = 0, **changes: Any) -> Stages:
    values: dict[str, Any] = {
        "members": 2,
        "adapters": "parts",
        "lora": LoraCard(rank=2, steps=1, batch=2, targets=("q_proj",)),
        "attribution": AttributionCard(method="bm25"),
        "partition": PartitionCard(method="balanced"),
    }
    card = sampler_card("spa", **{**values, **changes})
    return Stages(
        card, TrainingData(examples=PAIRS, queries=QUERIES, skipped=0), model, seed=seed, cache=cache, console=Lines()
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "stages"


def test_scores_parts_and_adapters_are_told_apart_and_adapters_lead_to_their_parts(tiny_model: HFModel, cache: Path):
    made = stages(tiny_model, cache)
    scores, parts, adapters = made.attribute(), made.partition(), made.adapters()[0].parent
    assert [describe(f).stage for f in (scores, parts, adapters)] == ["scores", "parts", "adapters"]
    assert describe(adapters).parts == parts
    assert describe(adapters).report == describe(parts).report
    assert describe(adapters).facts["members"] == 2
    assert describe(scores).facts["attribution"] == {"method": "bm25", "variant": "plus"}


def test_a_stage_that_was_moved_is_described_where_it_is(tiny_model: HFModel, cache: Path, tmp_path: Path):
    made = stages(tiny_model, cache)
    parts, adapters = made.partition(), made.adapters()[0].parent
    before = describe(parts).report
    moved = parts.rename(tmp_path / "mine")
    assert describe(moved).report == before
    alone = describe(adapters)
    assert (alone.parts, alone.report) == (None, {})
    assert "parts: none beside them" in text(alone)


def test_adapters_on_all_data_have_no_parts(tiny_model: HFModel, cache: Path):
    made = stages(tiny_model, cache, adapters="seeds")
    assert describe(made.adapters()[0].parent).parts is None


def test_the_tables_show_parts_words_examples_and_queries(tiny_model: HFModel, cache: Path):
    said = text(describe(stages(tiny_model, cache).partition()))
    assert "2 parts of 12 examples, silhouette 1.000" in said
    for expected in ("50.0%", "lower", "sum", "def f0(nums):", "return sum(nums[0:])", "margin: ", "words: ", "variance"):
        assert expected in said
    assert "bm25" in text(describe(stages(tiny_model, cache).attribute()))


def test_parts_are_compared_with_parts_and_with_a_file(tiny_model: HFModel, cache: Path, tmp_path: Path):
    parts = stages(tiny_model, cache).partition()
    other = stages(tiny_model, cache, 1, partition=PartitionCard(method="random")).partition()
    labels = json.loads((parts / "parts.json").read_text())["labels"]
    (tmp_path / "same.txt").write_text("".join(f"style-{label}\n" for label in labels))
    assert describe(parts, tmp_path / "same.txt").against["nmi"] == 1
    found = describe(parts, other)
    assert found.against["nmi"] == describe(other, parts).against["nmi"] < 1
    assert f"with {other}: NMI {found.against['nmi']:.3f}, adjusted" in text(found)
    assert found.to_json()["against"]["with"] == str(other)


def test_labels_of_other_examples_are_refused(tiny_model: HFModel, cache: Path, tmp_path: Path):
    made = stages(tiny_model, cache)
    parts = made.partition()
    (tmp_path / "short.txt").write_text("0\n1\n")
    with pytest.raises(DataError, match=r"short\.txt has 2 labels, but 12 examples are used"):
        describe(parts, tmp_path / "short.txt")
    with pytest.raises(DataError, match="holds no parts; name a folder of parts or a file"):
        describe(parts, made.attribute())
    with pytest.raises(DataError, match="has no parts that could be compared"):
        describe(made.attribute(), parts)
    less = Stages(
        made._card,
        TrainingData(examples=PAIRS[1:], queries=QUERIES, skipped=0),
        tiny_model,
        seed=0,
        cache=cache,
        console=Lines(),
    ).partition()
    with pytest.raises(DataError, match="has parts of other examples than"):
        describe(parts, less)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("report", r"is damaged: report\.json is not as it was written"),
        ("missing", r"is damaged: parts\.json is not as it was written"),
        ("more", r"is damaged: notes\.txt is not as it was written"),
        ("torn key", r"cannot read .*key\.json"),
        ("no key", r"is no folder of the stage cache \(key\.json is missing\)"),
        ("run", r"is no folder of the stage cache \(it is a run; its stages lie in the stage cache\)"),
        ("list", r"key\.json is no key of a stage of spa-bench"),
        ("format", r"was made by another spa-bench \(format 1, this one has \d+\); make the stage again"),
        ("version", r"was made by another spa-bench and has no report\.json of this one"),
        ("foreign", "holds neither scores nor parts nor adapters"),
    ],
)
def test_a_damaged_or_foreign_folder_is_named_on_one_line(tiny_model: HFModel, cache: Path, damage: str, message: str):
    parts = stages(tiny_model, cache).partition()
    key = parts / "key.json"
    content = json.loads(key.read_text())
    if damage == "report":
        (parts / "report.json").write_text("{}")
    elif damage == "missing":
        (parts / "parts.json").unlink()
    elif damage == "more":
        (parts / "notes.txt").write_text("mine")
    elif damage == "torn key":
        key.write_text("{")
    elif damage in ("no key", "run"):
        key.unlink()
        if damage == "run":
            (parts / "spec.json").write_text("{}")
    elif damage == "list":
        key.write_text("[]")
    elif damage == "format":
        key.write_text(json.dumps({**content, "format": 1}))
    elif damage == "version":
        (parts / "report.json").unlink()
        files = {k: v for k, v in content["files"].items() if k != "report.json"}
        key.write_text(json.dumps({**content, "files": files}))
    else:
        key.write_text(json.dumps({**content, "files": {}}))
        (parts / "parts.json").unlink()
        (parts / "report.json").unlink()
    with pytest.raises(StoreError, match=message) as caught:
        describe(parts)
    assert "\n" not in str(caught.value)


# pictures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "suffix", "begins"),
    [("argmax", ".png", b"\x89PNG"), ("kmeans", ".svg", b"<?xml"), ("random", ".pdf", b"%PDF")],
)
def test_a_picture_is_written_and_its_bytes_depend_on_the_report_alone(method: str, suffix: str, begins: bytes, tmp_path: Path):
    found = of_parts(HALVES, 2, None if method == "random" else BY_SCORES, method)
    first, again, other = (tmp_path / f"{name}{suffix}" for name in "abc")
    draw(found, first, "parts")
    draw(found, again, "parts")
    draw(of_parts(HALVES[::-1][:5] + HALVES[5:], 2, None if method == "random" else BY_SCORES, method), other, "parts")
    assert first.read_bytes().startswith(begins)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_a_picture_of_scores_has_a_box_for_each_query_and_says_which_it_leaves_out(tmp_path: Path):
    scores = np.random.default_rng(0).standard_normal((12, 70)).astype(np.float32)
    draw(report.of_scores(scores, PAIRS, QUERIES[:1] * 70), tmp_path / "a.svg", "scores")
    assert "60 of highest variance of 70" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("name", "message"), [("a.jpg", r"ends in \.png, \.svg, \.pdf"), ("nowhere/a.png", "in a folder that exists")]
)
def test_a_place_for_no_picture_is_refused(name: str, message: str, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        draw(report.of_scores(BY_SCORES, PAIRS, QUERIES), tmp_path / name, "scores")
