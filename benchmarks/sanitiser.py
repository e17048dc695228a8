"""The sanitisers on real answers: with evalplus' and with ours, why texts differ, and each answer whose verdict differs.

    python benchmarks/sanitiser.py [--parts starcoder,codegen,prose] [--draws N] [--workers W] [--sandbox NAME] [--json FILE]

starcoder: the published greedy completions of StarCoder2-15B-Instruct, beside evalplus' published verdicts. codegen:
CodeGen-16B's samples, the first N of each problem (20), cut at the stop words of its file, beside their verdicts without a
sanitiser. prose: the seconds and the characters parsed for a reply with 1,000 to 8,000 lines of prose. HumanEval+ v0.1.10;
needs evalplus and SPA_BENCH_DATA (or ../shared/data). Most of the time is evalplus' sanitiser.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import base_and_plus

from grading import codegen, data_folder, ours, samples
from spa_bench.cards.task import load_task_card
from spa_bench.errors import SpaBenchError
from spa_bench.grading import Grader, Outcome
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks import answer_text
from spa_bench.tasks.code import Sanitise, as_program
from spa_bench.tasks.evalplus import sanitiser
from spa_bench.tasks.sanitiser import program
from spa_bench.types import Problem

NAMES = ("none", "evalplus", "program")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the parts share."""

    data: Path
    grader: Grader
    draws: int


def answers(bench: Bench, chosen: Sequence[tuple[str, str]], published: Sequence[bool] | None = None) -> dict[str, Any]:
    """pass@1 in base and in all with each sanitiser, and the answers whose verdict differs between evalplus' and ours."""
    task = load_task(load_task_card("humaneval-plus"))
    by_id = {p.id: p for p in task.problems}
    made = {"none": list(chosen)}
    for name, sanitise in (("evalplus", sanitiser()), ("program", as_program())):
        began = time.process_time()
        made[name] = [(i, _sanitised(by_id[i], source, sanitise)) for i, source in chosen]
        print(f"  sanitiser {name}: {time.process_time() - began:.1f} s for {len(chosen)} answers", flush=True)
    together = [one for name in NAMES for one in made[name]]
    outcomes = ours(task, together, bench.grader)[1]
    found = {name: outcomes[k * len(chosen) : (k + 1) * len(chosen)] for k, name in enumerate(NAMES)}
    whys = _whys(made["evalplus"], made["program"])
    result: dict[str, Any] = {"answers": len(chosen), "texts differ": whys.total(), "why": dict(whys.most_common())}
    for name in NAMES:
        each = [base_and_plus(o) for o in found[name]]
        result[name] = {"base": sum(b for b, _ in each) / len(each), "plus": sum(p for _, p in each) / len(each)}
        print(f"  {name}: base {result[name]['base']:.4f}, base and plus {result[name]['plus']:.4f}")
    pairs = list(zip(chosen, found["evalplus"], found["program"], strict=True))
    result["verdicts differ"] = [_said(i, a, b) for (i, _), a, b in pairs if base_and_plus(a) != base_and_plus(b)]
    if published is not None:
        theirs = [base_and_plus(o)[0] for o in found["evalplus"]]
        result["evalplus, not as published"] = [i for (i, _), a, b in zip(chosen, theirs, published, strict=True) if a != b]
        print(f"  not as published, base, with evalplus' sanitiser: {result['evalplus, not as published']}")
    print(f"  texts that differ: {result['texts differ']}; verdicts that differ: {len(result['verdicts differ'])}")
    for reason, count in result["why"].items():
        print(f"    {count} texts: {reason}")
    for line in result["verdicts differ"]:
        print(f"    {line}")
    return result


def _sanitised(problem: Problem, source: str, sanitise: Sanitise) -> str:
    text, whole = sanitise(problem.prompt, source.removeprefix(problem.prompt).rstrip(), problem.entry_point, ())
    return text if whole else problem.prompt + text


def _whys(left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]]) -> Counter[str]:
    """How many texts of evalplus' (`left`) and of ours differ, by the reason."""
    pairs = ((a, b) for (_, a), (_, b) in zip(left, right, strict=True) if _tree(a) != _tree(b))
    return Counter(_why(a, b) for a, b in pairs)


def _why(theirs: str, mine: str) -> str:
    """Which statements of the module one of two sanitisers has and the other lacks."""
    there, here = answer_text.parse(theirs), answer_text.parse(mine)
    if there is None or here is None:
        return "the answer does not parse; evalplus leaves what does, ours all of it" if there else "evalplus' does not parse"
    left, right = (Counter((type(node).__name__, ast.dump(node)) for node in tree.body) for tree in (there, here))
    lost, kept = ({kind for kind, _ in more} for more in (right - left, left - right))
    reasons = {
        "evalplus drops a function or class": lost & {"FunctionDef", "AsyncFunctionDef", "ClassDef"},
        "evalplus drops another statement": lost - {"FunctionDef", "AsyncFunctionDef", "ClassDef"},
        "evalplus keeps an import that is not needed": kept & {"Import", "ImportFrom"},
        "evalplus keeps another statement that is not needed": kept - {"Import", "ImportFrom"},
    }
    return "; ".join(reason for reason, kinds in reasons.items() if kinds) or "evalplus moves imports to the front"


def _tree(source: str) -> str:
    """The program without its layout."""
    tree = answer_text.parse(source)
    return source if tree is None else ast.dump(tree)


def _said(problem: str, theirs: Outcome, mine: Outcome) -> str:
    def one(outcome: Outcome) -> str:
        return f"{outcome.verdict}{f' ({outcome.message[:90]})' if outcome.message else ''}"

    return f"{problem}: evalplus {one(theirs)}; program {one(mine)}"


def starcoder(bench: Bench) -> dict[str, Any]:
    """StarCoder2-15B-Instruct's 164 greedy completions."""
    task = load_task(load_task_card("humaneval-plus"))
    chosen = samples("c", task.problems, bench.data)
    [path] = (bench.data / "generations" / "starcoder2-15b-instruct").glob("*_eval_results.json")
    rows = json.loads(path.read_text())["eval"]
    return answers(bench, chosen, [rows[i][0]["base_status"] == "pass" for i, _ in chosen])


def codegen_16b(bench: Bench) -> dict[str, Any]:
    """CodeGen-16B's samples."""
    task = load_task(load_task_card("humaneval-plus"))
    return answers(bench, codegen(task.problems, bench.data, bench.draws))


def prose(bench: Bench) -> dict[str, Any]:
    """Ours on a reply of prose with a program at its end."""
    found = {}
    for lines in (1000, 2000, 4000, 8000):
        reply = "So f(x) gives (as we said) what's asked; don't worry.\n" * lines + "```python\ndef f(x):\n    return x\n```\n"
        began = time.process_time()
        text, _ = program("", reply, "f", ())
        found[str(lines)] = round(time.process_time() - began, 3)
        print(f"  {lines} lines of prose: {found[str(lines)]} s, {text.splitlines()[0]!r}")
    return found


PARTS = {"starcoder": starcoder, "codegen": codegen_16b, "prose": prose}


def _parts(text: str) -> list[str]:
    if odd := [name for name in text.split(",") if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{odd[0]!r} is no part; there are {', '.join(PARTS)}")
    return text.split(",")


def main() -> int:
    """Run the parts and print what they find; 2 on what a user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="starcoder,codegen,prose", type=_parts)
    parser.add_argument("--draws", type=int, default=20, help="of each problem, for codegen")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sandbox")
    parser.add_argument("--json", type=Path, help="write what was found there")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="sanitiser-") as scratch:
        try:
            task = load_task(load_task_card("humaneval-plus"))
            grader = Grader(
                sandbox=choose(arguments.sandbox),
                cache=Path(scratch),
                workers=arguments.workers,
                limits=task.limits,
                packages=task.packages,
            )
            for name in arguments.parts:
                print(name, flush=True)
                found[name] = PARTS[name](Bench(data=data_folder(), grader=grader, draws=arguments.draws))
        except SpaBenchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
