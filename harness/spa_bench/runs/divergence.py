"""How members differ beside their texts: the divergence of their distributions, and how far numerics alone change a text."""

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
_TOGETHER = 8  # problems scored in one call: always the same ones, so that a resumed run gives the same bytes
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
    """A row for each of `problems` that is not in `done`, measured on the task's reference continuations.

    `asked` maps a problem to the prompt that the model gets; None means the problems' own prompts.
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
        logprobs = dict(zip((p.id for p in usable), answers, strict=True))
        for problem in part:
            if problem.id not in done:
                yield _divergence(problem.id, logprobs.get(problem.id), len(members), adapted)


def _context(problem: Problem, asked: Prompt | None) -> tuple[str | Messages, str]:
    """(prompt, continuation). The continuation is the solution; after messages it is a whole program, prompt included."""
    if asked is None:
        return problem.prompt, problem.reference
    return (asked.messages, asked.text + problem.reference) if asked.messages else (asked.text, problem.reference)


def known_divergence(folder: RunFolder, siblings: Sequence[RunFolder], done: Collection[str]) -> list[Divergence]:
    """Rows whose problems are not in `done`, from the first of `siblings` that measured what `folder` will measure.

    Divergence depends on adapters, base, problems, numerics and code, not on decoding, n or seed. Two runs with the same
    adapters, base, problems, numerics and code would measure the same bytes.
    """
    for other in known_to(folder, siblings):
        if rows := other.divergence_log.rows():
            return [row for row in rows if row.problem not in done]
    return []


def known_to(folder: RunFolder, siblings: Sequence[RunFolder]) -> Iterator[RunFolder]:
    """The runs among `siblings` that have the same models as members and the same problems as `folder`."""
    wanted = _measured(folder)
    yield from (other for other in siblings if other.path != folder.path and _measured(other) == wanted)


def _measured(folder: RunFolder) -> dict[str, object]:
    """Everything on which the rows of divergence.jsonl depend."""
    spec = folder.spec
    content = {key: spec[key] for key in ("model", "numerics", "versions", "code", "limit")}
    members = {key: spec["sampler"].get(key) for key in ("members", "adapters")}
    task = {key: spec["task"].get(key) for key in ("problems_hash", "prompt", "strip_prompt", "instruction", "response")}
    return {**content, **members, "asked": task, "hashes": folder.read_json("adapters.json")}


def _divergence(problem: str, logprobs: NDArray[np.float32] | None, members: int, adapted: bool) -> Divergence:
    if logprobs is None:
        return Divergence(problem=problem, tokens=0, matrices={}, members={}, overall={})
    top = min(TOP, logprobs.shape[2])
    measured = divergences(logprobs[:members], base=logprobs[members] if adapted else None, top=top)
    matrices = {"kl": measured.kl, "js": measured.js, "tv": measured.tv}
    matrices |= {f"renyi[a={a:g}]": m for a, m in measured.renyi.items()}
    matrices |= {f"amari[a={a:g}]": m for a, m in measured.amari.items()}
    of_members = {
        "entropy": measured.entropy,
        f"entropy[top={TOP}]": measured.top_k_entropy,
        f"mass[top={TOP}]": measured.top_k_mass,
    }
    if measured.kl_to_base is not None:
        of_members["kl_to_base"] = measured.kl_to_base
    overall = {} if measured.jensen_shannon_all is None else {"js[all]": round(measured.jensen_shannon_all, _DIGITS)}
    return Divergence(
        problem=problem,
        tokens=measured.tokens,
        matrices={name: np.round(matrix, _DIGITS).tolist() for name, matrix in matrices.items()},
        members={name: np.round(values, _DIGITS).tolist() for name, values in of_members.items()},
        overall=overall,
    )


def measure_noise(
    task: Task, model: Model, sampler: Sampler, prompts: Sequence[Prompt], *, n: int, seed: int, done: Collection[Key]
) -> Iterator[Record]:
    """The first member's first draw of each prompt, n times with one seed, each time in other batches; skips keys in `done`.

    These texts differ by numerics alone, so their diversity score is the noise floor of the run's own score. Repetition t
    takes the prompts in a seeded order of its own, in 1 + t mod 8 calls of about equal size.
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
    request = Request(
        problem_id=prompt.problem_id, member=0, draw=time, kind="generate", prompt=prompt.text, decoding=decoding, seed=same
    )
    return replace(request, prompt=begun.text) if begun else replace(request, messages=prompt.messages)
