"""What a user's own code brings is checked here: whatever it raises or gives becomes one line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from spa_bench.cards.registry import is_ours
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.types import Completion, Member, Problem

Built = TypeVar("Built")


class _Told(Protocol):
    """What is looked at of a task."""

    @property
    def problems(self) -> Iterable[object]: ...

    def describe(self) -> Mapping[str, object]: ...


class _Mixed(Protocol):
    """What is looked at of a sampler."""

    @property
    def members(self) -> Sequence[Member]: ...


def built(table: str, kind: str, build: Callable[[], Built], needs: Iterable[str]) -> Built:
    """What `build` of the kind of that name gives.

    Raises UsageError when that of others fails, or builds what lacks one of the attributes `needs`.
    """
    if is_ours(table, kind):
        return build()
    where = f"{table} kind {kind!r}"
    with guarded(where):
        found = build()
        lacking = [name for name in needs if not hasattr(found, name)]
    if lacking:
        raise UsageError(f"{where} built {found!r}, which has no {lacking[0]!r}; docs/add-a-{table}.md has what it needs")
    return found


def checked_problems(problems: Iterable[object], where: str) -> tuple[Problem, ...]:
    """Problems that others brought. Raises UsageError unless they are some, and each a Problem with an id of its own."""
    with guarded(where):
        given = tuple(problems)
    if not given:
        raise UsageError(f"{where} has no problems")
    seen, found = set(), []
    for problem in given:
        if not isinstance(problem, Problem):
            raise UsageError(f"{where}: a problem is {problem!r}; it must be a spa_bench.types.Problem")
        if not problem.id or problem.id in seen:
            raise UsageError(f"{where}: the problem id {problem.id!r} is empty or there twice; each problem has its own")
        seen.add(problem.id)
        found.append(problem)
    return tuple(found)


def check_own_task(task: _Told, kind: str) -> None:
    """Raises UsageError for a task of others whose problems, or whose words for the spec, cannot be used."""
    where = f"task kind {kind!r}"
    checked_problems(task.problems, where)
    with guarded(where):
        said = dict(task.describe())
    if lacking := [key for key in ("name", "kind", "version", "problems_hash") if key not in said]:
        raise UsageError(f"{where}: describe() lacks {lacking[0]!r}, by which a run finds its task again")


def check_sampler(sampler: _Mixed, kind: str, count: int) -> None:
    """Raises UsageError for a sampler of others whose members are not `count` of spa_bench.types.Member."""
    members = sampler.members
    if is_ours("sampler", kind):
        return
    if not isinstance(members, list | tuple) or not all(isinstance(member, Member) for member in members):
        raise UsageError(f"sampler kind {kind!r}: members is {members!r}; it must be a tuple of spa_bench.types.Member")
    if len(members) != count:
        raise UsageError(f"sampler kind {kind!r}: it has {len(members)} members, and its card says members = {count}")


def drawn(kind: str, sample: Callable[[], Iterable[Completion]]) -> Iterator[Completion]:
    """What `sample` of a sampler of that kind gives. Raises UsageError where that of others fails or gives no completions."""
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
def guarded(what: str) -> Iterator[None]:
    """What the user's own code raises within the block becomes one line that begins with `what`."""
    try:
        yield
    except SpaBenchError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UsageError(f"{what} failed: {type(error).__name__}: {error}{_line_of(error)}") from error


def _line_of(error: BaseException) -> str:
    """Where it was raised: who wrote the code sees no traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
