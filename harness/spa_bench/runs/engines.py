"""The engine of a run: chosen by name, with its own options, for some stages; transformers (hf) does the others.

A card of one line in `cards.registry.TABLES` adds an engine: a kind that builds a model of a request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from spa_bench.cards.kinds import Kind, NoOptions, as_declared, beside
from spa_bench.cards.reading import read_options
from spa_bench.cards.registry import kind_of
from spa_bench.errors import CardError, UsageError
from spa_bench.models.base import Model
from spa_bench.models.engine import STAGES, Stage
from spa_bench.support.text import did_you_mean
from spa_bench.types import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from spa_bench.models.hf.model import HFModel
    from spa_bench.models.hf.unloaded import UnloadedModel

Options = TypeVar("Options")
HF = "hf"


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """What an engine is built of."""

    model: str  # the name of the model, as --model gives it
    hf: Callable[[], HFModel]  # loads that model by transformers, once
    unloaded: Callable[[], UnloadedModel]  # loads its tokenizer and config alone
    options: object  # of the class that the engine's kind declares
    stages: tuple[Stage, ...]  # that the engine is to do

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

    def spec(self) -> Json:
        """The engine in a spec: empty for hf with its usual options.

        Options that are as usual are left out, so that a new one keeps old hashes. So are options whose field says
        {"in_spec": False}: they change no number, and a run goes on with other values.
        """
        made, usual = vars(self.options), vars(type(self.options)())
        seen = [f.name for f in dataclasses.fields(cast("DataclassInstance", self.options)) if f.metadata.get("in_spec", True)]
        options = {name: made[name] for name in seen if made[name] != usual[name]}
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
    try:
        options = read_options(kind.options, dict(settings), name, f"engine {name}", f"engine {name}")
    except CardError as error:
        raise UsageError(str(error).replace("options.", "engine.")) from error
    return Chosen(name=name, stages=() if name == HF else stages or kind.stages, options=options)


def engine_of_spec(spec: Json) -> Chosen:
    """The engine of a run."""
    found = spec.get("engine") or {}
    if not found:
        return Chosen()
    chosen = chosen_engine(str(found["name"]), found.get("options", {}))
    return dataclasses.replace(chosen, stages=tuple(found["stages"]))


def model_with(chosen: Chosen, name: str, *, hf: Callable[[], HFModel], unloaded: Callable[[], UnloadedModel]) -> Model:
    """The model `name`, whose stages `chosen` does where it can. Raises UsageError or ModelError."""
    if chosen.name == HF:
        return hf()
    request = EngineRequest(model=name, hf=cache(hf), unloaded=unloaded, options=chosen.options, stages=chosen.stages)
    return engine_kind(chosen.name).build(request)


def _parsed(text: str | None) -> tuple[str, tuple[Stage, ...]]:
    if text is None or "=" not in text:
        return (text or HF).strip(), ()
    stages: list[Stage] = []
    names: list[str] = []
    for part in text.split(","):
        stage, _, name = (word.strip() for word in part.partition("="))
        known = [s for s in STAGES if s == stage]
        if not known or not name:
            raise UsageError(
                f"--engine takes NAME, or STAGE=NAME with {', '.join(STAGES)}; got {part!r}{did_you_mean(stage, STAGES)}"
            )
        if name != HF:
            stages += known
            names.append(name)
    if len(set(names)) > 1:
        raise UsageError(f"--engine names {' and '.join(dict.fromkeys(names))}; one engine beside hf can do stages of a run")
    return (names[0] if names else HF), tuple(s for s in STAGES if s in stages)
