"""What members differ by beside their texts: their distributions, and how far numerics alone move a text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.divergence import divergences
from spa_bench.models.base import Model
from spa_bench.runs.folder import RunFolder
from spa_bench.samplers.base import Sampler, after_choice
from spa_bench.support.interrupt import pause_point
from spa_bench.support.seeds import derive_seed, draw_seed
from spa_bench.tasks.base import Task
from spa_bench.types import Decoding, Divergence, Key, Member, Messages, Problem, Prompt, Record, Request

CONTEXT = "teacher-forced on the task's reference solution, temperature 1, no truncation, mean over tokens, nats"
_TOGETHER = 8  # problems scored in one call, always the same ones, so that a stopped run goes on to the same bytes
TOP = 20  # the k of top-k entropy and mass
_DIGITS = 9


def measure_divergence(
    problems: Sequence[Problem],
    model: Model,
    members: Sequence[Member],
    done: Collection[str],
    *,
    asked: Mapping[str, Prompt] | None = None,
) -> Iterator[Divergence]:
    """A row for each of `problems` that is not `done`, on the task's reference continuations.

    `asked`: what a model is asked, by problem; None: the problems' own prompts.
    """
    adapted = any(member.adapter for member in members)
    voices = [*members, Member("base", None, Decoding())] if adapted else members
    for start in range(0, len(problems), _TOGETHER):
        part = problems[start : start + _TOGETHER]
        if all(p.id in done for p in part):
            continue
        pause_point()
        usable = [p for p in part if p.reference]
        answers = model.next_token_logprobs([_context(p, (asked or {}).get(p.id)) for p in usable], voices)
        found = dict(zip((p.id for p in usable), answers, strict=True))
        for problem in part:
            if problem.id not in done:
                yield _divergence(problem.id, found.get(problem.id), len(members), adapted)


def _context(problem: Problem, asked: Prompt | None) -> tuple[str | Messages, str]:
    """(what is asked, what follows): the solution, and in an answer to messages, which is a whole program, the prompt too."""
    if asked is None:
        return problem.prompt, problem.reference
    return (asked.messages, asked.text + problem.reference) if asked.messages else (asked.text, problem.reference)


def known_divergence(folder: RunFolder, siblings: Sequence[RunFolder], done: Collection[str]) -> list[Divergence]:
    """Rows that are not `done`, from the first of `siblings` that measured what `folder` will measure.

    Divergence depends on adapters, base, problems, numerics and code, not on decoding, n or seed: where all of these are
    equal, measuring again would give the same bytes.
    """
    for other in known_to(folder, siblings):
        if rows := other.divergence_log.rows():
            return [row for row in rows if row.problem not in done]
    return []


def known_to(folder: RunFolder, siblings: Sequence[RunFolder]) -> Iterator[RunFolder]:
    """Those of `siblings` whose members are the same models on the same problems as those of `folder`."""
    wanted = _measured(folder)
    yield from (other for other in siblings if other.path != folder.path and _measured(other) == wanted)


def _measured(folder: RunFolder) -> dict[str, object]:
    """What decides the rows of divergence.jsonl."""
    spec = folder.spec
    content = {key: spec[key] for key in ("model", "numerics", "versions", "code", "limit")}
    members = {key: spec["sampler"].get(key) for key in ("members", "adapters")}
    asked = {key: spec["task"].get(key) for key in ("problems_hash", "prompt", "strip_prompt", "instruction", "response")}
    return {**content, **members, "asked": asked, "hashes": folder.read_json("adapters.json")}


def _divergence(problem: str, logprobs: NDArray[np.float32] | None, members: int, adapted: bool) -> Divergence:
    if logprobs is None:
        return Divergence(problem=problem, tokens=0, matrices={}, members={}, overall={})
    top = min(TOP, logprobs.shape[2])
    found = divergences(logprobs[:members], base=logprobs[members] if adapted else None, top=top)
    matrices = {"kl": found.kl, "js": found.js, "tv": found.tv}
    matrices |= {f"renyi[a={a:g}]": m for a, m in found.renyi.items()}
    matrices |= {f"amari[a={a:g}]": m for a, m in found.amari.items()}
    of_members = {
        "entropy": found.entropy,
        f"entropy[top={TOP}]": found.top_k_entropy,
        f"mass[top={TOP}]": found.top_k_mass,
    }
    if found.kl_to_base is not None:
        of_members["kl_to_base"] = found.kl_to_base
    overall = {} if found.jensen_shannon_all is None else {"js[all]": round(found.jensen_shannon_all, _DIGITS)}
    return Divergence(
        problem=problem,
        tokens=found.tokens,
        matrices={name: np.round(matrix, _DIGITS).tolist() for name, matrix in matrices.items()},
        members={name: np.round(values, _DIGITS).tolist() for name, values in of_members.items()},
        overall=overall,
    )


def measure_noise(
    task: Task, model: Model, sampler: Sampler, prompts: Sequence[Prompt], *, n: int, seed: int, done: Collection[Key]
) -> Iterator[Record]:
    """The first member's first draw of each prompt, n times with one seed, each time in other batches, without what is `done`.

    Texts that differ then differ by numerics alone: their diversity score is the floor under the real one. Time t takes
    the prompts in a seeded order of its own, in 1 + t mod 8 calls of about equal size.
    """
    member = sampler.members[0]
    for time in range(n):
        order = np.random.default_rng(derive_seed(seed, "noise", time)).permutation(len(prompts))
        for piece in np.array_split(order, min(len(order), 1 + time % 8)):
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
    asked = Request(
        problem_id=prompt.problem_id, member=0, draw=time, kind="generate", prompt=prompt.text, decoding=decoding, seed=same
    )
    return replace(asked, prompt=begun.text) if begun else replace(asked, messages=prompt.messages)
