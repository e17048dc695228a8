"""Speed of grading, and verdicts, beside `evalplus.evaluate`: the same samples, machine, cores and run.

    python benchmarks/grading.py [--sets a,b,c,d] [--workers W] [--peer-workers P] [--no-peer] [--sandbox NAME]

Sets: (a) the canonical solutions of HumanEval+, (b) those of MBPP+, (c) StarCoder2-15B-Instruct's 164 samples, (d) the
first 20 samples a problem of CodeGen-16B. Expected outputs are computed beforehand on both sides. evalplus is timed from
"Reading samples" to its score, so without loading its expected outputs; ours from the call to the last outcome, with the
start of the sandboxes. The bound is the CPU time of the programs alone, each up to its first wrong answer, error or limit
of time, in plain child processes, divided by the cores: no grader that runs all tests can be faster. Needs evalplus and
SPA_BENCH_DATA (or ../shared/data).
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import real_data

from spa_bench.cards.task import load_task_card
from spa_bench.grading import Calls, Grader, Grading, Outcome, Program
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks.base import Task
from spa_bench.types import CallSuite, Problem

ROOT = Path(__file__).resolve().parents[1]
TASKS = {"a": "humaneval-plus", "b": "mbpp-plus", "c": "humaneval-plus", "d": "humaneval-plus"}
NAMES = {
    "a": "canonical solutions of HumanEval+",
    "b": "canonical solutions of MBPP+",
    "c": "StarCoder2-15B-Instruct on HumanEval+",
    "d": "CodeGen-16B on HumanEval+, 20 a problem",
}
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # those the CodeGen samples are to be cut at


def data_folder() -> Path:
    """Where the real data is, for tasks too."""
    folder = real_data.data_folder()
    os.environ["SPA_BENCH_DATA"] = str(folder)
    return folder


def samples(which: str, problems: Sequence[Problem], data: Path) -> list[tuple[str, str]]:
    """(task id, whole program) of each sample of a set, in the order of problems."""
    if which in "ab":
        return [(p.id, p.prompt + p.reference) for p in problems]
    if which == "c":
        folder = data / "generations" / "starcoder2-15b-instruct"
        [path] = [p for p in folder.iterdir() if p.suffix == ".jsonl"]
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        prompts = {p.id: p.prompt for p in problems}
        return [(row["task_id"], prompts[row["task_id"]] + row["completion"]) for row in rows]
    return codegen(problems, data, 20)


def codegen(problems: Sequence[Problem], data: Path, each: int) -> list[tuple[str, str]]:
    """CodeGen-16B's samples, cut. Its file has another order and prompts without examples: they are matched by name."""
    [path] = [p for p in (data / "generations" / "codegen-16b").iterdir() if ".jsonl" in p.suffixes]
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found: dict[str, list[tuple[str, str]]] = {}
    for line in raw.decode().splitlines():
        row = json.loads(line)
        name = re.findall(r"^def (\w+)\(", row["prompt"], re.MULTILINE)[-1]
        near = [
            (difflib.SequenceMatcher(None, row["prompt"], p.prompt, autojunk=False).ratio(), p)
            for p in problems
            if p.entry_point == name
        ]
        problem = max(near, key=lambda pair: pair[0])[1]
        assert problem.id not in found, problem.id
        cuts = [min([at for s in STOPS if (at := text.find(s)) >= 0], default=len(text)) for text in row["samples"]]
        texts = [text[:cut] for text, cut in zip(row["samples"], cuts, strict=True)]
        found[problem.id] = [(problem.id, problem.prompt + text) for text in texts[:each]]
    return [sample for p in problems for sample in found[p.id]]


def ours(task: Task, chosen: Sequence[tuple[str, str]], grader: Grader) -> tuple[float, list[Outcome]]:
    """(seconds, outcomes); equal programs run once, as in a run."""
    by_id = {p.id: p for p in task.problems}
    different = list(dict.fromkeys(chosen))
    programs = []
    for problem_id, source in different:
        p = by_id[problem_id]
        programs.append(
            Program(
                source=source,
                entry_point=p.entry_point,
                tests=Calls(p.suites, p.prompt + p.reference),
                problem=p.id,
                seconds=1.0,
            )
        )
    grader.prepare(programs)
    began = time.perf_counter()
    found = dict(grader.run(programs))
    seconds = time.perf_counter() - began
    outcomes = {sample: found[i] for i, sample in enumerate(different)}
    return seconds, [outcomes[sample] for sample in chosen]


def peer(which: str, chosen: Sequence[tuple[str, str]], folder: Path, data: Path, workers: int) -> tuple[float, list[Any]]:
    """(seconds, [(base, plus) status of each sample]) of evalplus.evaluate."""
    dataset = "mbpp" if which == "b" else "humaneval"
    file = folder / f"{which}.jsonl"
    file.write_text("".join(json.dumps({"task_id": i, "solution": s}) + "\n" for i, s in chosen))
    results = folder / f"{which}_eval_results.json"
    results.unlink(missing_ok=True)
    plus = "mbppplus/MbppPlus.jsonl.gz" if dataset == "mbpp" else "humanevalplus/HumanEvalPlus.jsonl.gz"
    variable = f"{dataset.upper()}_OVERRIDE_PATH"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), variable: str(data / plus), "PYTHONUNBUFFERED": "1"}
    truth = (
        "from evalplus.data import *; from evalplus.evaluate import get_groundtruth, MBPP_OUTPUT_NOT_NONE_TASKS as none; "
        + (
            "get_groundtruth(get_mbpp_plus(), get_mbpp_plus_hash(), none)"
            if dataset == "mbpp"
            else "get_groundtruth(get_human_eval_plus(), get_human_eval_plus_hash(), [])"
        )
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-c", truth], check=True, env=environment, **quiet)  # type: ignore[call-overload]
    command = [sys.executable, "-m", "evalplus.evaluate", "--dataset", dataset, "--samples", str(file)]
    began = ended = 0.0
    with subprocess.Popen(
        [*command, "--parallel", str(workers)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "Reading samples" in line:
                began = time.perf_counter()
            elif "pass@1" in line and not ended:
                ended = time.perf_counter()
    evaluated = json.loads(results.read_text())["eval"]
    order: dict[str, int] = Counter()
    statuses = []
    for problem_id, _ in chosen:
        row = evaluated[problem_id][order[problem_id]]
        order[problem_id] += 1
        statuses.append((row["base_status"] == "pass", row["base_status"] == row["plus_status"] == "pass"))
    return ended - began, statuses


FLOOR = """
import io, json, os, resource, signal, sys, time
sys.path.insert(0, sys.argv[1])
from spa_bench.cards import load_task_card
from spa_bench.grading import Grading
from spa_bench.grading.compare import is_right
from spa_bench.runs.job import load_task

class Slow(BaseException):
    pass

def late(*_):
    raise Slow

def reference(problem):
    # what is expected of each call, and how long it takes
    scope, suites = {}, []
    exec(problem.prompt + problem.reference, scope)
    for suite in problem.suites:
        rows = []
        for arguments, kept in zip(suite.inputs(), suite.inputs()):
            began = time.process_time()
            rows.append((kept, scope[problem.entry_point](*arguments), time.process_time() - began))
        suites.append((rows, {"oracle": suite.oracle, "atol": suite.atol, "grading": Grading.DEFAULT}))
    return suites

def own_time(source, name, suites):
    # CPU seconds of the calls up to the first that fails
    signal.signal(signal.SIGVTALRM, late)
    total, scope = 0.0, {}
    began = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 10)
        exec(source, scope)
        for rows, how in suites:
            for arguments, expected, seconds in rows:
                signal.setitimer(signal.ITIMER_VIRTUAL, max(1.0, 4 * seconds))
                value = scope[name](*arguments)
                total += time.process_time() - began
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                if not is_right(value, expected, arguments, **how):
                    return total
                began = time.process_time()
    except BaseException:
        total += time.process_time() - began
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return total

problems = {p.id: p for p in load_task(load_task_card(sys.argv[2])).problems}
suites, known, total = {}, None, 0.0
for name, source in json.load(open(sys.argv[3])):
    problem = problems[name]
    if known != name:
        suites, known = reference(problem), name
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        sys.stdout = sys.stderr = io.StringIO()
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (90, 91))
        seconds = own_time(source, problem.entry_point, suites)
        os.write(writing, str(seconds).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        said = stream.read()
    _, _, used = os.wait4(pid, 0)
    total += float(said) if said else used.ru_utime + used.ru_stime
print(total)
"""


def floor(which: str, chosen: Sequence[tuple[str, str]], folder: Path) -> float:
    """CPU seconds that the programs themselves take, each up to its first wrong answer, error or limit of time.

    Each runs in a plain child process of one Python process, which knows what is expected: no isolation, nothing sent.
    """
    file = folder / "programs.json"
    file.write_text(json.dumps(list(dict.fromkeys(chosen))))
    command = [sys.executable, "-c", FLOOR, str(ROOT / "harness"), TASKS[which], str(file)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def overhead(grader: Grader) -> float:
    """Milliseconds that a sample costs above its own run time: programs that do nothing, in one worker."""
    suite = CallSuite(name="base", inputs=lambda: [[1], [2]])
    reference = "def f(x):\n    return x\n"
    programs = [
        Program(source=reference + f"# {i}\n", entry_point="f", tests=Calls((suite,), reference), problem="nothing")
        for i in range(400)
    ]
    one = replace(grader, workers=1)
    one.prepare(programs)
    seconds = {}
    for count in (100, 400):
        began = time.perf_counter()
        list(one.run(programs[:count]))
        seconds[count] = time.perf_counter() - began
    return (seconds[400] - seconds[100]) / 300 * 1000


def main() -> None:
    """Print a table of ratios, and all verdicts that differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="a,b,c,d")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer-workers", type=int, help="of evalplus, whose own default is half of the cores (default: W)")
    parser.add_argument("--sandbox")
    parser.add_argument("--no-peer", action="store_true", help="ours alone")
    parser.add_argument("--grading", default="default", choices=list(Grading))
    parser.add_argument("--limit", type=int, help="only so many samples a set (no peer then)")
    arguments = parser.parse_args()
    data = data_folder()
    sandbox = choose(arguments.sandbox)
    with tempfile.TemporaryDirectory(prefix="grading-benchmark-") as scratch:
        folder = Path(scratch)
        print(f"{arguments.workers} workers, sandbox {sandbox.name}, grading {arguments.grading}")
        total_ours = total_peer = 0.0
        for which in arguments.sets.split(","):
            task = load_task(load_task_card(TASKS[which]))
            chosen = samples(which, task.problems, data)[: arguments.limit]
            grader = Grader(
                sandbox=sandbox, cache=folder, grading=Grading(arguments.grading), workers=arguments.workers, limits=task.limits
            )
            seconds, outcomes = ours(task, chosen, grader)
            verdicts = ", ".join(f"{n} {v}" for v, n in Counter(str(o.verdict) for o in outcomes).most_common())
            print(f"({which}) {NAMES[which]}: {len(chosen)} samples, ours {seconds:.1f} s ({verdicts})", flush=True)
            work = floor(which, chosen, folder)
            bound = work / arguments.workers
            print(f"    the programs alone: {work:.1f} CPU s, {bound:.1f} s on all workers; ours {seconds / bound:.2f}")
            if arguments.no_peer or arguments.limit:
                continue
            theirs, statuses = peer(which, chosen, folder, data, arguments.peer_workers or arguments.workers)
            total_ours, total_peer = total_ours + seconds, total_peer + theirs
            print(f"    evalplus {theirs:.1f} s: ratio {theirs / seconds:.2f}")
            for (problem_id, _), outcome, status in zip(chosen, outcomes, statuses, strict=True):
                mine = (outcome.verdict == "passed" or outcome.suite == "plus", outcome.verdict == "passed")
                if mine != status:
                    print(f"    differs: {problem_id} (base, plus): ours {mine} {outcome.message!r}, evalplus {status}")
        if total_peer:
            print(
                f"all sets together: ours {total_ours:.1f} s, evalplus {total_peer:.1f} s: ratio {total_peer / total_ours:.2f}"
            )
        print(f"a sample costs {overhead(Grader(sandbox=sandbox, cache=folder)):.1f} ms above its own run time (one worker)")


if __name__ == "__main__":
    main()
