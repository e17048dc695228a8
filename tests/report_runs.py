"""Run folders made up for pages: any number of runs, problems and answers, with the texts and verdicts that a test wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.schema import KEPT, KEPT_AT_SIZES
from spa_bench.metrics.suite import estimates, sizes_up_to
from spa_bench.runs.contents import COUNTS
from spa_bench.runs.folder import RunFolder, create
from spa_bench.runs.spec import RunSpec
from spa_bench.types import Choices, Divergence, Grade, Key, Record, Verdict

Text = Callable[[Key], str]
STYLES = (
    "    return {}\n",
    "    total = 0\n    for x in xs:\n        total += {}\n    return total\n",
    "    return sum({} for x in xs)\n",
    "    if not xs:\n        return 0\n    return {} + f(xs[1:])\n",
)


def ordinary(key: Key) -> str:
    """A short program; every seventh draw repeats an earlier one."""
    number = sum(map(ord, key.problem)) + 3 * key.member + key.draw % 7
    return STYLES[number % len(STYLES)].format(f"x * {number % 5}")


def mostly_right(key: Key) -> Grade:
    """Two of three pass; the others say why they did not."""
    if (len(key.problem) + key.member + key.draw) % 3:
        return Grade(**key._asdict(), verdict=Verdict.PASSED)
    return Grade(**key._asdict(), verdict=Verdict.WRONG, message="AssertionError: 3 is not 4", call=f"[{key.draw}, 2]")


def made_run(
    parent: Path,
    *,
    name: str = "single",
    seed: int = 0,
    problems: Sequence[str] = ("t/0", "t/1", "t/2"),
    n: int = 2,
    members: int = 1,
    task: str = "t",
    version: str = "1",
    model: str = "m",
    temperature: float = 0.0,
    limit: int | None = None,
    text: Text = ordinary,
    grade: Callable[[Key], Grade] = mostly_right,
    graded: int | None = None,
    drawn: int | None = None,
    finished: bool = True,
    choices: int = 0,
) -> RunFolder:
    """A run folder under `parent`; `drawn` and `graded` are how many samples and verdicts it has so far (None: all)."""
    sampler = {"name": name, "kind": "mixture", "members": members, "adapters": "all" if members == 1 else "parts"}
    sampler |= {"decoding": {"temperature": temperature, "top_p": 1.0, "top_k": 0, "min_p": 0.0}}
    described = {"name": task, "kind": "code", "problems": "made-up", "version": version, "problems_n": len(problems)}
    described["problems_hash"] = f"{task}-{version}"
    spec = RunSpec(
        sampler=sampler,
        task=described,
        model={"name": model, "hash": "h"},
        data={},
        n=n,
        seed=seed,
        limit=limit,
        numerics={"device": "cpu"},
        sandbox="bwrap",
        grading="default",
        versions={"python": "3"},
        code={"git": "abc", "dirty": False, "source": "s"},
    )
    folder = create(parent, f"run-{members}-s{seed}", spec)
    asked = problems[:limit]
    keys = [Key(p, m, d) for p in asked for m in range(members) for d in range(n // members)][:drawn]
    texts = {key: text(key) for key in keys}
    records = [
        Record(
            **key._asdict(),
            raw=texts[key] + "\n# more",
            graded=texts[key].rstrip(),
            finish="stop",
            tokens=5,
            seed=7,
            choice=key.draw % choices if choices else None,
        )
        for key in keys
    ]
    folder.record_log.append(records)
    grades = [replace(grade(key), problem=key.problem, member=key.member, draw=key.draw) for key in keys[:graded]]
    folder.grade_log.append(grades)
    if members > 1:
        folder.divergence_log.append([_divergence(p, members, i) for i, p in enumerate(asked)])
    if choices:
        folder.choice_log.append([_choices(p, members, choices) for p in asked])
    if finished and drawn is None and graded is None:
        folder.write_json("judged.json", {"by": [{"sandbox": "bwrap"}]})
        folder.write_json("timings.json", {"seconds": 3.5, "stages": {"generation": 2.0, "grading": 1.5}, "peak_memory_mb": 12})
        folder.write_json("metrics.json", _metrics(folder, list(asked), records, grades, members))
    return folder


def _divergence(problem: str, members: int, i: int) -> Divergence:
    steps = np.abs(np.subtract.outer(np.arange(members), np.arange(members))) * (0.01 + 0.001 * i)
    return Divergence(
        problem=problem,
        tokens=4,
        matrices={"kl": steps.tolist(), "tv": (steps / 2).tolist()},
        members={"entropy": [0.1] * members},
        overall={},
    )


def _choices(problem: str, members: int, choices: int) -> Choices:
    table = [[-0.5 * ((o + m) % choices + 1) for o in range(choices)] for m in range(members)]
    flat = [[0.0 if a == b else 0.02 for b in range(members)] for a in range(members)]
    greedy, entropy = [[False] * choices] * members, {"entropy[choices]": [0.3] * members}
    return Choices(
        problem=problem, logprobs=table, greedy=greedy, tokens=[1] * choices, matrices={"kl[choices]": flat}, members=entropy
    )


def _metrics(
    folder: RunFolder, problems: Sequence[str], records: Sequence[Record], grades: Sequence[Grade], members: int
) -> dict[str, Any]:
    n = len(records) // len(problems)
    values: dict[str, list[float | None]] = {name: [None] * len(problems) for name in KEPT}
    for place, problem in enumerate(problems):
        right = [g.verdict == "passed" for g in grades if g.problem == problem]
        texts = Counter(r.graded for r in records if r.problem == problem)
        same = sum(c * (c - 1) for c in texts.values()) / (n * (n - 1)) if n > 1 else 0.0
        values["pass@1"][place] = sum(right) / n
        values["pass@K"][place] = float(any(right))
        values["diversity_score[exact]"][place] = 1 - same
        values["effective_diversity[ast,correct]"][place] = min(sum(right), len(texts)) / n
        values["vendi[ngram,q=1]"][place] = float(len(texts))
        values["average_kl[i<j]"][place] = 0.01 if members > 1 else None
    for member in range(members if members > 1 else 0):
        each = [[g.verdict == "passed" for g in grades if g.problem == p and g.member == member] for p in problems]
        values[f"pass@1[member={member}]"] = [sum(e) / len(e) for e in each]
    at_sizes = {name: [0.5] * len(problems) for name in KEPT_AT_SIZES}
    at = {str(size): at_sizes for size in sizes_up_to(n) if size != n}
    found = estimates({name: [row] for name, row in values.items()}, size=n)
    verdicts = Counter(str(g.verdict) for g in grades)
    return {
        "spec_hash": folder.hash, "n": n, "k": members if members > 1 else n, "members": members,
        "design": "exchangeable draws", "size": n, "problems": list(problems),
        "counts": {**dict.fromkeys(COUNTS, 0), "samples": len(records)},
        "verdicts": dict(verdicts), "marks": {}, "finish": {"stop": len(records)}, "failures": {}, "values": values,
        "values_at": at, "estimates": {name: asdict(e) for name, e in found.items()},
    }  # fmt: skip
