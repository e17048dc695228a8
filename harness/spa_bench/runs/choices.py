"""Multiple choice in a run: how probable each member finds the options, and which option each draw takes.

The paper's protocol (SPA, arXiv 2411.06722): the model continues writing after its choice, so that texts can be compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from spa_bench.metrics.choices import best, spread
from spa_bench.models.base import Model, OptionScores
from spa_bench.runs.divergence import as_lists, known_to, unmeasured
from spa_bench.runs.folder import RunFolder
from spa_bench.support.seeds import derive_seed, draw_seed
from spa_bench.types import Asked, Begun, Choices, Divergence, Member, Prompt


def measure_choices(
    asked: Sequence[Asked], model: Model, members: Sequence[Member], done: Collection[str]
) -> Iterator[Choices]:
    """A row for each problem in `asked` that is not in `done`, in any order; one pass scores all members."""
    choices = {one.problem_id: one.choices for one in asked}
    for scores in model.option_scores(asked, members, done):
        yield _row(scores, choices[scores.problem])


def _row(scores: OptionScores, choices: int) -> Choices:
    over = spread(scores.logprobs[:, :choices])
    matrices = {"kl[choices]": over.kl, "js[choices]": over.js}
    members = {"entropy[choices]": over.entropy}
    if not np.isnan(scores.entropy).any():  # an engine that scores texts alone compares no distributions
        matrices |= {"kl[first]": scores.kl, "js[first]": scores.js}
        members["entropy[first]"] = scores.entropy
    return Choices(
        problem=scores.problem,
        logprobs=scores.logprobs.tolist(),
        greedy=scores.greedy.tolist(),
        tokens=list(scores.tokens),
        matrices=as_lists(matrices),
        members=as_lists(members),
    )


def known_choices(folder: RunFolder, siblings: Sequence[RunFolder], done: Collection[str]) -> list[Choices]:
    """Rows whose problems are not in `done`, from the first of `siblings` with the same members and the same task."""
    for other in known_to(folder, siblings):
        if other.spec["task"] == folder.spec["task"] and (rows := other.choice_log.rows()):
            return [row for row in rows if row.problem not in done]
    return []


def choose(logprobs: Sequence[float], temperature: float, seed: int) -> int:
    """The option that a draw takes. At temperature 0 it is the first of the most probable options, as in lm-eval's `acc`.

    At any other temperature one uniform number draws it from softmax(logprobs / temperature), in the order of the options.
    `seed` is the seed of the draw; the seed of the choice is derived from it.
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
    *,
    members: Sequence[Member],
    n: int,
    seed: int,
    task: str,
) -> list[Prompt]:
    """`prompts`, and for each problem in `asked` the choice of every draw; `n` counts the draws of all members together.

    A choice depends on run seed, task, problem, member and draw alone. top-k, top-p and min-p have no effect on it.
    """
    options = {one.problem_id: one for one in asked}
    return [
        replace(p, begun=_begun(options[p.problem_id], choices[p.problem_id], members, n=n, seed=seed, task=task))
        if p.problem_id in options
        else p
        for p in prompts
    ]


def _begun(
    one: Asked, known: Choices, members: Sequence[Member], *, n: int, seed: int, task: str
) -> dict[tuple[int, int], Begun]:
    begun = {}
    for m, member in enumerate(members):
        logprobs = known.logprobs[m][: one.choices]
        for draw in range(n // len(members)):
            own = draw_seed(seed, task, one.problem_id, m, draw)
            choice = choose(logprobs, member.decoding.temperature, own)
            begun[m, draw] = Begun("".join(one.options[choice]), choice)
    return begun


def first_token_divergence(choices: Choices) -> Divergence:
    """The divergence of the members on a multiple-choice problem, measured at the first token after its context.

    No reference is teacher-forced: a reference of one letter would add a token that every member finds certain.
    """
    if "kl[first]" not in choices.matrices:
        return unmeasured(choices.problem)
    matrices = {"kl": choices.matrices["kl[first]"], "js": choices.matrices["js[first]"]}
    return Divergence(
        problem=choices.problem, tokens=1, matrices=matrices, members={"entropy": choices.members["entropy[first]"]}, overall={}
    )
