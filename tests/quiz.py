"""A task double: a quiz of multiple-choice and of open questions, and a library that scores it in its own way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubles import Lines, sampler_card
from spa_bench.cards.sampler import DecodingCard, SamplerCard
from spa_bench.cards.task import TaskCard
from spa_bench.cards.training import LoraCard
from spa_bench.metrics.choices import best
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job
from spa_bench.sandbox import Limits
from spa_bench.tasks.base import Judge, TaskDefaults
from spa_bench.types import Asked, Behaviour, Choices, Completion, Grade, Problem, Prompt, Record, Verdict

CARD = TaskCard(name="quiz", description="", kind="quiz", version="1", max_new_tokens=8)
LETTERS = (" A", " B", " C", " D")
QUESTIONS = {
    "quiz/even": ("Which is even? A. 3 B. 7 C. 9 D. 6\nAnswer:", LETTERS, " D"),
    "quiz/odd": ("Which is odd? A. 3 B. 4 C. 8 D. 6\nAnswer:", LETTERS, " A"),
    "quiz/word": ("Cats and", (" dogs", " of the", " xylophone"), " dogs"),
    "quiz/open": ("def double(x):\n", (), "    return 2 * x\n"),
    "quiz/pronoun": ("The cup fell because the", (), " table was wet."),
}
CONTEXTS = ("The cup fell because the cup", "The cup fell because the table")


@dataclass
class Quiz(TaskDefaults):
    """Four multiple-choice problems, one of them with a context an option, and an open one between them."""

    name: str = "quiz"
    version: str = "1"
    found: str = "a test"
    max_new_tokens: int = 8
    stop: tuple[str, ...] = ("\n\n",)
    runs_code: bool = False
    repeated: int = 1  # every question so many times
    limits: Limits = field(default_factory=Limits)
    packages: tuple[str, ...] = ()

    @property
    def problems(self) -> Sequence[Problem]:
        found = []
        for i in range(self.repeated):
            for name, (context, texts, reference) in QUESTIONS.items():
                choices = 2 if name == "quiz/pronoun" else len(texts) or None
                found.append(Problem(id=f"{name}/{i}", prompt=f"{i}. {context}", reference=reference, choices=choices))
        return found

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "kind": "quiz", "problems_hash": "quiz", "problems_n": len(self.problems)}

    def prompts(self, limit: int | None) -> list[Prompt]:
        return [
            Prompt(problem_id=p.id, text=p.prompt, max_new_tokens=self.max_new_tokens, stop=self.stop)
            for p in self.problems[:limit]
        ]

    def asked(self, limit: int | None) -> list[Asked]:
        found = []
        for p in self.problems[:limit]:
            name, _, number = p.id.rpartition("/")
            texts = QUESTIONS[name][1]
            if name == "quiz/pronoun":
                found.append(Asked(p.id, tuple((f"{number}. {c}", " was wet.") for c in CONTEXTS), 2))
            elif texts:  # those behind the choices are one token each, and so more probable than they are
                alone = tuple(("Answer:", str(i)) for i in range(len(texts)))
                found.append(Asked(p.id, (*((p.prompt, text) for text in texts), *alone), len(texts)))
        return found

    def record(self, c: Completion) -> Record:
        places = [place for s in self.stop if (place := c.text.find(s)) >= 0]
        graded = c.text[: min(places, default=len(c.text))].rstrip()
        return Record.of(c, graded)

    def program(self, record: Record) -> str:
        return record.graded

    def score(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Grade]:
        for r in records:
            right = self._right(r)
            yield Grade(**r.key._asdict(), verdict=Verdict.PASSED if right else Verdict.WRONG)

    def behave(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Behaviour]:
        for r in records:
            answer = r.graded.strip() if r.choice is None else str(r.choice)
            right = self._right(r)
            yield Behaviour(
                **r.key._asdict(),
                digest=hashlib.blake2b(answer.encode(), digest_size=8).hexdigest(),
                ran=True,
                right=int(right),
                probes=1,
            )

    def _right(self, r: Record) -> bool:
        if r.choice is None:
            return not r.failure and r.graded.strip() == "return 2 * x"
        return r.choice == self._gold(r.problem)

    def _gold(self, problem: str) -> int:
        _, texts, reference = QUESTIONS[problem.rpartition("/")[0]]
        return texts.index(reference) if texts else 1

    def own_scores(self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int) -> dict[str, Any] | None:
        if not choices:
            return None
        asked = {one.problem_id: one for one in self.asked(None)}
        right = [
            [best([c.logprobs[k][: asked[c.problem].choices]])[0] == self._gold(c.problem) for c in choices]
            for k in range(members)
        ]
        scores = [{"quiz": {"acc,none": sum(each) / len(each), "alias": "quiz"}} for each in right]
        return {"harness": "quiz master 1", "members": scores}


def build(card: TaskCard) -> Quiz:
    return Quiz(max_new_tokens=card.max_new_tokens)


def three(temperature: float = 0.0, **changes: Any) -> SamplerCard:
    """Three members with adapters of their own, trained for two steps."""
    lora = LoraCard(steps=2, batch=2, learning_rate=0.02)
    decoding = DecodingCard(temperature=temperature)
    return sampler_card("three", adapters="seeds", members=3, draws=3, lora=lora, decoding=decoding, **changes)


def run(model: Any, out: Path, cache: Path, task: Quiz | None = None, card: SamplerCard | None = None, **job: Any) -> RunFolder:
    """A graded run of the quiz; `job` changes the Job, whose n is one draw a member."""
    card, siblings = card or three(), job.pop("siblings", ())
    made = Job(sampler=card, task=CARD, **{"n": card.members, "seed": 0, "noise_floor": False, **job})
    folder = generate(made, task or Quiz(), model, out=out, cache=cache, console=Lines(), siblings=siblings)
    grade(folder, task or Quiz(), Lines(), sandbox=None, workers=1)
    return folder
