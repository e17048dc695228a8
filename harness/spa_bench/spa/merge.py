"""The stage behind adapters: sums of the adapters that a card trains and of those that are given, as adapters of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spa_bench.cards.merging import Merging
from spa_bench.cards.sampler import SamplerCard
from spa_bench.models.base import StageModel
from spa_bench.models.given import given_adapters
from spa_bench.models.hf.merged_lora import Source, balanced, check_mergeable, merged, names_for_peft
from spa_bench.models.hf.stacked_lora import write_adapter
from spa_bench.spa.kept import FORMAT, Console, recall
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import TrainingData
from spa_bench.support import provenance


def member_adapters(
    card: SamplerCard, how: Merging | None, data: TrainingData, model: StageModel, seed: int, *, cache: Path, console: Console
) -> list[Path]:
    """Folders of the members' adapters in PEFT's format, in order: those that are trained, or, by `how`, sums of adapters."""
    if how is not None:
        return merged_adapters(card, how, data, model, seed, cache=cache, console=console)
    return Stages(card, data, model, seed=seed, cache=cache, console=console).adapters()


def merged_adapters(
    card: SamplerCard, how: Merging, data: TrainingData, model: StageModel, seed: int, *, cache: Path, console: Console
) -> list[Path]:
    """Folders of the K merged adapters in PEFT's format, in order of the members; all other stages come from the cache too.

    Raises ModelError for adapters that cannot be merged, and UsageError for weights that the rule cannot give.
    """
    trained = Stages(card, data, model, seed=seed, cache=cache, console=console).adapters() if card.trains else []
    given = [folder for place in how.given for folder in given_adapters(place).kept().folders]
    anchors = _anchor(card, how, data, model=model, seed=seed, cache=cache, console=console)
    weights = how.weights(len(trained) + len(given), seed)
    if how.anchor == "base":  # its update is 0
        weights = [row[1:] for row in weights]
    folders = [*anchors, *trained, *given]
    names = [*_names(anchors, how.anchor), *(f"{card.adapters}-{k}" for k in range(len(trained))), *_names(given, "")]
    if not card.trains and not how.same_base:  # what is trained names this model, and given ones fit it or are refused
        _note_bases(folders, model, console)
    recipe: dict[str, object] = {
        "format": FORMAT,
        "code": provenance.source_hash("models", "spa"),
        "model": model.describe()["hash"],
        "sources": [provenance.hash_folder(folder) for folder in folders],
        "weights": weights,
        "from": sorted({folder.parent.name for folder in (*anchors, *trained)}),
        "balance": how.balance,
    }

    def merge(to: Path) -> None:
        with console.stage(f"merging {len(folders)} adapters") as progress:
            sources = [Source.at(folder, name) for folder, name in zip(folders, names, strict=True)]
            check_mergeable(sources, same_base=how.same_base)
            _write(sources, weights, to, model, balance=how.balance)
            progress(len(weights), len(weights))
        if why := model.peft_differs(to / "member-0"):
            console.note(f"PEFT cannot read these adapters: {why}")

    folder = recall("merged", recipe, merge, cache=cache, console=console)
    return [folder / f"member-{k}" for k in range(len(weights))]


def _anchor(
    card: SamplerCard, how: Merging, data: TrainingData, *, model: StageModel, seed: int, cache: Path, console: Console
) -> list[Path]:
    """The folder of the anchor; none for the base, and where there is no anchor."""
    if how.anchor in {"base", "none"}:
        return []
    if how.anchor == "all":  # as `single` trains it with the same tables: the same stage
        alone = replace(card, adapters="all", members=1, sources=0)
        return Stages(alone, data, model, seed=seed, cache=cache, console=console).adapters()
    return list(given_adapters(how.anchor).kept().folders)


def _note_bases(folders: Sequence[Path], model: StageModel, console: Console) -> None:
    """Say where the given adapters in `folders`, which are mergeable, name another base than the model that they change."""
    if others := sorted({Source.at(folder, folder.name).base for folder in folders} - {"", model.name}):
        console.note(
            f"the given adapters were made for {others[0]!r}, and the model here is {model.name!r}; where both names are of "
            "one model, options.same_base = true says so"
        )


def _names(folders: Sequence[Path], name: str) -> list[str]:
    """Names for messages."""
    return [name if name in {"all", "base"} else f"{folder.parent.name}/{folder.name}" for folder in folders]


def _write(sources: Sequence[Source], rows: Sequence[Sequence[float]], to: Path, model: StageModel, *, balance: bool) -> None:
    adapters = [source.adapter for source in sources]
    factors = balanced(adapters) if balance else [1.0] * len(adapters)
    bases = {source.base for source in sources if source.base}
    base = bases.pop() if len(bases) == 1 else model.name
    for k, row in enumerate(rows):
        scaled = [weight * factor for weight, factor in zip(row, factors, strict=True)]
        names, weights = names_for_peft(sources), sources[0].weights
        write_adapter(merged(adapters, scaled), to / f"member-{k}", base_model=base, weights=weights, targets=names)
