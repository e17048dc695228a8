"""The parts of the training data on which a run's members were trained, from the stage cache where it is available.

A run folder names its adapters and not its parts. The stage cache of the run has the parts in a folder beside the
adapters. On another machine the cache is unavailable, and the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The known facts about the parts."""

    reason: str = ""  # why nothing is known; empty where the parts are known
    method: str = ""
    examples: int = 0
    sizes: tuple[int, ...] = ()
    parts: list[dict[str, Any]] = field(default_factory=list)  # size, words, defining: see spa_bench.spa.report
    silhouette: float | None = None
    words: str = ""  # how the words of a part were chosen
    margin: str = ""  # the definition of a margin

    def most_telling(self, count: int = 5) -> list[str]:
        """For each part, the first `count` words that set it apart, in one line; empty where the parts are unknown."""
        return [", ".join(str(word["word"]) for word in (part.get("words") or ())[:count]) for part in self.parts]


def partition_of(spec: Mapping[str, Any], adapters: Mapping[str, Any], stages: Path) -> Partition:
    """The parts behind a run's adapters. Never raises: for unavailable parts it gives a reason."""
    sampler = spec["sampler"]
    if sampler.get("adapters") != "parts":
        if sampler.get("adapters") == "none" and sampler.get("options", {}).get("given"):
            return Partition(reason="its adapters were trained elsewhere and given to it, so their parts are not known")
        how = {"all": "its adapter is trained on all pairs", "seeds": "every adapter is trained on all pairs"}
        return Partition(reason=how.get(str(sampler.get("adapters")), "it has no adapters, so nothing is partitioned"))
    stage = adapters.get("stage")
    if not isinstance(stage, str) or not stage or Path(stage).name != stage:
        return Partition(reason="the adapters are not made yet")
    try:
        key = json.loads((stages / stage / "key.json").read_bytes())
        keys = [json.loads((stages / name / "key.json").read_bytes()) for name in key.get("from", [])]  # of merged adapters
        folder = next((found for one in keys or [key] if (found := _parts_of(stages, one))), None)
        report = json.loads((folder / "report.json").read_bytes()) if folder else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        report = None
    if not isinstance(report, dict) or not isinstance(report.get("parts"), list):
        return Partition(
            reason=f"not in the run folder, and the stage cache here ({stage}) has none: look where the run was made"
        )
    silhouette = report.get("silhouette") or {}
    return Partition(
        reason="",
        method=str(report.get("method", "")),
        examples=int(report.get("examples", 0)),
        sizes=tuple(report.get("sizes", ())),
        parts=report["parts"],
        silhouette=silhouette.get("value"),
        words=str(report.get("words", "")),
        margin=str(report.get("margin", "")),
    )


def _parts_of(stages: Path, key: Mapping[str, Any]) -> Path | None:
    """The folder of the parts on which adapters of that key were trained; both hold the digest of the parts."""
    for other in sorted(stages.glob("parts-*")):
        try:
            digest = json.loads((other / "parts.json").read_bytes())["digest"]
            examples = json.loads((other / "key.json").read_bytes())["examples"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            continue  # a damaged folder of another stage does not matter here
        if digest == key["parts"] and examples == key["examples"]:
            return other
    return None
