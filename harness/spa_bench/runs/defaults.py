"""What a run takes where the command does not say it: the model, and the pairs on which a sampler is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.task import TaskCard
from spa_bench.cards.training import DataCard
from spa_bench.errors import ModelError
from spa_bench.mini.embedded import EMBEDDED, REAL
from spa_bench.models.base import Model, Spending
from spa_bench.models.hf.hub import ask, offline_by
from spa_bench.models.shipped import SHIPPED
from spa_bench.runs.engines import Chosen
from spa_bench.runs.reopen import ModelOptions, loaded_with

HUB_PAIRS = "hub:ise-uiuc/Magicoder-OSS-Instruct-75K"
"""The pairs of the paper's cards for code."""
HUB_SHARE = 0.005  # of these pairs, drawn with the seed: some 370, which a laptop attributes and trains within the hour
_MOST_SECONDS = 4.0  # for the answer of the hub


@dataclass(frozen=True)
class Pairs:
    """The training pairs of a command that names none: settings of the sampler's card, and words for the plan."""

    settings: Mapping[str, object]
    said: str = ""


def is_mini(task: TaskCard) -> bool:
    """Whether the task is one of those that come with the embedded model."""
    return task.name.startswith("mini-") or task.problems == "mini-code"


def model_for(task: TaskCard, given: str | None) -> str:
    """The name of the model: the given one, else the embedded model for its own tasks and smollm2 for all others."""
    return given or (EMBEDDED if is_mini(task) else REAL)


def load_model_for(
    task: TaskCard,
    given: str | None,
    options: ModelOptions,
    engine: Chosen | None = None,
    spent: Spending | None = None,
) -> Model:
    """The model of `model_for`, loaded, with the stages of `engine` done by that; `spent` as in loaded_with.

    Raises ModelError that names the ways out where the default cannot be had.
    """
    name = model_for(task, given)
    try:
        return loaded_with(engine or Chosen(), name, options, spent)
    except ModelError as error:
        if given or is_mini(task) or SHIPPED[REAL].is_here:  # the error is about something else then
            raise
        raise ModelError(
            f"{task.name} takes {REAL} where --model is not given, and it cannot be had: {error}. Give --model PATH, run "
            f"`spa-bench model get {REAL}` where there is a network, or take --model {EMBEDDED} or the task mini-code"
        ) from error


def pairs_for(card: SamplerCard, task: TaskCard, model: str, settings: Mapping[str, object]) -> Pairs:
    """The pairs for `card`; `settings` are those of the command and what the card's own [data] says (said_of_data).

    For a task of code that is not the embedded model's, and a card without data of its own: a share of the paper's pairs where
    the hub answers, else the embedded pairs. Anything else stays as it is.
    """
    own = card.data.examples != DataCard().examples or "data.examples" in settings
    if not card.trains or own or card.synthesizes or task.kind != "code" or is_mini(task):
        return Pairs({})
    if model == EMBEDDED:  # few of the hub's pairs fit its context
        return Pairs({})
    if why := _unreachable(HUB_PAIRS.removeprefix("hub:")):
        return Pairs({}, f"no --data was given, and {why}")
    ours: dict[str, object] = {"data.examples": HUB_PAIRS, "data.share": HUB_SHARE, "data.queries": "code"}
    share = card.data.share if "data.share" in settings else HUB_SHARE
    how = f"a share of {share:g} of them, drawn with the seed" if share < 1 else "all of them"
    return Pairs({key: value for key, value in ours.items() if key not in settings}, f"no --data was given: {how}")


def _unreachable(name: str) -> str:
    """Why the data set `name` of the hub cannot be had here; "" where the hub answers. It takes a few seconds at most."""
    if find_spec("datasets") is None:
        return "the hub's need pip install 'spa-bench[data]'"
    if variable := offline_by():
        return f"{variable} is set"
    failed = ask(lambda hub, seconds: hub.dataset_info(name, timeout=seconds), _MOST_SECONDS)
    return "" if failed is None else "the hub does not answer"
