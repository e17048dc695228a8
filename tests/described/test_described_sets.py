"""Descriptions of sets made by hand, whose numbers are known, and what is said where there is no number."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sacrebleu import sentence_bleu

from doubles import MockModel
from spa_bench.datasets import DataSet, Description, How, describe, of_examples, parts_of, read_set, similarity
from spa_bench.datasets.at_size import shared_size
from spa_bench.errors import DataError, SandboxError, UsageError
from spa_bench.metrics.jackknife import subsets
from spa_bench.metrics.kernels import ngram_kernel
from spa_bench.metrics.lexical import distinct_n
from spa_bench.metrics.vendi import vendi_score
from spa_bench.models.hf.model import HFModel
from spa_bench.spa.attribution.vectors import gradient_vectors
from spa_bench.spa.data.near import near_twins
from spa_bench.spa.data.overlap import SIMILAR
from spa_bench.spa.likelihood import completion_losses
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Estimate, Example, Request

WORDS = [
    "ant",
    "bee",
    "cat",
    "dog",
    "eel",
    "fox",
    "gnu",
    "hen",
    "ibis",
    "jay",
    "kiwi",
    "lark",
    "mole",
    "newt",
    "owl",
    "pug",
    "ram",
    "seal",
    "toad",
    "wasp",
    "yak",
    "zebu",
]


def sums(count: int, at: int = 0) -> list[Example]:
    return [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:]) + {WORDS[i % 22]}_{i}\n") for i in range(at, at + count)]


def prose(count: int) -> list[Example]:
    return [
        Example(f"Tell of the {WORDS[i % 22]}, tale {i}.", f"Once the {WORDS[i % 22]} met number {i}.") for i in range(count)
    ]


def value(found: Description, name: str, place: int = 0) -> Estimate:
    return found.sets[place].values[name]


def known(found: Description, name: str, place: int = 0) -> float:
    estimate = value(found, name, place)
    assert estimate.value is not None, estimate.reason
    return estimate.value


def test_identical_pairs_are_one_effective_pair(tiny_model: HFModel):
    same = of_examples("same", [Example("def f(x):\n", "    return x + 1 if x > 0 else 0\n")] * 12)
    found = describe([same], model=tiny_model)
    assert found.size == 6
    for kernel in ("ngram", "embedding", "gradient"):
        for order in ("0.1", "1", "inf"):
            assert known(found, f"vendi[{kernel},q={order}]") == pytest.approx(1.0, abs=1e-6)
    assert known(found, "clusters") == pytest.approx(1.0)
    assert known(found, "coverage") == 1.0
    assert known(found, "self_bleu") == pytest.approx(1.0)
    assert known(found, "near_duplicates") == 1.0
    assert known(found, "near_duplicates[all]") == pytest.approx(11 / 12)
    assert value(found, "vendi[ngram,q=1]").low == pytest.approx(1.0)


def test_values_at_m_pairs_are_means_over_subsets_of_the_metrics_of_samples():
    examples = [*sums(20), *prose(20)]
    found = describe([of_examples("both", examples)], how=How(subsets=5))
    texts = [f"{e.prompt}\n{e.completion}" for e in examples]
    drawn = [[texts[i] for i in one] for one in subsets(40, 20, seed=derive_seed(0, "subsets"), count=5)]
    assert known(found, "vendi[ngram,q=1]") == pytest.approx(np.mean([vendi_score(ngram_kernel(some)) for some in drawn]))
    assert known(found, "distinct_2") == pytest.approx(np.mean([distinct_n(some, 2) or 0 for some in drawn]))
    scores = [[sentence_bleu(text, [*some[:i], *some[i + 1 :]]).score / 100 for i, text in enumerate(some)] for some in drawn]
    assert known(found, "self_bleu") == pytest.approx(np.mean(scores))


def test_two_heaps_are_two_clusters_of_which_a_set_of_one_heap_reaches_half():
    heaps = [Example("p", "alpha alpha alpha")] * 20 + [Example("q", "omega omega omega")] * 20
    sets = [of_examples("both", heaps), of_examples("one", heaps[:20] * 2)]
    found = describe(sets)
    assert found.clusters == 2
    assert known(found, "coverage", 0) == 1.0
    assert known(found, "coverage", 1) == 0.5
    assert known(found, "clusters", 0) == pytest.approx(2.0, abs=0.15)
    assert known(found, "clusters", 1) == pytest.approx(1.0)


def test_a_more_diverse_set_is_resolved_as_more_diverse():
    few = [Example(f"Tell of the {WORDS[i % 3]}.", "Once.") for i in range(60)]
    found = describe([of_examples("few", few), of_examples("many", prose(60))])
    for name in ("vendi[ngram,q=1]", "vendi[embedding,q=1]", "distinct_2"):
        less, more = value(found, name, 0), value(found, name, 1)
        assert less.high is not None
        assert more.low is not None
        assert less.high < more.low


def test_a_set_is_like_itself_and_unlike_another():
    found = similarity(prose(120), prose(120), seed=1)
    assert found["mauve[frontier]"].value is not None
    assert found["mauve[frontier]"].value > 0.9
    assert found["auc"].value == pytest.approx(0.5, abs=0.15)
    assert found["mmd2"].low is not None
    assert found["mmd2"].low <= 0.005
    other = similarity(sums(120), prose(120), seed=1)
    assert (other["mauve[frontier]"].value or 0) < 0.1
    assert other["auc"].value == pytest.approx(1.0, abs=0.01)
    assert (other["frechet"].low or 0) > (found["frechet"].high or 0)
    assert similarity(prose(120), prose(120), seed=1) == found


@pytest.mark.slow
def test_the_targets_own_row_compares_two_halves_of_it():
    target = of_examples("wanted", prose(80))
    found = describe([of_examples("code", sums(80))], target=target)
    assert [one.name for one in found.sets] == ["code", "wanted"]
    assert known(found, "mauve[frontier]", 1) > 0.7 > known(found, "mauve[frontier]", 0)
    assert known(found, "auc", 1) < 0.7


def test_similarity_refuses_sets_that_have_no_subsets():
    with pytest.raises(UsageError, match="subsets of 1 pairs, of sets of 3 and 80: from 2 to half of either"):
        similarity(prose(3), prose(80))
    with pytest.raises(DataError, match="target has no pairs"):
        similarity(prose(3), [])


def test_prose_is_not_code_and_has_no_share_of_0():
    found = describe([of_examples("prose", prose(10))])
    assert known(found, "code") == 0.0
    for name in ("parses", "runs", "passes", "ast_depth", "ast_kinds"):
        assert value(found, name).reason == "not code: no answer holds a program"


def test_without_a_model_and_a_sandbox_these_are_left_out_with_a_reason():
    found = describe([of_examples("code", sums(10))], grader=SandboxError("none works here"))
    assert known(found, "parses") == 1.0
    assert value(found, "runs").reason == "no sandbox: none works here"
    assert value(found, "perplexity").reason == "no model was named"
    assert any("none works here" in note for note in found.notes)


def test_one_pair_has_values_without_intervals_and_no_subsets():
    found = describe([of_examples("one", sums(1))])
    assert found.size == 0
    assert value(found, "characters") == Estimate(value=known(found, "characters"), n=1, reason="one pair: no interval")
    assert value(found, "vendi[ngram,q=1]").reason == "1 pair: there is no subset"


def test_sets_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="empty has no pairs"):
        of_examples("empty", [])
    with pytest.raises(DataError, match="2 pairs and tests for 1"):
        of_examples("some", sums(2), tests=["pass"])
    with pytest.raises(UsageError, match="two data sets are called a"):
        describe([of_examples("a", sums(2)), of_examples("a", sums(3))])
    with pytest.raises(UsageError, match="subsets of 50 pairs need a set of 100, and the largest has 10"):
        describe([of_examples("a", sums(10))], how=How(size=50))
    with pytest.raises(UsageError, match="nothing to describe"):
        describe([])


@pytest.mark.parametrize(("counts", "size"), [([768, 40, 7], 20), ([9, 7, 4], 3), ([5000, 900], 128), ([1], 0)])
def test_the_shared_size_is_half_of_the_smallest_set_that_is_not_tiny(counts: list[int], size: int):
    assert shared_size(counts) == size


def test_a_tiny_part_has_no_measures_at_a_size_that_it_lacks():
    found = describe([of_examples("large", prose(64)), of_examples("tiny", sums(6))])
    assert found.size == 32
    assert value(found, "coverage", 1).reason == "6 pairs, and subsets of 32 need 64"
    assert known(found, "characters", 1) > 0


def test_loss_is_the_mean_of_negative_log_probabilities(tiny_model: HFModel):
    examples = [Example("def f(x):\n", "    return x\n"), Example("ab", "    y = 1\n" * 3)]
    summed, counts = completion_losses(tiny_model, examples)
    for example, total, count in zip(examples, summed, counts, strict=True):
        head, tail = tiny_model.encode_pair(example.prompt, example.completion)
        with torch.no_grad():
            logits = tiny_model.network(torch.tensor([[*head, *tail]])).logits[0].log_softmax(-1)
        by_hand = -sum(float(logits[len(head) + i - 1, token]) for i, token in enumerate(tail))
        assert total == pytest.approx(by_hand, rel=1e-4)
        assert count == len(tail)
    found = describe([of_examples("two", examples)], model=tiny_model)
    assert known(found, "nats") == pytest.approx(summed.sum() / counts.sum())
    assert known(found, "perplexity") == pytest.approx(math.exp(summed.sum() / counts.sum()))
    assert known(found, "loss") == pytest.approx(np.mean(summed / counts))


def test_a_pair_that_does_not_fit_the_context_has_no_loss_and_is_counted(tiny_model: HFModel):
    long = Example("def f(x):\n", "    x = 1\n" * 2000)
    found = describe([of_examples("some", [*sums(4), long])], model=tiny_model)
    assert value(found, "loss").n == 4
    assert any(note.startswith("1 of 5 pairs do not fit the context") for note in found.notes)


def test_gradients_keep_the_cosines_of_the_whole_gradients(tiny_model: HFModel):
    examples = [*sums(3), Example("def g(text):\n", "    return text.lower()\n")]
    wide = gradient_vectors(tiny_model, examples, dimensions=1 << 16, seed=0).astype(float)
    other = gradient_vectors(tiny_model, examples, dimensions=1 << 16, seed=1).astype(float)
    assert not np.allclose(wide, other)  # another projection of other factors A

    def cosines(rows: np.ndarray) -> np.ndarray:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(unit @ unit.T)

    narrow = gradient_vectors(tiny_model, examples, dimensions=4096, seed=0).astype(float)
    assert cosines(narrow) == pytest.approx(cosines(wide), abs=0.08)
    assert gradient_vectors(tiny_model, [examples[0]] * 2, seed=0)[0] == pytest.approx(
        gradient_vectors(tiny_model, examples[:1], seed=0)[0], rel=1e-3, abs=1e-5
    )


def test_a_judge_rates_pairs_and_replies_without_a_verdict_are_counted():
    def reply(request: Request) -> str:
        return "[[8]]" if "tale 0" in request.prompt + str(request.messages) else "hm" if "tale 1." in str(request) else "[[4]]"

    found = describe([of_examples("prose", prose(4))], judge=MockModel(reply))
    assert known(found, "judge") == pytest.approx((8 + 4 + 4) / 3)
    assert "judge: 1 of 4 replies hold no verdict (25%) and count nowhere" in found.notes


def test_the_same_arguments_give_the_same_numbers_and_another_seed_others():
    sets = [of_examples("both", [*sums(20), *prose(20)])]
    assert describe(sets).to_json() == describe(sets).to_json()
    assert known(describe(sets), "coverage") != known(describe(sets, how=How(seed=1)), "coverage")
    json.dumps(describe(sets).to_json(), allow_nan=False)


def test_near_twins_are_those_of_the_similarity_itself():
    base = " ".join(WORDS)
    texts = [base, f"{base.upper()}!", base.replace("zebu", "cow"), " ".join(reversed(WORDS)), "", ""]
    assert near_twins(texts, SIMILAR) == [[1, 2], [0, 2], [0, 1], [], [], []]


# reading ---------------------------------------------------------------------------------------------------------------


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_bring_their_own_tests(tmp_path: Path):
    rows: list[dict[str, Any]] = [
        {
            "prompt": "Double.",
            "completion": "def f(x):\n    return 2 * x",
            "test_list": ["assert f(1) == 2", "assert f(2) == 4"],
        },
        {"prompt": "Double.", "completion": "def f(x):\n    return 2 * x", "test": "def check(g): ...", "entry_point": "f"},
        {"prompt": "Double.", "completion": "def f(x):\n    return 2 * x"},
    ]
    items = read_set(str(written(tmp_path / "a.jsonl", rows))).items
    assert [one.tests for one in items] == ["\nassert f(1) == 2\nassert f(2) == 4", "def check(g): ...", ""]
    assert items[1].entry_point == "f"


def test_an_instruction_is_measured_without_its_template(tmp_path: Path):
    [item] = read_set(str(written(tmp_path / "a.jsonl", [{"instruction": "Add.", "input": "1 2", "output": "3"}]))).items
    assert (item.asked, item.answer) == ("Add.\n1 2", "3")
    assert "### Instruction" in item.example.prompt


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="cannot read the examples in"):
        read_set(str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no examples"):
        read_set(str(tmp_path / "empty.jsonl"))


def test_a_limit_is_drawn_with_the_seed_and_nested():
    whole = of_examples("some", sums(50))
    few, more = whole.drawn(10, 0), whole.drawn(20, 0)
    assert set(few.items) < set(more.items)
    assert (len(few.items), few.total) == (10, 50)
    assert whole.drawn(10, 1).items != few.items
    assert whole.drawn(None, 0) is whole.drawn(50, 0) is whole


def test_parts_are_the_pairs_of_each_label_in_their_order(tmp_path: Path):
    whole = of_examples("some", sums(4))
    labels = tmp_path / "labels.txt"
    labels.write_text("1\n0\n1\n10\n")
    parts = parts_of(whole, labels)
    assert [(one.name, one.part_of, [whole.items.index(i) for i in one.items]) for one in parts] == [
        ("some, part 0", "some", [1]),
        ("some, part 1", "some", [0, 2]),
        ("some, part 10", "some", [3]),
    ]
    with pytest.raises(DataError, match="labels of 4 pairs, and other has 3"):
        parts_of(of_examples("other", sums(3)), labels)


def test_a_pair_of_a_whole_and_of_its_part_is_measured_once(tmp_path: Path):
    whole = of_examples("some", prose(8))
    part = DataSet(name="part", items=whole.items[:4], total=4, part_of="some")
    judge = MockModel(lambda request: "[[5]]")
    found = describe([whole, part], judge=judge)
    assert len(judge.asked) == 8
    assert known(found, "judge", 1) == 5.0


def test_a_target_of_the_name_of_another_set_is_refused():
    ours, other = of_examples("data.jsonl", prose(20)), of_examples("data.jsonl", sums(20))
    with pytest.raises(UsageError, match=r"two data sets are called data\.jsonl; rename one of them"):
        describe([ours], target=other)
    assert len(describe([ours], target=of_examples("data.jsonl", prose(20)), how=How(subsets=2)).sets) == 1


def test_a_part_does_not_change_the_gradients_of_its_whole(tiny_model: HFModel):
    whole = of_examples("whole", [*sums(30), *prose(10)])
    part = DataSet(name="part", items=whole.items[30:], total=10, part_of="whole")
    how = How(size=5, subsets=8)
    alone, both = (describe(sets, model=tiny_model, how=how) for sets in ([whole], [whole, part]))
    assert both.gradients == alone.gradients == 5
    assert value(both, "vendi[gradient,q=1]").n == 10  # of the 2 m pairs that were drawn of it, and of no others
    assert known(both, "vendi[gradient,q=1]") == pytest.approx(known(alone, "vendi[gradient,q=1]"))


def test_a_tiny_set_does_not_decide_the_clusters():
    found = describe([of_examples("large", prose(64)), of_examples("tiny", sums(2))], how=How(subsets=2))
    assert (found.size, found.clusters) == (32, 8)


def test_a_setup_of_tests_that_is_no_text_is_not_read(tmp_path: Path):
    row = {"prompt": "Double.", "completion": "x = 1", "test_list": ["assert x"], "test_setup_code": 5}
    assert read_set(str(written(tmp_path / "a.jsonl", [row]))).items[0].tests == "assert x"
