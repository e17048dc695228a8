"""Speed of the metrics of texts on real samples, and beside a plain loop over vendi_score and sacrebleu with equal values.

    python benchmarks/metrics.py [--problems P] [--workers W] [--peer-problems P] [--peer-samples N] [--no-peer] [--json]

The whole set: every metric of `spa_bench.metrics.texts` on CodeGen-16B's samples of HumanEval (164 x 100), at sizes 1, 2,
4, ... and n, from texts to values. Target: 60 s on 2 cores. The file has no verdicts and no embeddings; they change nothing
in the time, so a program that parses stands in for a right one, a short hash of its syntax tree for its behaviour and
seeded noise of 384 dimensions for its embedding.

The loop does on a few problems and samples (it would take hours on all) what one writes with the two packages at hand:
on the same subsets, `vendi.score_K` for each kernel and order, `sacrebleu.sentence_bleu` for each sample against the others.
It makes its kernels once a problem (the n-gram kernel from vendi_score's own counts) and has nothing else to do; ours
computes the whole set in one process. Floor: 5 times as fast. Differences are expected for q < 1 alone, where
vendi_score counts eigenvalues that are rounding noise. Needs SPA_BENCH_DATA (or ../shared/data).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grading import codegen
from spa_bench.cards.task import load_task_card
from spa_bench.metrics.diversity import normalize_ast
from spa_bench.metrics.kernels import ast_kernel
from spa_bench.metrics.ngrams import FloatArray, IntArray, words
from spa_bench.metrics.rarefaction import SUBSETS, subsets
from spa_bench.metrics.texts import TextSamples, Values, text_values_of, values_of
from spa_bench.metrics.vendi import ORDERS, SMALLEST_EIGENVALUE, unit_rows
from spa_bench.runs.job import load_task

ROOT = Path(__file__).resolve().parents[1]
DIMENSIONS = 384
TARGET_SECONDS, FLOOR_RATIO = 60, 5


def load(limit: int | None) -> list[TextSamples] | None:
    """CodeGen-16B's samples of the first problems, cut at its stop words; None where there is no data."""
    folder = Path(os.environ.get("SPA_BENCH_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "generations" / "codegen-16b").is_dir():
        print(f"skipped: no samples in {folder}; set SPA_BENCH_DATA to a folder with generations/codegen-16b", file=sys.stderr)
        return None
    os.environ["SPA_BENCH_DATA"] = str(folder)
    problems = load_task(load_task_card("humaneval")).problems
    programs: dict[str, list[str]] = {}
    for problem_id, program in codegen(problems, folder, 100):
        programs.setdefault(problem_id, []).append(program)
    return [samples_of(p.id, p.prompt, programs[p.id]) for p in problems[:limit]]


def samples_of(problem: str, prompt: str, programs: Sequence[str]) -> TextSamples:
    trees = [normalize_ast(program) for program in programs]
    normalize_ast.cache_clear()
    parses = [tree is not None for tree in trees]
    behaviours = [hashlib.blake2b(tree.encode(), digest_size=1).hexdigest()[0] if tree else "" for tree in trees]
    seed = int.from_bytes(hashlib.blake2b(problem.encode(), digest_size=8).digest(), "little")
    embeddings = np.random.default_rng(seed).normal(size=(len(programs), DIMENSIONS))
    texts = [program[len(prompt) :].strip() for program in programs]
    return TextSamples(
        problem=problem,
        texts=texts,
        programs=programs,
        passed=parses,
        failed=[False] * len(programs),
        members=1,
        behaviours=behaviours,
        ran=parses,
        embeddings=embeddings,
    )


def sizes_of(n: int) -> list[int]:
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), n]


def first(samples: TextSamples, n: int) -> TextSamples:
    assert samples.behaviours is not None
    assert samples.ran is not None
    assert samples.embeddings is not None
    assert samples.programs is not None
    return TextSamples(
        problem=samples.problem,
        texts=list(samples.texts[:n]),
        programs=list(samples.programs[:n]),
        passed=list(samples.passed[:n]),
        failed=list(samples.failed[:n]),
        members=1,
        behaviours=list(samples.behaviours[:n]),
        ran=list(samples.ran[:n]),
        embeddings=samples.embeddings[:n],
    )


def whole_set(problems: Sequence[TextSamples], workers: int) -> dict[str, Any]:
    sizes = sizes_of(len(problems[0].texts))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time()
    began = time.perf_counter()
    values = text_values_of(problems, sizes, workers=workers)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = time.process_time() - own + after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    means = {}
    for name in values[0]:
        found = [one[name][sizes[-1]] for one in values]
        means[name] = float(np.mean([value for value in found if value is not None]))
    return {
        "problems": len(problems), "samples": sizes[-1], "sizes": sizes, "subsets": SUBSETS, "workers": workers,
        "seconds": seconds, "processor_seconds": processor, "load": os.getloadavg()[0], "means": means,
    }  # fmt: skip


def peer_kernels(samples: TextSamples, text_utils: Any) -> dict[str, FloatArray]:
    """The n-gram kernel from vendi_score's own counts, but for texts too short for a 2-gram; the others are given."""
    from sklearn.preprocessing import normalize

    counts = [normalize(text_utils.get_ngrams(samples.texts, n=n, tokenizer=words, token_pattern=None)) for n in (1, 2)]
    orders = []
    for one in counts:
        matrix = (one @ one.T).toarray()
        empty = np.diagonal(matrix) == 0  # vendi_score leaves 0 on the diagonal there, which is no kernel
        matrix[np.ix_(empty, empty)] = 1.0
        orders.append(matrix)
    assert samples.embeddings is not None
    assert samples.programs is not None
    rows = unit_rows(samples.embeddings)
    return {"ngram": np.mean(orders, axis=0), "ast": ast_kernel(samples.programs), "embedding": rows @ rows.T}


def peer_loop(
    samples: TextSamples, kernels: Mapping[str, FloatArray], sizes: Sequence[int], vendi: Any, sacrebleu: Any
) -> dict[tuple[str, int], float]:
    """(metric, size) -> value, by the plain loop."""
    values: dict[tuple[str, int], float] = {}
    for size in sizes:
        chosen = subsets_of(samples, size)
        for kernel, matrix in kernels.items():
            for q in ORDERS:
                order = "inf" if math.isinf(q) else q
                scores = [vendi.score_K(matrix[np.ix_(subset, subset)], q=order) for subset in chosen]
                values[f"vendi[{kernel},q={q:g}]", size] = float(np.mean(scores))
        bleus = []
        for subset in chosen:
            texts = [samples.texts[i] for i in subset]
            for i, text in enumerate(texts):
                bleus.append(sacrebleu.sentence_bleu(text, texts[:i] + texts[i + 1 :]).score / 100)
        values["self_bleu", size] = float(np.mean(bleus))
    return values


def without_noise(
    samples: TextSamples, kernels: Mapping[str, FloatArray], sizes: Sequence[int], vendi: Any
) -> dict[tuple[str, int], float]:
    """The orders below 1 by vendi_score's formula, from eigenvalues of at least 1e-10."""
    values = {}
    for size in sizes:
        for kernel, matrix in kernels.items():
            spectra = [np.linalg.eigvalsh(matrix[np.ix_(subset, subset)] / size) for subset in subsets_of(samples, size)]
            for q in (q for q in ORDERS if q < 1):
                scores = [np.exp(vendi.entropy_q(p[p >= SMALLEST_EIGENVALUE], q=q)) for p in spectra]
                values[f"vendi[{kernel},q={q:g}]", size] = float(np.mean(scores))
    return values


def subsets_of(samples: TextSamples, size: int) -> IntArray:
    chosen = subsets(len(samples.texts), 1, size, problem=samples.problem)
    assert chosen is not None
    return chosen


def farthest(found: Values, expected: Mapping[tuple[str, int], float]) -> float:
    """The largest difference between values of the same metric and size."""
    return max(abs(value - (found[name][size] or 0.0)) for (name, size), value in expected.items())


def against_peer(problems: Sequence[TextSamples], n: int) -> dict[str, Any] | None:
    """Seconds of both on the same problems and samples, and how far their values are apart; None without the packages."""
    warnings.simplefilter("ignore")  # vendi_score asks scipy by an old name
    try:
        import sacrebleu
        from vendi_score import text_utils, vendi
    except ImportError as error:
        print(f"no comparison: {error}; pip install 'spa-bench[dev]'", file=sys.stderr)
        return None
    sizes = [size for size in sizes_of(n) if size > 1]
    ours = theirs = 0.0
    apart = dict.fromkeys(("self_bleu", "vendi, q >= 1", "vendi, q < 1", "vendi, q < 1, their noise left out"), 0.0)
    for samples in problems:
        began = time.perf_counter()
        found = values_of(samples, sizes)
        ours += time.perf_counter() - began
        began = time.perf_counter()
        kernels = peer_kernels(samples, text_utils)
        expected = peer_loop(samples, kernels, sizes, vendi, sacrebleu)
        theirs += time.perf_counter() - began
        low = {key: value for key, value in expected.items() if key[0].endswith(("q=0.1]", "q=0.5]"))}
        kinds = {
            "self_bleu": {key: value for key, value in expected.items() if key[0] == "self_bleu"},
            "vendi, q >= 1": {key: v for key, v in expected.items() if key[0] != "self_bleu" and key not in low},
            "vendi, q < 1": low,
            "vendi, q < 1, their noise left out": without_noise(samples, kernels, sizes, vendi),
        }
        apart = {kind: max(apart[kind], farthest(found, values)) for kind, values in kinds.items()}
    shape = {"problems": len(problems), "samples": n, "sizes": sizes}
    return {**shape, "seconds": ours, "peer_seconds": theirs, "ratio": theirs / ours, "largest_differences": apart}


def main() -> None:
    """Print seconds of the whole set, then the ratio to the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, help="only this number of problems (default: all 164)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer-problems", type=int, default=4)
    parser.add_argument("--peer-samples", type=int, default=32)
    parser.add_argument("--no-peer", action="store_true", help="ours alone")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    problems = load(arguments.problems)
    if problems is None:
        return
    whole = whole_set(problems, arguments.workers)
    if not arguments.json:
        print(
            f"whole set, {whole['problems']} problems x {whole['samples']} samples, sizes {whole['sizes']}, {SUBSETS} subsets, "
            f"{whole['workers']} workers: {whole['seconds']:.1f} s (target {TARGET_SECONDS} s for 164 x 100); "
            f"{whole['processor_seconds']:.1f} s of processor time, load {whole['load']:.1f}",
            flush=True,
        )
    chosen = [first(samples, arguments.peer_samples) for samples in problems[: arguments.peer_problems]]
    compared = None if arguments.no_peer else against_peer(chosen, arguments.peer_samples)
    if arguments.json:
        print(json.dumps({"whole_set": whole, "peer": compared}))
        return
    if compared:
        print(
            f"first {compared['problems']} problems x {compared['samples']} samples, sizes {compared['sizes']}, one process: "
            f"ours {compared['seconds']:.2f} s (all metrics), vendi_score and sacrebleu {compared['peer_seconds']:.2f} s: "
            f"ratio {compared['ratio']:.1f} (floor {FLOOR_RATIO})"
        )
        for kind, difference in compared["largest_differences"].items():
            print(f"    largest difference of {kind}: {difference:.2g}")


if __name__ == "__main__":
    main()
