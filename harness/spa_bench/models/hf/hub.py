"""A look at the hub before a model is asked of it: a wrong name or no network is one line after a few seconds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spa_bench.errors import ModelError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MOST_SECONDS = 5.0  # for the answer of the hub; its own clients try again for most of a minute


def offline_by() -> str:
    """The variable by which the user told the hub's clients to stay offline; "" where none does."""
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)), "")
    return name if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} else ""


def ask(question: Callable[[HfApi, float], object], seconds: float) -> Exception | None:
    """What the hub answers to `question`, a call that takes the seconds it may wait: None, or the error that it ends in.

    Raises nothing, and takes `seconds` at most: a name server that is silent holds a call longer than its timeout.
    """
    from huggingface_hub import HfApi

    ended: list[Exception | None] = []

    def act() -> None:
        try:
            question(HfApi(), seconds)
        except Exception as error:  # a dozen kinds, of the hub and of the network
            ended.append(error)
        else:
            ended.append(None)

    asking = threading.Thread(target=act, daemon=True)
    asking.start()
    asking.join(seconds)
    return ended[0] if ended else TimeoutError(f"no answer in {seconds:g} seconds")


def only_here(name: str, revision: str | None) -> bool:
    """Whether the model `name` can be had from the cache alone: the hub does not answer, or must not be asked.

    False for a folder. Raises ModelError where the hub has no such model or revision.
    """
    if Path(name).is_dir():
        return False
    if offline_by():
        return True
    from huggingface_hub import errors

    match ask(lambda hub, seconds: hub.model_info(name, revision=revision, timeout=seconds), _MOST_SECONDS):
        case errors.GatedRepoError() | errors.RevisionNotFoundError() as error:
            why = "access to it must be asked for" if isinstance(error, errors.GatedRepoError) else f"no revision {revision!r}"
            raise ModelError(f"cannot load model {name!r} of the hub: {why}")
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            raise ModelError(f"cannot load model {name!r}: there is no such folder here and no such model on the hub")
        case None | errors.HfHubHTTPError():  # the hub answers; what else is wrong, its client says
            return False
        case _:
            return True


def not_here(name: str) -> ModelError:
    """The error for a model that is not in the cache and cannot be asked of the hub."""
    why = f"{variable} is set" if (variable := offline_by()) else "the hub does not answer"
    return ModelError(
        f"cannot load model {name!r}: there is no such folder here, the model is not whole in the hub's cache, and {why}; "
        f"give a folder with a config, a whole tokenizer and safetensors weights"
    )
