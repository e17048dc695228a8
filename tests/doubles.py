"""Test doubles: a model that answers from a function, a sandbox in this process, a console that keeps its lines."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from spa_bench.cards.sampler import DecodingCard, SamplerCard
from spa_bench.cards.task import load_task_card
from spa_bench.grading import Behaved, Check, Outcome, Program
from spa_bench.metrics.token_sums import sums_of
from spa_bench.models.base import Batches, Model, OptionScores
from spa_bench.models.engine import STAGES
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.types import Asked, Completion, DivergenceSums, Key, Member, Messages, Request, Verdict

RIGHT = {"three/add": "    return a + b\n", "three/double": "    return 2 * x\n", "three/last": "    return xs[-1]\n"}
WRONG = "    return None\n"
SANDBOX = "none-i-trust-this-code"
Call = Callable[..., "Done"]


class MockModel:
    """A Model that answers with `answer(request)` and keeps the keys it was asked for.

    `stop_after` interrupts it, as a user would, when so many answers are out.
    """

    name = "mock"
    context = 4096
    notes = ()

    def __init__(self, answer: Callable[[Request], str], *, stop_after: int | None = None):
        self._answer, self._stop_after = answer, stop_after
        self.asked: list[Key] = []
        self.closed = 0  # times

    engines: ClassVar[dict[str, str]] = dict.fromkeys(STAGES, "mock")
    unable: ClassVar[dict[str, str]] = {}

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "hash": "mock"}

    def numerics(self) -> dict[str, object]:
        return {"device": "cpu", "dtype": "float32"}

    def training_numerics(self) -> dict[str, object]:
        return self.numerics()

    def batches(self) -> Batches:
        return Batches(None, 0)

    def batch_free(self, prompts: Sequence[tuple[str, int]]) -> bool:
        return True

    def close(self) -> None:
        self.closed += 1

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        for request in requests:
            if self._stop_after is not None and len(self.asked) >= self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(request.key)
            yield Completion(key=request.key, text=self._answer(request), tokens=1, finish="stop", seed=request.seed)

    def check_options(self, asked: Sequence[Asked]) -> None:
        """Everything fits."""

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        raise NotImplementedError

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """One nat less for each character of the continuation."""
        for request in requests:
            yield request, -float(len(request.continuation)), False

    def divergence(
        self,
        contexts: Sequence[tuple[str, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums]:
        """Member k gives token 0 of 2 probability 0.5 / (k + 1), at both of two places; read again, it is 0.25 nats away."""
        for place, _ in enumerate(contexts):
            first = np.array([0.5 / (k + 1) for k in range(len(members) + base)])
            logs = np.repeat(np.log(np.stack([first, 1 - first], -1))[:, None], 2, 1)
            sums = sums_of(logs[: len(members)], base=logs[-1] if base else None, top=min(top, 2))
            yield replace(sums, noise=0.25) if place in again else sums

    def encode_pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        text = prompt if isinstance(prompt, str) else "".join(words for _, words in prompt)
        return list(text.encode()), [*completion.encode(), 0]

    network: Any = None  # for tests that put adapters in the place of trained ones

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, Any]:
        raise NotImplementedError

    def lora_note(self, targets: str | Sequence[str]) -> str:
        return ""

    def peft_differs(self, folder: Path) -> str:
        return ""


class InProcessJudge:
    """Judges programs of the tests' own in this process, last one first, and keeps them."""

    def __init__(self) -> None:
        self.programs: list[Program] = []

    @contextmanager
    def kept(self) -> Iterator[InProcessJudge]:
        yield self

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        self.programs += programs
        for index, program in reversed(list(enumerate(programs))):
            yield index, self._outcome(program)

    def _outcome(self, program: Program) -> Outcome:
        scope: dict[str, Any] = {}
        try:
            assert isinstance(program.tests, Check)
            exec(program.source + "\n" + program.tests.source, scope)
            scope["check"](scope[program.entry_point])
        except AssertionError:
            return Outcome(verdict=Verdict.WRONG, message="AssertionError")
        except Exception as error:
            return Outcome(verdict=Verdict.RAISED, message=repr(error))
        return Outcome(verdict=Verdict.PASSED)

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        """As spa_bench.grading.Grader.behaviours, for arguments and results whose repr says all."""
        for index, program in reversed(list(enumerate(programs))):
            assert isinstance(program.tests, Check)
            try:
                calls, expected = _calls(program.tests, program.entry_point)
            except Exception:  # the reference is no program, or does not pass
                yield index, Behaved()
                continue
            did = _did(program.source, program.entry_point, calls)
            ran = not any(d.startswith("raised") and not e.startswith("raised") for d, e in zip(did, expected, strict=True))
            right = sum(d == e for d, e in zip(did, expected, strict=True))
            digest = hashlib.blake2b(repr(did).encode(), digest_size=8).hexdigest()
            yield index, Behaved(digest, ran, right, len(calls)) if calls else Behaved()


def _calls(tests: Check, entry_point: str) -> tuple[list[tuple[Any, ...]], list[str]]:
    """(arguments with which the tests call the reference, what it does on them)."""
    calls: list[tuple[Any, ...]] = []
    scope: dict[str, Any] = {}
    exec(tests.helpers + "\n" + tests.source, scope)

    def noting(*arguments: Any) -> Any:
        if arguments not in calls:
            calls.append(copy.deepcopy(arguments))
        return scope[entry_point](*arguments)

    scope["check"](noting)
    return calls[:16], _did(tests.helpers, entry_point, calls[:16])


def _did(source: str, entry_point: str, calls: Sequence[tuple[Any, ...]]) -> list[str]:
    did = []
    for arguments in calls:
        scope: dict[str, Any] = {}
        try:
            exec(source, scope)
            did.append(repr(scope[entry_point](*copy.deepcopy(arguments))))
        except Exception as error:
            did.append(f"raised {type(error).__name__}")
    return did


class Lines:
    """A console that keeps its notes and the names of its stages."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []
        self.seconds: dict[str, float] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        self.stages.append(name)
        yield lambda done, total: None
        self.seconds[name] = 0.5


def never(steps: Sequence[int]) -> dict[int, Path]:
    """A warm-up that nobody may ask for."""
    raise AssertionError(steps)


def ignore(done: int, total: int) -> None:
    """A progress that nobody looks at."""


def sampler_card(name: str = "mock-sampler", **changes: Any) -> SamplerCard:
    """A sampler of one member without an adapter at temperature 0.8, with `changes`."""
    return SamplerCard(**{"name": name, "description": "", "decoding": DecodingCard(temperature=0.8), **changes})


def mock_run(
    out: Path,
    task_card: Path,
    answer: Callable[[Request], str] | Model,
    *,
    n: int = 2,
    seed: int = 0,
    graded: bool = True,
    noise_floor: bool | None = None,
    **card: Any,
) -> RunFolder:
    """A run of a mock model on the task of `task_card`; `card` changes the sampler card."""
    model = answer if isinstance(answer, MockModel) else MockModel(answer)
    loaded = load_task_card(str(task_card))
    task = load_task(loaded)
    todo = Job(sampler=sampler_card(**card), task=loaded, n=n, seed=seed, noise_floor=noise_floor)
    folder = generate(todo, task, model, out=out, cache=out / "cache", console=Lines())
    if graded:
        grade(folder, task, Lines(), sandbox=None, workers=1)
    return folder


class Done:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    def error(self) -> str:
        """The one line that begins with `spa-bench: `, which is the last; what came before are notes."""
        assert self.code == 2, self.err
        *notes, last = self.err.splitlines()
        assert last.startswith("spa-bench: "), self.err
        assert not any(line.startswith("spa-bench: ") for line in notes)
        assert "Traceback" not in self.err
        return last.removeprefix("spa-bench: ")
