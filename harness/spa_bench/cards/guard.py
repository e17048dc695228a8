"""Checks of a user's own code: whatever it raises, and any wrong value that it returns, becomes a one-line error."""

from __future__ import annotations

import inspect
import json
import operator
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, SupportsIndex, TypeVar, get_args

from spa_bench.cards.objects import is_object
from spa_bench.cards.registry import is_ours
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.support.text import one_line
from spa_bench.types import Completion, Finish, Key, Member, Problem, Record

Built = TypeVar("Built")
Row = TypeVar("Row")
_OURS = Path(__file__).resolve().parents[1]
_KEPT = " (what is done is kept: mend it, and finish the run with `spa-bench grade`)"


class _Told(Protocol):
    """The part of a task that is checked here."""

    @property
    def problems(self) -> Iterable[object]: ...

    def describe(self) -> Mapping[str, object]: ...


class _Described(Protocol):
    """The part of a model that is checked here."""

    def describe(self) -> Mapping[str, object]: ...

    def numerics(self) -> Mapping[str, object]: ...


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
        given = as_problems(problems, where)
    if not given:
        raise UsageError(f"{where} has no problems")
    seen = set()
    for problem in given:
        if not problem.id or problem.id in seen:
            raise UsageError(f"{where}: the problem id {problem.id!r} is empty or there twice; each problem has its own")
        seen.add(problem.id)
    return given


def as_problems(problems: Iterable[object], where: str) -> tuple[Problem, ...]:
    """`problems`, in order. Raises UsageError unless each is a Problem that says in texts what it says in words."""
    checked = []
    for problem in problems:
        if not isinstance(problem, Problem):
            raise UsageError(f"{where}: a problem is {problem!r}; it must be a spa_bench.types.Problem")
        _check_texts(where, problem)
        checked.append(problem)
    return tuple(checked)


def _check_texts(where: str, problem: Problem) -> None:
    """Raises UsageError unless what a Problem says in words is text."""
    for name in ("id", "prompt", "reference", "tests", "entry_point"):
        if not isinstance(value := getattr(problem, name), str):
            raise UsageError(f"{where}: {name} of the problem {problem.id!r} is {value!r}; it must be a text")
    if not isinstance(problem.tags, tuple) or not all(isinstance(tag, str) for tag in problem.tags):
        raise UsageError(f"{where}: tags of the problem {problem.id!r} is {problem.tags!r}; it must be a tuple of texts")


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
        said = task.describe()
    _check_plain(f"{where}: describe()", said)
    if lacking := [key for key in ("name", "kind", "version", "problems_hash") if key not in said]:
        raise UsageError(f"{where}: describe() lacks {lacking[0]!r}, by which a run finds its task again")


def check_own_model(model: _Described, kind: str) -> None:
    """Raises UsageError for a model of a user's own engine whose description cannot stand in a spec."""
    for method, call in (("describe()", model.describe), ("numerics()", model.numerics)):
        where = f"engine {kind!r}: {method}"
        with guarded(where):
            said = call()
        _check_plain(where, said)
        if method == "describe()" and not isinstance(said.get("name"), str):
            raise UsageError(f"{where} gave {said!r}; it needs a text 'name', by which tables call the model")


def _check_plain(where: str, said: object) -> None:
    """Raises UsageError unless `said` is a dict that JSON can hold."""
    if not isinstance(said, Mapping):
        raise UsageError(f"{where} gave {said!r}; it must be a dict")
    try:
        json.dumps(dict(said), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{where} gave {said!r}, which is not plain data: {error}") from error


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


def drawn(
    sampler: str, engine: str, sample: Callable[[], Iterable[Completion]], missing: Collection[Key]
) -> Iterator[Completion]:
    """The completions that `sample` gives, whose keys are in `missing`, each once.

    Raises UsageError where a sampler or an engine of the user's own, by the names of their kinds, fails or gives anything else.
    """
    if is_ours("sampler", sampler) and is_ours("engine", engine):
        yield from sample()
        return
    where = f"engine {engine!r}" if is_ours("sampler", sampler) else f"sampler kind {sampler!r}"
    left = set(missing)
    with guarded(where):
        for completion in sample():
            if not isinstance(completion, Completion):
                raise UsageError(f"{where} gave {completion!r}; sample() gives spa_bench.types.Completion, one an answer")
            one = _checked(where, completion)
            if one.key not in left:
                raise UsageError(
                    f"{where} gave an answer that is not missing: {one.key}; its problem is one of the prompts, members and "
                    "the draws of each are counted from 0, and each comes once, without those in `done`"
                )
            left.remove(one.key)
            yield one


def _checked(where: str, completion: Completion) -> Completion:
    """`completion` with its whole numbers as Python has them. Raises UsageError for a value that a record cannot hold."""
    c = completion
    if not isinstance(c.key, Key) or not isinstance(c.key.problem, str):
        raise UsageError(f"{where} gave an answer with the key {c.key!r}; it must be a spa_bench.Key(problem, member, draw)")
    of = f"{where}: the answer {c.key.problem}, member {c.key.member}, draw {c.key.draw}"
    for name, value in (("text", c.text), ("failure", c.failure), ("note", c.note or ""), ("reply", c.reply or "")):
        if not isinstance(value, str):
            raise UsageError(f"{of} has {name} = {value!r}; it must be a text")
    if c.finish not in get_args(Finish):
        raise UsageError(f"{of} has finish = {c.finish!r}; it must be one of {', '.join(get_args(Finish))}")
    if c.finish == "failed" and not c.failure and c.choice is None:
        raise UsageError(f"{of} has finish = 'failed' and does not say in `failure` why there is no answer")
    key = Key(c.key.problem, _whole(of, "member", c.key.member), _whole(of, "draw", c.key.draw))
    tokens, seed = _whole(of, "tokens", c.tokens), _whole(of, "seed", c.seed)
    spent, choice = (None if v is None else _whole(of, n, v) for n, v in (("spent", c.spent), ("choice", c.choice)))
    return replace(c, key=key, tokens=tokens, seed=seed, spent=spent, choice=choice, whole=bool(c.whole))


def _whole(of: str, name: str, value: object) -> int:
    """A whole number from 0 on, one of numpy too, as Python has it."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool) and (number := operator.index(value)) >= 0:
        return number
    raise UsageError(f"{of} has {name} = {value!r}; it must be a whole number, 0 or more")


def recording(kind: str, record: Callable[[Completion], Record]) -> Callable[[Completion], Record]:
    """The method `record` of a task; raises UsageError where that of a user's own task fails or gives no Record of a text."""
    if is_ours("task", kind):
        return record
    where = f"task kind {kind!r}: record()"

    def checked(completion: Completion) -> Record:
        with guarded(where):
            made: object = record(completion)
        if not isinstance(made, Record) or not isinstance(made.graded, str):
            raise UsageError(f"{where} gave {made!r}; it gives spa_bench.types.Record, whose `graded` is a text")
        return made

    return checked


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
    """The file and line of the user's code at which `error` was raised: the author sees no traceback.

    Frames of ours are passed over: code that calls us wrongly is at fault where it calls. Empty where no frame is the user's,
    as for a function that cannot be called with what we give it.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _OURS not in Path(frame.filename).parents]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
