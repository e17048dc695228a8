"""Tasks, solutions and data sets of the embedded world, all drawn from seeds.

A task is a pipeline (85 %) or one of the standalone families (15 %). One in five sequences of two and more steps
is held out of every training set, and pipelines of four steps never appear in one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from spa_bench.mini import families
from spa_bench.mini.families import FAMILIES, Arguments, Family
from spa_bench.mini.ops import Reducer, Step, reducers_for, steps_for
from spa_bench.mini.styles import STYLES, Bound, Names

FUNCTIONS = (
    "solve", "process", "compute", "run", "task", "transform", "apply", "func",
    "calc", "handle", "work", "evaluate", "make", "answer", "go", "convert",
)  # fmt: skip
_ARGUMENTS = {
    "int": ("nums", "values", "numbers", "data"),
    "str": ("words", "strings", "items", "names"),
    "char": ("text", "string", "line", "s"),
}
_NOUNS = {"int": "numbers", "str": "words", "char": "characters"}
_ELEMENTS = {"int": ("x", "n", "v", "item"), "str": ("w", "word", "x", "item"), "char": ("c", "ch", "x", "char")}
_ACCUMULATORS = ("out", "result", "res", "acc")
_RESTS = ("rest", "tail")
_INDICES = ("i", "j", "idx")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One function to write: its name, its docstring and the ways to write it."""

    function: str
    argument: str
    docstring: str
    level: int  # number of steps for a pipeline; 0 for a bare reducer or a family
    key: str  # the sequence of step names without parameters: the unit that is held out
    element: str = "int"
    steps: tuple[Step, ...] = ()
    params: tuple[str, ...] = ()
    reducer: Reducer | None = None
    family: Family | None = field(default=None, compare=False)

    @property
    def prompt(self) -> str:
        """Signature and docstring; a completion starts with the body's indentation."""
        return f'def {self.function}({self.argument}):\n    """{self.docstring}"""\n'

    @property
    def identity(self) -> tuple[str, ...]:
        """The parts that two equal tasks share: steps, parameters and reducer, not names or wording."""
        return (self.element, self.key, *self.params)

    def styles(self) -> tuple[str, ...]:
        """Names of the styles this task can be written in."""
        if self.family is not None:
            return tuple(f"{self.family.name}-{i}" for i in range(len(self.family.bodies)))
        names = Names(function=self.function, argument=self.argument, element="x", accumulator="out")
        assert self.reducer is not None
        return tuple(s for s, write in STYLES.items() if write(self._bound(), self.reducer, names) is not None)

    def solution(self, style: str, rng: random.Random) -> str:
        """The body in `style`, indented, with a newline at its end; `rng` draws local names and small variants."""
        if self.family is not None:
            body = self.family.bodies[int(style.rsplit("-", 1)[1])].replace("{f}", self.function)
            lines = body.replace("{p}", self.params[0] if self.params else "").split("\n")
        else:
            assert self.reducer is not None
            names = Names(
                function=self.function,
                argument=self.argument,
                element=rng.choice(_ELEMENTS[self.element]),
                accumulator=rng.choice(_ACCUMULATORS),
                rest=rng.choice(_RESTS),
                index=rng.choice(_INDICES),
            )
            lines = STYLES[style](self._bound(), self.reducer, names) or []
        assert lines, f"{style} cannot write {self.key}"
        return "".join(f"    {line}\n" for line in lines)

    def inputs(self, rng: random.Random) -> Arguments:
        """Arguments for one call."""
        if self.family is not None:
            return self.family.inputs(rng)
        make = {"int": families.integers, "str": families.words, "char": families.text}[self.element]
        return (make(rng),)

    def _bound(self) -> tuple[Bound, ...]:
        return tuple(
            Bound(s.kind, s.code.replace("{p}", p), s.negated.replace("{p}", p))
            for s, p in zip(self.steps, self.params, strict=True)
        )


def is_held_out(key: str) -> bool:
    """Whether the sequence of two or more steps named by `key` stays out of all training (one in five)."""
    return hashlib.blake2b(key.encode(), digest_size=4).digest()[0] < 51


def draw_pipeline(rng: random.Random, *, level: int) -> Task:
    """A pipeline with exactly `level` steps."""
    element = kind = rng.choices(("int", "str", "char"), (5, 3, 2))[0]
    steps: list[Step] = []
    while len(steps) < level:
        step = rng.choice(steps_for(kind))
        if all(step.name != s.name for s in steps):
            steps.append(step)
            kind = step.target
    reducer = rng.choice(reducers_for(kind))
    params = tuple(rng.choice(s.params) if s.params else "" for s in steps)
    sayings = [tuple(w.replace("{p}", p) for w in s.wording) for s, p in zip(steps, params, strict=True)]
    noun = _NOUNS[element]
    if not steps:
        docstring = rng.choice((f"Of the {noun} return {reducer.wording}.", f"Return {reducer.wording} of the {noun}."))
    elif rng.random() < 0.5:
        docstring = f"From the {noun}, " + ", ".join(s[0] for s in sayings) + f" and return {reducer.wording}."
    else:
        docstring = f"Return {reducer.wording} of the {noun} after " + " and ".join(s[1] for s in sayings) + "."
    key = " ".join([element, *(s.name for s in steps), reducer.name])
    return Task(
        function=rng.choice(FUNCTIONS),
        argument=rng.choice(_ARGUMENTS[element]),
        docstring=docstring,
        level=level,
        key=key,
        element=element,
        steps=tuple(steps),
        params=params,
        reducer=reducer,
    )


def draw_family(rng: random.Random, family: Family | None = None) -> Task:
    """A standalone task, of `family` if that is given."""
    family = family or rng.choice(FAMILIES)
    param = rng.choice(family.params) if family.params else ""
    docstring = rng.choice(family.wording).replace("{p}", param)
    params = (param,) if param else ()
    return Task(
        function=rng.choice(FUNCTIONS),
        argument=family.arguments,
        docstring=docstring,
        level=0,
        key=family.name,
        element="family",
        steps=(),
        params=params,
        reducer=None,
        family=family,
    )


def draw_training_task(rng: random.Random) -> Task:
    """A task that training may see: it is not held out and has fewer than four steps."""
    if rng.random() < 0.15:
        return draw_family(rng)
    while True:
        level = rng.choices((0, 1, 2, 3), (6, 24, 36, 34))[0]
        task = draw_pipeline(rng, level=level)
        if level < 2 or not is_held_out(task.key):
            return task


def draw_style(task: Task, rng: random.Random, weights: dict[str, float] | None = None) -> str:
    """A style that can write `task`, evenly or by `weights` (styles not named weigh 1)."""
    styles = task.styles()
    return rng.choices(styles, [(weights or {}).get(s, 1.0) for s in styles])[0]


def run(task: Task, body: str, arguments: Arguments) -> object:
    """The result of a generated `body` for `arguments`. It runs in this process, so it must be the package's own code."""
    return _compiled(task.prompt + body, task.function)(*arguments)  # type: ignore[operator]


@lru_cache(maxsize=4096)
def _compiled(source: str, function: str) -> object:
    scope: dict[str, object] = {}
    exec(source, scope)
    return scope[function]


def examples(tasks: Sequence[Task], rng: random.Random, weights: dict[str, float] | None = None) -> list[tuple[Task, str, str]]:
    """(task, style, body) for each task."""
    chosen = [(task, draw_style(task, rng, weights)) for task in tasks]
    return [(task, style, task.solution(style, rng)) for task, style in chosen]
