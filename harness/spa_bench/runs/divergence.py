"""How members differ beside their texts: the divergence of their distributions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError
from spa_bench.metrics.distribution_table import READ_TWICE
from spa_bench.metrics.divergence import of_sums
from spa_bench.models.base import Model
from spa_bench.models.spread import Group, SpreadModel
from spa_bench.runs.folder import RunFolder
from spa_bench.support.interrupt import pause_point
from spa_bench.types import Divergence, DivergenceSums, Json, Member, Messages, Problem, Prompt

CONTEXT = "teacher-forced on the task's reference solution, temperature 1, no truncation, mean over tokens, nats"
_TOGETHER = 8  # problems scored in one call: always the same ones, so that a resumed run gives the same bytes
TOP = 20  # the k of top-k entropy and mass
_APART = 4  # groups of problems for one whose first member is read again
_DIGITS = 9


def measure_divergence(
    problems: Sequence[Problem],
    model: Model,
    members: Sequence[Member],
    done: Collection[str],
    *,
    asked: Mapping[str, Prompt] | None = None,
    noise: bool = False,
) -> Iterator[Divergence]:
    """A row for each of `problems` that is not in `done`, measured on the task's reference continuations.

    `asked` maps a problem to the prompt that the model gets; None means the problems' own prompts. With `noise` and several
    members, the first member reads one problem of 32 twice, the second time in other company: the KL between the two is what
    numerics alone give.
    """
    parts: list[Sequence[Problem]] = []
    groups: list[Group] = []
    for start in range(0, len(problems), _TOGETHER):
        part = problems[start : start + _TOGETHER]
        if all(p.id in done for p in part):
            continue
        usable = [p for p in part if p.reference]
        again = (0,) if noise and usable and len(members) > 1 and start % (_APART * _TOGETHER) == 0 else ()
        parts.append(part)
        groups.append(Group([_context(p, (asked or {}).get(p.id)) for p in usable], again))
    named = [[p.id for p in part if p.reference] for part in parts]
    for part, answers in zip(parts, _answers(model, groups, members, named), strict=True):
        sums = dict(zip((p.id for p in part if p.reference), answers, strict=True))
        for problem in part:
            if problem.id not in done:
                yield _row(problem.id, sums.get(problem.id))


def _answers(
    model: Model, groups: Sequence[Group], members: Sequence[Member], named: Sequence[Sequence[str]]
) -> Iterator[list[DivergenceSums | None]]:
    """The sums of each group, in order: one group after another, or several at once where several workers hold the model.

    `named` are the ids of each group's problems. Raises ModelError, with the problem, where one cannot be measured.
    """
    adapted = any(member.adapter for member in members)
    if isinstance(model, SpreadModel):
        yield from model.divergences(groups, members, base=adapted, top=TOP)
        return
    for group, ids in zip(groups, named, strict=True):
        pause_point()
        found: list[DivergenceSums | None] = []
        try:
            found.extend(model.divergence(group.contexts, members, base=adapted, top=TOP, again=group.again))
        except ModelError as error:
            raise ModelError(f"problem {ids[min(len(found), len(ids) - 1)]}: {error}") from error
        yield found


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
    content = {key: spec[key] for key in ("model", "versions", "code", "limit", "noise_floor")}
    content |= {"numerics": _of_measuring(spec), "engine": spec.get("engines", {}).get("divergence")}
    members = {key: spec["sampler"].get(key) for key in ("members", "adapters")}
    task = {key: spec["task"].get(key) for key in ("problems_hash", "prompt", "strip_prompt", "instruction", "response")}
    return {**content, **members, "asked": task, "hashes": folder.read_json("adapters.json")}


def _of_measuring(spec: Json) -> dict[str, object]:
    """The numerics of a run without those of engines that do not measure divergence."""
    engines = spec.get("engines", {})
    others = {*engines.values()} - {engines.get("divergence"), engines.get("train")}
    return {key: value for key, value in spec["numerics"].items() if key not in others}


def as_lists(arrays: Mapping[str, NDArray[np.float64]]) -> Json:
    """Arrays as rows keep them: nested lists of rounded numbers."""
    return {name: np.round(array, _DIGITS).tolist() for name, array in arrays.items()}


def unmeasured(problem: str) -> Divergence:
    """The row of a problem whose context does not fit, or of a run that no engine measures divergence of."""
    return Divergence(problem=problem, tokens=0, matrices={}, members={}, overall={})


def _row(problem: str, sums: DivergenceSums | None) -> Divergence:
    if sums is None:
        return unmeasured(problem)
    measured = of_sums(sums)
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
    overall = {"js[all]": measured.jensen_shannon_all, READ_TWICE: sums.noise}
    return Divergence(
        problem=problem,
        tokens=measured.tokens,
        matrices=as_lists(matrices),
        members=as_lists(of_members),
        overall={name: round(value, _DIGITS) for name, value in overall.items() if value is not None},
    )
