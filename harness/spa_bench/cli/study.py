"""`spa-bench study`: the SPA paper's Table 1 and Figures 2, 4 and 6, and dials between adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from spa_bench.cli.options import (
    NOISE,
    OUTPUT,
    WHAT,
    Engine,
    First,
    Json,
    Judge,
    Limit,
    Machine,
    ModelOrDefault,
    NoiseFloor,
    Pairs,
    Price,
    Rules,
    Subset,
    a_count,
    a_path,
    name_tasks,
    option,
    overrides,
    read_seeds,
)

if TYPE_CHECKING:
    from spa_bench.compare.study.options import StudyOptions


def study(
    study: Annotated[
        Literal["main", "temperature", "members", "data-fraction", "merge", "synthesize", "samplers"],
        option("see docs/how-to/studies.md", metavar="STUDY"),
    ],
    /,
    *,
    task: Annotated[
        str | None,
        option("what is solved (default: mini-code)", WHAT, metavar="NAME|CARD.toml", completer=name_tasks),
    ] = None,
    model: ModelOrDefault = None,
    seeds: Annotated[str, option("training and sampling seeds", WHAT, metavar="A,B,C")] = "0,1,2,3,4",
    n: Annotated[int | None, a_count("answers a problem (default: as many as SPA has adapters)", WHAT)] = None,
    limit: Limit = None,
    first: First = False,
    subset: Subset = None,
    members: Annotated[
        str | None,
        option("adapters of SPA (default: the cards'); in the study members several: 2,4,8", WHAT, metavar="K"),
    ] = None,
    grid: Annotated[
        str | None, option("the values of what the study varies, instead of its own", WHAT, metavar="A,B,C")
    ] = None,
    samplers: Annotated[
        str | None,
        option(
            "who takes part, of single, random, lexical, influence, seeds, single-long, temperature, nucleus, merge and "
            "balanced, and the card that plays it; in the study samplers: names of cards (default: all that can run here)",
            WHAT,
            metavar="ROLE[=CARD],...",
        ),
    ] = None,
    recipe: Annotated[str, option("cards of all roles: embedded, paper-code or paper-nlu", WHAT, metavar="NAME")] = "embedded",
    pairs: Pairs | None = None,
    settings: Annotated[tuple[str, ...], overrides("override a key of all cards, e.g. lora.steps=100 or task.seconds=5")] = (),
    machine: Machine | None = None,
    engine: Engine | None = None,
    noise_floor: NoiseFloor = "auto",
    grading: Rules = "default",
    judge: Judge | None = None,
    out: Annotated[Path | None, a_path("where run folders go (default: runs/study-NAME)", OUTPUT, metavar="DIR")] = None,
    write: Annotated[Path, a_path("where page, picture and rows go", OUTPUT, metavar="DIR")] = Path("leaderboards/studies"),
    pairs_only: Annotated[
        bool, option("in the study synthesize: measure the pairs of each method, and train no students", WHAT)
    ] = False,
    mixed: Annotated[
        int | None,
        a_count("in the study synthesize: z over which the likelihood behind a soft prompt is mixed (default: 16)", WHAT),
    ] = None,
    results: Annotated[
        tuple[Path, ...] | None,
        a_path(
            "result files or run folders to compare, in the place of runs (docs/how-to/studies.md)",
            OUTPUT,
            metavar="FILE",
            many=True,
        ),
    ] = None,
    table_only: Annotated[bool, option("make no runs: page and picture from those that are there", OUTPUT)] = False,
    price_per_hour: Price = None,
    as_json: Json = False,
) -> None:
    """The SPA paper's Table 1 and Figures 2, 4 and 6, dials between adapters, and all samplers: intervals and verdicts."""
    from spa_bench.compare.study import making
    from spa_bench.compare.study.ahead import said_ahead
    from spa_bench.compare.study.laws import laws_of, sentence
    from spa_bench.compare.study.tables import caveats_of, rows, table
    from spa_bench.runs.values import subset_of
    from spa_bench.support.console import Reporter

    pairs, machine, judge, engine = pairs or Pairs(), machine or Machine(), judge or Judge(), engine or Engine()
    limit, settings = subset_of(limit, subset, settings)
    options = making.StudyOptions(
        task=task,
        model=model,
        loading=machine.options(),
        engine=engine.named,
        seeds=read_seeds(0, seeds),
        n=n,
        limit=limit,
        first=first,
        members=members,
        grid=grid,
        samplers=samplers,
        recipe=recipe,
        data=pairs.data,
        queries=pairs.queries,
        settings=settings + engine.settings + pairs.settings,
        noise_floor=NOISE[noise_floor],
        rules=grading,
        judge=judge.options(price_per_hour),
        out=out,
        write=write,
        pairs_only=pairs_only,
        mixed=mixed,
        table_only=table_only,
        results=results,
    )
    if pairs_only and study == "synthesize":
        _pairs_alone(options, as_json)
        return
    report = making.study(study, options, Reporter())
    if as_json:
        print(json.dumps(rows(report), indent=1))
        return
    print(table(report))
    claims = [claim.sentence(report.where) for claim in report.claims] or said_ahead(report.leads)
    worth = [sentence(*of, law) for of, law in laws_of(report.study.key, report.points).items()]
    print("\n".join(["", *caveats_of(report), *claims, *worth]).replace("**", ""))


def _pairs_alone(options: StudyOptions, as_json: bool) -> None:
    """The study synthesize without students."""
    from spa_bench.compare.study import pairs_alone
    from spa_bench.compare.study.of_pairs import pairs_as_json, table_of_pairs
    from spa_bench.support.console import Reporter

    report = pairs_alone.study_pairs(options, Reporter())
    if as_json:
        print(json.dumps(pairs_as_json(report.pairs), indent=1))
        return
    print(table_of_pairs(report.pairs))
    print("\n".join(["", *(claim.sentence(report.where) for claim in report.claims)]).replace("**", ""))
