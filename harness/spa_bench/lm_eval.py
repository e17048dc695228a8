"""Our samplers in lm-eval: `python -m spa_bench.lm_eval run --model spa-bench --model_args sampler=NAME,... --tasks ...`.

Importing this module puts "spa-bench" among lm-eval's models, for its Python interface too: see docs/reference/nlu.md.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import lm_eval.models  # noqa: F401  # lm-eval registers its own models only where nothing is registered yet
from lm_eval.api.registry import model_registry

from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.hf.device import has_cuda
from spa_bench.runs.reopen import ModelOptions, load_model
from spa_bench.samplers.base import merging_of, sampler_kind
from spa_bench.spa.merge import member_adapters
from spa_bench.spa.synthesize.stage import made_sources
from spa_bench.spa.training_data import load_data
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.support.text import did_you_mean, one_line
from spa_bench.tasks.lm_eval.model import MIXTURE, SamplerLM

NAME = "spa-bench"
_PACKAGE = Path(__file__).resolve().parent


class SpaBenchLM(SamplerLM):
    """A sampler's card over a model; adapters come from the stage cache, or are trained, as `spa-bench run` does it.

    `sampler`: a name or file; `model`: as --model; `member`: a place, or "mixture"; `cache`: the folder of the stage cache.
    lm-eval's own --batch_size and --device are `batch_size` and `device`. An argument with a dot, such as
    decoding.temperature=0, is a key of the card, as in `spa-bench run --set`.
    """

    def __init__(
        self,
        sampler: str = "base",
        model: str = EMBEDDED,
        member: int | str = MIXTURE,
        seed: int = 0,
        *,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        threads: int | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        cache: str | None = None,
        **others: Any,
    ):
        settings = {key: value for key, value in others.items() if "." in key}
        unknown = [key for key in others if key not in settings]
        if unknown:
            raise UsageError(f"unknown argument {unknown[0]!r} of {NAME}{did_you_mean(unknown[0], _ARGUMENTS)}")
        if type(seed) is not int or seed < 0:
            raise UsageError(f"seed is {seed!r}; it must be a whole number, at least 0")
        card = load_sampler_card(sampler, settings)
        kind = sampler_kind(card.kind)
        if not kind.goes_on:
            raise UsageError(f"sampler {sampler!r} is of kind {card.kind!r}, which is no mixture of members; lm-eval needs one")
        if card.served:
            raise UsageError(f"sampler {sampler!r} draws from models of a server; lm-eval has models of its own for servers")
        wanted = "auto" if batch_size is None else str(batch_size)
        options = ModelOptions(
            device=_device(device), dtype=dtype, batch_size=wanted, threads=threads, revision=revision,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
        network = load_model(model, options)
        folder, console = Path(cache) if cache else stage_cache(), Reporter()
        made_pairs = made_sources(card, network, seed, problems=None, cache=folder, console=console)
        data = load_data(card, network, seed, sources=made_pairs)
        how = merging_of(card)
        made = data.examples or how
        adapters = member_adapters(card, how, data, network, seed, cache=folder, console=console) if made else []
        members = kind.build(card, adapters).members
        super().__init__(network, members, member=member, seed=seed, name=f"{network.name}/{card.name}")


_ARGUMENTS = ("sampler", "model", "member", "seed", "dtype", "threads", "revision", "trust_remote_code", "cache")


def _device(wanted: str | None) -> str:
    """The device asked for; without CUDA the CPU for cuda:0, which lm-eval's command asks for by itself, as for its own."""
    return "auto" if wanted is None or (wanted.startswith("cuda") and not has_cuda()) else wanted


if NAME not in model_registry:
    model_registry.register(NAME)(SpaBenchLM)


def main(arguments: list[str] | None = None) -> Any:
    """lm-eval's own command, with our samplers among its models; an error is one line on stderr and code 2.

    That is so for ours, and for what lm-eval says of its arguments and its data; a fault in our own code keeps its traceback.
    """
    from lm_eval.__main__ import cli_evaluate

    if arguments is not None:
        sys.argv = ["lm_eval", *arguments]
    try:
        return cli_evaluate()
    except SpaBenchError as error:
        said = str(error)
    except (ValueError, TypeError, LookupError, ImportError, OSError) as error:
        if _through_us(error):
            raise
        said = _told(error)
    print(f"spa-bench: {said}", file=sys.stderr)
    sys.exit(2)


def _through_us(error: BaseException) -> bool:
    """Whether our own code was at work, behind `main`, when it was raised."""
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(Path(name).is_relative_to(_PACKAGE) for name in frames[1:])


def _told(error: Exception) -> str:
    """What lm-eval, or the library that reads its data, says, in a line, and what can be done about it."""
    said = one_line(error, 300)
    if "asks not found" in said or "No tasks" in said:
        return f"lm-eval: {said.rstrip('.')}; `lm-eval ls tasks` lists them, and --include_path FOLDER adds your own"
    if isinstance(error, OSError):
        return (
            f"the data of a task cannot be read ({type(error).__name__}: {said}); go online, or define the task over files of "
            f"your own and name their folder with --include_path"
        )
    return f"lm-eval: {type(error).__name__}: {said}"


if __name__ == "__main__":
    main()
