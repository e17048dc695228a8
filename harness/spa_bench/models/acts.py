"""What a worker does: acts, functions of a worker's Station with plain values, and what the driver must know of its model."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from spa_bench.models.base import Batches, Beams, HubModel, OptionScores
from spa_bench.models.beams import BeamSearch
from spa_bench.models.engine import Stage
from spa_bench.models.spread import Group, Station
from spa_bench.support import provenance
from spa_bench.support.files import file_safe, has_ended
from spa_bench.types import Asked, Completion, DivergenceSums, Member, Messages, Request

if TYPE_CHECKING:
    from spa_bench.models.hf.codec import Codec
    from spa_bench.models.hf.model import HFModel


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the driver must know of a worker's model."""

    name: str
    context: int
    notes: tuple[str, ...]
    about: dict[str, object]  # Model.describe
    commit: str | None  # HubModel.commit
    numerics: dict[str, object]  # Model.numerics
    training: dict[str, object]  # StageModel.training_numerics
    engines: dict[str, str]  # Model.engines
    unable: dict[Stage, str]  # Model.unable
    software: dict[str, object]  # versions, and the hash of the package's code
    codec: Codec
    rows: int | None  # asked for; see Batches

    def differs(self, other: Facts) -> str:
        """What differs between two workers, with both values; "" where they give the same numbers."""
        for what in ("about", "numerics", "software"):
            mine, theirs = (dict(vars(facts)[what]) for facts in (self, other))
            for key in sorted({*mine, *theirs}):
                if mine.get(key) != theirs.get(key):
                    return f"{key} {mine.get(key)!r} and {theirs.get(key)!r}"
        return ""


def software() -> dict[str, object]:
    """What of this process can change a number beside the model: versions of packages, and the hash of our own code."""
    return {**provenance.versions(), "code": provenance.source_hash("models", "spa", "executors")}


def other_software(mine: Mapping[str, object], theirs: Mapping[str, object]) -> str:
    """What differs between the software of two processes, with both values; a package that one of them lacks is not used."""
    other = [f"{key} {mine[key]!r} and {theirs[key]!r}" for key in sorted({*mine} & {*theirs}) if mine[key] != theirs[key]]
    return other[0] if other else ""


def station(load: Callable[[], HFModel]) -> Station:
    """What a worker holds after `load`: the recipe of all workers."""
    return Station(model=load(), adapters={}, kept={})


def _folder_for_adapters() -> Path:
    """A new folder for adapters that are sent to this worker.

    Those of workers of this machine that have ended are removed: a worker that is killed removes nothing itself.
    """
    begin = f"spa-bench-adapters-{file_safe(platform.node())}-"
    for left in Path(tempfile.gettempdir()).glob(f"{glob.escape(begin)}*"):
        if has_ended(left.name.removeprefix(begin).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)  # it may be another user's
    return Path(tempfile.mkdtemp(prefix=f"{begin}{os.getpid()}-"))


def facts_of(at: Station) -> Facts:
    """What the driver must know of a worker's model."""
    model = at.model
    return Facts(
        name=model.name,
        context=model.context,
        notes=model.notes,
        about=model.describe(),
        commit=model.commit if isinstance(model, HubModel) else None,
        numerics=model.numerics(),
        training=model.training_numerics(),
        engines=model.engines,
        unable=dict(model.unable),
        software=software(),
        codec=model.codec,
        rows=model.batches().rows,
    )


def is_batch_free(at: Station, *, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
    """See Model.batch_free."""
    return at.model.batch_free(prompts)


def keep_adapter(at: Station, *, folder: Path, name: str, files: dict[str, bytes]) -> None:
    """Write the adapter that the driver has in `folder` into a folder of this worker."""
    at.folder = at.folder or _folder_for_adapters()
    here = at.folder / name
    here.mkdir(exist_ok=True)
    for file, content in files.items():
        (here / file).write_bytes(content)
    at.adapters[folder] = here


def keep(at: Station, *, name: str, value: object) -> None:
    """Keep `value` for later acts; None forgets it."""
    at.kept.pop(name, None)
    if value is not None:
        at.kept[name] = value


def answers(at: Station, *, requests: Sequence[Request], members: Sequence[Member]) -> tuple[list[Completion], Batches]:
    """(see Model.generate, what happened to batches meanwhile)."""
    before = at.model.batches()
    completions = list(at.model.generate(requests, at.here(members)))
    after = at.model.batches()
    return completions, Batches(after.rows, after.refused - before.refused, after.together)


def beams(at: Station, *, requests: Sequence[Request], member: Member, search: BeamSearch) -> list[Beams]:
    """See BeamModel.diverse_beams."""
    return list(at.model.diverse_beams(requests, at.here([member])[0], search))


def sums_of(at: Station, *, group: Group, members: Sequence[Member], base: bool, top: int) -> list[DivergenceSums | None]:
    """See Model.divergence."""
    return list(at.model.divergence(group.contexts, at.here(members), base=base, top=top, again=group.again))


def options_of(at: Station, *, name: str, members: Sequence[Member], wanted: Collection[str]) -> list[OptionScores]:
    """See Model.option_scores: of the problems `wanted` among those that are kept under `name`."""
    asked = cast(list[Asked], at.kept[name])
    others = {one.problem_id for one in asked} - set(wanted)
    return list(at.model.option_scores(asked, at.here(members), others))


def likelihoods(at: Station, *, requests: Sequence[Request], members: Sequence[Member]) -> list[tuple[Request, float, bool]]:
    """See Model.loglikelihood."""
    return list(at.model.loglikelihood(requests, at.here(members)))


def rolling_of(at: Station, *, request: Request, member: Member) -> float:
    """See HFModel.rolling."""
    return at.model.rolling(request, at.here([member])[0])


def lora_note_of(at: Station, *, targets: str | Sequence[str]) -> str:
    """See LoraTrainable.lora_note."""
    return at.model.lora_note(targets)


def peft_differs_of(at: Station, *, member: Member) -> str:
    """See StageModel.peft_differs."""
    folder = at.here([member])[0].adapter
    assert folder is not None
    return at.model.peft_differs(folder)
