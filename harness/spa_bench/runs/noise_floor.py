"""How far numerics alone change a text: some problems' draws are repeated in other batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from spa_bench.models.base import Model
from spa_bench.samplers.base import Sampler, after_choice
from spa_bench.support.interrupt import pause_point
from spa_bench.support.seeds import derive_seed, draw_seed
from spa_bench.tasks.base import Task
from spa_bench.types import Key, Member, Prompt, Record, Request

MOST, FEWEST = 20, 4  # problems: more say little more, fewer say nothing
SHARE = 0.05  # of the cost of generation
TIMES = 2  # draws of each problem
_DEARER = 2  # an answer in a small batch costs about as much as this many in a large one

METRIC = "noise_floor[diversity_score,exact]"
TOO_FEW = f"not measured: 5 % of the cost of generation pay for fewer than {FEWEST} problems; more draws or --noise-floor yes"


def too_few(noise_floor: bool | int) -> bool:
    """Whether a spec says that a noise floor was needed, but too few answers would have paid for it."""
    return noise_floor is not False and noise_floor == 0


def problems_for(problems: int, n: int) -> int:
    """How many problems the noise floor takes of a run of `problems` × `n` answers: at most 5 % of the cost, at most 20.

    0 where that pays for fewer than 4. It is counted in answers, not in seconds, so that a resumed run takes the same ones.
    """
    paid = int(SHARE * problems * n / (TIMES * _DEARER))
    return min(MOST, problems, paid) if paid >= FEWEST else 0


def rows_for(noise_floor: bool | int, problems: int, n: int) -> int:
    """The rows of noise.jsonl where the spec of a run of `problems` × `n` answers says `noise_floor`.

    That is a number of problems; in specs of earlier revisions True stands for all problems, n times each.
    """
    return problems * n if noise_floor is True else TIMES * int(noise_floor)


def chosen(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """The `count` seeded prompts whose draws are repeated, in the order of `prompts`."""
    order = np.random.default_rng(derive_seed(seed, "noise", "problems")).permutation(len(prompts))
    return [prompts[i] for i in sorted(order[:count])]


def measure_noise(
    task: Task, model: Model, sampler: Sampler, prompts: Sequence[Prompt], *, seed: int, done: Collection[Key]
) -> Iterator[Record]:
    """The first member's first draw of each prompt, twice with one seed, each time in other batches; skips keys in `done`.

    These texts differ by numerics alone, so their diversity score is the noise floor of the run's own score. The first time
    takes all prompts in one call, the second time in two, in a seeded order.
    """
    member = sampler.members[0]
    for time in range(TIMES):
        order = np.random.default_rng(derive_seed(seed, "noise", time)).permutation(len(prompts))
        for piece in np.array_split(order, min(len(order), 1 + time)):
            requests = [_request(prompts[i], member, time, seed, task.name) for i in piece]
            if not all(r.key in done for r in requests):
                pause_point()
                begun = {prompts[i].problem_id: prompts[i].begun.get((0, 0)) for i in piece}
                for completion in model.generate(requests, [member]):
                    if completion.key not in done:
                        yield task.record(after_choice(completion, begun[completion.key.problem]))


def _request(prompt: Prompt, member: Member, time: int, seed: int, task: str) -> Request:
    decoding = replace(member.decoding, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
    same = draw_seed(seed, task, prompt.problem_id, 0, 0)
    begun = prompt.begun.get((0, 0))
    request = Request(
        problem_id=prompt.problem_id, member=0, draw=time, kind="generate", prompt=prompt.text, decoding=decoding, seed=same
    )
    return replace(request, prompt=begun.text) if begun else replace(request, messages=prompt.messages)
