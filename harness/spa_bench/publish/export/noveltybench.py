"""NoveltyBench's generations.jsonl: a line for each prompt, with all answers to it, which its partition.py takes.

`spa-bench score` reads it too: so answers are compared by another rule without being drawn again.
"""

from __future__ import annotations

import json

from spa_bench.publish.export import facts
from spa_bench.publish.export.samples import Content, Samples
from spa_bench.support.text import utf8

GENERATIONS = "generations.jsonl"
LEFT_OUT = (
    "verdicts, classes, qualities, metrics with their intervals, divergences",
    "the spec: sampler, decoding, seed",
    "the member and draw of a sample, but for their order",
)


def content(samples: Samples) -> Content:
    """generations.jsonl in the order (problem, member, draw), and a README.md with the commands; a failed answer is ""."""
    rows = [
        {
            "id": utf8(problem.id),
            "prompt": utf8(problem.prompt),
            "model": facts.model_id(samples),
            "generations": [utf8(facts.answer(samples, record)) for record in records],
        }
        for problem, records in samples.problems
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    left_out = (*facts.not_utf8([samples]), *LEFT_OUT)
    readme = f"""# {facts.title([samples])}, as generations of NoveltyBench

    python src/partition.py --eval-dir DIR --alg classifier     # in NoveltyBench's repository: DIR/partitions.jsonl
    spa-bench score --task {samples.task.name} --samples {GENERATIONS}

{facts.run_lines([samples])}
{facts.said_left_out(left_out)}"""
    return Content({GENERATIONS: lines.encode(), "README.md": readme.encode()}, (), left_out)
