"""What a Python program gives in the place of names: samplers, tasks, metrics and models as objects, each checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spa_bench.cards.fingerprint import fingerprint
from spa_bench.cards.guard import check_call
from spa_bench.cards.objects import PREFIX, GivenObject, is_object
from spa_bench.cards.reading import check_name
from spa_bench.cards.sampler import SamplerCard, said_decoding
from spa_bench.cards.task import TaskCard
from spa_bench.errors import CardError, UsageError
from spa_bench.metrics.metric import Metric, Samples
from spa_bench.models.base import Model
from spa_bench.models.engine import STAGES, LoraAdapter
from spa_bench.models.own import FunctionModel
from spa_bench.runs.engines import EngineKind
from spa_bench.samplers.base import Sampler, SamplerKind
from spa_bench.support.text import as_seen
from spa_bench.tasks.base import Task, TaskKind
from spa_bench.tasks.code import CodeTask
from spa_bench.tasks.text import TextTask
from spa_bench.types import Member

if TYPE_CHECKING:
    from spa_bench.models.hf.model import HFModel

_PAGE = "docs/how-to/python.md"
_BEGINNINGS = {
    "task": "a subclass of spa_bench.TextTask needs is_right alone; ",
    "model": "a subclass of spa_bench.ModelDefaults needs name and generate alone; ",
}
_LAMBDA = (lambda: None).__name__
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class MembersOptions:
    """The [options] of a sampler object in a spec: its members, and the hashes of their adapters."""

    members: tuple[dict[str, object], ...] = ()


def sampler_of(given: str | Path | Sampler) -> str | GivenObject:
    """The name or path of a card, or the sampler object under a name. Raises UsageError that names what is missing."""
    if isinstance(given, str | Path):
        return _named("sampler", given)
    sampler: Any = given
    _check("sampler", sampler, Sampler, ("name", "members", "sample"))
    _check_sample(sampler)
    members = sampler.members
    if not isinstance(members, list | tuple) or not members or not all(isinstance(m, Member) for m in members):
        raise UsageError(
            f"sampler {sampler.name!r}: members is {members!r}; it must be a list of spa_bench.Member, one at least"
        )
    name = _object_name(sampler)
    card = SamplerCard(
        name=_checked_name("sampler", sampler.name),
        description=_first_line(sampler),
        kind=name,
        members=len(members),
        draws=max(4, len(members)),
        options=MembersOptions(members=tuple(map(_member, members))),
    )
    kind = SamplerKind(build=lambda _card, _adapters: sampler)
    return GivenObject(table="sampler", name=name, target=kind, source=fingerprint(sampler), card=card)


def task_of(given: str | Path | Task) -> str | GivenObject:
    """The name or path of a card, or the task object under a name. Raises UsageError that names what is missing."""
    if isinstance(given, str | Path):
        return _named("task", given)
    task: Any = given
    needs = [name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")]
    _check("task", task, Task, needs)
    name = _object_name(task)
    _checked_name("task", task.name)
    card = _card_of(task) or TaskCard(name=task.name, description=_first_line(task), version=task.version)
    kind = TaskKind(build=lambda _card: task)
    # the task itself says what its problems are
    return GivenObject(
        table="task", name=name, target=kind, source=fingerprint(task), card=replace(card, kind=name, shuffle=None)
    )


def metric_of(given: str | Metric | Callable[[Samples], float | None]) -> str | GivenObject:
    """The name of a metric, or the metric object under a name: a Metric, or a function of one problem's Samples.

    Raises UsageError for anything else, and for a metric that cannot be called with samples.
    """
    if isinstance(given, str):
        return _named("metric", given)
    if isinstance(given, Metric):
        metric = given
    elif inspect.isfunction(given) and given.__name__ != _LAMBDA:
        metric = Metric(name=given.__name__, description=_first_line(given), compute=given)
    else:
        raise UsageError(
            f"metric is {as_seen(given)}; give a name, a spa_bench.Metric, or a function with a name of its own that takes "
            "Samples"
        )
    check_call(f"metric {metric.name!r}: its compute", metric.compute, ("samples",), _PAGE)
    return GivenObject(table="metric", name=PREFIX + metric.name, target=metric, source=fingerprint(metric))


def model_of(given: Model | Callable[..., str]) -> GivenObject:
    """The model object under a name: a Model, or a function from a Request to a text."""
    if inspect.isfunction(given) or inspect.ismethod(given):
        called = given.__name__ if given.__name__ != _LAMBDA else "function"
        check_call(f"model {called!r}", given, ("request",), _PAGE)
        model: Any = FunctionModel(given, called)
        name, source = PREFIX + called, fingerprint(given)
    elif isinstance(given, FunctionModel):
        check_call(f"model {given.name!r}", given.answer, ("request",), _PAGE)
        model, name = given, _object_name(given)
        source = fingerprint(given.answer, state=False)  # its name says what it reads
    else:
        model = given
        needs = [name for name in (*Model.__annotations__, *vars(Model)) if not name.startswith("_")]
        _check("model", model, Model, needs)
        name, source = _object_name(model), fingerprint(model, state=False)  # describe() says which model it is
    kind = EngineKind(build=lambda _request: model, stages=STAGES, model="unused", loads=False)
    return GivenObject(table="engine", name=name, target=kind, source=source)


def as_loaded(given: object) -> HFModel | None:
    """`given`, where it is a model that spa_bench.load_model loaded: a run with it is the run with its name."""
    if type(given).__module__ != f"{_OURS}.models.hf.model":
        return None
    from spa_bench.models.hf.model import HFModel

    return given if isinstance(given, HFModel) else None


def name_of(part: str | GivenObject) -> str:
    """The name by which a run knows a part."""
    return part if isinstance(part, str) else part.name


def objects_of(parts: Iterable[str | GivenObject]) -> list[GivenObject]:
    """Those of `parts` that are objects."""
    return [part for part in parts if isinstance(part, GivenObject)]


def _card_of(task: Task) -> TaskCard | None:
    """The card that a task of one of our classes was made with."""
    card = vars(task).get("card") if isinstance(task, TextTask) else vars(task).get("_card")
    return card if isinstance(task, TextTask | CodeTask) and isinstance(card, TaskCard) else None


def _named(what: str, given: str | Path) -> str:
    name = str(given)
    if is_object(name):
        raise UsageError(f"{what} is {name!r}, the name of an object in a spec; give the object itself")
    return name


def _check(what: str, thing: object, protocol: type, needs: Sequence[str]) -> None:
    """Raises UsageError where `thing` is no `protocol`: the first of `needs` that it lacks, with how it is called."""
    if isinstance(thing, type):
        raise UsageError(f"{what} is the class {thing.__name__}; give an object of it: {thing.__name__}(...)")
    lacking = [name for name in needs if not hasattr(thing, name) or _only_declared(thing, name, protocol)]
    if not lacking:
        return
    declared = vars(protocol).get(lacking[0])
    how = f"{lacking[0]}{_called(declared)}" if inspect.isfunction(declared) else lacking[0]
    if len(lacking) == len(needs):
        card = "" if what == "model" else " or the path of a card"
        raise UsageError(
            f"{what} is {as_seen(thing)} ({type(thing).__name__}); give a name{card}, or an object with {', '.join(needs)} "
            f"({_PAGE})"
        )
    others = f" and {', '.join(lacking[1:])}" if len(lacking) > 1 else ""
    more = _BEGINNINGS.get(what, "")
    raise UsageError(f"{type(thing).__name__} is no {what}: it lacks {how}{others}; {more}{_PAGE} has what it needs")


def _only_declared(thing: object, name: str, protocol: type) -> bool:
    """Whether a member is the protocol's own declaration, which does nothing: a subclass has to define it."""
    found = inspect.getattr_static(type(thing), name, None)
    return found is not None and found is vars(protocol).get(name)


def _called(function: Callable[..., object]) -> str:
    """The names of a method's arguments: (model, prompts, n, seed, *, task, done=())."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return str(inspect.Signature(parameters))


def _check_sample(sampler: Sampler) -> None:
    """Raises UsageError unless `sample` can be called as a run calls it."""
    signature = inspect.signature(sampler.sample)
    try:
        signature.bind("model", "prompts", 1, 0, task="task", done=())
    except TypeError as error:
        wanted = _called(Sampler.sample)
        raise UsageError(
            f"{type(sampler).__name__}.sample{signature} is called as sample{wanted}: {error}; see {_PAGE}"
        ) from error


def _object_name(thing: object) -> str:
    return PREFIX + type(thing).__name__


def _checked_name(what: str, name: object) -> str:
    if not isinstance(name, str):
        raise UsageError(f"the name of the {what} is {name!r}; it must be a text")
    try:
        check_name(f"{what} object", name)
    except CardError as error:
        raise UsageError(str(error)) from error
    return name


def _first_line(thing: object) -> str:
    """The first line of the docstring, which describes the object in the plan of a run."""
    said = inspect.getdoc(thing) or ""
    return said.splitlines()[0] if said else "an object in Python"


def _member(member: Member) -> dict[str, object]:
    """A member in a spec; its adapter by its hash. Raises ModelError where the adapter's folder is not there."""
    adapter = None if member.adapter is None else LoraAdapter.at(member.adapter).hash
    return {"name": member.name, "adapter": adapter, "decoding": said_decoding(member.decoding), "served": member.served}
