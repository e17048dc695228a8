"""The pairs and queries of a sampler's training: read, put into a template, and checked against model and card.

All faults of data are found here, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.source import source_hash
from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError, UsageError
from spa_bench.models.base import Model, PairModel
from spa_bench.spa import partition
from spa_bench.spa.batches import pair_ids
from spa_bench.spa.data.overlap import Audit, audit
from spa_bench.spa.data.reading import Reading
from spa_bench.spa.data.sets import distinct, draw_queries, example_rows, hash_examples, in_template, query_rows, sample_size
from spa_bench.spa.data.shapes import Row
from spa_bench.spa.data.sources import is_sampled, named
from spa_bench.spa.data.sources import needs_queries as needs_queries
from spa_bench.spa.data.templates import Template, template_of
from spa_bench.spa.share import share_of
from spa_bench.support.interrupt import pause_point
from spa_bench.support.text import one_line
from spa_bench.types import Example, Problem

_SHOWN = 60  # characters of a query in a message
_TOKENS_A_BYTE = 12  # the most: a normaliser turns one letter of three bytes (U+FDFA) into 33
_AROUND = 64  # tokens that a tokenizer may put around a text


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The pairs and queries of a sampler, with facts about how they were read."""

    examples: list[Example]
    queries: list[Example]
    skipped: int  # number of examples that are too long and left out
    longest: int = 0  # tokens of the longest of them
    limit: str = ""  # the limit that they exceed, in words
    repeated: int = 0  # examples that repeat an earlier one
    repeated_queries: int = 0  # these are left out
    template: str | None = None  # the template of instructions: chat, alpaca or plain; None: there are no instructions
    whole: str | None = None  # hash of the examples that fit, where `examples` are a share of them
    fit: int = 0  # number of examples that fit, where `examples` are a share of them
    overlap: Audit | None = None  # what the pairs share with the task, before any are left out; None: no task is known
    told: tuple[str, ...] = ()  # a line for each source: the shapes that were recognised and what was left out
    made: Mapping[str, Any] | None = None  # the report of the synthesis that made the examples; None: they were given

    def describe(self, card: SamplerCard) -> dict[str, object]:
        """The data's part of a spec: names, sizes and hashes.

        Data that the seed draws, a share of the examples or queries among them, have no hash of their own: runs that differ in
        the seed alone are one group, and the hash of the whole set, the seed and the code identify such data.
        """
        data = named(card.data)
        return {
            **(self._given(card, data.examples) if self.made is None else _of_synthesis(card, self.made)),
            "template": self.template,
            "queries": data.queries if needs_queries(card) else None,
            "queries_n": len(self.queries),
            "queries_hash": None if is_sampled(data.queries) else hash_examples(self.queries),
            **_own(card),
        }

    def _given(self, card: SamplerCard, name: str) -> dict[str, object]:
        """What `describe` says of pairs that were given."""
        return {
            "examples": name,
            "examples_n": len(self.examples),
            "examples_hash": self.whole or hash_examples(self.examples),
            "skipped_too_long": self.skipped,
            "repeated": self.repeated,
            **({"overlapping_left_out": len(self.overlap.rows)} if card.data.decontaminate and self.overlap else {}),
        }

    def notes(self, card: SamplerCard) -> list[str]:
        """Lines for the user on examples that are left out or repeated."""
        lines = []
        if self.skipped:
            read = self.skipped + (self.fit or len(self.examples))
            lines.append(
                f"{self.skipped} of {read} training pairs are longer than {self.limit} "
                f"and are left out; the longest has {self.longest} tokens"
            )
        done = "left out" if card.data.duplicates == "drop" else 'kept (data.duplicates = "drop" leaves them out)'
        if self.repeated:
            lines.append(f"training pairs that repeat an earlier one: {self.repeated}, {done}")
        if self.repeated_queries:
            lines.append(f"queries that repeat an earlier one: {self.repeated_queries}, left out")
        if self.overlap is not None:
            left = "left out" if card.data.decontaminate else "kept (--decontaminate leaves them out)"
            lines.append(self.overlap.line() + (f", {left}" if self.overlap.overlaps else ""))
        return lines


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The content of a card's sources, before a template turns it into text."""

    examples: Reading
    queries: Reading | None  # None: drawn from the examples, or none are needed
    repeated: int
    repeated_queries: int
    made: Mapping[str, Any] | None = None  # the report of the synthesis that made the examples

    @property
    def told(self) -> tuple[str, ...]:
        """A line for each source that is not our own; the same source twice is one line."""
        read = (self.examples, *(() if self.queries is None else (self.queries,)))
        return tuple(dict.fromkeys(one.told for one in read if one.told))


_NO_SOURCES = Sources(examples=Reading([], [], ""), queries=None, repeated=0, repeated_queries=0)


def read_sources(card: SamplerCard) -> Sources:
    """The rows of the card's data, after its policy for duplicates. Raises DataError for all faults that show without a model.

    These are: unreadable files, unknown shapes, empty text, duplicates that are refused, K > N, M < K. Pairs that are to be
    made are not there yet: there are no rows, and the queries alone are read (spa.synthesize.stage.made_sources).
    """
    if not card.trains:
        return _NO_SOURCES
    if card.synthesizes:
        if needs_queries(card) and not is_sampled(card.data.queries):
            read_queries(card.data)  # an unreadable source raises before anything is made
        return _NO_SOURCES
    return sources_of(card, example_rows(card.data), card.data.examples)


def sources_of(card: SamplerCard, read: Reading, source: str) -> Sources:
    """`read` as the card's examples, from `source`, with its queries. Raises DataError as read_sources."""
    data = card.data
    examples, repeated = _without_repeats(read, data.duplicates, source)
    if card.adapters == "parts" and card.trained > len(examples.rows):
        raise DataError(f"{card.trained} parts from {len(examples.rows)} examples in {source!r}: give more, or fewer members")
    if not needs_queries(card):
        return Sources(examples=examples, queries=None, repeated=repeated, repeated_queries=0)
    if is_sampled(data.queries):
        _enough_queries(card, sample_size(data.queries, len(distinct(examples.rows))), "are drawn by")
        return Sources(examples=examples, queries=None, repeated=repeated, repeated_queries=0)
    queries, again = read_queries(data)
    _enough_queries(card, len(queries.rows), "different ones are in")
    return Sources(examples=examples, queries=queries, repeated=repeated, repeated_queries=again)


def read_queries(data: DataCard) -> tuple[Reading, int]:
    """(the different queries of the card's source, the number that repeat an earlier one).

    Equal ones would be two columns of the same scores, and both could be kept: two parts would differ by chance. Raises
    DataError as query_rows, and where the card refuses repetitions.
    """
    return _without_repeats(query_rows(data), "refuse" if data.duplicates == "refuse" else "drop", data.queries)


def compared(card: SamplerCard, sources: Sources, problems: Sequence[Problem] | None) -> tuple[Sources, Audit | None]:
    """(`sources` without what data.decontaminate leaves out, what the pairs share with `problems`).

    Raises UsageError for data.decontaminate without `problems`, DataError where no pair is left.
    """
    found = None if problems is None else audit(sources.examples.rows, problems, sources.examples.numbers)
    if card.trains and card.data.decontaminate:
        sources = replace(sources, examples=_clean(sources.examples, found))
    return sources, found


def load_data(
    card: SamplerCard,
    model: Model | PairModel,
    seed: int,
    *,
    sources: Sources | None = None,
    problems: Sequence[Problem] | None = None,
) -> TrainingData:
    """The card's data as text for `model`, without examples that are too long for its context or for lora.length (counted).

    `sources` are those of the card where they are read already. `problems` are those of the task, with which the pairs are
    compared (spa.data.overlap).

    Raises DataError as read_sources, and when no example fits, fewer fit than there are members, or a query that was not
    drawn from them does not fit the context; ModelError for data.template = "chat" with a model that has none;
    UsageError for a model whose tokens nobody can see, and for data.decontaminate without `problems`.
    """
    if not card.trains:
        return TrainingData(examples=[], queries=[], skipped=0)
    if not isinstance(model, PairModel):
        raise UsageError(f"model {model.name!r} cannot be trained; use a sampler without adapters, such as base")
    template, sources = template_of(card.data.template, model), sources or read_sources(card)
    assert sources.made is not None or not card.synthesizes  # whoever has a card that makes pairs calls made_sources first
    sources, found = compared(card, sources, problems)
    source = f"the pairs of {card.synthesize.method}" if card.synthesizes else card.data.examples
    sources, pairs, asked = _in_template(card, sources, template, source)
    most, limit = most_tokens(card.lora.length, model)
    sizes = [tokens_at_most(model, pair, most) for pair in pairs]
    examples = [pair for pair, size in zip(pairs, sizes, strict=True) if size <= most]
    long = [size for size in sizes if size > most]
    if not examples:
        raise DataError(f"none of the {len(pairs)} examples in {source!r} fits {limit}; the shortest has {min(long)}")
    whole, fit = None, 0
    if card.data.share < 1:
        whole, fit = hash_examples(examples), len(examples)
        examples = share_of(examples, card.data.share, seed)
    queries: list[Example] = []
    if card.adapters == "parts" and card.trained > len(examples):
        which = f"(data.share = {card.data.share:g} of {fit} that fit)" if fit else f"that fit {limit}"
        raise DataError(f"{card.trained} parts from {len(examples)} examples {which}: give more, or fewer members")
    if needs_queries(card):
        queries = _queries(card, model, seed, sources=sources, examples=examples, asked=asked)
    used = any(template.takes(row) for read in (sources.examples, sources.queries) if read for row in read.rows)
    return TrainingData(
        examples=examples,
        queries=queries,
        skipped=len(long),
        longest=max(long, default=0),
        limit=limit,
        repeated=sources.repeated,
        repeated_queries=sources.repeated_queries,
        template=template.name if used else None,
        whole=whole,
        fit=fit,
        told=sources.told,
        overlap=found,
        made=sources.made,
    )


def _of_synthesis(card: SamplerCard, made: Mapping[str, Any]) -> dict[str, object]:
    """What a spec says of pairs that were made: the seed draws them, so that their hash and numbers are in no spec."""
    own = {"source": source_hash(card.synthesize.method)} if ":" in card.synthesize.method else {}
    return {"examples": f"made by {made['method']}", "targets": made["targets"], "targets_hash": made["targets_hash"], **own}


def _own(card: SamplerCard) -> dict[str, object]:
    """Hashes of the user's own files and code behind the parts: labels, a partition method, an attribution method."""
    hashes: dict[str, object] = {}
    if card.adapters == "parts" and (card.partition.method == "file" or ":" in card.partition.method):
        hashes["parts"] = {k: v for k, v in partition.identity(card.partition, 0).items() if k in {"file", "source"}}
    if needs_queries(card) and ":" in card.attribution.method:
        hashes["scores"] = {"source": source_hash(card.attribution.method)}
    return hashes


def _in_template(
    card: SamplerCard, sources: Sources, template: Template, source: str
) -> tuple[Sources, list[Example], list[Example]]:
    """(`sources` without rows that the template refuses, the text of the examples, that of the queries that are read)."""
    examples, pairs = in_template(sources.examples, template, source, card.data.unusable)
    if sources.queries is None:
        return replace(sources, examples=examples), pairs, []
    queries, asked = in_template(sources.queries, template, card.data.queries, card.data.unusable)
    _enough_queries(card, len(asked), "different ones are in")
    return replace(sources, examples=examples, queries=queries), pairs, asked


def _queries(
    card: SamplerCard, model: PairModel, seed: int, *, sources: Sources, examples: Sequence[Example], asked: list[Example]
) -> list[Example]:
    """The queries of a sampler with parts: those `asked` of a source, or a sample of the `examples` that fit."""
    if sources.queries is None:
        queries = draw_queries(card.data.queries, examples, seed)
        _enough_queries(card, len(queries), "are drawn by")
        return queries
    for query, row, number in zip(asked, sources.queries.rows, sources.queries.numbers, strict=True):
        if (size := _tokens(model, query)) > model.context:
            raise DataError(
                f"row {number} of the queries {card.data.queries!r} ({one_line(_asked(row), _SHOWN)!r}) has {size} tokens, "
                f"more than the model's context of {model.context}; shorten it, or use other queries"
            )
    return asked


def _without_repeats(read: Reading, policy: str, source: str) -> tuple[Reading, int]:
    """(the rows that are used, the number that repeat an earlier one). Raises DataError where none may repeat."""
    first: dict[Row, int] = {}
    again = [i for i, row in enumerate(read.rows) if first.setdefault(row, i) != i]
    if again and policy == "refuse":
        before = first[read.rows[again[0]]]
        raise DataError(
            f"row {read.numbers[again[0]]} of {source} repeats row {read.numbers[before]} ({len(again)} rows do so) and "
            'data.duplicates is "refuse": remove them, or use "drop" or "keep"'
        )
    if not again or policy != "drop":
        return read, len(again)
    kept = list(first.values())
    return replace(read, rows=[read.rows[i] for i in kept], numbers=[read.numbers[i] for i in kept]), len(again)


def _clean(read: Reading, found: Audit | None) -> Reading:
    """The rows that overlap no problem. Raises UsageError where no task is known, DataError where no row is left."""
    if found is None:
        raise UsageError("data.decontaminate needs a task, whose problems the pairs are compared with; name it with --task")
    kept = [(row, number) for row, number in zip(read.rows, read.numbers, strict=True) if number not in found.rows]
    if not kept:
        raise DataError(f"all {len(read.rows)} training pairs overlap the task's problems; use other pairs")
    return replace(read, rows=[row for row, _ in kept], numbers=[number for _, number in kept])


def _enough_queries(card: SamplerCard, count: int, where: str) -> None:
    if count < card.trained:
        raise DataError(f"{card.trained} members need at least {card.trained} queries; {count} {where} {card.data.queries!r}")


def most_tokens(length: int, model: PairModel) -> tuple[int, str]:
    """(the most tokens that a row may have, the source of that limit in words); `length` is lora.length, 0 for none."""
    if 0 < length < model.context:
        return length, f"lora.length = {length} tokens"
    return model.context, f"the model's context of {model.context} tokens"


def _tokens(model: PairModel, pair: Example) -> int:
    pause_point()
    return sum(map(len, pair_ids(model, pair)))


def tokens_at_most(model: PairModel, pair: Example, most: int) -> int:
    """The tokens of `pair`, or more where it has at most `most` of them all the same: short texts are not encoded twice."""
    bound = _TOKENS_A_BYTE * len(f"{pair.prompt}{pair.completion}{pair.ending or ''}".encode()) + _AROUND
    return bound if bound <= most else _tokens(model, pair)


def _asked(row: Row) -> str:
    return row.prompt if isinstance(row, Example) else row.turns[-1][1]
