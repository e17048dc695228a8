"""All metrics of texts that depend on n, for one problem at several sizes, and for many problems in several processes.

A value at size m estimates what m samples would have given (`rarefaction`): counts of classes exactly, the rest as a mean over
the same seeded subsets for all metrics and kernels. Size counts *draws*: a failed sample (no answer) is among the m, and adds
nothing to any metric. The values of a subset without answers follow from that: classes, effective numbers and utility are 0.
Self-BLEU, distinct-n and the compression ratio are averages over answers, so a subset in which they are undefined is left out
of the mean; where no subset is left, the value is None.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.chosen import Chosen
from spa_bench.metrics.diversity import key_of_tokens, normal_tokens
from spa_bench.metrics.kernels import ORDERS as KERNEL_ORDERS
from spa_bench.metrics.kernels import cosine_of_counts, features_of_tokens, kernel_of_counts
from spa_bench.metrics.lexical import compression_ratios, distinct_shares
from spa_bench.metrics.ngrams import Counts, FloatArray, IntArray, count_features, count_ngrams, words
from spa_bench.metrics.novelty import utility_k
from spa_bench.metrics.rarefaction import expected_classes, has_size, subsets
from spa_bench.metrics.self_bleu import SelfBleu
from spa_bench.metrics.text_table import DISTINCT, TEXT_METRICS, vendi_name
from spa_bench.metrics.vendi import ORDERS, effective_numbers, unit_rows

Values = dict[str, dict[int, float | None]]
"""Metric name -> size m -> value."""


@dataclass(frozen=True, kw_only=True)
class TextSamples:
    """All n samples of one problem, in the order (member, draw)."""

    problem: str  # its id: the seed of the subsets
    texts: Sequence[str]  # what was graded, stripped
    programs: Sequence[str] | None  # whole programs; None where the answers are not programs and have no syntax trees
    passed: Sequence[bool]
    failed: Sequence[bool]  # no answer: text and program are ignored
    members: int  # K; n = r K
    behaviours: Sequence[str] | None = None  # digests of the outputs on the test inputs, "" where unknown
    ran: Sequence[bool] | None = None
    embeddings: NDArray[np.floating] | None = None  # (n, d); rows of failed samples are ignored


def text_values_of(problems: Sequence[TextSamples], sizes: Sequence[int], *, workers: int = 1) -> list[Values]:
    """`values_of` of every problem, in their order; see `each_text_values`."""
    return list(each_text_values(problems, sizes, workers=workers))


def each_text_values(problems: Sequence[TextSamples], sizes: Sequence[int], *, workers: int = 1) -> Iterator[Values]:
    """`values_of` of one problem after the other, in their order; the same numbers for any `workers`.

    More than a second's work goes to at most `workers` spawned processes (one also for workers = 1) with one BLAS thread
    each: small matrices gain nothing from threads, and threads may change a last digit. The processes do not run the script
    that calls this function, so that it needs no `if __name__ == "__main__":`. Raises ValueError for `workers` below 1, and as
    `values_of`.
    """
    if workers < 1:
        raise ValueError(f"at least one worker, not {workers}")
    work = sum(len(p.texts) for p in problems)
    if len(problems) < 2 or work < 2 * _WORTH_A_PROCESS:
        yield from (values_of(p, sizes) for p in problems)
        return
    processes = min(workers, len(problems), work // _WORTH_A_PROCESS)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_signals_to_the_harness)
    done = 0
    try:
        with _starts, _one_blas_thread(), _without_script():
            pending = deque(pool.submit(_values_of_all, part, sizes) for part in _parts(problems, processes))
        for one in _taken(pending):
            for values in one.result():
                yield values
                done += 1
    except BrokenProcessPool:  # one of them was killed, perhaps for its memory: compute here, one problem at a time
        yield from (values_of(p, sizes) for p in problems[done:])
    finally:
        running = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.kill()  # it is idle when all went well; otherwise its work is no longer needed
            process.join()


def _taken(waiting: deque[Future[list[Values]]]) -> Iterator[Future[list[Values]]]:
    """The elements from the first on; each is forgotten when it is given, and what it holds can be freed."""
    while waiting:
        yield waiting.popleft()


def _parts(problems: Sequence[TextSamples], processes: int) -> Iterator[Sequence[TextSamples]]:
    """The problems in parts, because sending one problem costs as much as sending many; small enough to end together."""
    size = min(64, max(1, len(problems) // (16 * processes)))
    return (problems[start : start + size] for start in range(0, len(problems), size))


def _values_of_all(problems: Sequence[TextSamples], sizes: Sequence[int]) -> list[Values]:
    return [values_of(problem, sizes) for problem in problems]


def _leave_signals_to_the_harness() -> None:
    """Ignore signals: a Ctrl-C reaches every process of the terminal, and the harness alone decides what it means."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


# by whoever starts processes: what they are started with, the environment and the main module, is of this whole process
_starts = threading.Lock()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Processes started within the block run BLAS in one thread, unless the user's environment says otherwise."""
    names = [name for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))  # numpy reads it when it is loaded, so it cannot be set in the worker
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


@contextmanager
def _without_script() -> Iterator[None]:
    """Processes spawned within the block do not run the program's script again: what they are sent is of this package alone."""
    script: dict[str, object] = vars(sys.modules["__main__"])
    hidden: dict[str, object] = {name: script.pop(name) for name in ("__file__", "__spec__") if name in script}
    script["__spec__"] = None  # multiprocessing reads it without asking whether it is there
    try:
        yield
    finally:
        del script["__spec__"]
        script.update(hidden)


_WORTH_A_PROCESS = 400  # samples: about half a second's work, which is what starting a process takes


def values_of(samples: TextSamples, sizes: Sequence[int]) -> Values:
    """Every metric of `TEXT_METRICS` at every size, for one problem.

    The value at size n is that of the whole sample in its own order. It is None where the design has no such size, where
    the metric is undefined (Vendi and self-BLEU of one sample) or where its input is missing. Raises ValueError for fields
    of different lengths, no samples, a sample that passed and failed, or embeddings without a cosine.
    """
    _check(samples)
    n, members = len(samples.texts), samples.members
    values: Values = {metric.name: dict.fromkeys(sizes) for metric in TEXT_METRICS}
    answered = ~np.asarray(samples.failed, dtype=bool)
    syntax = None if samples.programs is None else _Syntax.of(samples.programs, answered)
    tables = {name: class_counts(labels, members) for name, labels in _labels(samples, answered, syntax).items()}
    words_ = _Words.of([text if there else "" for text, there in zip(samples.texts, answered, strict=True)])
    spectra = _spectra(samples, answered, syntax, words_)
    chosen = {size: some for size in sizes if (some := subsets(n, members, size, problem=samples.problem)) is not None}
    for name, each in _of_subsets(samples, answered, syntax, words_, list(chosen.values())).items():
        values[name] |= dict(zip(chosen, each, strict=True))
    for size, places in chosen.items():
        for name, table in tables.items():
            count = expected_classes(table, n, size)
            values[name][size] = count / size if count is not None and name.startswith("effective_diversity") else count
        for kernel, spectrum in spectra.items() if size > 1 else ():
            means = effective_numbers(spectrum(places), ORDERS).mean(axis=1)
            for order, mean in zip(ORDERS, means.tolist(), strict=True):
                values[vendi_name(kernel, order)][size] = mean
    return values


@dataclass(frozen=True)
class _Words:
    """The n-grams of the texts; equal texts are counted once. A failed sample has the text "", which has none."""

    texts: Sequence[str]  # (n,)
    place: IntArray  # (n,) row of `counts` of each text
    counts: Mapping[int, Counts]  # order n -> the n-grams, for distinct-n and the n-gram kernel

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Words:
        rows = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        place = np.array([rows[text] for text in texts], dtype=np.int64)
        orders = sorted({*DISTINCT, *KERNEL_ORDERS})
        return cls(texts, place, dict(zip(orders, count_ngrams([words(text) for text in rows], orders), strict=True)))


@dataclass(frozen=True)
class _Syntax:
    """The programs as syntax trees; each distinct program is parsed once."""

    keys: Sequence[str | None]  # (n,) `program_key` of each sample, None for failed ones
    counts: Counts  # features of each distinct key
    place: IntArray  # (n,) row of `counts` of each sample; 0 for failed ones

    @classmethod
    def of(cls, programs: Sequence[str], answered: NDArray[np.bool_]) -> _Syntax:
        rows: dict[str, list[Hashable]] = {}
        key_of: dict[str, str] = {}
        for program in dict.fromkeys(p for p, there in zip(programs, answered, strict=True) if there):
            tokens = normal_tokens(program)
            key = key_of[program] = key_of_tokens(program, tokens)
            if key not in rows:
                rows[key] = features_of_tokens(program, tokens)
        keys = [key_of[p] if there else None for p, there in zip(programs, answered, strict=True)]
        number = {key: i for i, key in enumerate(rows)}
        place = np.array([0 if key is None else number[key] for key in keys], dtype=np.int64)
        return cls(keys, count_features(list(rows.values())), place)


def _labels(samples: TextSamples, answered: NDArray[np.bool_], syntax: _Syntax | None) -> dict[str, list[Hashable | None]]:
    """Metric name -> the class of each sample that counts, None for the others."""
    labels: dict[str, list[Hashable | None]] = {
        "distinct_k[exact]": [text if there else None for text, there in zip(samples.texts, answered, strict=True)],
    }
    if syntax is not None:
        right = [key if good else None for key, good in zip(syntax.keys, samples.passed, strict=True)]
        labels["distinct_k[ast]"] = list(syntax.keys)
        labels |= {name: list(right) for name in ("distinct_correct[ast]", "effective_diversity[ast,correct]")}
    if samples.behaviours is not None:
        known = [b if b and there else None for b, there in zip(samples.behaviours, answered, strict=True)]
        labels["distinct_k[behaviour]"] = list(known)
        if samples.ran is not None:
            labels["effective_diversity[behaviour,ran]"] = [
                b if good else None for b, good in zip(known, samples.ran, strict=True)
            ]
    return labels


def class_counts(labels: Sequence[Hashable | None], members: int) -> IntArray:
    """The samples of each class and member, shape (classes, members); those without a class are left out."""
    number: dict[Hashable, int] = {}
    rows = np.array([-1 if label is None else number.setdefault(label, len(number)) for label in labels], dtype=np.int64)
    member = np.repeat(np.arange(members), len(labels) // members)
    table = np.zeros((len(number), members), dtype=np.int64)
    np.add.at(table, (rows[rows >= 0], member[rows >= 0]), 1)
    return table


def _of_subsets(
    samples: TextSamples, answered: NDArray[np.bool_], syntax: _Syntax | None, words_: _Words, sizes: Sequence[IntArray]
) -> dict[str, list[float | None]]:
    """Metric name -> its mean over the subsets that have a value, for each array (S, m) of subsets of one size."""
    every = Chosen.of([subset for of_size in sizes for subset in of_size])
    some = every.keep(answered)
    found = {
        "self_bleu": SelfBleu.of(words_.texts).means(some),
        "compression_ratio": compression_ratios(words_.texts, some),
    }
    if syntax is not None:
        keys, passed = syntax.keys, samples.passed
        found["utility_k[ast]"] = np.array(
            [utility_k([keys[i] for i in subset], [passed[i] for i in subset]) for subset in every.each()]
        )
    for n in DISTINCT:
        found[f"distinct[n={n}]"] = distinct_shares(words_.counts[n], some, words_.place)
    ends = np.cumsum([len(of_size) for of_size in sizes])
    means = [_means(each) for each in np.split(np.stack(list(found.values())), ends, axis=1)[:-1]]
    return {name: [of_size[row] for of_size in means] for row, name in enumerate(found)}


def _means(values: FloatArray) -> list[float | None]:
    """The mean of each row (M, S) without NaN; None where nothing is left."""
    there = ~np.isnan(values)
    if there.all():
        means: list[float | None] = np.ascontiguousarray(values).mean(axis=1).tolist()
        return means
    return [float(row[some].mean()) if some.any() else None for row, some in zip(values, there, strict=True)]


def _spectra(
    samples: TextSamples, answered: NDArray[np.bool_], syntax: _Syntax | None, words_: _Words
) -> dict[str, Callable[[IntArray], FloatArray]]:
    """Kernel name -> function from subsets (S, m) to the eigenvalues of K / (its answers), shape (S, m), or (S, d) if d < m."""
    there = np.outer(answered, answered)
    if not answered.any():
        there_is = {"ngram": True, "ast": syntax is not None, "embedding": samples.embeddings is not None}
        kernels = [name for name, yes in there_is.items() if yes]
        return {name: lambda chosen: np.zeros(chosen.shape) for name in kernels}

    def of_kernel(kernel: FloatArray) -> Callable[[IntArray], FloatArray]:
        # Failed samples keep rows of zeros: they add eigenvalues of 0, which are dropped, and all subsets have one shape.
        masked = np.where(there, kernel, 0.0)
        return lambda chosen: _eigenvalues(masked[chosen[:, :, None], chosen[:, None, :]], answered[chosen])

    spectra = {"ngram": of_kernel(kernel_of_counts([words_.counts[n] for n in KERNEL_ORDERS], words_.place))}
    if syntax is not None:
        spectra["ast"] = of_kernel(cosine_of_counts(syntax.counts)[np.ix_(syntax.place, syntax.place)])
    if samples.embeddings is not None:
        given = np.asarray(samples.embeddings, dtype=np.float64)
        rows = np.zeros(given.shape)
        rows[answered] = unit_rows(given[answered])
        dimensions = given.shape[1]
        whole = of_kernel(rows @ rows.T)

        def of_rows(chosen: IntArray) -> FloatArray:
            if chosen.shape[1] <= dimensions:
                return whole(chosen)
            some = rows[chosen]
            return _eigenvalues(some.transpose(0, 2, 1) @ some, answered[chosen])

        spectra["embedding"] = of_rows
    return spectra


def _eigenvalues(matrices: FloatArray, answered: NDArray[np.bool_]) -> FloatArray:
    return np.asarray(np.linalg.eigvalsh(matrices) / np.maximum(answered.sum(axis=1), 1)[:, None], dtype=np.float64)


def _check(samples: TextSamples) -> None:
    n = len(samples.texts)
    fields = {name: getattr(samples, name) for name in ("programs", "passed", "failed", "behaviours", "ran", "embeddings")}
    for name, value in fields.items():
        if value is not None and len(value) != n:
            raise ValueError(f"problem {samples.problem!r} has {n} texts but {len(value)} {name}")
    if not n:
        raise ValueError(f"problem {samples.problem!r} has no samples")
    has_size(n, samples.members, n)  # raises where n is not a multiple of K
    if any(good and none for good, none in zip(samples.passed, samples.failed, strict=True)):
        raise ValueError(f"problem {samples.problem!r} has a sample that passed although it failed to answer")
