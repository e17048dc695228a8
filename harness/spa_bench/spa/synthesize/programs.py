"""What the program of a draft does in the sandbox: it parses, it runs, it passes its own tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from spa_bench.grading import Grader
from spa_bench.grading.to_its_end import parsed, to_its_end
from spa_bench.samplers.asking.fences import is_program
from spa_bench.samplers.asking.reading import answer_in
from spa_bench.sandbox import choose
from spa_bench.spa.synthesize.base import Draft
from spa_bench.support.cache import own_cache
from spa_bench.types import Example, Verdict

Runner = Callable[[Sequence[str]], list[str]]
"""Programs -> for each why it does not end as it should; "" where it does."""

_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_BEGINS = re.compile(
    r"\s*(?:(?:async )?def +\w|class +\w+ *(?:[(:\[]|\Z)|import +[\w.]+ *(?:[,;#\n]|as\b|\Z)|from +[\w.]+ +import\b|@\w)"
)
_SHOWN = 64  # targets that are looked at to tell whether they are programs
_SECONDS = 3.0  # of CPU, for a program with its tests


def program_in(pair: Example) -> str | None:
    """The program that a pair is meant to hold, valid or not; None where it is meant to hold none.

    It is prompt and completion where the prompt begins a program, as a signature does; else the code of the completion, which
    is fenced or begins with a definition or an import.
    """
    if _BEGINS.match(pair.prompt):
        return pair.prompt + pair.completion
    found = answer_in(pair.completion, program=True)
    return found if _FENCE.search(pair.completion) or is_program(found) else None


def are_programs(targets: Sequence[Example]) -> bool:
    """Whether more than half of the first 64 targets hold a program that parses."""
    found = [program_in(pair) for pair in targets[:_SHOWN]]
    return 2 * sum(program is not None and parsed(program) is not None for program in found) > len(found)


def in_sandbox(sandbox: str | None = None, workers: int = 1) -> Runner:
    """Runs programs in `sandbox`; None: the first that works here. The runner raises SandboxError where none works."""

    def run(programs: Sequence[str]) -> list[str]:
        box, packages = choose(sandbox, ("numpy",)), ("numpy",)
        grader = Grader(sandbox=box, cache=own_cache(), workers=workers, packages=packages)
        judged = [to_its_end(program, seconds=_SECONDS) for program in programs]
        ends = [""] * len(programs)
        for place, outcome in grader.run(judged):
            if outcome.verdict is not Verdict.PASSED:
                kind = outcome.message.partition(":")[0]
                named = outcome.verdict is Verdict.RAISED and kind.isidentifier()
                ends[place] = f"raised {kind}" if named else str(outcome.verdict)
        return ends

    return run


@dataclass(frozen=True, kw_only=True)
class CodeFilter:
    """Which drafts the code filter keeps; see SynthesisCard.code."""

    level: str  # auto, none, parse, run or pass
    programs: bool  # whether the targets are programs
    run: Runner
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)  # program with tests -> how it ended

    @property
    def said(self) -> str:
        """What the filter asks of a draft, in words."""
        ran = "its program runs without an exception (its functions are defined, not called)"
        if self.level == "auto":
            return f"auto: a draft with tests passes them; {f'else {ran}' if self.programs else 'else nothing'}, because " + (
                "the targets are programs" if self.programs else "the targets are no programs"
            )
        words = {"none": "nothing", "parse": "its program parses", "run": ran, "pass": "its program passes its own tests"}
        return f"{self.level}: {words[self.level]}"

    def wanted(self, draft: Draft) -> str:
        """What `draft` must do: none, parse, run or pass."""
        if self.level != "auto":
            return self.level
        return "pass" if draft.tests.strip() else ("run" if self.programs else "none")

    def failures(self, drafts: Sequence[Draft]) -> list[str]:
        """For each draft that has a pair, why it falls; "" where it does not. Equal programs run once."""
        said, sources = [""] * len(drafts), [""] * len(drafts)
        for i, draft in enumerate(drafts):
            said[i], sources[i] = self._before(draft)
        new = [source for source in dict.fromkeys(sources) if source and source not in self._known]
        self._known.update(zip(new, self.run(new) if new else (), strict=True))
        for i, (draft, source) in enumerate(zip(drafts, sources, strict=True)):
            if source and (end := self._known[source]):
                said[i] = f"with its own tests: {end}" if self.wanted(draft) == "pass" else end
        return said

    def _before(self, draft: Draft) -> tuple[str, str]:
        """(why the draft falls without being run, the program that is run; each "" for none)."""
        wanted = self.wanted(draft)
        assert draft.example
        program = None if wanted == "none" else program_in(draft.example)
        if wanted == "none":
            return "", ""
        if program is None:
            return "holds no program", ""
        if parsed(program) is None:
            return "does not parse", ""
        if wanted == "parse":
            return "", ""
        if wanted == "pass" and not draft.tests.strip():
            return "has no tests", ""
        tests = f"\n\n\n{draft.tests}" if wanted == "pass" else ""
        if tests and parsed(tests) is None:
            return "its tests do not parse", ""
        return "", program + tests
