"""The study `synthesize` without students: what the pairs of each method are like, and no runs.

Students of a large model take long, and their task has to be one that the model can do at all. What pairs are like is known
without them. Each stage is kept in the stage cache: trained soft prompts, rounds of drafts, likelihoods. A method that gives no
pairs is a result: its drafts are counted, and the others are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.task import load_task_card
from spa_bench.compare.study.claims import Claim
from spa_bench.compare.study.designs import STUDIES, Point, Wishes, points_of, roles_of
from spa_bench.compare.study.of_pairs import claims_without_students, pair_sections, pairs_as_json
from spa_bench.compare.study.options import StudyOptions, check_mixed, check_write, command_of, write_files
from spa_bench.compare.study.pictures import pictures_of_pairs
from spa_bench.compare.study.syntheses import (
    MIXED,
    Measuring,
    PairsOfSeed,
    check_held_out,
    fewest_pairs,
    held_out,
    measured_pairs,
)
from spa_bench.compare.study.tables import claims_as_json, in_lines
from spa_bench.errors import UsageError
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.runs.engines import chosen_engine
from spa_bench.runs.folder import SCHEMA_VERSION
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import check_workers, loaded_with
from spa_bench.runs.values import check_seeds, data_settings
from spa_bench.spa.synthesize.base import synthesis_kind
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.support import provenance
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.support.provenance import numerics_line

_TITLE = "What the pairs of each method of synthesis are like"


@dataclass(frozen=True, kw_only=True)
class PairsReport:
    """What the pairs of some methods are like."""

    targets: str  # the name of their source, without folder and suffix
    model: str
    seeds: Sequence[int]
    counts: tuple[int, int]  # (targets, examples that are held out)
    points: Sequence[Point]
    pairs: Sequence[PairsOfSeed]
    claims: Sequence[Claim]
    command: str
    origin: str  # revision, numerics and versions

    @property
    def name(self) -> str:
        """The name of the study's files, without suffix."""
        return f"synthesize--{self.targets}--{self.model}"

    @property
    def where(self) -> str:
        """Targets, model and seeds as the end of a sentence."""
        seeds = len(self.seeds)
        return f"for the targets {self.targets} with {self.model}, {seeds} seed{'s' * (seeds != 1)}"


def study_pairs(a: StudyOptions, console: Reporter) -> PairsReport:
    """Make and measure the pairs of each method, write page, picture and rows; the report. Raises a SpaBenchError."""
    _check(a)
    study, given = STUDIES["synthesize"], parse_overrides(a.settings)
    engine = chosen_engine(a.engine, given.engine)
    check_workers(engine, a.loading.executor)
    settings = {**given.sampler, **data_settings(a.data, a.queries)}
    points = points_of(study, Wishes(cards=roles_of(study, a.recipe, a.samplers), settings=settings))
    check_held_out(points)
    if line := engine.check_model(a.model):
        console.note(line)
    problems = list(load_task(load_task_card(a.task, given.task)).problems) if a.task else None
    name = a.model or EMBEDDED
    some = next((point.card for point in points if point.card.synthesizes), None)
    if some is None:
        raise UsageError("--samplers names no method that makes pairs; add one, such as sample")
    counts = len(read_targets(some.synthesize, some.data)), len(held_out(some))
    console.note(f"study: {', '.join(p.series for p in points)}; {counts[0]} targets, {counts[1]} examples that are held out")
    with closing(loaded_with(engine, name, a.loading)) as model:
        numerics = numerics_line(model.numerics())
        console.note(f"model: {model.name}: {numerics}")
        for card in (point.card.synthesize for point in points if point.card.synthesizes):
            synthesis_kind(card.method).check_model(card, model)  # before anything is made
        how = Measuring(
            model=model, problems=problems, cache=stage_cache(), console=console, mixed=a.mixed or MIXED, least=False
        )
        pairs = measured_pairs(points, a.seeds, how)
    report = PairsReport(
        targets=Path(some.synthesize.targets).name.partition(".")[0],
        model=name.rstrip("/").rpartition("/")[2],
        seeds=a.seeds,
        counts=counts,
        points=points,
        pairs=pairs,
        claims=claims_without_students(points, pairs),
        command=command_of("synthesize", replace(a, model=name)),
        origin=_origin(numerics),
    )
    files = {
        "md": page(report).encode(),
        "json": as_json(report).encode(),
        **pictures_of_pairs(
            {point.series: point.role for point in points}, pairs, f"{_TITLE}: {report.targets}, {report.model}"
        ),
    }
    for path in write_files(files, a.write, report.name):
        console.note(f"written: {path}")
    return report


def page(report: PairsReport) -> str:
    """The whole page in Markdown."""
    fewest = fewest_pairs(report.points)
    fewer = [one for one in report.pairs if one.drafts and one.pairs < fewest]
    parts = [
        f"# {_TITLE}",
        f"Made by `{report.command}`; do not edit by hand.",
        f"{report.counts[0]} targets of {report.targets}, {report.counts[1]} examples of the same kind that no method has "
        f"seen, model {report.model}, seeds: {', '.join(map(str, report.seeds))}. No student was trained.",
        *(
            [f"**One seed** ({report.seeds[0]}): intervals are over pairs and examples alone."]
            if len(report.seeds) == 1
            else []
        ),
        *(
            f"**{one.label}, seed {one.seed}**: {one.pairs} pair{'s' * (one.pairs != 1)} of {one.drafts} drafts, fewer than "
            f"{fewest}; how like they are to the target is not measured."
            for one in fewer
        ),
        *(claim.sentence(report.where) for claim in report.claims[:1]),
        f"![{_TITLE}]({report.name}.svg)",
        *pair_sections(report.pairs),
        *(
            ["## By the same rules", "\n".join(f"- {c.sentence(report.where)}" for c in report.claims[1:])]
            * (len(report.claims) > 1)
        ),
        _HOW,
        f"## Where it comes from\n\n{report.origin}",
    ]
    return "\n\n".join(parts) + "\n"


def as_json(report: PairsReport) -> str:
    """The pairs and the claims as JSON, with a line for each."""
    return in_lines(
        {
            "schema_version": SCHEMA_VERSION,
            "study": "synthesize",
            "targets": report.targets,
            "model": report.model,
            "seeds": list(report.seeds),
            "command": report.command,
            "claims": claims_as_json(report.claims, report.where),
            "pairs": pairs_as_json(report.pairs),
        }
    )


def _check(a: StudyOptions) -> None:
    """Raise UsageError for options that are of students, or that cannot be."""
    of_runs = {
        "--n": a.n is not None,
        "--limit": a.limit is not None,
        "--members": a.members is not None,
        "--grid": a.grid is not None,
        "--out": a.out is not None,
        "--table-only": a.table_only,
    }
    if given := [name for name, said in of_runs.items() if said]:
        raise UsageError(f"--pairs-only makes no runs, and {given[0]} is of runs; leave one of them out")
    check_seeds(a.seeds)
    check_mixed(a.mixed)
    check_write(a.write)


def _origin(numerics: str) -> str:
    revision, versions = provenance.revision_line(provenance.code()), provenance.versions_line(provenance.versions())
    return f"Revision {revision}. {numerics}. {versions}."


_HOW = """## How to read it

A claim holds when the intervals of all its parts lie above 0, does not when one lies below 0, and is not resolved otherwise.
With one seed the interval of a difference of likeness follows from those of both sides, as if they were independent
(MOVER, Zou and Donner 2008); with several seeds it is Student's t over seeds. Differences of nats are paired by example."""
