"""Multiple choice in a run: what every member thinks of the options, which one each draw takes, and where it goes on.

The paper's protocol (SPA, arXiv 2411.06722): the model goes on writing after its choice, so that texts can be compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from spa_bench.metrics.choices import best, spread
from spa_bench.models.base import Model, OptionScores
from spa_bench.runs.divergence import known_to
from spa_bench.runs.folder import RunFolder
from spa_bench.support.seeds import derive_seed, draw_seed
from spa_bench.types import Asked, Begun, Choices, Divergence, Member, Prompt

_DIGITS = 9


def measure_choices(
    asked: Sequence[Asked], model: Model, members: Sequence[Member], done: Collection[str]
) -> Iterator[Choices]:
    """A row for each of `asked` that is not `done`, all members in one pass, in any order."""
    choices = {one.problem_id: one.choices for one in asked}
    for scores in model.option_scores(asked, members, done):
        yield _row(scores, choices[scores.problem])


def _row(scores: OptionScores, choices: int) -> Choices:
    over = spread(scores.logprobs[:, :choices])
    matrices = {"kl[choices]": over.kl, "js[choices]": over.js, "kl[first]": scores.kl, "js[first]": scores.js}
    members = {"entropy[choices]": over.entropy, "entropy[first]": scores.entropy}
    return Choices(
        problem=scores.problem,
        logprobs=scores.logprobs.tolist(),
        greedy=scores.greedy.tolist(),
        tokens=list(scores.tokens),
        matrices={name: np.round(matrix, _DIGITS).tolist() for name, matrix in matrices.items()},
        members={name: np.round(values, _DIGITS).tolist() for name, values in members.items()},
    )


def known_choices(folder: RunFolder, siblings: Sequence[RunFolder], done: Collection[str]) -> list[Choices]:
    """Rows that are not `done`, from the first of `siblings` in which the same members were asked the same."""
    for other in known_to(folder, siblings):
        if other.spec["task"] == folder.spec["task"] and (rows := other.choice_log.rows()):
            return [row for row in rows if row.problem not in done]
    return []


def choose(logprobs: Sequence[float], temperature: float, seed: int) -> int:
    """The option that a draw takes. At temperature 0 the most probable, of equals the first, as lm-eval's `acc`.

    Otherwise drawn from softmax(logprobs / temperature) by one uniform number, in the order of the options; `seed` is the
    draw's, from which that of the choice is derived.
    """
    if temperature == 0:
        return best([logprobs])[0]
    logs = np.asarray(logprobs, np.float64) / temperature
    cumulative = np.exp(logs - logs.max()).cumsum()
    uniform = np.random.Generator(np.random.Philox(derive_seed(seed, "choice"))).random()
    return int(min(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"), len(logs) - 1))


def begin(
    prompts: Sequence[Prompt],
    asked: Sequence[Asked],
    choices: Mapping[str, Choices],
    members: Sequence[Member],
    n: int,
    seed: int,
    *,
    task: str,
) -> list[Prompt]:
    """`prompts` with the choice of every draw of a problem that is `asked` made, for n draws of all members together.

    A choice depends on run seed, task, problem, member and draw alone. top-k, top-p and min-p play no part in it.
    """
    options = {one.problem_id: one for one in asked}
    return [
        replace(p, begun=_begun(options[p.problem_id], choices[p.problem_id], members, n, seed, task))
        if p.problem_id in options
        else p
        for p in prompts
    ]


def _begun(one: Asked, known: Choices, members: Sequence[Member], n: int, seed: int, task: str) -> dict[tuple[int, int], Begun]:
    found = {}
    for m, member in enumerate(members):
        logprobs = known.logprobs[m][: one.choices]
        for draw in range(n // len(members)):
            own = draw_seed(seed, task, one.problem_id, m, draw)
            choice = choose(logprobs, member.decoding.temperature, own)
            found[m, draw] = Begun("".join(one.options[choice]), choice)
    return found


def first_token_divergence(choices: Choices) -> Divergence:
    """The divergence of the members on a multiple-choice problem: that of the first token after its context.

    Nothing is teacher-forced for it: a reference of a letter would add a token that all members take for granted.
    """
    matrices = {"kl": choices.matrices["kl[first]"], "js": choices.matrices["js[first]"]}
    return Divergence(
        problem=choices.problem, tokens=1, matrices=matrices, members={"entropy": choices.members["entropy[first]"]}, overall={}
    )
