"""Nine ways to write the same pipeline, so that correct answers can really differ in the embedded world.

Each style is a function from (steps, reducer, names) to the lines of a function body without indentation, or None
when the pipeline cannot be written that way. All styles of a pipeline compute the same function: a test executes
them against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spa_bench.mini.ops import Reducer


@dataclass(frozen=True)
class Bound:
    """A step with its parameter filled in; `{x}` remains."""

    kind: str
    code: str
    negated: str


@dataclass(frozen=True, kw_only=True)
class Names:
    """The identifiers of one solution: function, argument, element, accumulator."""

    function: str
    argument: str
    element: str
    accumulator: str
    rest: str = "rest"
    index: str = "i"


Lines = list[str]
Style = Callable[[tuple[Bound, ...], Reducer, Names], Lines | None]


def _at(code: str, x: str) -> str:
    return code.replace("{x}", x)


def _wrap(expression: str) -> str:
    """`expression`, in brackets where an operator stands outside of every bracket."""
    depth, bare = 0, expression.startswith("-")
    for char in expression:
        depth += (char in "([") - (char in ")]")
        bare = bare or (char == " " and depth == 0)
    return f"({expression})" if bare else expression


def _imports(code: str) -> Lines:
    return ["import math"] if "math." in code else []


def _return(reducer: Reducer, name: str) -> Lines:
    return [*_imports(reducer.final), "return " + reducer.final.replace("{l}", name)]


def _indent(lines: Lines) -> Lines:
    return ["    " + line for line in lines]


def _comprehension(steps: tuple[Bound, ...], x: str, argument: str) -> str:
    """All steps as one comprehension without its brackets; maps are substituted into the steps after them."""
    value, conditions = x, []
    for step in steps:
        if step.kind == "filter":
            conditions.append(_at(step.code, _wrap(value)))
        else:
            value = _at(step.code, _wrap(value))
    tail = " if " + " and ".join(conditions) if conditions else ""
    return f"{value} for {x} in {argument}{tail}"


def one_line(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """One comprehension inside the reducer."""
    if not steps:
        return [f"return list({n.argument})"] if reducer.name == "list" else _return(reducer, n.argument)
    inner = _comprehension(steps, n.element, n.argument)
    if reducer.name == "list":
        return [f"return [{inner}]"]
    if reducer.name == "count":
        return [f"return len([{inner}])"]
    if reducer.whole:
        if ", " in reducer.whole.replace("{it}", ""):
            inner = f"({inner})"
        return [*_imports(reducer.whole), "return " + reducer.whole.replace("{it}", inner)]
    return [f"{n.accumulator} = [{inner}]", *_return(reducer, n.accumulator)]


def stepwise(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """One comprehension a step."""
    if not steps:
        return None
    lines, source = [], n.argument
    for step in steps:
        part = (
            f"{n.element} for {n.element} in {source} if {_at(step.code, n.element)}"
            if step.kind == "filter"
            else f"{_at(step.code, n.element)} for {n.element} in {source}"
        )
        lines.append(f"{n.accumulator} = [{part}]")
        source = n.accumulator
    return [*lines, *_return(reducer, n.accumulator)]


def functional(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """filter and map with lambdas."""
    if not steps:
        return None
    lines, source = [], n.argument
    for step in steps:
        lines.append(f"{n.accumulator} = {step.kind}(lambda {n.element}: {_at(step.code, n.element)}, {source})")
        source = n.accumulator
    if reducer.name == "list":
        return [*lines, f"return list({n.accumulator})"]
    if reducer.whole:
        return [*_imports(reducer.whole), *lines, "return " + reducer.whole.replace("{it}", n.accumulator)]
    return [*lines, f"{n.accumulator} = list({n.accumulator})", *_return(reducer, n.accumulator)]


def _fold(reducer: Reducer, n: Names) -> tuple[str, str, Lines]:
    """Initial value, update and last lines of a loop; reducers without a fold collect into a list first."""
    if reducer.start:
        return (
            reducer.start,
            reducer.update.replace("{a}", n.accumulator).replace("{x}", n.element),
            [f"return {n.accumulator}"],
        )
    return "[]", f"{n.accumulator}.append({n.element})", _return(reducer, n.accumulator)


def _nested(steps: tuple[Bound, ...], n: Names, innermost: str) -> Lines:
    if not steps:
        return [innermost]
    head, rest = steps[0], _nested(steps[1:], n, innermost)
    if head.kind == "filter":
        return [f"if {_at(head.code, n.element)}:", *_indent(rest)]
    return [f"{n.element} = {_at(head.code, n.element)}", *rest]


def _guarded(steps: tuple[Bound, ...], n: Names, leave: str) -> Lines:
    lines = []
    for step in steps:
        if step.kind == "filter":
            lines += [f"if {_at(step.negated, n.element)}:", f"    {leave}"]
        else:
            lines.append(f"{n.element} = {_at(step.code, n.element)}")
    return lines


def nested_loop(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """A for loop with nested ifs: the plain style that dominates the instruction set."""
    start, update, end = _fold(reducer, n)
    body = _indent(_nested(steps, n, update))
    return [f"{n.accumulator} = {start}", f"for {n.element} in {n.argument}:", *body, *end]


def guard_loop(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """A for loop that leaves early with continue."""
    if not any(s.kind == "filter" for s in steps):
        return None
    start, update, end = _fold(reducer, n)
    body = _indent([*_guarded(steps, n, "continue"), update])
    return [f"{n.accumulator} = {start}", f"for {n.element} in {n.argument}:", *body, *end]


def while_loop(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """A while loop over an index."""
    start, update, end = _fold(reducer, n)
    read = [f"{n.element} = {n.argument}[{n.index}]", f"{n.index} += 1"]
    body = _indent([*read, *_nested(steps, n, update)])
    return [f"{n.accumulator} = {start}", f"{n.index} = 0", f"while {n.index} < len({n.argument}):", *body, *end]


def recursion(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """The function calls itself on the rest; only for reducers with a right fold."""
    if not reducer.right:
        return None
    combined = reducer.right.replace("{x}", n.element).replace("{r}", n.rest)
    return [
        f"if not {n.argument}:",
        f"    return {reducer.start}",
        f"{n.element} = {n.argument}[0]",
        f"{n.rest} = {n.function}({n.argument}[1:])",
        *_guarded(steps, n, f"return {n.rest}"),
        f"return {combined}",
    ]


def inner_generator(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """A nested generator function, then the reducer."""
    if not steps:
        return None
    body = _indent(_indent(_nested(steps, n, f"yield {n.element}")))
    lines = ["def gen():", f"    for {n.element} in {n.argument}:", *body]
    if reducer.whole:
        return [*_imports(reducer.whole), *lines, "return " + reducer.whole.replace("{it}", "gen()")]
    return [*lines, f"{n.accumulator} = list(gen())", *_return(reducer, n.accumulator)]


def reduce_call(steps: tuple[Bound, ...], reducer: Reducer, n: Names) -> Lines | None:
    """functools.reduce over a comprehension; only for reducers whose fold is an expression."""
    folds = {
        "sum": "a + b",
        "product": "a * b",
        "concat": "a + b",
        "list": "a + [b]",
        "count": "a + 1",
        "total-length": "a + len(b)",
    }
    if reducer.name not in folds or not steps:
        return None
    return [
        "from functools import reduce",
        f"{n.accumulator} = [{_comprehension(steps, n.element, n.argument)}]",
        f"return reduce(lambda a, b: {folds[reducer.name]}, {n.accumulator}, {reducer.start})",
    ]


STYLES: dict[str, Style] = {
    "one-line": one_line,
    "stepwise": stepwise,
    "functional": functional,
    "nested-loop": nested_loop,
    "guard-loop": guard_loop,
    "while-loop": while_loop,
    "recursion": recursion,
    "generator": inner_generator,
    "reduce": reduce_call,
}
