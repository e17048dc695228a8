"""Runs as files that other tools read: one format a module, in the table FORMATS.

An export writes files and executes nothing, and the same runs give the same bytes. What a format has no place for is said, in
the notes and in the README.md of the export. Tools that grade again give verdicts of their own: they may differ from ours where
their rules differ (docs/explanation/security.md), and neither evalplus nor lm-eval is a sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from spa_bench.errors import StoreError, UsageError
from spa_bench.publish.export import (
    evalplus,
    every_eval_ever,
    hub,
    inspect_log,
    lm_eval,
    lm_eval_results,
    noveltybench,
    parquet,
)
from spa_bench.publish.export.folder import owner_of, write_export
from spa_bench.publish.export.samples import Content, Samples, collect
from spa_bench.runs.folder import RunFolder
from spa_bench.support.text import did_you_mean
from spa_bench.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a run does not know and some formats have a place for; None: not said."""

    license: str | None = None  # of a dataset on the hub: one of the hub's identifiers
    organization: str | None = None  # who measured


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of exports."""

    content: Callable[[Sequence[Samples], Said], Content]
    several: bool = True  # whether one folder can hold several runs
    takes: tuple[str, ...] = ()  # the fields of `Said` that it has a place for


FORMATS = MappingProxyType[str, Format](
    {
        "evalplus": Format(content=lambda runs, _: evalplus.content(runs[0]), several=False),
        "lm-eval": Format(content=lambda runs, _: lm_eval.content(runs[0]), several=False),
        "lm-eval-results": Format(content=lambda runs, _: lm_eval_results.content(runs)),
        "noveltybench": Format(content=lambda runs, _: noveltybench.content(runs[0]), several=False),
        "inspect": Format(content=lambda runs, _: inspect_log.content(runs)),
        "every-eval-ever": Format(
            content=lambda runs, said: every_eval_ever.content(runs, said.organization or every_eval_ever.UNKNOWN),
            takes=("organization",),
        ),
        "parquet": Format(content=lambda runs, _: parquet.content(runs)),
        "hub": Format(content=lambda runs, said: hub.content(runs, said.license or hub.UNKNOWN), takes=("license",)),
    }
)


def export(run: RunFolder, task: Task, *, to: str, out: Path) -> tuple[str, ...]:
    """`export_runs` for one run."""
    return export_runs([(run, task)], to=to, out=out)


def export_runs(runs: Sequence[tuple[RunFolder, Task]], *, to: str, out: Path, said: Said | None = None) -> tuple[str, ...]:
    """Write `runs`, each with its task, to the folder `out` in the format `to`; returns notes for the user, one line each.

    The same runs, in any order, give the same bytes. Raises UsageError for an unknown format, for several runs where the format
    holds one, and for a folder with anything but an earlier export of these runs in this format. Raises StoreError where a run
    has no samples, is given twice, or is not graded and the format is of verdicts; DataError where the format cannot hold the
    samples.
    """
    if to not in FORMATS:
        raise UsageError(f"--to is {to!r}{did_you_mean(to, FORMATS)}")
    chosen, said = FORMATS[to], said or Said()
    for name, value in vars(said).items():
        if value is not None and name not in chosen.takes:
            where = ", ".join(other for other, one in FORMATS.items() if name in one.takes)
            raise UsageError(f"--{name} is {value!r}, and --to {to} has no place for it; --to {where} has")
    if len(runs) > 1 and not chosen.several:
        several = ", ".join(name for name, other in FORMATS.items() if other.several)
        raise UsageError(f"--to {to} holds one run, and {len(runs)} are given; give one, or use --to {several}")
    ordered = sorted(runs, key=lambda one: _place(one[0]))
    for (one, _), (other, _) in pairwise(ordered):
        if one.hash == other.hash:
            raise StoreError(f"{one.path} and {other.path} are the same run; give one of them")
    samples = [collect(run, task) for run, task in ordered]
    content = chosen.content(samples, said)
    stale = write_export(out, content.files, run=owner_of([run.hash for run, _ in ordered]), to=to)
    left_out = (f"left out: {'; '.join(content.left_out)}",) if content.left_out else ()
    own = [(f"{one.run.path.name}: " if len(samples) > 1 else "") + note for one in samples for note in one.notes()]
    return (*own, *content.notes, *left_out, *stale)


def _place(run: RunFolder) -> tuple[str, str, int, str]:
    """The order of runs in an export, wherever they lie."""
    spec = run.spec
    return str(spec["task"]["name"]), str(spec["sampler"]["name"]), int(spec["seed"]), run.hash
