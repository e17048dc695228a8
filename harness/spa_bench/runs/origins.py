"""The problems that triplets are of, and with them a similarity: it knows what answers to these do in hidden tests.

Triplets that are made of runs say which answers do the same on the probes of a problem, and probes are inputs of its tests. So
a sampler that uses the similarity on such a problem would see hidden tests: it is refused. A Vendi score by it, and classes of
answers by it, are marked: they are fitted to the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.learned import ABOUT, found_similarity, is_learned, read_about
from spa_bench.samplers.base import sampler_kind
from spa_bench.tasks.base import Task

if TYPE_CHECKING:
    from spa_bench.runs.embeddings import Embedder

LEARNED_ON = "learned_on"  # in a spec's embedding: how many of the run's problems the similarity was learned on
_ORIGINS = "origins"  # in similarity.json
_NAMED = 3  # problems that a message names


@dataclass(frozen=True, order=True)
class Origin:
    """A problem of a task."""

    task: str  # its name; "": not known
    problems_hash: str  # of all problems of the task; "": not known
    problem: str

    @property
    def name(self) -> str:
        """What tasks call it: HumanEval/0 is one problem in all of them, and 0 is another one in each."""
        return f"{self.task} {self.problem}".strip() if self.problem.isdecimal() else self.problem

    def is_same(self, other: Origin) -> bool:
        """Whether both are one problem, as far as is known: where a task is not known, the problem's id decides."""
        if self.name == other.name:
            return True
        known = self.task and other.task and self.problems_hash != other.problems_hash
        return self.problem == other.problem and not known


def origins_json(origins: Iterable[Origin]) -> list[dict[str, object]]:
    """An object for each task, with its problems."""
    by_task: dict[tuple[str, str], list[str]] = {}
    for one in sorted(set(origins)):
        by_task.setdefault((one.task, one.problems_hash), []).append(one.problem)
    return [{"task": task, "problems_hash": digest, "problems": ids} for (task, digest), ids in by_task.items()]


def origins_of(folder: Path) -> list[Origin] | None:
    """The problems of the triplets that the similarity in `folder` was learned from; None where it says none.

    That is so for judgements that name no problem, and in folders of earlier versions. Raises ModelError for a damaged file.
    """
    said = read_about(folder).get(_ORIGINS, [])
    try:
        found = [Origin(each["task"], each["problems_hash"], problem) for each in said for problem in each["problems"]]
    except (TypeError, KeyError) as error:
        raise ModelError(f"{folder / ABOUT}: {_ORIGINS} is not as it was written; learn the similarity again") from error
    if not all(isinstance(part, str) for one in found for part in (one.task, one.problems_hash, one.problem)):
        raise ModelError(f"{folder / ABOUT}: {_ORIGINS} is not as it was written; learn the similarity again")
    return found or None


def known_of(folder: Path, task: Mapping[str, object], problems: Iterable[str]) -> list[str]:
    """Those of `problems`, ids of `task` as a spec describes it, that the similarity in `folder` was learned on."""
    origins = origins_of(folder)
    if origins is None:
        return []
    name, digest = (str(task.get(key, "")) for key in ("name", "problems_hash"))
    by_id: dict[str, list[Origin]] = {}
    for one in origins:
        by_id.setdefault(one.problem, []).append(one)
    return [i for i in problems if any(one.is_same(Origin(name, digest, i)) for one in by_id.get(i, ()))]


def check_apart(card: SamplerCard, task: Task, problems: Iterable[str]) -> None:
    """Raise UsageError where the sampler uses a similarity that was learned on some of `problems`, and ModelError for none."""
    given = sampler_kind(card.kind).wants(card).similarity
    if not given:
        return
    folder, asked = found_similarity(given), list(problems)
    if known := known_of(folder, task.describe(), asked):
        raise UsageError(
            f"{card.name} uses the similarity in {folder}, which was learned from what answers to {_listed(known, asked)} of "
            f"{task.name} do in hidden tests, and no sampler may see these; learn it on other problems: spa-bench similarity "
            "triplets RUNS, of another task"
        )


def similarity_line(card: SamplerCard) -> list[str]:
    """A line of the plan on the problems of a similarity that the sampler uses; none where it uses none."""
    given = sampler_kind(card.kind).wants(card).similarity
    if not given:
        return []
    folder = found_similarity(given)
    return [f"similarity: {folder}, {_said(origins_of(folder))}"]


def described_embedder(embedder: Embedder | None, task: Task, problems: Sequence[str]) -> dict[str, object]:
    """The embedding model in the spec of a run on `problems`; marked where it is a similarity that was learned on some."""
    if embedder is None:
        return {}
    described = embedder.describe()
    known = known_of(Path(embedder.name), task.describe(), problems) if is_learned(embedder.name) else []
    return described | ({LEARNED_ON: len(known)} if known else {})


def embedding_mark(embedding: dict[str, object]) -> str:
    """What to know of Vendi scores by the embedding model of a spec, in words; "" where there is nothing."""
    known = embedding.get(LEARNED_ON)
    return f"vendi[embedding,...] by a similarity that was learned on answers to {known} of these problems" if known else ""


def classes_mark(embedder: str, task: Mapping[str, object], problems: Sequence[str]) -> str:
    """What to know of classes of answers by the model `embedder`, for a `task` as a spec describes it; "" for nothing."""
    known = known_of(Path(embedder), task, problems) if is_learned(embedder) else []
    return f"classes by a similarity that was learned on answers to {_listed(known, problems)}" if known else ""


def _said(origins: Sequence[Origin] | None) -> str:
    if origins is None:
        return "which does not say on which problems it was learned: whether it knows hidden tests is not known"
    tasks = ", ".join(sorted({one.task or "an unnamed task" for one in origins}))
    return f"learned on {len(origins)} problems of {tasks}"


def _listed(known: Sequence[str], asked: Sequence[str]) -> str:
    named = ", ".join(known[:_NAMED]) + ", ..." * (len(known) > _NAMED)
    return f"{len(known)} of these {len(asked)} problems ({named})"
