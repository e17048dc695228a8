"""Training where several workers hold the model: each trains whole groups of members, and the driver writes the adapters.

A group is what one process trains in one stacked pass (lora.together), since another company can move the last digits. So the
adapters have the same bytes as those of one process with the same numerics.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from spa_bench.cards.training import LoraCard
from spa_bench.models.hf.stacked_lora import Adapter, write_adapter
from spa_bench.models.spread import SpreadModel, Station
from spa_bench.spa.adapt import adapters_at, train_adapters
from spa_bench.spa.attribution.base import Progress
from spa_bench.types import Example

Files = dict[str, bytes]
"""The files of an adapter's folder, by name."""


def train_members(
    model: SpreadModel,
    parts: Sequence[Sequence[Example]],
    card: LoraCard,
    seeds: Sequence[int],
    to: Path,
    *,
    progress: Progress,
) -> None:
    """Write an adapter for each part into `to`/member-K; groups that an earlier process finished are kept.

    `progress` counts members. Raises as train_adapters.
    """
    size = card.together or len(parts)
    groups = [range(first, min(first + size, len(parts))) for first in range(0, len(parts), size)]
    kept = to / "members"
    waiting = [group for group in groups if not all((kept / f"member-{m}").is_dir() for m in group)]
    done = len(parts) - sum(map(len, waiting))
    progress(done, len(parts))
    acts = (
        partial(_trained, parts=[list(parts[m]) for m in g], card=card, seeds=[seeds[m] for m in g], first=g.start)
        for g in waiting
    )
    for number, members in model.spread(acts):
        for m, files in zip(waiting[number], members, strict=True):
            _write(files, kept / f"member-{m}")
        done += len(members)
        progress(done, len(parts))
    for m in range(len(parts)):
        shutil.copytree(kept / f"member-{m}", to / f"member-{m}", dirs_exist_ok=True)
    clear(to)


def clear(to: Path) -> None:
    """Remove what `train_members` kept in `to` for a process that resumes, perhaps without workers."""
    shutil.rmtree(to / "members", ignore_errors=True)


def warm_up(
    model: SpreadModel, examples: Sequence[Example], card: LoraCard, *, seed: int, steps: Sequence[int], to: Path
) -> None:
    """Write one adapter on all examples into `to`/step-S for each of the ascending `steps`; one worker trains it."""
    [(_, found)] = model.spread([partial(_warmed, examples=list(examples), card=card, seed=seed, steps=list(steps))])
    for step, files in found.items():
        _write(files, to / f"step-{step}")


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a folder that appears complete or not at all."""
    new = folder.with_name(f".{folder.name}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name, content in files.items():
        (new / name).write_bytes(content)
    new.rename(folder)


# In the workers --------------------------------------------------------------------------------------------------


def _trained(
    at: Station, *, parts: Sequence[Sequence[Example]], card: LoraCard, seeds: Sequence[int], first: int
) -> list[Files]:
    adapters = train_adapters(at.model, parts, card, seeds, progress=lambda done, total: None, first=first)
    return [_files(at, adapter) for adapter in adapters]


def _warmed(at: Station, *, examples: Sequence[Example], card: LoraCard, seed: int, steps: Sequence[int]) -> dict[int, Files]:
    found = adapters_at(at.model, [examples], card, [seed], steps, progress=lambda done, total: None)
    return {step: _files(at, adapter) for step, [adapter] in found}


def _files(at: Station, adapter: Adapter) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        weights = str(at.model.training_numerics().get("weights", ""))
        write_adapter(adapter, Path(folder), base_model=at.model.name, network=at.model.network, weights=weights)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}
