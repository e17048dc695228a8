"""The command `describe`: sources become sets, model and sandbox are prepared, and tables, page and picture are written."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.training import OF_READING, DataCard, without_effect
from spa_bench.datasets.describe import Description, How, describe
from spa_bench.datasets.likeness import check_size
from spa_bench.datasets.pairs import DataSet, parts_of, read_set
from spa_bench.datasets.picture import FORMATS, draw
from spa_bench.datasets.tables import page
from spa_bench.errors import SandboxError, UsageError
from spa_bench.grading import Grader
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.base import Model, StageModel, trainable
from spa_bench.runs.engines import Chosen
from spa_bench.runs.reopen import ModelOptions, loaded_with
from spa_bench.runs.values import check_sandbox, check_seeds, checked_workers
from spa_bench.sandbox import choose
from spa_bench.spa.data.sources import EMBEDDED as OURS
from spa_bench.support.cache import own_cache
from spa_bench.support.console import Reporter
from spa_bench.support.files import replace_file
from spa_bench.support.hub import HUB
from spa_bench.support.rounding import at_least
from spa_bench.support.text import did_you_mean

LIMIT = 1000
"""Pairs of each source that are measured where nothing else is said."""
NO_MODEL = "none"
SUFFIXES = (".html", ".md", *(f".{kind}" for kind in FORMATS))


@dataclass(frozen=True, kw_only=True)
class DescribeOptions:
    """The user's options for a description."""

    sources: tuple[str, ...]
    target: str | None = None  # a source with which the others are compared
    parts: Path | None = None  # a partition of the only source: a folder of the stage cache, or a file of labels
    model: str | None = None  # None: the embedded model for our own sets, else none; "none": none
    loading: ModelOptions = field(default_factory=ModelOptions)
    judge: str | None = None  # a model that rates pairs
    limit: int | None = None  # pairs of each source; None: LIMIT, or those of `share`
    share: float | None = None  # of each source's pairs
    settings: tuple[str, ...] = ()  # KEY=VALUE of [data], as --set takes them
    run: bool = True  # whether programs are run
    sandbox: str | None = None
    workers: int | None = None  # programs at once
    how: How = field(default_factory=How)
    out: Path | None = None  # a page or a picture


def describe_sources(a: DescribeOptions, console: Reporter) -> Description:
    """The description that the options ask for. Raises a SpaBenchError for what cannot be read, loaded or measured."""
    data = _check(a)
    with _model(a) as model, _judge(a) as judge:
        sets = [read_set(source, model=model, data=data) for source in a.sources]
        target = None if a.target is None else read_set(a.target, model=model, data=data)
        for line in dict.fromkeys(one.told for one in (*sets, *([target] if target else [])) if one.told):
            console.note(line)
        if a.parts is not None:  # drawn of the whole, so that parts and whole have the same pairs
            sets = [*sets, *parts_of(sets[0], a.parts, model=model)]
        found = describe(
            [_drawn(one, a) for one in sets],
            target=None if target is None else _drawn(target, a),
            model=model,
            grader=_grader(a),
            judge=judge,
            how=a.how,
            console=console,
        )
    return replace(found, notes=(*found.notes, *_cut(found)))


def write(found: Description, out: Path, command: str, as_html: Callable[[str], bytes]) -> list[Path]:
    """Write the page or the picture of a description to `out`, by its ending; a page in Markdown has its picture beside it.

    `as_html` makes a page of Markdown.
    Raises UsageError where nothing can be drawn or written.
    """
    kind = out.suffix.lower().removeprefix(".")
    files: dict[Path, bytes] = {}
    if kind in FORMATS:
        files[out] = draw(found, kind)
    else:
        picture = draw(found, "svg")
        beside = out.with_suffix(".svg")
        shown = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}" if kind == "html" else beside.name
        content = page(found, command=command, picture=shown)
        files[out] = as_html(content) if kind == "html" else content.encode()
        if kind == "md":
            files[beside] = picture
    for path, content_bytes in files.items():
        try:
            replace_file(path, content_bytes)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}; use another --out") from error
    return list(files)


def _check(a: DescribeOptions) -> DataCard:
    """[data] of the settings, after checks that need nothing to be read."""
    if not a.sources:
        raise UsageError("no data set was named: give a file, hub:NAME, mini or mini-nlu")
    for source in (*a.sources, *([a.target] if a.target is not None else [])):
        if source not in OURS and not source.startswith(HUB) and not Path(source).exists():
            near = did_you_mean(source, OURS)
            raise UsageError(f"there is no file {source}{near}; a data set is a file, hub:NAME, mini or mini-nlu")
    if a.limit is not None and a.share is not None:
        raise UsageError("--limit and --share both say how many pairs; give one of them")
    if a.limit is not None and a.limit < 1:
        raise UsageError(f"--limit is {a.limit}; it must be at least 1")
    if a.share is not None and not 0 < a.share <= 1:
        raise UsageError(f"--share is {a.share:g}; it lies above 0 and is at most 1")
    if a.parts is not None and len(a.sources) != 1:
        raise UsageError(f"--parts is a partition of one source, and {len(a.sources)} are named")
    if a.out is not None and (a.out.suffix.lower() not in SUFFIXES or a.out.is_dir() or not a.out.absolute().parent.is_dir()):
        raise UsageError(f"--out is {a.out}; name a file that ends in {', '.join(SUFFIXES)}, in a folder that exists")
    check_size(a.how.size)
    check_seeds((a.how.seed,))
    check_sandbox(a.sandbox, used=a.run)
    given = parse_overrides(a.settings)
    others = [*(f"task.{key}" for key in given.task), *(f"engine.{key}" for key in given.engine)]
    others = [key for key in given.sampler if not key.startswith("data.")] + others
    others += without_effect(given.sampler, (*OF_READING, "template"))
    if others:
        raise UsageError(f"--set takes keys of [data] that say how rows are read, such as data.unusable=drop; got {others[0]}")
    return load_sampler_card("single", given.sampler).data


@contextmanager
def _model(a: DescribeOptions) -> Iterator[StageModel | None]:
    every = {*a.sources, *([a.target] if a.target else [])}
    name = a.model if a.model is not None else EMBEDDED if every <= set(OURS) else NO_MODEL
    if name == NO_MODEL:
        yield None
        return
    with closing(loaded_with(Chosen(), name, a.loading)) as model:
        yield trainable(model)


@contextmanager
def _judge(a: DescribeOptions) -> Iterator[Model | None]:
    if a.judge is None:
        yield None
        return
    with closing(loaded_with(Chosen(), a.judge, a.loading)) as model:
        yield model


def _grader(a: DescribeOptions) -> Grader | SandboxError | None:
    """What runs programs; the error where no sandbox works here and none was named."""
    if not a.run:
        return None
    try:
        sandbox = choose(a.sandbox, ("numpy",))
    except SandboxError as error:
        if a.sandbox is not None:
            raise
        return error
    return Grader(sandbox=sandbox, cache=own_cache(), workers=checked_workers(a.workers))


def _drawn(one: DataSet, a: DescribeOptions) -> DataSet:
    if a.share is not None:
        return one.drawn(max(1, at_least(a.share * len(one.items))), a.how.seed)
    return one.drawn(a.limit or LIMIT, a.how.seed)


def _cut(found: Description) -> list[str]:
    """A line where not all pairs were measured."""
    cut = [one.name for one in found.sets if one.total > one.pairs]
    if not cut:
        return []
    return [f"not all pairs of {', '.join(cut)} were measured, and near-duplicates grow with their number: --share 1 takes all"]
