"""The engine of a run: chosen by name, with its own options, for some stages; transformers (hf) does the others.

A card of one line in `cards.registry.TABLES` adds an engine: a kind that builds a model of a request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeVar

from spa_bench.cards.guard import built, check_own_model
from spa_bench.cards.kinds import Kind, NoOptions, as_declared, beside
from spa_bench.cards.objects import is_object
from spa_bench.cards.reading import read_options
from spa_bench.cards.registry import is_ours, kind_of
from spa_bench.errors import CardError, UsageError
from spa_bench.models.base import Model, Spending
from spa_bench.models.engine import STAGES, Stage
from spa_bench.support.text import did_you_mean
from spa_bench.types import Json

if TYPE_CHECKING:
    from spa_bench.models.hf.model import HFModel
    from spa_bench.models.hf.unloaded import UnloadedModel

Options = TypeVar("Options")
HF = "hf"
_NEEDS = ("name", "context", "notes", "engines", "unable", "describe", "numerics", "generate")  # of a model


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """What an engine is built of."""

    model: str  # the name of the model, as --model gives it
    hf: Callable[[], HFModel]  # loads that model by transformers, once
    unloaded: Callable[[], UnloadedModel]  # loads its tokenizer and config alone
    options: object  # of the class that the engine's kind declares
    stages: tuple[Stage, ...]  # that the engine is to do
    spent: Spending  # what earlier parts of the runs took, which counts against a budget

    def options_as(self, declared: type[Options]) -> Options:
        """The options as `declared`, the class that the engine's kind declares. Raises TypeError for another class."""
        return as_declared(self.options, declared)


@dataclass(frozen=True, kw_only=True)
class EngineKind(Kind[Callable[[EngineRequest], Model]]):
    """A kind of engine: `build` gives the model of a request, whose stages are done as the request says."""

    table = "engine"
    # a frozen dataclass for engine.KEY; a ValueError in its __post_init__ becomes a UsageError
    options: type[object] = field(default=NoOptions, metadata=beside("OPTIONS"))
    # the stages that it does where the user names none
    stages: tuple[Stage, ...] = field(default=("draw", "score"), metadata=beside("STAGES"))
    # what --model is for it: "default" where it may be left out, "given" where it may not, "unused" where it has no effect
    model: Literal["default", "given", "unused"] = "default"
    # for an engine that is paid by the call: (name of the model, options) -> the part of the model's description that is known
    # without a call; a run that is done is found by it, and the engine is not asked again
    known: Callable[[str, object], Mapping[str, object]] | None = None
    # whether it loads a model into this machine, as options such as --device say
    loads: bool = field(default=True, metadata=beside("LOADS"))
    # a line on what it is, for `list engines`
    description: str = field(default="", metadata=beside("DESCRIPTION"))


def engine_kind(name: str) -> EngineKind:
    """The kind of that name. Raises UsageError for an unknown one."""
    return kind_of(EngineKind, "engine", name)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An engine, its stages and its options, as a command or a spec names them."""

    name: str = HF
    stages: tuple[Stage, ...] = ()
    options: object = field(default_factory=NoOptions)

    def check_model(self, given: str | None) -> str:
        """A line on a --model that the engine does not use, else "". Raises UsageError where it needs one and none is given."""
        wanted = "default" if self.name == HF else engine_kind(self.name).model
        if wanted == "given" and not given:
            raise UsageError(f"--engine {self.name} needs --model: the name that the model has there")
        return f"engine {self.name} takes no model: --model {given} has no effect" if wanted == "unused" and given else ""

    def needs_model(self) -> str:
        """Why this engine cannot do without the name of a model; "" where it can."""
        unused = self.name != HF and engine_kind(self.name).model == "unused"
        return "" if unused else f"engine {self.name} needs the name of a model"

    def known(self, model: str) -> Mapping[str, object] | None:
        """What is known of the model without a call that costs; None for an engine that is not paid by the call."""
        kind = None if self.name == HF else engine_kind(self.name)
        return kind.known(model, self.options) if kind and kind.known else None

    @property
    def lent(self) -> bool:
        """Whether the model is an object of the user's own program, which goes on using it: it is not closed here."""
        return is_object(self.name)

    @property
    def loads(self) -> bool:
        """Whether it loads a model into this machine."""
        return self.name == HF or engine_kind(self.name).loads

    def spec(self) -> Json:
        """The engine in a spec: empty for hf with its usual options.

        Options that are as usual are left out, so that a new one keeps old hashes. So are options whose field says
        {"in_spec": False}: they change no number, and a run resumes with other values.
        """
        made, usual = vars(self.options), vars(type(self.options)())
        options = {name: made[name] for name in _in_spec(type(self.options)) if made[name] != usual[name]}
        if self.name == HF and not options:
            return {}
        return {"name": self.name, "stages": list(self.stages), "options": options}


def chosen_engine(text: str | None, settings: Mapping[str, object]) -> Chosen:
    """The engine of `text`: NAME, or STAGE=NAME,STAGE=NAME with one name beside hf. `settings` are engine.KEY without prefix.

    Raises UsageError for an unknown name, stage, key or value.
    """
    name, stages = _parsed(text)
    if name == HF and not settings:
        return Chosen()
    kind = engine_kind(name)
    if "max_cost" in settings and "max_cost" not in _keys(kind.options):
        raise UsageError(f"--max-cost is for an engine that is paid by the call, and engine {name} is not: leave it out")
    try:
        options = read_options(kind.options, dict(settings), name, f"engine {name}", f"engine {name}")
    except CardError as error:
        raise UsageError(str(error).replace("options.", "engine.")) from error
    return Chosen(name=name, stages=() if name == HF else stages or kind.stages, options=options)


def _keys(declared: type[object]) -> set[str]:
    return {f.name for f in dataclasses.fields(declared)} if dataclasses.is_dataclass(declared) else set()


def engine_of_spec(spec: Json, beside: Mapping[str, object] | None = None) -> Chosen:
    """The engine of a run. `beside` are options that its spec has no place for, such as where a server is.

    Raises UsageError for one that the spec has, and as chosen_engine.
    """
    found, beside = spec.get("engine") or {}, beside or {}
    name = str(found.get("name", HF))
    if fixed := next((key for key in beside if key in _in_spec(engine_kind(name).options)), ""):
        raise UsageError(
            f"engine.{fixed} is in the run's spec, which stays as it is; leave it out, or make another run with `spa-bench run`"
        )
    if not found and not beside:
        return Chosen()
    chosen = chosen_engine(name, {**found.get("options", {}), **beside})
    return dataclasses.replace(chosen, stages=tuple(found.get("stages", ())))


def _in_spec(declared: type[object]) -> list[str]:
    """The names of an engine's options that stand in specs."""
    if not dataclasses.is_dataclass(declared):
        return []
    return [f.name for f in dataclasses.fields(declared) if f.metadata.get("in_spec", True)]


def model_with(
    chosen: Chosen,
    name: str,
    *,
    hf: Callable[[], HFModel],
    unloaded: Callable[[], UnloadedModel],
    spent: Spending | None = None,
) -> Model:
    """The model `name`, whose stages `chosen` does where it can. Raises UsageError or ModelError."""
    if chosen.name == HF:
        return hf()
    request = EngineRequest(
        model=name,
        hf=cache(hf),
        unloaded=unloaded,
        options=chosen.options,
        stages=chosen.stages,
        spent=spent or Spending(),
    )
    build = engine_kind(chosen.name).build
    model = built("engine", chosen.name, lambda: build(request), _NEEDS, "docs/how-to/engines.md")
    if not is_ours("engine", chosen.name):
        check_own_model(model, chosen.name)
    return model


def _parsed(text: str | None) -> tuple[str, tuple[Stage, ...]]:
    if text is None or "=" not in text:
        name = (text or HF).strip()
        if "," in name:
            raise UsageError(f"--engine {name} names several engines: say which does which stage, as draw=vllm,score=hf")
        return name, ()
    stages: list[Stage] = []
    names: list[str] = []
    given: list[str] = []
    for part in text.split(","):
        stage, _, name = (word.strip() for word in part.partition("="))
        known = [s for s in STAGES if s == stage]
        if not known or not name:
            raise UsageError(f"--engine takes NAME or STAGE=NAME; got {part!r}{did_you_mean(stage, STAGES)}")
        if stage in given:
            raise UsageError(f"--engine names the stage {stage} twice; give each stage one engine")
        given.append(stage)
        if name != HF:
            stages += known
            names.append(name)
    if len(set(names)) > 1:
        raise UsageError(f"--engine names {' and '.join(dict.fromkeys(names))}; one engine beside hf can do stages of a run")
    return (names[0] if names else HF), tuple(s for s in STAGES if s in stages)
