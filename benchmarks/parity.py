"""The reference's numbers from our grader: what docs/reference/parity.md says of code, with one command.

    python benchmarks/parity.py [--parts canonical,starcoder,codegen,plain] [--workers W] [--sandbox NAME] [--json FILE]

canonical: the canonical solutions of HumanEval+ and MBPP+, under both gradings. starcoder: the published greedy completions of
StarCoder2-15B-Instruct, verdict for verdict beside evalplus' published ones. codegen: CodeGen-16B's 164 x 100 samples, cut at
the stop words of its file; pass@k of all of them, and how far it can move when the programs that ran out of time are taken
for right. plain (only when it is named): those that are right again, without any sandbox, as somebody measured them before;
this runs a model's programs with all your rights. Needs evalplus and SPA_BENCH_DATA (or ../shared/data). Takes minutes;
codegen about half an hour of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from grading import codegen, data_folder, ours, samples
from spa_bench.cards.task import load_task_card
from spa_bench.errors import SpaBenchError
from spa_bench.grading import Grader, Grading, Outcome
from spa_bench.metrics.pass_at_k import pass_at_k
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks.base import Task

KS = (1, 10, 100)
SUITES = ("base", "plus")
Judge = Callable[[Task, Sequence[tuple[str, str]], str], list[Outcome]]


def base_and_plus(outcome: Outcome) -> tuple[bool, bool]:
    """Whether the base tests were passed, and whether all were; of one run."""
    return outcome.verdict == "passed" or outcome.suite == "plus", outcome.verdict == "passed"


def canonical(data: Path, judge: Judge) -> dict[str, Any]:
    """Canonical solutions that do not pass, by data set and grading."""
    found: dict[str, Any] = {}
    for which, name in (("a", "humaneval-plus"), ("b", "mbpp-plus")):
        task = load_task(load_task_card(name))
        chosen = samples(which, task.problems, data)
        for grading in Grading:
            outcomes = judge(task, chosen, grading)
            failing = {i: o.suite for (i, _), o in zip(chosen, outcomes, strict=True) if o.verdict != "passed"}
            found[f"{name}, {grading}"] = {"problems": len(chosen), "failing": failing}
            missed = ", ".join(f"{i} ({s} tests)" for i, s in failing.items()) or "none"
            title = f"canonical solutions of {name} {task.version}, --grading {grading}"
            print(f"{title}: {len(chosen) - len(failing)} of {len(chosen)} pass; not: {missed}")
    return found


def starcoder(data: Path, judge: Judge) -> dict[str, Any]:
    """Base and plus pass@1 under both gradings, and verdicts that differ from the published ones."""
    task = load_task(load_task_card("humaneval-plus"))
    chosen = samples("c", task.problems, data)
    [path] = (data / "generations" / "starcoder2-15b-instruct").glob("*_eval_results.json")
    rows = json.loads(path.read_text())["eval"]
    status = {i: [r[0][suite] == "pass" for suite in ("base_status", "plus_status")] for i, r in rows.items()}
    published = {i: (base, base and plus) for i, (base, plus) in status.items()}
    found: dict[str, Any] = {"published": _rates(list(published.values()))}
    for grading in Grading:
        verdicts = {i: base_and_plus(o) for (i, _), o in zip(chosen, judge(task, chosen, grading), strict=True)}
        differ = [i for i in verdicts if verdicts[i] != published[i]]
        found[str(grading)] = {**_rates(list(verdicts.values())), "differ": differ}
        rates = " and ".join(f"{name} {found[grading][name]:.4f} (published {found['published'][name]:.4f})" for name in SUITES)
        print(f"StarCoder2-15B-Instruct, --grading {grading}: {rates}; verdicts that differ: {', '.join(differ) or 'none'}")
    return found


def codegen_16b(data: Path, judge: Judge) -> dict[str, Any]:
    """pass@k on base tests and on all, and on base tests if what ran out of time, or lacks a package, were right."""
    task = load_task(load_task_card("humaneval-plus"))
    chosen = codegen(task.problems, data, 100)
    outcomes = judge(task, chosen, "default")
    in_base = [o for o in outcomes if not base_and_plus(o)[0]]
    base, every = ([base_and_plus(o)[suite] for o in outcomes] for suite in (0, 1))
    lacking = [o for o in in_base if "No module named" in o.message]
    late = [good or o.verdict == "timeout" for good, o in zip(base, outcomes, strict=True)]
    found: dict[str, Any] = {
        "samples": len(chosen),
        "different programs": len(set(chosen)),
        "base": _pass_at(chosen, base),
        "plus": _pass_at(chosen, every),
        "right in base": sum(base),
        "right in all": sum(every),
        "failed in base": dict(Counter(str(o.verdict) for o in in_base)),
        "base, out of time taken for right": _pass_at(chosen, late),
        "imports of packages that are not shown": len(lacking),
    }
    for name, value in found.items():
        print(f"CodeGen-16B, {name}: {value}")
    return found


def plain(data: Path, judge: Judge) -> dict[str, Any]:
    """What is right in base again, each program in a plain process with OpenAI's tests and 3 s by the clock.

    So the older measurement was made; what it loses depends on what else the machine does.
    """
    task = load_task(load_task_card("humaneval-plus"))
    tests = {p.id: f"{p.tests}\ncheck({p.entry_point})\n" for p in load_task(load_task_card("humaneval")).problems}
    chosen = codegen(task.problems, data, 100)
    right = [sample for sample, o in zip(chosen, judge(task, chosen, "default"), strict=True) if base_and_plus(o)[0]]
    different = list(dict.fromkeys(right))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = dict(
            zip(different, pool.map(lambda sample: _alone(sample[1] + "\n" + tests[sample[0]]), different), strict=True)
        )
    ends = Counter(found[sample] for sample in right)
    print(f"CodeGen-16B, right in base, in plain processes with 3 s: {dict(ends)}")
    return dict(ends)


def _alone(program: str) -> str:
    try:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, timeout=3, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return "out of time"
    return "wrong" if done.returncode else "right"


def _rates(verdicts: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    base, plus = (float(np.mean(column)) for column in zip(*verdicts, strict=True))
    return {"base": base, "plus": plus}


def _pass_at(chosen: Sequence[tuple[str, str]], passed: Sequence[bool]) -> dict[str, float]:
    """Unbiased pass@k, mean over problems."""
    each = Counter(i for i, _ in chosen)
    [n] = set(each.values())
    right = Counter(i for (i, _), good in zip(chosen, passed, strict=True) if good)
    counts = np.array([right[i] for i in each])
    return {f"pass@{k}": round(float(pass_at_k(counts, n, k).mean()), 6) for k in KS if k <= n}


PARTS = {"canonical": canonical, "starcoder": starcoder, "codegen": codegen_16b, "plain": plain}


def _parts(text: str) -> list[str]:
    if odd := [name for name in text.split(",") if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{odd[0]!r} is no part; there are {', '.join(PARTS)}")
    return text.split(",")


def main() -> int:
    """Run the parts and print what they find; 2 on what a user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="canonical,starcoder,codegen", type=_parts)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sandbox")
    parser.add_argument("--json", type=Path, help="write what was found there")
    arguments = parser.parse_args()
    data, sandbox = data_folder(), choose(arguments.sandbox)
    with tempfile.TemporaryDirectory(prefix="parity-") as scratch:

        def judge(task: Task, chosen: Sequence[tuple[str, str]], grading: str) -> list[Outcome]:
            grader = Grader(
                sandbox=sandbox,
                cache=Path(scratch),
                grading=Grading(grading),
                workers=arguments.workers,
                limits=task.limits,
                packages=task.packages,
            )
            return ours(task, chosen, grader)[1]

        try:
            found = {name: PARTS[name](data, judge) for name in arguments.parts}
        except SpaBenchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
