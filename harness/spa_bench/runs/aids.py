"""What samplers may ask beside the model: programs tried on the examples in their prompts, and a learned similarity.

Nothing here reads a problem's tests or its reference. The examples come from the text of the prompt (samplers.asking.examples),
and each is looked for there once more before a program runs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import UsageError
from spa_bench.grading import Calls, Grader, Program
from spa_bench.models.learned import found_similarity, ranges_of
from spa_bench.runs.embeddings import Embedder
from spa_bench.runs.reopen import load_embedder
from spa_bench.samplers.asking.examples import Examples, examples_in
from spa_bench.samplers.base import Graded, Tried, Wants
from spa_bench.sandbox import choose
from spa_bench.support.cache import own_cache
from spa_bench.tasks.base import Task
from spa_bench.types import CallSuite, Completion, Prompt

_SECONDS = 3.0  # CPU time of a call on an example


class OwnAids:
    """See spa_bench.samplers.base.Aids; for one task, with the sandbox of a run."""

    def __init__(self, wants: Wants, task: Task, sandbox: str):
        self._wants, self._task, self._sandbox = wants, task, sandbox
        self._ends = ExitStack()

    def close(self) -> None:
        """End the processes that tried programs."""
        self._ends.close()

    def graded(self, answers: Sequence[Completion]) -> list[Graded]:
        """See Aids.graded: by the task, whose sanitiser reads prompts alone."""
        records = [self._task.record(answer) for answer in answers]
        return [Graded(record.graded.strip(), self._task.program(record)) for record in records]

    def tried(self, prompt: Prompt, programs: Sequence[str]) -> list[Tried]:
        """See Aids.tried. Raises SandboxError where there is no sandbox, and UsageError for examples from elsewhere."""
        examples = examples_in(prompt.text)
        if not examples.calls or not self._task.runs_code:
            return [Tried()] * len(programs)
        _only_of(prompt, examples)
        suite = CallSuite(name="examples", inputs=lambda: [list(arguments) for arguments, _ in examples.calls])
        tests = Calls(suites=(suite,), reference=examples.reference)
        judged = [
            Program(source=p, entry_point=examples.entry_point, tests=tests, problem=prompt.problem_id, seconds=_SECONDS)
            for p in programs
        ]
        found = dict(self._grader.behaviours(judged))
        return [
            Tried(found[i].digest if found[i].ran else "", found[i].right, len(examples.calls)) for i in range(len(programs))
        ]

    def coordinates(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """See Aids.coordinates. Raises ModelError where the similarity cannot be used."""
        return np.stack([row.astype(np.float64) for row in self._embedder.embed(texts)])

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """See Aids.ranges."""
        return ranges_of(found_similarity(self._wants.similarity))

    @cached_property
    def _grader(self) -> Grader:
        sandbox = choose(self._sandbox, self._task.packages)
        packages, limits = self._task.packages, self._task.limits
        grader = Grader(sandbox=sandbox, cache=own_cache(), workers=1, limits=limits, packages=packages)
        return self._ends.enter_context(grader.kept())

    @cached_property
    def _embedder(self) -> Embedder:
        return load_embedder(str(found_similarity(self._wants.similarity)))


def _only_of(prompt: Prompt, examples: Examples) -> None:
    """Raise UsageError for an example that does not stand in the prompt: a sampler must not see tests."""
    for source in examples.sources:
        if any(line.strip() not in prompt.text for line in source.splitlines()):
            raise UsageError(
                f"problem {prompt.problem_id}: the example {source[:80]!r} does not stand in the prompt; a sampler must "
                "not see the tests that judge it, so the run stops here"
            )
