"""`spa-bench spa describe`: a folder of the stage cache, read and checked, and its report as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from spa_bench.errors import DataError, StoreError
from spa_bench.spa import report
from spa_bench.spa.kept import FORMAT, damaged
from spa_bench.spa.partition.labels import check_count, read_labels
from spa_bench.support.text import one_line

_TEXT = 44  # characters of a prompt and of a completion in a table
_KINDS = {"scores": "scores.npy", "parts": "parts.json", "adapters": "member-0/adapter_model.safetensors"}


@dataclass(frozen=True, kw_only=True)
class Described:
    """A stage, with its facts and its report."""

    folder: Path
    stage: str  # scores, parts or adapters
    facts: dict[str, Any]  # of the stage itself, from its key
    report: dict[str, Any]  # see spa_bench.spa.report; empty for adapters whose parts are not beside them
    parts: Path | None = None  # the folder of the parts; None for scores
    against: dict[str, Any] = field(default_factory=dict)  # its agreement with another partition

    def to_json(self) -> dict[str, Any]:
        """The row for --json."""
        row = {"stage": self.stage, "folder": str(self.folder), **self.facts, "report": self.report or None}
        if self.stage == "adapters":
            row["parts"] = str(self.parts) if self.parts else None
        return {**row, "against": self.against} if self.against else row


def describe(folder: Path, against: Path | None = None) -> Described:
    """The description of the stage in `folder`. Raises StoreError for a damaged or foreign folder, DataError for `against`."""
    key = _key(folder)
    stage = next((kind for kind, file in _KINDS.items() if file in key["files"]), None)
    if stage is None:
        raise StoreError(f"{folder} holds neither scores nor parts nor adapters of spa-bench")
    parts = {"scores": None, "parts": folder, "adapters": _parts_of(folder, key) if stage == "adapters" else None}[stage]
    content: dict[str, Any] = {}
    if stage != "adapters" or parts:
        content = _report(parts or folder)
    alike = agreement_with(parts, against) if against and parts else {}
    if against and not parts:
        raise DataError(f"{folder} has no parts that could be compared with {against}")
    return Described(folder=folder, stage=stage, facts=_facts(stage, key), report=content, parts=parts, against=alike)


def agreement_with(parts: Path, against: Path) -> dict[str, Any]:
    """The agreement between a stage's parts and other labels of the same examples, as in report.agreement, and their source.

    `against` is a folder of parts, or a file of labels. Raises DataError when they belong to other examples.
    """
    labels = json.loads((parts / "parts.json").read_text(encoding="utf-8"))["labels"]
    others, examples = other_labels(against)
    if examples is None:
        check_count(against, len(others), len(labels))
    elif examples != json.loads((parts / "key.json").read_text(encoding="utf-8"))["examples"]:
        raise DataError(f"{against} has parts of other examples than {parts}: only those of the same can be compared")
    return {"with": str(against), **report.agreement(labels, others)}


def other_labels(against: Path) -> tuple[list[Any], str | None]:
    """(labels, hash of the examples) of a folder of parts; (labels, None) of a file. Raises StoreError or DataError."""
    if not against.is_dir():
        return [label for _, label in read_labels(against)], None
    key = _key(against)
    if "parts.json" not in key["files"]:
        raise DataError(f"{against} holds no parts; name a folder of parts or a file with a label for each example")
    return json.loads((against / "parts.json").read_text(encoding="utf-8"))["labels"], key["examples"]


def text(found: Described) -> str:
    """The tables of a stage as text for a terminal."""
    blocks = [_head(found)]
    if "parts" in found.report:
        blocks += _parts(found.report)
    if found.against:
        blocks.append(f"with {found.against['with']}: NMI {found.against['nmi']:.3f}, adjusted {found.against['ami']:.3f}")
    if found.report.get("queries"):
        blocks.append(_queries(found.report["queries"]))
    return "\n\n".join(blocks)


def _key(folder: Path) -> dict[str, Any]:
    """The content of key.json in a complete stage of this version."""
    path = folder / "key.json"
    try:
        key = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "it is a run; its stages lie in the stage cache" if (folder / "spec.json").exists() else "key.json is missing"
        raise StoreError(f"{folder} is no folder of the stage cache ({hint}); `spa-bench spa partition` prints one") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not isinstance(key, dict) or not isinstance(key.get("files"), dict) or "format" not in key:
        raise StoreError(f"{path} is no key of a stage of spa-bench")
    if key["format"] != FORMAT:
        raise StoreError(
            f"{folder} was made by another spa-bench (format {key['format']}, this one has {FORMAT}); make the stage again"
        )
    if wrong := damaged(folder):
        raise StoreError(f"{folder} is damaged: {wrong} is not as it was written; the command that made it makes it again")
    return key


def _report(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / report.FILE).read_bytes())
    except FileNotFoundError:
        content = {}
    if not isinstance(content, dict) or content.get("version") != report.VERSION:
        raise StoreError(f"{folder} was made by another spa-bench and has no {report.FILE} of this one; make the stage again")
    return content


def _parts_of(folder: Path, key: Mapping[str, Any]) -> Path | None:
    """The folder, beside `folder`, of the parts that trained these adapters, or those of which they are sums.

    None when it is missing, or all data was used.
    """
    for name in key.get("from", ()):  # stages of adapters that were merged
        source = folder.resolve().parent / name
        if (source / "key.json").is_file() and (found := _parts_of(source, _key(source))):
            return found
    for other in sorted(folder.resolve().parent.glob("parts-*")):
        try:
            other_key = _key(other)
            digest = json.loads((other / "parts.json").read_text(encoding="utf-8"))["digest"]
        except (StoreError, OSError):
            continue  # damage of another stage does not matter here
        if digest == key.get("parts") and other_key["examples"] == key["examples"]:
            return other
    return None


def _facts(stage: str, key: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a stage's key that matter to a reader."""
    if "weights" in key:  # sums of adapters
        return {"members": len(key["weights"]), "weights": key["weights"], "balance": key["balance"]}
    wanted = {"scores": ("attribution",), "parts": ("attribution", "partition", "members"), "adapters": ("lora",)}[stage]
    facts = {name: key[name] for name in wanted if name in key}
    return facts | ({"members": len(key["seeds"])} if stage == "adapters" else {})


def _head(found: Described) -> str:
    lines = [f"{found.stage}: {found.folder}"]
    if found.stage == "scores":
        lines.append(f"{found.report['examples']} examples, {len(found.report['queries'])} queries")
    if found.stage == "adapters":
        lines.append(f"{found.facts['members']} adapters")
        for k, row in enumerate(found.facts.get("weights", ())):
            lines.append(f"member {k}: the sum of {len(row)} adapters, weights {' '.join(f'{weight:g}' for weight in row)}")
        lines.append(f"parts: {found.parts}" if found.parts else "parts: none beside them (trained on all data, or moved)")
    for name, value in found.facts.items():
        if isinstance(value, Mapping):
            lines.append(f"{name}: " + ", ".join(f"{k} {_plain(v)}" for k, v in value.items()))
    return "\n".join(lines)


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parts(content: Mapping[str, Any]) -> list[str]:
    mean = content["silhouette"]
    of = "" if mean["rows"] == content["examples"] else f" of {mean['rows']} examples"
    silhouette = f"none: {mean['reason']}" if mean["value"] is None else f"{mean['value']:.3f}{of}"
    rows = [
        [p["part"], p["size"], f"{p['size'] / content['examples']:.1%}", "" if p["query"] is None else p["query"], _words(p)]
        for p in content["parts"]
    ]
    defining = [
        [p["part"], e["example"], e["margin"], one_line(e["prompt"], _TEXT), one_line(e["completion"], _TEXT)]
        for p in content["parts"]
        for e in p["defining"]
    ]
    return [
        f"{len(rows)} parts of {content['examples']} examples, silhouette {silhouette}",
        tabulate(rows, ["part", "size", "share", "query", "words that set it apart"]),
        f"words: {content['words']}",
        tabulate(defining, ["part", "example", "margin", "prompts that define it", "completions"], disable_numparse=[3, 4]),
        f"margin: {content['margin']}",
    ]


def _words(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{w['word']} {w['z']:.1f}" for w in part["words"])


def _queries(queries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for q in queries:
        low, _, _, middle, _, _, high = q["quantiles"]
        part = "" if q.get("part") is None else q["part"]
        nearest = " ".join(str(e["example"]) for e in q["nearest"])
        rows.append([q["query"], part, q["variance"], low, middle, high, nearest, one_line(q["prompt"], _TEXT)])
    head = ["query", "part", "variance", "lowest", "median", "highest", "nearest", "prompt"]
    return tabulate(rows, head, floatfmt=".3g", disable_numparse=[6, 7])
