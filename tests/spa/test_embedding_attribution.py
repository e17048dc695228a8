"""Cosine of embeddings: TF-IDF by hand, encoders of transformers, and what is said where one is missing."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from doubles import ignore, never
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.spa import encoders
from spa_bench.spa.attribution.base import AttributionSetting, attribution_kind
from spa_bench.types import Example

EXAMPLES = [
    Example("def f(nums):", "return sum(nums)"),
    Example("def g(nums):", "return fibonacci(nums)"),
    Example("def h(text):", "return text[::-1]"),
]


def scores(*queries: Example, encoder: str = "tf-idf", examples: list[Example] = EXAMPLES) -> np.ndarray:
    card = AttributionCard(method="embedding", encoder=encoder)
    attributor = attribution_kind("embedding").build(
        AttributionSetting(card=card, lora=LoraCard(), model=None, seed=0, warm_up=never)
    )
    found: np.ndarray = attributor.scores(examples, queries, progress=ignore)
    return found


def test_a_pair_scores_one_with_itself_and_less_with_others():
    found = scores(*EXAMPLES)
    assert found.shape == (3, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-6)
    assert (found - np.eye(3) < 0.95).all()


def test_scores_are_tf_idf_cosines_by_hand():
    documents = [Example("a", "b b"), Example("b", "c")]
    idf = {"a": math.log(3 / 2) + 1, "b": math.log(3 / 3) + 1, "c": math.log(3 / 2) + 1}
    first, second = np.array([idf["a"], 2 * idf["b"], 0]), np.array([0, idf["b"], idf["c"]])
    query = np.array([idf["a"], 0, idf["c"]])
    expected = [v @ query / np.linalg.norm(v) / np.linalg.norm(query) for v in (first, second)]
    np.testing.assert_allclose(scores(Example("A", "c"), examples=documents)[:, 0], expected, rtol=1e-6)


def test_the_query_that_shares_a_rare_word_scores_its_pair_highest():
    assert scores(Example("the Fibonacci", "numbers"), Example("reverse", "text")).argmax(0).tolist() == [1, 2]


def test_a_query_of_unknown_words_scores_all_pairs_zero():
    assert scores(Example("zzz", "yyy"))[:, 0].tolist() == [0.0] * 3


def test_an_encoder_of_transformers_gives_cosines_of_its_vectors(tiny_folder: Path):
    from spa_bench.models.embed import HFEmbedder

    queries = [Example("def k(nums):", "return max(nums)")]
    texts = [encoders.text_of(e) for e in [*EXAMPLES, *queries]]
    vectors = np.stack(list(HFEmbedder(str(tiny_folder), device="cpu").embed(texts))).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(scores(*queries, encoder=str(tiny_folder)), vectors[:3] @ vectors[3:].T, atol=1e-6)


class Sentences:
    """What spa_bench uses of sentence_transformers.SentenceTransformer."""

    asked: list[str] = []  # noqa: RUF012

    def __init__(self, name: str):
        if "broken" in name:
            raise OSError("no such model\nand more")
        self.asked.append(name)

    def encode(self, texts: list[str], *, show_progress_bar: bool, convert_to_numpy: bool) -> np.ndarray:
        assert not show_progress_bar
        assert convert_to_numpy
        return np.array([[0.0, 0.0] if "nothing" in t else [len(t), 3.0] for t in texts], np.float32)


@pytest.fixture
def sentences(monkeypatch: pytest.MonkeyPatch) -> type[Sentences]:
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Sentences))
    monkeypatch.setattr(Sentences, "asked", [])
    return Sentences


@pytest.mark.parametrize(
    ("encoder", "asked"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("sentence-transformers:BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
    ],
)
def test_an_encoder_of_sentence_transformers_is_asked_by_its_name(encoder: str, asked: str, sentences: type[Sentences]):
    found = scores(Example("", "abc"), encoder=encoder, examples=[Example("", "abc"), Example("", "abcdefgh")])
    assert sentences.asked == [asked]
    np.testing.assert_allclose(found[:, 0], [1, (4 * 9 + 9) / 5 / math.hypot(9, 3)], rtol=1e-6)


def test_a_folder_of_sentence_transformers_is_known_by_its_modules(tmp_path: Path, sentences: type[Sentences]):
    (tmp_path / "modules.json").write_text("[]")
    scores(Example("", "abc"), encoder=str(tmp_path))
    assert sentences.asked == [str(tmp_path)]


def test_a_vector_without_direction_is_refused_with_its_text(sentences: type[Sentences]):
    with pytest.raises(ModelError, match="gives a vector that is zero or not finite for ' nothing'"):
        scores(Example("", "nothing"), encoder="sentence-transformers/x")


def test_an_encoder_that_cannot_be_loaded_is_named_on_one_line(sentences: type[Sentences]):
    with pytest.raises(ModelError, match=r"cannot load the encoder 'sentence-transformers/broken': no such model$"):
        scores(Example("", "abc"), encoder="sentence-transformers/broken")


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match="needs sentence-transformers: pip install sentence-transformers; or use tf-idf"):
        scores(Example("", "abc"), encoder="sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.parametrize("method", ["embedding", "bm25"])
def test_a_pair_without_a_word_is_refused_by_its_number(method: str):
    attributor: Any = attribution_kind(method).build(
        AttributionSetting(card=AttributionCard(method=method), lora=LoraCard(), model=None, seed=0, warm_up=never)
    )
    with pytest.raises(DataError, match="example 1 has no word and no sign"):
        attributor.scores([EXAMPLES[0], Example(" \n", "\t")], EXAMPLES, progress=ignore)
    with pytest.raises(DataError, match="query 0 has no word and no sign"):
        attributor.scores(EXAMPLES, [Example("", "")], progress=ignore)


# what tells encoders apart -------------------------------------------------------------------------------------------


def test_a_folder_counts_by_what_it_holds_and_not_by_where_it_lies(tmp_path: Path):
    for name, content in (("a/model", "1"), ("b/model", "1"), ("c/model", "2")):
        (tmp_path / name / "1_Pooling").mkdir(parents=True)
        (tmp_path / name / "1_Pooling" / "config.json").write_text(content)
    a, b, c = (encoders.identity(str(tmp_path / n / "model")) for n in "abc")
    assert a == b != c


def test_a_folder_of_sentence_transformers_counts_by_weights_of_the_older_format_too(tmp_path: Path):
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "0_Transformer").mkdir()
    found = []
    for content in (b"1", b"1", b"2"):
        (tmp_path / "0_Transformer" / "pytorch_model.bin").write_bytes(content)
        found.append(encoders.identity(str(tmp_path)))
    assert found[0] == found[1] != found[2]


def test_an_encoder_of_sentence_transformers_counts_by_the_version_of_that_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import importlib.metadata

    def told() -> dict[str, str]:
        return encoders.identity(str(tmp_path))

    (tmp_path / "config.json").write_text("{}")
    other = {"sentence-transformers": "9.9"}
    real = importlib.metadata.version
    plain = told()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: other.get(name) or real(name))
    assert told() == plain  # one of transformers
    (tmp_path / "modules.json").write_text("[]")
    assert told()["sentence-transformers"] == "9.9"


def test_tf_idf_counts_by_its_version():
    assert encoders.identity("tf-idf")["scikit-learn"]


def test_the_embedded_model_is_an_encoder():
    assert encoders.identity("embedded")["name"] == "embedded"


def test_a_name_that_leads_nowhere_is_refused():
    with pytest.raises(ModelError, match="there is no encoder 'tfidf' here or on the hub"):
        encoders.identity("tfidf")
