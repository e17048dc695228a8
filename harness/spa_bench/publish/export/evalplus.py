"""evalplus' sample format (0.3.1): each line is a sample with `task_id` and `solution`, a whole program.

evalplus takes the lines of a task_id as its samples, in their order. It refuses a file in which a problem of its data set
has no line. It grades HumanEval(+) and MBPP+ and nothing else.
"""

from __future__ import annotations

import json

from spa_bench.publish.export.samples import Content, Samples, check_programs

SAMPLES = "samples.jsonl"
DATASETS = {"humaneval": "humaneval", "humaneval-plus": "humaneval", "mbpp-plus": "mbpp"}  # card's `problems` -> --dataset
LEFT_OUT = (
    "verdicts, metrics with their intervals, divergences",
    "the spec: model, sampler, decoding, seed",
    "the member and draw of a sample, but for their order",
)


def content(samples: Samples) -> Content:
    """samples.jsonl in the order (problem, member, draw), and a README.md with the command; a failed answer is "".

    Raises UsageError where the answers are not programs with tests.
    """
    check_programs(samples, "evalplus")
    rows = [
        {"task_id": problem.id, "solution": "" if record.failure else samples.task.program(record)}
        for problem, records in samples.problems
        for record in records
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    problem = _obstacle(samples)
    how = _readme(samples, problem)
    return Content({SAMPLES: lines.encode(), "README.md": how.encode()}, (problem,) if problem else (), LEFT_OUT)


def dataset(samples: Samples) -> str | None:
    """The name of the run's data set in evalplus; None for a task that evalplus does not have."""
    return DATASETS.get(str(samples.card["problems"]))


def base_only(samples: Samples) -> bool:
    """Whether the run was graded with evalplus' base tests alone, because its task has no plus tests."""
    return samples.card["problems"] == "humaneval" or list(samples.card["suites"]) == ["base"]


def _obstacle(samples: Samples) -> str:
    """Why evalplus.evaluate would refuse the file; "" when it accepts it."""
    task = samples.task
    if dataset(samples) is None:
        return (
            f"{task.name} is no data set of evalplus (it has HumanEval+ and MBPP+): {SAMPLES} is in its format, "
            "and `spa-bench score` or another reader of that format can take it, evalplus.evaluate cannot"
        )
    if samples.missing_problems:
        return (
            f"evalplus.evaluate needs samples of all {len(task.problems)} problems and {samples.missing_problems} have none "
            f"here: it will refuse {SAMPLES}; run without --limit for one that it takes"
        )
    return ""


def _readme(samples: Samples, problem: str) -> str:
    name = dataset(samples)
    command = f"spa-bench score --task {samples.task.name} --samples {SAMPLES}"
    if name:
        command = f"evalplus.evaluate --dataset {name} --samples {SAMPLES}" + (" --base-only" if base_only(samples) else "")
    lines = [
        f"# {samples.task.name} {samples.task.version}: {samples.count} samples of {len(samples.problems)} problems",
        "",
        f"`{SAMPLES}` has a line a sample with `task_id` and `solution` (prompt and answer: a whole program), by problem,",
        "member and draw. A sample without an answer is an empty solution, so that counts stay right.",
        "",
        f"    {command}",
        "",
    ]
    if problem:
        lines += [f"Note: {problem}.", ""]
    if name:
        lines += [
            f"Without internet, `{name.upper()}_OVERRIDE_PATH` names evalplus' data. It prints the results of an earlier call",
            "again while `samples_eval_results.json` is there. It runs the programs without a sandbox.",
            "Its pass@k treats the samples of a problem as exchangeable; spa-bench's takes the members into account.",
            "",
        ]
    lines += [f"Left out, because evalplus' format has no place for it: {'; '.join(LEFT_OUT)}.", ""]
    return "\n".join(lines)
