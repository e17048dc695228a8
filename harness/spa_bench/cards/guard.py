"""Checks of a user's own code: whatever it raises, and any wrong value that it returns, becomes a one-line error."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from spa_bench.cards.objects import is_object
from spa_bench.cards.registry import is_ours
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.support.text import one_line
from spa_bench.types import Completion, Member, Problem

Built = TypeVar("Built")
Row = TypeVar("Row")
_KEPT = " (what is done is kept: mend it, and finish the run with `spa-bench grade`)"


class _Told(Protocol):
    """The part of a task that is checked here."""

    @property
    def problems(self) -> Iterable[object]: ...

    def describe(self) -> Mapping[str, object]: ...


class _Mixed(Protocol):
    """The part of a sampler that is checked here."""

    @property
    def members(self) -> Sequence[Member]: ...


def built(table: str, kind: str, build: Callable[[], Built], needs: Iterable[str], page: str = "") -> Built:
    """The object that `build` of the named kind gives. `page` of the docs says what it needs: of the table, where it is empty.

    Raises UsageError when the `build` of a user's own kind fails, or its object lacks one of the attributes `needs`.
    """
    if is_ours(table, kind):
        return build()
    where = f"{table} kind {kind!r}"
    with guarded(where):
        product = build()
        lacking = [name for name in needs if not hasattr(product, name)]
    if lacking:
        said = page or f"docs/how-to/add-a-{table}.md"
        raise UsageError(f"{where} built {product!r}, which has no {lacking[0]!r}; {said} has what it needs")
    return product


def checked_problems(problems: Iterable[object], where: str) -> tuple[Problem, ...]:
    """Problems from a user's own code. Raises UsageError unless there is one, and each is a Problem with a unique id."""
    with guarded(where):
        given = tuple(problems)
    if not given:
        raise UsageError(f"{where} has no problems")
    seen, checked = set(), []
    for problem in given:
        if not isinstance(problem, Problem):
            raise UsageError(f"{where}: a problem is {problem!r}; it must be a spa_bench.types.Problem")
        if not problem.id or problem.id in seen:
            raise UsageError(f"{where}: the problem id {problem.id!r} is empty or there twice; each problem has its own")
        seen.add(problem.id)
        checked.append(problem)
    return tuple(checked)


_CALLED = {
    "asked_by": ("model", "limit"),
    "options": ("limit",),
    "record": ("completion",),
    "program": ("record",),
    "score": ("records", "judge", "choices"),
    "behave": ("records", "judge", "choices"),
    "own_scores": ("records", "choices", "n", "members"),
}
"""The methods of a task, and what each is called with."""


def check_own_task(task: _Told, kind: str) -> None:
    """Raises UsageError for a user's own task with a method, problems, or a description for the spec that cannot be used."""
    where = f"task kind {kind!r}"
    for name, arguments in _CALLED.items():
        check_call(f"{where}: {name}", getattr(task, name), arguments, "docs/how-to/add-a-task.md")
    checked_problems(task.problems, where)
    with guarded(where):
        said = dict(task.describe())
    if lacking := [key for key in ("name", "kind", "version", "problems_hash") if key not in said]:
        raise UsageError(f"{where}: describe() lacks {lacking[0]!r}, by which a run finds its task again")


def check_call(what: str, function: object, arguments: Sequence[str], page: str) -> None:
    """Raises UsageError unless the user's `function` can be called with `arguments`, by its signature: it is not called."""
    if not callable(function):
        raise UsageError(f"{what} is {function!r}; it must be a function of ({', '.join(arguments)}); see {page}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, without a signature
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise UsageError(f"{what}{signature} is called with ({', '.join(arguments)}): {error}; see {page}") from error


def _advice(kind: str) -> str:
    """What to do about a task's own mistake; an object that is mended is another object, and makes another run."""
    return "" if is_object(kind) else _KEPT


def judged(kind: str, method: str, rows: Callable[[], Iterable[Row]], row: type[Row]) -> Iterator[Row]:
    """The rows that `method` of a task gives. Raises UsageError where a user's own task fails or gives anything but a `row`."""
    if is_ours("task", kind):
        yield from rows()
        return
    where = f"task kind {kind!r}: {method}()"
    with guarded(where, _advice(kind)):
        for one in rows():
            if not isinstance(one, row):
                raise UsageError(f"{where} gave {one!r}; it gives spa_bench.types.{row.__name__}, one a sample")
            yield one


def checked_by(table: str, kind: str, method: str, call: Callable[[], Built]) -> Built:
    """What a check of a kind gives. Raises what it raises of ours, and UsageError where that of a user's own kind fails."""
    if is_ours(table, kind):
        return call()
    with guarded(f"{table} kind {kind!r}: {method}"):
        return call()


def called(kind: str, method: str, call: Callable[[], Built]) -> Built:
    """What a method of a task gives. Raises UsageError where that of a user's own task fails."""
    if is_ours("task", kind):
        return call()
    with guarded(f"task kind {kind!r}: {method}()", _advice(kind)):
        return call()


def check_sampler(sampler: _Mixed, kind: str, count: int, served: Sequence[str] = ()) -> None:
    """Raises UsageError for a user's own sampler unless its members are `count` of types.Member, `served` as named."""
    members = sampler.members
    if is_ours("sampler", kind):
        return
    if not isinstance(members, list | tuple) or not all(isinstance(member, Member) for member in members):
        raise UsageError(f"sampler kind {kind!r}: members is {members!r}; it must be a tuple of spa_bench.types.Member")
    if len(members) != count:
        raise UsageError(f"sampler kind {kind!r}: it has {len(members)} members, and its card says members = {count}")
    if served and [member.served for member in members] != list(served):
        raise UsageError(f"sampler kind {kind!r}: its members are not those that its card names in served: {', '.join(served)}")


def drawn(kind: str, sample: Callable[[], Iterable[Completion]]) -> Iterator[Completion]:
    """The completions that `sample` gives. Raises UsageError where a user's own sampler fails or gives anything else."""
    if is_ours("sampler", kind):
        yield from sample()
        return
    where = f"sampler kind {kind!r}"
    with guarded(where):
        for completion in sample():
            if not isinstance(completion, Completion):
                raise UsageError(f"{where} gave {completion!r}; sample() gives spa_bench.types.Completion, one an answer")
            yield completion


@contextmanager
def guarded(what: str, advice: str = "") -> Iterator[None]:
    """Raise UsageError, in one line, for an exception that the user's own code raises in the block.

    The line says that `what` failed, quotes the exception, and ends in `advice`.
    """
    try:
        yield
    except SpaBenchError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        said = one_line(error)
        raise UsageError(f"{what} failed: {type(error).__name__}: {said}{_line_of(error)}{advice}") from error


def _line_of(error: BaseException) -> str:
    """The file and line that raised `error`: the author of the code sees no traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
