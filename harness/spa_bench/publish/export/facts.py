"""Facts of a run that several formats write: metrics, dates, decoding, the model's name for others, texts in UTF-8."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from spa_bench.metrics.suite import (
    AT_SIZES,
    CHOICE_METRICS,
    METRICS,
    NOISE_METRICS,
    OPEN_AT_SIZES,
    OPEN_METRICS,
    depends_on_n,
    estimates,
    is_of_all,
    is_rate,
    value_bounds,
)
from spa_bench.publish.export.samples import Samples
from spa_bench.runs.folder import ADDED, flat, from_elsewhere
from spa_bench.runs.measure import is_own_score, own_estimates
from spa_bench.support.files import file_safe
from spa_bench.support.text import utf8
from spa_bench.types import Estimate, Record, Verdict

INTERVAL = "95 %: percentile bootstrap over problems (2,000 resamples), stretched by Student's t; Wilson's reach for rates"
# repetition, cost and agreement
_LOWER_IS_BETTER = frozenset({"self_bleu", "compression_ratio", "tokens", "tokens[spent]", "agreement[choices]"})
# those that lm-eval registers so (lm_eval.api.metrics)
_LOWER_OF_LM_EVAL = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"})
_SAID = {m.name: m.description for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS, *OPEN_METRICS)} | {
    m.name: m.description for m in (*AT_SIZES, *OPEN_AT_SIZES)
}
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(?<!\.)/[A-Za-z0-9][\w.-]*(?<!\.)", re.ASCII)
_HOMES = {"embedded": "spa-bench", "smollm2": "HuggingFaceTB"}  # who made a model that is known by a short name


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric of a run under its one whole name."""

    name: str
    estimate: Estimate
    at_n: int | None  # samples of a problem behind the value, for metrics that depend on their number or are of all of them
    description: str = ""

    @property
    def rate(self) -> bool:
        """Whether every value lies between 0 and 1."""
        return is_rate(self.name)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """(least, most; infinite where there is none) of the values; None where they are not known."""
        return value_bounds(self.name, self.at_n or float("inf"))


def metric_rows(samples: Samples) -> list[MetricRow]:
    """The metrics of a graded run, those without a value included; none of a run that is not graded.

    A metric that depends on the number of samples has a row for each number at which it was computed. Raises StoreError for a
    damaged file.
    """
    content = samples.run.read_json("metrics.json")
    if content is None:
        return []
    size = int(content["size"])
    rows = [_row(name, Estimate(**content["estimates"][name]), size) for name in content["values"]]
    for at, values in content["values_at"].items():
        of_size = estimates({name: [column] for name, column in values.items()}, size=int(at))
        rows += [_row(name, of_size[name], int(at)) for name in values]
    rows += [_row(name, found, size) for name, found in own_estimates(content).items() if is_own_score(name)]
    added = samples.run.read_json(ADDED) or {"values": {}, "estimates": {}}
    return rows + [_row(name, Estimate(**added["estimates"][name]), size) for name in added["values"]]


def _row(name: str, estimate: Estimate, size: int) -> MetricRow:
    return MetricRow(name=name, estimate=estimate, at_n=at_n(name, size), description=_SAID.get(name, ""))


def at_n(name: str, size: int) -> int | None:
    """`size`, the samples of a problem, for a metric whose value depends on their number; None for another."""
    return size if depends_on_n(name) or is_of_all(name) else None


def lower_is_better(name: str) -> bool:
    """Whether less of a metric is better, of a score of lm-eval too. Of others more is better, or they take no side."""
    return name in _LOWER_IS_BETTER or (name.startswith("own[") and name.split(",")[1].rstrip("]") in _LOWER_OF_LM_EVAL)


def measured(samples: Samples) -> list[MetricRow]:
    """The metrics with a value at all samples of a problem: one row a metric."""
    content = samples.run.read_json("metrics.json")
    size = None if content is None else int(content["size"])
    return [row for row in metric_rows(samples) if row.estimate.value is not None and row.at_n in (None, size)]


def finished(samples: Samples) -> str:
    """When the run was finished, ISO 8601 with its zone; "" where that is unknown."""
    said = str(samples.run.timings().get("finished", ""))
    try:
        return said if datetime.fromisoformat(said).tzinfo else ""
    except ValueError:
        return ""


def model_id(samples: Samples) -> str:
    """The model's name in the form ORGANISATION/NAME: a name on the hub as it is, a place on a machine as local/NAME.

    Both parts are safe as names of folders, and nothing says where on a machine a model lies.
    """
    name = str(samples.run.spec["model"]["name"])
    if name in _HOMES:
        return f"{_HOMES[name]}/{name}"
    place = PurePath(name)
    file = place.suffix.lower() == ".gguf"
    if _ON_HUB.fullmatch(name) and not file:
        return name
    return f"local/{utf8(file_safe(place.stem if file else place.name)).strip('. ') or 'model'}"


def decoding(samples: Samples) -> dict[str, Any]:
    """The sampler's decoding as its card has it; empty for samples from elsewhere."""
    of_card: dict[str, Any] = dict(samples.run.spec["sampler"].get("decoding") or {})
    return of_card


def drawn(samples: Samples) -> bool:
    """Whether the run drew its answers; of samples from elsewhere decoding, seeds, tokens and ends are not known."""
    return not from_elsewhere(samples.run.spec)


def members(samples: Samples) -> int:
    """K, the number of the sampler's members."""
    return int(samples.run.spec["sampler"].get("members", 1))


def passed(samples: Samples, record: Record) -> bool | None:
    """Whether the sample is right; None where it has no verdict, or is neither right nor wrong."""
    grade = samples.grades.get(record.key)
    return None if grade is None or grade.verdict == Verdict.UNJUDGED else grade.verdict == Verdict.PASSED


def answer(samples: Samples, record: Record) -> str:
    """The text that was judged: of a code task the whole program, of others the answer; "" where there is none."""
    return "" if record.failure else samples.task.program(record)


def options_of(samples: Samples) -> dict[str, list[str]]:
    """Problem -> the texts that can be chosen, for multiple-choice problems."""
    return {one.problem_id: [utf8(text) for text in one.texts[: one.choices]] for one in samples.task.options(None)}


def chosen(record: Record, options: Mapping[str, Sequence[str]]) -> str | None:
    """The text of the option that the sample chose; None where there was nothing to choose."""
    texts = options.get(record.problem, ())
    return texts[record.choice] if record.choice is not None and record.choice < len(texts) else None


def each_record(samples: Samples) -> Iterator[Record]:
    """The records by problem, member and draw."""
    return (record for _, records in samples.problems for record in records)


def not_utf8(runs: Sequence[Samples]) -> tuple[str, ...]:
    """What of the samples' texts UTF-8 cannot hold, in words; empty where it holds all."""
    odd = sum(utf8(r.raw) != r.raw for samples in runs for r in each_record(samples))
    return (f"halves of surrogate pairs in {odd} answers, which UTF-8 cannot hold (U+FFFD stands there)",) if odd else ()


_EXTRAS: dict[str, tuple[str, Callable[[Samples], bool]]] = {
    "divergences": (
        "divergences between members (--to parquet has them)",
        lambda s: any(d.tokens for d in s.run.divergence_log.rows()),
    ),
    "values": (
        "values of metrics problem by problem, and at fewer answers (--to parquet has them)",
        lambda s: s.graded,
    ),
    "code": ("tests that are code (--to parquet has them)", lambda s: any(p.tests for p, _ in s.problems)),
    "suites": ("tests that are data: calls with their expected results", lambda s: any(p.suites for p, _ in s.problems)),
    "options": (
        "log-probabilities of the options of multiple-choice problems (--to parquet has them)",
        lambda s: bool(s.run.choice_log.rows()),
    ),
    "embeddings": ("embeddings of the answers", lambda s: bool(s.run.spec.get("embedding"))),
    "adapters": ("the adapters (their hashes are in the run folder)", lambda s: bool(s.run.spec.get("data", {}))),
    "noise": ("answers drawn twice for the noise floor", lambda s: bool(s.run.noise_log.rows())),
}
"""What a run may hold that some formats have no place for: in words, and whether a run has it."""


def left_out(runs: Sequence[Samples], *lacking: str) -> tuple[str, ...]:
    """What of `lacking`, keys of _EXTRAS, the runs have, in words."""
    return tuple(said for said, has in map(_EXTRAS.__getitem__, lacking) if any(map(has, runs)))


def json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as JSON lines in UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()


def title(runs: Sequence[Samples]) -> str:
    """What the runs are, in words, for the head of a README."""
    names = sorted({f"{s.task.name} {s.task.version}" for s in runs})
    count = sum(s.count for s in runs)
    return f"{', '.join(names)}: {count} samples of {len(runs)} run{'s' * (len(runs) != 1)}"


def places(runs: Sequence[Samples]) -> tuple[str, ...]:
    """The keys of the runs' specs that name a place on a machine, which a reader elsewhere would see."""
    return tuple(sorted({key for s in runs for key, value in flat(s.run.spec).items() if str(value).startswith(("/", "~"))}))


def said_left_out(left_out: Sequence[str]) -> str:
    """The section of a README that says what its format has no place for."""
    return "\n".join(["## Left out", "", *[f"- {line}" for line in left_out], ""]) if left_out else ""


def run_lines(runs: Sequence[Samples]) -> str:
    """A Markdown table with a row for each run."""
    rows = ["| run | task | sampler | model | seed | n | graded |", "|---|---|---|---|---|---|---|"]
    for s in runs:
        spec = s.run.spec
        cells = (s.run.hash, s.task.name, spec["sampler"]["name"], model_id(s), spec["seed"], spec["n"] or "", s.graded)
        rows.append("| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |")
    return "\n".join(rows) + "\n"
