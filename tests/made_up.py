"""Made-up results on many problems, with about the means one asks for; free of contradictions, as real ones are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.coverage import any_of_column
from spa_bench.compare.leaderboard.migrate import SCHEMA
from spa_bench.compare.leaderboard.schema import as_stored
from spa_bench.metrics.rarefaction import expected_classes
from spa_bench.metrics.suite import ALIASES, estimates, sizes_up_to
from spa_bench.runs.folder import SCHEMA_VERSION, group_hash, spec_hash

PROBLEMS = 200


def made_up(name: str, *, quality: float, spread: float, n: int = 4, seed: int = 0, temperature: float = 0.0) -> dict[str, Any]:
    """A result of one seed whose pass@1 and diversity score have about these means; `seed` draws other values."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(99).normal(0, 0.6, PROBLEMS)  # shared by all samplers
    right = rng.binomial(n, 1 / (1 + np.exp(-(np.log(quality / (1 - quality)) + hard))))
    spreads = np.clip(spread + rng.normal(0, 0.05, PROBLEMS), 0, 1)
    vendi, distinct = 1 + (n - 1) * spreads, np.minimum(right, np.maximum(1, np.round(right * spread).astype(int)))
    pairs = n * (n - 1) // 2
    values = {
        "pass@1": _rounded(right / n),
        "pass@K": _rounded(right > 0),
        "diversity_score[exact]": _rounded(np.round(spreads * pairs) / pairs),
        "diversity_score[ast]": _rounded(np.round(spreads * pairs) / pairs),
        "effective_diversity[ast,correct]": _rounded(distinct / n),
        "effective_diversity[behaviour,ran]": [None] * PROBLEMS,
        "vendi[ngram,q=1]": _rounded(vendi),
        "average_kl[i<j]": [None] * PROBLEMS,
    }
    at = {
        str(m): {
            "effective_diversity[ast,correct]": _rounded(
                [_classes(c, d, n, m) / m for c, d in zip(right, distinct, strict=True)]
            ),
            "effective_diversity[behaviour,ran]": [None] * PROBLEMS,
            "vendi[ngram,q=1]": _rounded(1 + (m - 1) * np.log(vendi) / math.log(n)),
            "any_of_n": any_of_column(values, n, 1, m),
        }
        for m in sizes_up_to(n)
        if m != n
    }
    sampler = {"name": name, "kind": "mixture", "members": 1, "adapters": "all", "decoding": {"temperature": temperature}}
    spec = {
        "schema_version": SCHEMA_VERSION, "sampler": sampler, "model": {"name": "m"}, "data": {}, "n": n, "limit": None,
        "task": {"name": "t", "version": "1", "problems_hash": "h", "problems_n": PROBLEMS}, "numerics": {"device": "cpu"},
        "sandbox": "bwrap", "grading": "default", "versions": {"python": "3"}, "noise_floor": False, "embedding": {},
        "code": {"git": "abc", "dirty": False, "source": "s"}, "metrics": {},
    }  # fmt: skip
    passed, samples = int(right.sum()), PROBLEMS * n
    counts = dict.fromkeys(["failed", "truncated", "refused", "timed out", "out of memory", "crashed", "invalid"], 0)
    run = {
        "seed": 0, "run": f"t-{name}-s0", "spec_hash": spec_hash({**spec, "seed": 0}),
        "records": "0a" * 16, "grades": "1b" * 16, "logs": {},
        "counts": {"samples": samples, **counts}, "verdicts": {"passed": passed, "wrong": samples - passed},
        "judged": ["bwrap"], "cost": {"seconds": 3.0}, "values": values, "values_at": at,
    }  # fmt: skip
    result = {
        "schema_version": SCHEMA, "measured_by": "", "task": "t", "sampler": name, "model": "m", "group_hash": group_hash(spec),
        "spec": spec, "n": n, "k": n, "members": 1, "design": "exchangeable draws", "size": n,
        "problems": [f"p{i}" for i in range(PROBLEMS)], "runs": [run], "metrics": {},
    }  # fmt: skip
    return estimated_anew(result)


def open_ended(name: str, quality: float, classes: float) -> dict[str, Any]:
    """A result of 4 answers that are neither right nor wrong, with about that judged quality and that many classes."""
    result = made_up(name, quality=0.5, spread=0.5)
    run = result["runs"][0]
    run["verdicts"] = {"unjudged": sum(run["verdicts"].values())}
    for table, n in ((run["values"], 4), (run["values_at"]["2"], 2)):
        table["distinct_k[class]"] = [min(classes, n) - 0.01 * (i % 7) for i in range(PROBLEMS)]
        table["utility_k[class]"] = [quality - 0.1 * (i % 5) for i in range(PROBLEMS)]
    run["values"]["quality[judged]"] = [quality - 0.1 * (i % 3) for i in range(PROBLEMS)]
    for metric in ("pass@1", "pass@K", "effective_diversity[ast,correct]"):
        run["values"][metric] = [None] * PROBLEMS
        result["metrics"].pop(metric)
    return estimated_anew(result)


def estimated_anew(result: dict[str, Any]) -> dict[str, Any]:
    """`result`, changed to hold the estimates of its values."""
    values = {name: [run["values"][name] for run in result["runs"]] for name in result["runs"][0]["values"]}
    found = estimates(values, size=result["size"])
    result["metrics"].update({name: as_stored(e) for name, e in found.items() if name not in ALIASES})
    return result


def hashed_anew(result: dict[str, Any]) -> dict[str, Any]:
    """`result`, changed to hold the hashes of its spec."""
    result["group_hash"] = group_hash(result["spec"])
    for run in result["runs"]:
        run["spec_hash"] = spec_hash({**result["spec"], "seed": run["seed"]})
    return result


def _classes(right: int, distinct: int, n: int, m: int) -> float:
    """Distinct right answers among m of n, when all classes but one have one answer."""
    counts = [] if not right else [right - distinct + 1] + [1] * (distinct - 1)
    found = expected_classes(np.array(counts, int).reshape(-1, 1), n, m)
    assert found is not None
    return found


def _rounded(values: Sequence[float] | np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{v:.10g}") for v in values]
