import math
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from spa_bench.metrics.diversity import effective_diversity, program_key
from spa_bench.metrics.kernels import ast_kernel
from spa_bench.metrics.lexical import compression_ratio, distinct_n
from spa_bench.metrics.novelty import distinct_k, utility_k
from spa_bench.metrics.rarefaction import subsets
from spa_bench.metrics.self_bleu import self_bleu
from spa_bench.metrics.text_table import TEXT_METRICS
from spa_bench.metrics.texts import TextSamples, Values, each_text_values, text_values_of, values_of
from spa_bench.metrics.vendi import ngram_kernel, vendi_from_features, vendi_score

TEXTS = [
    "return a + b",
    "return a + b",
    "return b + a",
    "return a - b",
    "return (a",
    "",
    "return sum([a, b])",
    "return a + b  #",
]
SAMPLES = TextSamples(
    problem="test/0",
    texts=TEXTS,
    programs=[f"def f(a, b):\n    {text}" for text in TEXTS],
    passed=[True, True, True, False, False, False, True, True],
    failed=[False] * 8,
    members=1,
    behaviours=["x", "x", "x", "y", "", "", "x", "x"],
    ran=[True, True, True, True, False, False, True, True],
    embeddings=np.random.default_rng(3).normal(size=(8, 5)),
)
NAMES = [metric.name for metric in TEXT_METRICS]
ORDER_FREE = [name for name in NAMES if name not in ("compression_ratio", "utility_k[ast]")]


def values(samples, sizes):
    return values_of(samples, sizes)


def part(samples, places):
    """The samples at these places, as a whole of their own."""

    def cut(field):
        return None if field is None else [field[i] for i in places]

    names = ("texts", "programs", "passed", "failed", "behaviours", "ran")
    embeddings = None if samples.embeddings is None else samples.embeddings[list(places)]
    return replace(samples, **{name: cut(getattr(samples, name)) for name in names}, embeddings=embeddings)


def test_the_table_names_every_metric_once_and_the_values_follow_it():
    assert len(set(NAMES)) == len(NAMES) == 15 + 1 + 3 + 1 + 3 + 1 + 2 + 1
    assert list(values(SAMPLES, [8])) == NAMES
    assert {"vendi[ngram,q=0.1]", "vendi[ast,q=inf]", "vendi[embedding,q=1]", "distinct[n=2]"} < set(NAMES)
    assert all(metric.description and metric.missing for metric in TEXT_METRICS)


def test_the_whole_sample_has_the_values_of_the_plain_functions():
    found = {name: by_size[8] for name, by_size in values(SAMPLES, [8]).items()}
    keys = [program_key(p) for p in SAMPLES.programs]
    for q in (0.1, 0.5, 1.0, 2.0, math.inf):
        assert found[f"vendi[ngram,q={q:g}]"] == pytest.approx(vendi_score(ngram_kernel(TEXTS), order=q), rel=1e-9)
        assert found[f"vendi[ast,q={q:g}]"] == pytest.approx(vendi_score(ast_kernel(SAMPLES.programs), order=q), rel=1e-9)
        assert found[f"vendi[embedding,q={q:g}]"] == pytest.approx(vendi_from_features(SAMPLES.embeddings, order=q), rel=1e-9)
    assert found["self_bleu"] == pytest.approx(self_bleu(TEXTS), rel=1e-12)
    assert [found[f"distinct[n={n}]"] for n in (1, 2, 3)] == [distinct_n(TEXTS, n) for n in (1, 2, 3)]
    assert found["compression_ratio"] == compression_ratio(TEXTS)
    assert found["distinct_k[exact]"] == 7
    assert found["distinct_k[ast]"] == distinct_k(keys)
    assert found["distinct_k[behaviour]"] == 2
    assert found["utility_k[ast]"] == utility_k(keys, SAMPLES.passed)
    assert found["effective_diversity[ast,correct]"] == effective_diversity(SAMPLES.programs, SAMPLES.passed)
    assert found["effective_diversity[behaviour,ran]"] == 2 / 8
    assert found["distinct_correct[ast]"] == 3


@pytest.mark.parametrize("orders", [(3,), (2, 3, 1)])
def test_the_kernel_of_n_grams_does_not_depend_on_the_orders_of_distinct_n(orders, monkeypatch):
    before = values(SAMPLES, [8])
    monkeypatch.setattr("spa_bench.metrics.texts.DISTINCT", orders)
    found = values(SAMPLES, [8])
    same = [name for name in NAMES if name.startswith("vendi[ngram")] + [f"distinct[n={n}]" for n in orders]
    assert {name: found[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.parametrize(("members", "size"), [(1, 2), (1, 6), (1, 7), (2, 2), (2, 6), (4, 2), (4, 4), (8, 7)])
def test_a_smaller_size_is_the_mean_over_the_subsets_of_the_design(members, size):
    samples = replace(SAMPLES, members=members)
    each = 8 // members
    every = [
        places
        for places in combinations(range(8), size)
        if members == 1
        or len({p // each for p in places}) == size
        or (size > members and all(sum(p // each == m for p in places) == size // members for m in range(members)))
    ]
    found = values(samples, [size])
    parts = [values(replace(part(SAMPLES, places), members=1), [size]) for places in every]
    for name in ORDER_FREE:
        expected = [one[name][size] for one in parts if one[name][size] is not None]
        assert found[name][size] == pytest.approx(np.mean(expected), rel=1e-9), name


@pytest.mark.parametrize(("members", "size"), [(1, 3), (8, 4), (2, 4)])
def test_where_subsets_are_too_many_a_seeded_few_come_close(members, size):
    found = [values(replace(SAMPLES, members=members, problem=f"{i}"), [size]) for i in range(12)]
    # The exact expectation of a count, against its mean on the very subsets that the other metrics use.
    keys = [program_key(p) for p in SAMPLES.programs]
    drawn = [subsets(8, members, size, problem=f"{i}") for i in range(12)]
    sampled = np.mean([len({keys[i] for i in row}) for one in drawn for row in one])
    assert sampled == pytest.approx(found[0]["distinct_k[ast]"][size], abs=0.15)
    assert len({one["vendi[ngram,q=1]"][size] for one in found}) == 12  # other problems, other subsets
    assert np.std([one["vendi[ngram,q=1]"][size] for one in found]) < 0.2


def test_a_size_that_the_design_cannot_give_has_no_values():
    found = values(replace(SAMPLES, members=4), [6, 9, 0])
    assert {value for by_size in found.values() for value in by_size.values()} == {None}


def test_one_sample_has_no_vendi_and_no_self_bleu_but_classes():
    found = values(SAMPLES, [1])
    none = {name for name in NAMES if found[name][1] is None}
    assert none == {name for name in NAMES if name.startswith("vendi")} | {"self_bleu"}
    assert found["effective_diversity[ast,correct]"][1] == pytest.approx(5 / 8)


def test_failed_samples_add_nothing_whatever_their_text():
    failed = [False] * 6 + [True] * 2
    one = replace(SAMPLES, failed=failed, passed=[*SAMPLES.passed[:6], False, False])
    other = replace(one, texts=[*TEXTS[:6], "junk", "more junk"], programs=[*SAMPLES.programs[:6], "x = 1", "y ="])
    other = replace(other, embeddings=np.vstack([SAMPLES.embeddings[:6], np.full((2, 5), np.nan)]))
    assert values(one, [2, 5, 8]) == values(other, [2, 5, 8])
    found = values(one, [8])
    alone = values(part(one, range(6)), [6])
    for name in NAMES:
        if name.startswith(("vendi", "self_bleu", "distinct", "compression")):
            assert found[name][8] == pytest.approx(alone[name][6], rel=1e-9), name
    assert found["effective_diversity[ast,correct]"][8] == pytest.approx(alone["effective_diversity[ast,correct]"][6] * 6 / 8)


def test_a_failed_sample_is_not_the_answer_that_is_empty():
    empty = replace(SAMPLES, texts=["", "", *TEXTS[2:]], passed=[False] * 8)
    failed = replace(empty, failed=[True, True] + [False] * 6)
    assert values(empty, [8])["distinct_k[exact]"][8] == 6  # the third empty one is equal to these two
    assert values(failed, [8])["distinct_k[exact]"][8] == 6
    all_empty = replace(failed, failed=[not text for text in failed.texts])
    assert values(all_empty, [8])["distinct_k[exact]"][8] == 5


def test_without_any_answer_there_is_no_diversity():
    found = values(replace(SAMPLES, failed=[True] * 8, passed=[False] * 8), [2, 8])
    for name in NAMES:
        undefined = name.startswith(("self_bleu", "distinct[", "compression"))
        assert set(found[name].values()) == ({None} if undefined else {0.0}), name


def test_without_behaviours_or_embeddings_their_metrics_are_missing():
    bare = values(replace(SAMPLES, behaviours=None, ran=None, embeddings=None), [4, 8])
    full = values(SAMPLES, [4, 8])
    missing = {name for name in NAMES if set(bare[name].values()) == {None}}
    assert missing == {name for name in NAMES if "embedding" in name or "behaviour" in name}
    assert all(bare[name] == full[name] for name in set(NAMES) - missing)
    half = values(replace(SAMPLES, ran=None), [8])
    assert half["effective_diversity[behaviour,ran]"][8] is None
    assert half["distinct_k[behaviour]"][8] == 2


def test_embeddings_use_the_dual_form_where_there_are_more_samples_than_dimensions(monkeypatch):
    def spy(matrices):
        shapes.append(matrices.shape[1:])
        return solve(matrices)

    shapes, solve = [], np.linalg.eigvalsh
    narrow = SAMPLES.embeddings[:, :3]
    expected = [vendi_from_features(narrow, order=q) for q in (0.1, 2.0)]
    monkeypatch.setattr(np.linalg, "eigvalsh", spy)
    found = values(replace(SAMPLES, embeddings=narrow), [2, 8])
    assert [found[f"vendi[embedding,q={q:g}]"][8] for q in (0.1, 2.0)] == pytest.approx(expected, rel=1e-9)
    assert shapes == [(2, 2)] * 3 + [(8, 8)] * 2 + [(3, 3)]


def test_behaviours_that_did_not_run_earn_no_effective_diversity():
    ran = [True, *[False] * 7]
    assert values(replace(SAMPLES, ran=ran), [8])["effective_diversity[behaviour,ran]"][8] == 1 / 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"programs": ["x"]}, "8 texts but 1 programs"),
        ({"ran": []}, "8 texts but 0 ran"),
        ({"embeddings": np.zeros((8, 2))}, "zero or not finite"),
        ({"failed": [True] * 8}, "passed although it failed"),
        ({"members": 3}, "8 draws"),
        ({name: [] for name in ("texts", "programs", "passed", "failed", "behaviours", "ran", "embeddings")}, "no samples"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        values(replace(SAMPLES, **change), [2])


def many():
    texts = [f"return {i % 7} + {'x' * (i % 5)}" for i in range(150)]
    one = TextSamples(
        problem="a",
        texts=texts,
        programs=[f"def f(x):\n    {t}" for t in texts],
        passed=[True] * 150,
        failed=[False] * 150,
        members=1,
    )
    return [one, replace(one, problem="b", members=3), replace(one, problem="c"), SAMPLES, replace(one, problem="d")] * 2


def test_the_numbers_do_not_depend_on_the_number_of_workers():
    problems = many()
    alone = text_values_of(problems, [2, 8, 150], workers=1)
    assert alone == text_values_of(problems, [2, 8, 150], workers=2)
    assert alone[0] != alone[2]  # other subsets for another problem
    assert alone[3] == values(SAMPLES, [2, 8, 150])


def test_few_problems_start_no_process(monkeypatch):
    monkeypatch.setattr("spa_bench.metrics.texts.ProcessPoolExecutor", None)
    assert text_values_of([SAMPLES, SAMPLES], [2, 8], workers=2) == [values(SAMPLES, [2, 8])] * 2


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    text_values_of(many(), [2], workers=1)
    assert dict(os.environ) == before


def test_two_threads_that_start_processes_leave_each_other_what_these_need(monkeypatch):
    """The first one is still starting its processes when the second one begins."""
    entered, left, seen = threading.Event(), threading.Event(), []
    main = sys.modules["__main__"]

    class Pool:
        def __init__(self, *_, **__):
            self._processes = {}

        def submit(self, act, *given):
            if threading.current_thread() is second:
                entered.set()
                assert left.wait(10)
            elif not second.is_alive():
                second.start()
                entered.wait(0.3)
            seen.append((hasattr(main, "__file__"), main.__spec__, os.environ.get("OMP_NUM_THREADS")))
            future = Future()
            future.set_result([{} for _ in given[0]])
            return future

        def shutdown(self, **_):
            pass

    def begin():
        for _ in each_text_values(problems, [2]):
            left.set()

    problems, second = many(), threading.Thread(target=begin)
    monkeypatch.setattr("spa_bench.metrics.texts.ProcessPoolExecutor", Pool)
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    monkeypatch.setattr(main, "__spec__", "of the script")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    begin()
    second.join()
    assert seen == [(False, None, "1")] * 2 * len(problems)
    assert (main.__spec__, "OMP_NUM_THREADS" in os.environ) == ("of the script", False)


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="worker"):
        text_values_of([SAMPLES], [2], workers=0)


def _crowd(count: int) -> list[TextSamples]:
    """Problems whose metrics take a while."""
    made = []
    for i in range(count):
        rng = random.Random(i)
        texts = [f"x{rng.randrange(50)} = {rng.randrange(50)}\nreturn x + {rng.randrange(50)}" for _ in range(60)]
        made.append(
            TextSamples(problem=f"p{i}", texts=texts, programs=texts, passed=[True] * 60, failed=[False] * 60, members=1)
        )
    return made


@pytest.fixture(scope="module")
def undisturbed() -> list[Values]:
    """The values of a crowd of forty, computed in this process."""
    return [values_of(p, [2, 4, 8, 60]) for p in _crowd(40)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_a_process_of_the_pool_changes_no_number(number: signal.Signals, undisturbed: list[Values]):
    problems = _crowd(40)
    sent: list[int] = []

    def send() -> None:
        while not sent:
            time.sleep(0.05)
            for child in multiprocessing.active_children()[:1]:
                assert child.pid
                sent.append(child.pid)
                time.sleep(0.3)
                os.kill(child.pid, number)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    found = text_values_of(problems, [2, 4, 8, 60], workers=2)
    sender.join(10)
    assert sent
    assert found == undisturbed
    ends = time.monotonic() + 10  # a signal takes a moment to end a process that computes
    while not ended(sent[0]) and time.monotonic() < ends:
        time.sleep(0.05)
    assert ended(sent[0])


def ended(pid: int) -> bool:
    """Whether the system knows no such process any more.

    `Process.is_alive` is not asked: it says True for an ended child that another thread is about to note as ended.
    """
    multiprocessing.active_children()  # takes note of those that have ended
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
