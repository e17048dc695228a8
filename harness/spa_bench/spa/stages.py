"""Attribute, partition, adapt: each stage kept on disk (kept.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from spa_bench.cards import guard
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.source import source_hash
from spa_bench.cards.training import concerns
from spa_bench.errors import DataError
from spa_bench.models.base import StageModel
from spa_bench.models.hf.stacked_lora import Adapter, write_adapter
from spa_bench.models.spread import SpreadModel
from spa_bench.spa import checkpoint, encoders, partition, report, shared
from spa_bench.spa.adapt import adapters_at, train_adapters
from spa_bench.spa.attribution.base import AttributionSetting, attribution_kind
from spa_bench.spa.data import hash_examples
from spa_bench.spa.kept import FORMAT, Console, digest, recall
from spa_bench.spa.schedule import steps_of
from spa_bench.spa.training_data import TrainingData as TrainingData
from spa_bench.spa.training_data import load_data as load_data
from spa_bench.support import provenance
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Example

_SEEDLESS = {"bm25", "embedding"}  # attribution methods that draw nothing


class Stages:
    """Runs the stages of one sampler for one seed, or takes them from the cache."""

    def __init__(self, card: SamplerCard, data: TrainingData, model: StageModel, *, seed: int, cache: Path, console: Console):
        self._card, self._data, self._model = card, data, model
        self._seed, self._cache, self._console = seed, cache, console
        self._base: dict[str, object] = {
            "format": FORMAT,
            "model": model.describe()["hash"],
            "numerics": model.training_numerics(),
            "code": provenance.source_hash("models", "spa"),
            "versions": {k: v for k, v in provenance.versions().items() if k in {"torch", "transformers", "numpy"}},
            "examples": hash_examples(data.examples),
        }

    def _write(self, adapter: Adapter, to: Path) -> None:
        weights = str(self._model.training_numerics().get("weights", ""))
        write_adapter(adapter, to, base_model=self._model.name, network=self._model.network, weights=weights)

    def adapters(self) -> list[Path]:
        """Folders of the K adapters in PEFT's format, in order of the members."""
        card, examples = self._card, self._data.examples
        if card.adapters == "parts":
            labels = self.parts()
            parts = [[e for e, label in zip(examples, labels, strict=True) if label == k] for k in range(card.trained)]
            keys = _members(labels, card.trained)
        else:
            count = card.trained
            parts, keys = [examples] * count, [list(range(len(examples)))] * count
        seeds = [derive_seed(self._seed, "adapter", k) for k in range(len(parts))]
        recipe = {**self._base, **self._lora(), "parts": digest(keys), "seeds": seeds}
        folder = self._recall("adapters", recipe, lambda to: self._adapt(parts, seeds, to))
        return [folder / f"member-{k}" for k in range(len(parts))]

    def attribute(self) -> Path:
        """The folder of the score matrix."""
        return self._scores()

    def parts(self) -> list[int]:
        """The part of each example."""
        labels: list[int] = json.loads((self.partition() / "parts.json").read_text(encoding="utf-8"))["labels"]
        return labels

    def partition(self) -> Path:
        """The folder of the parts. A method that uses no scores causes no attribution."""
        card = self._card
        if partition.needs_scores(card.partition.method):
            recipe = self._attribution_recipe()
        else:
            recipe = {k: v for k, v in self._base.items() if k in {"format", "code", "versions", "examples"}}
        made = {"partition": partition.identity(card.partition, self._partition_seed), "members": card.trained}
        return self._recall("parts", {**recipe, **made}, self._partition)

    @property
    def _partition_seed(self) -> int:
        return derive_seed(self._seed, "partition")

    def _attribution_recipe(self) -> dict[str, object]:
        card = self._card
        recipe = {**self._base, "queries": hash_examples(self._data.queries)}
        if card.attribution.method not in _SEEDLESS:
            recipe["seed"] = derive_seed(self._seed, "attribution")
        scored = replace(card.attribution, checkpoints=tuple(sorted(card.attribution.checkpoints)))
        recipe["attribution"] = {k: v for k, v in asdict(scored).items() if k in concerns(scored)}
        if card.attribution.method == "influence":
            keys = ("rank", "alpha", "targets", "loss", "length", "precision")
            recipe["lora"] = {k: getattr(card.lora, k) for k in keys}
            if any(card.attribution.checkpoints):
                recipe["warm-up"] = self._warm_up_recipe()
        if card.attribution.method == "bm25":
            recipe["library"] = provenance.installed("rank-bm25")
        if card.attribution.method == "embedding":
            recipe["encoder"] = encoders.identity(card.attribution.encoder)
        if ":" in card.attribution.method:
            recipe |= self._lora()  # its setting has them, and the warm-up is trained by them
            recipe["source"] = source_hash(card.attribution.method)
        return recipe

    def _warm_up_recipe(self) -> dict[str, object]:
        steps = sorted(step for step in self._card.attribution.checkpoints if step)
        return {**self._base, **self._lora("together"), "steps": steps, "seed": derive_seed(self._seed, "warm-up")}

    def _lora(self, *without: str) -> dict[str, object]:
        """The settings of a training; where packs are as long as the model's context, that too."""
        lora = self._card.lora
        packs = {"context": self._model.context} if lora.packing and not 0 < lora.length <= self._model.context else {}
        return {"lora": {k: v for k, v in asdict(lora).items() if k not in without}, **packs}

    def _warm_up(self, steps: Sequence[int]) -> dict[int, Path]:
        """Folders of an adapter trained on all data, after each number of `steps`."""
        if not steps:
            return {}
        recipe = self._warm_up_recipe()

        def train(to: Path) -> None:
            last = steps_of(len(self._data.examples), self._card.lora)
            if max(steps) > last:
                raise DataError(
                    f"attribution.checkpoints has {max(steps)}, but the warm-up ends after {last} steps (lora.steps or "
                    "lora.epochs); use fewer"
                )
            kept = to / "checkpoint.safetensors"
            with self._console.stage("warm-up") as progress:
                examples, lora, seed = self._data.examples, self._card.lora, derive_seed(self._seed, "warm-up")
                if isinstance(self._model, SpreadModel):
                    shared.warm_up(self._model, examples, lora, seed=seed, steps=sorted(steps), to=to)
                    return
                for step, [adapter] in adapters_at(
                    self._model, [examples], lora, [seed], sorted(steps), progress=progress, keep=kept
                ):
                    self._write(adapter, to / f"step-{step}")
            checkpoint.clear(kept)

        folder = self._recall("warm-up", recipe, train)
        return {step: folder / f"step-{step}" for step in steps}

    def _scores(self) -> Path:
        return self._recall("scores", self._attribution_recipe(), self._attribute)

    def _attribute(self, to: Path) -> None:
        card = self._card
        seed = derive_seed(self._seed, "attribution")
        setting = AttributionSetting(card=card.attribution, lora=card.lora, model=self._model, seed=seed, warm_up=self._warm_up)
        method = card.attribution.method
        kept = to / "kept"
        kept.mkdir(exist_ok=True)
        own = guard.guarded(f"attribution.method {method!r}") if ":" in method else nullcontext()
        with self._console.stage(f"attribution ({method})") as progress, own:
            given = (
                attribution_kind(method)
                .build(setting)
                .scores(self._data.examples, self._data.queries, progress=progress, kept=kept)
            )
            scores = np.asarray(given, np.float32)
        if scores.shape != (wanted := (len(self._data.examples), len(self._data.queries))):
            raise DataError(f"attribution.method {method!r} gave scores {scores.shape} instead of {wanted}")
        np.save(to / "scores.npy", scores)
        report.write(to, report.of_scores(scores, self._data.examples, self._data.queries))
        shutil.rmtree(kept)

    def _partition(self, to: Path) -> None:
        card, examples, k = self._card, self._data.examples, self._card.trained
        scores = np.load(self._scores() / "scores.npy") if partition.needs_scores(card.partition.method) else None
        with self._console.stage(f"partition ({card.partition.method})"):
            labels = partition.partition(card.partition, k, examples=examples, scores=scores, seed=self._partition_seed)
            content = report.of_parts(labels, k, card.partition, examples=examples, queries=self._data.queries, scores=scores)
        self._console.note(f"parts: {k} of sizes {', '.join(map(str, content['sizes']))}")
        # adapters on these parts have this digest in their key
        parts = {"digest": digest(_members(labels, k)), "sizes": content["sizes"], "labels": labels}
        (to / "parts.json").write_text(json.dumps(parts) + "\n", encoding="utf-8")
        report.write(to, content)

    def _adapt(self, parts: Sequence[Sequence[Example]], seeds: Sequence[int], to: Path) -> None:
        with self._console.stage(f"training {len(parts)} adapter{'s' * (len(parts) > 1)}") as progress:
            kept, card = to / "checkpoint.safetensors", self._card.lora
            if isinstance(self._model, SpreadModel):
                shared.train_members(self._model, parts, card, seeds, to, progress=progress)
            else:
                trained = train_adapters(self._model, parts, card, seeds, progress=progress, keep=kept)
                for k, adapter in enumerate(trained):
                    self._write(adapter, to / f"member-{k}")
        if why := self._model.peft_differs(to / "member-0"):
            line = f"PEFT cannot read these adapters: {why}"
            self._console.note(line)
            for k in range(len(parts)):
                (to / f"member-{k}" / "PEFT.txt").write_text(line + "\n", encoding="utf-8")
        checkpoint.clear(kept)
        shared.clear(to)

    def _recall(self, stage: str, recipe: Mapping[str, object], make: Callable[[Path], None]) -> Path:
        return recall(stage, recipe, make, cache=self._cache, console=self._console)


def _members(labels: Sequence[int], k: int) -> list[list[int]]:
    """The indices of the examples of each of k parts."""
    return [[i for i, label in enumerate(labels) if label == part] for part in range(k)]
