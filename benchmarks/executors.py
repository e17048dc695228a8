"""How much faster two one-thread workers are than one: the same draws, the start of the workers excluded.

    python benchmarks/executors.py [--executor ray|local] [--seconds 60] [--rounds 3] [--json]

The embedded model draws answers to mini-code at temperature 0.8, so many that one worker takes `--seconds` at least. One worker
and two take turns; the ratio is the best seconds of one / the best of two (floor: 1.6). Exit code 1 below the floor, or where
an answer of two workers differs from that of one. Nothing else should run on the machine: it prints the load before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

from spa_bench.cards.task import load_task_card
from spa_bench.executors.options import ExecutorOptions, begin
from spa_bench.executors.pool import Pool
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.acts import station
from spa_bench.models.sharded import ShardedModel
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import ModelOptions, load_model
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Completion, Decoding, Member, Request

FLOOR = 1.6
DECODING = Decoding(temperature=0.8, max_new_tokens=64)


def requests(draws: int) -> list[Request]:
    """`draws` requests for each problem of mini-code."""
    problems = load_task(load_task_card("mini-code", {})).problems
    seed = partial(draw_seed, 0, "mini-code")
    return [
        Request(
            problem_id=problem.id,
            member=0,
            draw=draw,
            kind="generate",
            prompt=problem.prompt,
            decoding=DECODING,
            seed=seed(problem.id, 0, draw),
        )
        for problem in problems
        for draw in range(draws)
    ]


def workers(kind: Literal["local", "ray"], count: int) -> ShardedModel:
    """The embedded model in `count` workers of one thread; Ray runs on this machine for them alone."""
    started = begin(ExecutorOptions(kind=kind, workers=count), "cpu", 1, gpus=list, tell=print)
    load = partial(load_model, EMBEDDED, ModelOptions(device="cpu", threads=1))
    return ShardedModel(Pool(started.transport, partial(station, load), tell=print), sends=kind == "ray")


def timed(model: ShardedModel, asked: Sequence[Request]) -> tuple[float, list[Completion]]:
    """(seconds by the clock, the answers in the order of their keys)."""
    began = time.perf_counter()
    answers = list(model.generate(asked, [Member("base", None, DECODING)]))
    took = time.perf_counter() - began
    return took, sorted(answers, key=lambda c: c.key)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    asked, answers = requests(1), {}
    for _ in range(args.rounds):
        for count in (1, 2):  # Ray runs once in a process at a time
            model = workers(args.executor, count)
            try:
                timed(model, asked[: 2 * count])  # the first answers also load what is loaded late
                if not seconds[2] and count == 1:
                    asked = enough(model, args.seconds)
                took, answers[count] = timed(model, asked)
            finally:
                model.close()
            seconds[count].append(took)
        if answers[1] != answers[2]:
            print("answers of two workers differ from those of one")
            return 1
    ratio = min(seconds[1]) / min(seconds[2])
    found = {
        "executor": args.executor,
        "answers": len(asked),
        "one": [round(s, 1) for s in seconds[1]],
        "two": [round(s, 1) for s in seconds[2]],
        "ratio": round(ratio, 2),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(found) if args.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    if min(seconds[1]) < args.seconds:
        print(f"one worker took less than {args.seconds:g} s: the machine has become quieter; run it again")
    return int(ratio < FLOOR)


def enough(model: ShardedModel, seconds: float) -> list[Request]:
    """So many requests that `model` takes `seconds` at least, a quarter more for luck."""
    draws = 2
    while (took := timed(model, requests(draws))[0]) < min(5.0, seconds / 4):
        draws *= 2
    return requests(max(1, round(1.25 * draws * seconds / took)))


if __name__ == "__main__":
    sys.exit(main())
