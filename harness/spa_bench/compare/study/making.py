"""Makes a study: options become runs, and runs become page, picture and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import said_of_data
from spa_bench.cards.task import TaskCard
from spa_bench.compare.study.claims import claims_of
from spa_bench.compare.study.designs import STUDIES, Point, Study, Wishes, points_of, roles_of
from spa_bench.compare.study.from_results import check_results, points_of_results
from spa_bench.compare.study.measured import measure_points
from spa_bench.compare.study.of_pairs import claims_of_pairs
from spa_bench.compare.study.options import TASK, check_mixed, check_write, command_of, grid_of, write_files
from spa_bench.compare.study.options import StudyOptions as StudyOptions
from spa_bench.compare.study.pictures import pictures
from spa_bench.compare.study.runner import StudyRun, StudySetup, make, runs_of, runs_there
from spa_bench.compare.study.syntheses import MIXED, Measuring, PairsOfSeed, check_held_out, measured_pairs
from spa_bench.compare.study.tables import Report, as_json, page
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import Model
from spa_bench.runs.defaults import Pairs, load_model_for, model_for, pairs_for
from spa_bench.runs.earlier import earlier_runs, is_drawn, spent_before
from spa_bench.runs.engines import Chosen, chosen_engine
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.job import Job, asked_card, check_draws, check_limit, check_task, load_task, sampler_spec, task_for
from spa_bench.runs.plan import unused_loading
from spa_bench.runs.reopen import check_workers
from spa_bench.runs.values import check_out, check_price, check_sandbox, check_seeds, checked_workers, data_settings
from spa_bench.sandbox import choose
from spa_bench.support.cache import stage_cache
from spa_bench.support.console import Reporter
from spa_bench.support.provenance import numerics_line
from spa_bench.tasks.base import Task
from spa_bench.types import Json


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """What the options of a study mean, read and checked."""

    out: Path
    settings: dict[str, object]  # of all samplers' cards
    engine: Chosen
    wishes: Wishes
    points: Sequence[Point]
    task_card: TaskCard


@dataclass(frozen=True, kw_only=True)
class _Made:
    """The runs of a study."""

    options: StudyOptions  # with the settings of the pairs that were taken
    points: Sequence[Point]
    task_card: TaskCard
    runs: dict[int, list[RunFolder]]  # place of a point -> its runs
    pairs: list[PairsOfSeed]  # what the pairs of methods of synthesis are like


def study(name: str, a: StudyOptions, console: Reporter) -> Report:
    """Make the missing runs of the study, write its page, picture and rows, and return the report.

    Raises UsageError for options that this study has not, and a SpaBenchError where a run cannot be made.
    """
    chosen = STUDIES[name]
    if a.results is not None:
        return _of_results(chosen, a, console)
    a = replace(a, task=a.task or TASK)
    check_mixed(a.mixed)
    if name != "synthesize" and (a.mixed or a.pairs_only):
        raise UsageError(f"{'--mixed' if a.mixed else '--pairs-only'} is of the study synthesize; {name} makes no pairs")
    checked = _checked(chosen, a)
    if _takes_all(chosen, a):
        checked = _with_specs(checked, console)
    made = _finished(chosen, checked, a, console) if a.table_only else _made(chosen, checked, a, console)
    measured = measure_points(chosen, made.points, made.runs)
    report = Report(
        study=chosen,
        points=measured,
        claims=[*claims_of(chosen.name, measured), *claims_of_pairs(measured, made.pairs)],
        pairs=made.pairs,
        command=command_of(name, replace(made.options, model=model_for(made.task_card, a.model))),
        wanted=len(made.points) * len(a.seeds),
    )
    return _written(report, a.write, console)


def _of_results(chosen: Study, a: StudyOptions, console: Reporter) -> Report:
    """The report of results that others, or earlier runs, have left. Raises as points_of_results."""
    check_results(chosen, a)
    check_write(a.write)
    found = points_of_results(chosen, a)
    for line in found.without:
        console.note(f"left out: {line}")
    report = Report(
        study=chosen,
        points=found.points,
        claims=claims_of(chosen.name, found.points),
        command=command_of(chosen.name, a),
        wanted=sum(len(point.row.seeds) for point in found.points),
        left=found.left,
    )
    return _written(report, a.write, console)


def _checked(chosen: Study, a: StudyOptions) -> _Checked:
    """Raises a SpaBenchError where an option cannot be used, as far as this shows without the model."""
    checked_workers(a.judge.workers)
    check_seeds(a.seeds)
    check_price(a.judge.price_per_hour)
    check_limit(a.limit, first=a.first)
    out = a.out or Path("runs") / f"study-{chosen.name}"
    _check_folders(out, a.write)
    check_sandbox(a.judge.sandbox, used=False)
    given = parse_overrides(a.settings)
    engine = chosen_engine(a.engine, given.engine)
    check_workers(engine, a.loading.executor)
    settings = given.sampler | data_settings(a.data, a.queries)
    grid, members = grid_of(chosen, a)
    wishes = Wishes(cards=roles_of(chosen, a.recipe, a.samplers), settings=settings, grid=grid, members=members, n=a.n)
    points = points_of(chosen, wishes)
    if chosen.made:  # before anything is made
        check_held_out(points)
    task_card = asked_card(a.task or TASK, given.task, limit=a.limit, first=a.first, rules=a.rules)
    return _Checked(out=out, settings=settings, engine=engine, wishes=wishes, points=points, task_card=task_card)


def _takes_all(chosen: Study, a: StudyOptions) -> bool:
    """Whether every sampler that can run takes part, so that those that cannot are left out in a line."""
    return chosen.free and a.samplers is None


def _with_specs(checked: _Checked, console: Reporter) -> _Checked:
    """`checked` without the samplers that have no spec, for their cards name what is not there: a line for each."""
    left = []
    for point in checked.points:
        try:
            sampler_spec(point.card)
        except (UsageError, ModelError) as error:
            console.note(f"left out: {point.series}: {error}")
            left.append(point.role)
    cards = {role: card for role, card in checked.wishes.cards.items() if role not in left}
    points = [point for point in checked.points if point.role not in left]
    return replace(checked, wishes=replace(checked.wishes, cards=cards), points=points)


def _finished(chosen: Study, checked: _Checked, a: StudyOptions, console: Reporter) -> _Made:
    """The runs that are finished, with which a table is made.

    Which of all samplers can run is not known without the model, so that those without a run are left out.
    """
    card, points = checked.task_card, checked.points
    expected = {"task.name": card.name, "model.name": model_for(card, a.model), "limit": a.limit, "grading": a.rules}
    expected |= {"task.shuffle": card.shuffle, "task.stratify": card.stratify or None}
    there = runs_there(points, list(a.seeds), checked.out, expected)
    if _takes_all(chosen, a) and (left := [one.series for i, one in enumerate(points) if i not in there]):
        console.note(f"left out, without a finished run: {', '.join(left)}")
        points = [one for i, one in enumerate(points) if i in there]
        there = dict(enumerate(there.values()))
    return _Made(options=a, points=points, task_card=card, runs=there, pairs=[])


def _made(chosen: Study, checked: _Checked, a: StudyOptions, console: Reporter) -> _Made:
    """All runs; those that are missing are made."""
    points, card, engine, seeds = checked.points, checked.task_card, checked.engine, list(a.seeds)
    pairs = _pairs(chosen, points, card, a, _said(checked.wishes))
    if pairs.said:
        console.note(f"data: {pairs.settings['data.examples']} pairs ({pairs.said})")
        points = points_of(chosen, replace(checked.wishes, settings={**checked.settings, **pairs.settings}))
        a = replace(a, settings=(*a.settings, *(f"{key}={value}" for key, value in pairs.settings.items())))
    if line := engine.check_model(a.model):
        console.note(line)
    sandbox = choose(a.judge.sandbox, card.packages).name
    task = load_task(card)
    jobs = _jobs(points, seeds, card, sandbox=sandbox, a=a, engine=engine.spec())
    earlier = _earlier(jobs, card, engine.known(model_for(card, a.model)), checked.out)
    if (done := [run for run in earlier if run and _is_done(run)]) and len(done) == len(jobs):
        console.note(f"every run is there: engine {engine.name} is not asked, and nothing is spent")
        there = _by_point(points, [(point, run) for (point, _), run in zip(jobs, done, strict=True)])
        return _Made(options=a, points=points, task_card=card, runs=there, pairs=[])
    with closing(load_model_for(card, a.model, a.loading, engine, spent_before(earlier))) as model:
        card, task = task_for(card, task, model)
        if _takes_all(chosen, a):
            jobs, points = _able(jobs, points, task, model, console)
        setup = StudySetup(
            task=task,
            model=model,
            out=checked.out,
            cache=stage_cache(),
            workers=checked_workers(a.judge.workers),
            programs=a.judge.workers,
            price=a.judge.price_per_hour,
        )
        all_runs = runs_of(_settled(jobs, card, task, model), setup)
        for line in (*unused_loading(engine, a.loading), *_plan(chosen, all_runs, setup, seeds)):
            console.note(line)
        make(all_runs, setup, console)
        pairs_made = _pairs_made(chosen, points, seeds, setup=setup, console=console, mixed=a.mixed or MIXED)
    there = _by_point(points, [(run.point, open_run(run.path)) for run in all_runs])
    return _Made(options=a, points=points, task_card=card, runs=there, pairs=pairs_made)


def _pairs_made(
    chosen: Study, points: Sequence[Point], seeds: Sequence[int], *, setup: StudySetup, console: Reporter, mixed: int
) -> list[PairsOfSeed]:
    """What the pairs of a study of methods of synthesis are like; empty for another study."""
    if not chosen.made:
        return []
    how = Measuring(model=setup.model, problems=setup.task.problems, cache=setup.cache, console=console, mixed=mixed)
    return measured_pairs(points, seeds, how)


def _said(wishes: Wishes) -> dict[str, object]:
    """What the cards of a study say of their data, and the settings of its command, as pairs_for takes them."""
    named = filter(None, wishes.cards.values())  # a control has no card of its own
    of_cards = {key: value for card in named for key, value in said_of_data(card).items()}
    return {**of_cards, **wishes.settings}


def _pairs(chosen: Study, points: Sequence[Point], task: TaskCard, a: StudyOptions, settings: Mapping[str, object]) -> Pairs:
    """The pairs of a study whose command names none, as `run` takes them; `said` is empty where cards or command name them."""
    trained = {point.card.data.examples: point.card for point in points if point.card.trains}
    found = [pairs_for(card, task, model_for(task, a.model), settings) for card in trained.values()]
    if len(found) != 1 or not found[0].said:  # some cards have pairs of their own
        return Pairs({})
    if not found[0].settings:
        return Pairs({"data.examples": "mini"}, found[0].said)
    if chosen.key == "data.share":  # its shares are of the whole set, which is large
        return Pairs({"data.examples": "mini"}, "no --data was given, and this study takes shares of all pairs")
    return found[0]


def _jobs(
    points: Sequence[Point], seeds: Sequence[int], card: TaskCard, *, sandbox: str, a: StudyOptions, engine: Json
) -> list[tuple[Point, Job]]:
    """Jobs for all points of the first seed, then those of the next, so that a stopped study has complete seeds."""
    return [
        (
            point,
            Job(
                sampler=point.card,
                task=card,
                n=point.n,
                seed=seed,
                limit=a.limit,
                sandbox=sandbox,
                grading=a.rules,
                noise_floor=a.noise_floor,
                engine=engine,
            ),
        )
        for seed in seeds
        for point in points
    ]


def _able(
    jobs: Sequence[tuple[Point, Job]], points: Sequence[Point], task: Task, model: Model, console: Reporter
) -> tuple[list[tuple[Point, Job]], list[Point]]:
    """The jobs and points of samplers that can run here; a line for each that is left out. Raises UsageError for none."""
    left: list[Point] = []
    for point in points:
        job = next(job for other, job in jobs if other is point)
        try:
            check_draws(job.placed, job.n)
            check_task(job.placed, task, model, job.limit, kind=job.task.kind)
        except (UsageError, ModelError) as error:
            console.note(f"left out: {point.series}: {error}")
            left.append(point)
    kept = [point for point in points if point not in left]
    if not kept:
        raise UsageError(f"none of the {len(points)} samplers can run here; name some with --samplers")
    return [(point, job) for point, job in jobs if point in kept], kept


def _settled(jobs: Sequence[tuple[Point, Job]], card: TaskCard, task: Task, model: Model) -> list[tuple[Point, Job]]:
    """`jobs` with the card of their task as `model` is asked, and without a noise floor where none is needed.

    That depends on the prompts alone, which all runs share, so it is found out once.
    """
    noise = {job.noise_floor for _, job in jobs}
    if noise == {None}:
        asked = [(p.messages or p.text, p.max_new_tokens) for p in task.asked_by(model, jobs[0][1].limit).prompts]
        noise = {False if model.batch_free(asked) else None}
    [wanted] = noise
    return [(point, replace(job, task=card, noise_floor=wanted)) for point, job in jobs]


def _earlier(
    jobs: Sequence[tuple[Point, Job]], card: TaskCard, known: Mapping[str, object] | None, out: Path
) -> list[RunFolder | None]:
    """The run of each job that an earlier command has begun; empty for an engine that is not paid by the call."""
    return [] if known is None else earlier_runs([job for _, job in jobs], card, known, out)


def _is_done(run: RunFolder) -> bool:
    return is_drawn(run) and (run.path / "metrics.json").exists()


def _plan(chosen: Study, runs: Sequence[StudyRun], setup: StudySetup, seeds: Sequence[int]) -> list[str]:
    done = sum(run.done for run in runs)
    numerics = numerics_line(setup.model.numerics())
    samplers = ", ".join(dict.fromkeys(run.point.series for run in runs))
    varied = sorted({run.point.x for run in runs if run.point.x is not None})
    over = f"; {chosen.axis} {', '.join(f'{x:g}' for x in varied)}" if varied else ""
    problems = len(setup.task.problems[: runs[0].job.limit])
    answers = sum(run.job.n * problems for run in runs)
    papers = f" ({chosen.shows} of the SPA paper)" if chosen.shows else ""
    return [
        f"study: {chosen.name}{papers}: {samplers}{over}",
        f"model: {setup.model.name}: {numerics}; task: {setup.task.name}, {problems} problems",
        f"runs: {len(runs)} ({len(runs) // len(seeds)} points × {len(seeds)} seeds), {done} done, {answers} answers in all; "
        f"in {setup.out}",
    ]


def _by_point(points: Sequence[Point], runs: Sequence[tuple[Point, RunFolder]]) -> dict[int, list[RunFolder]]:
    by_place: dict[int, list[RunFolder]] = {}
    for point, run in runs:
        by_place.setdefault(points.index(point), []).append(run)
    return {place: by_place[place] for place in sorted(by_place)}


def _written(report: Report, folder: Path, console: Reporter) -> Report:
    """The report, after its page, pictures and rows are in `folder`. Raises StoreError when that fails."""
    files = {"md": page(report).encode(), "json": as_json(report).encode(), **pictures(report)}
    for path in write_files(files, folder, report.name):
        console.note(f"written: {path}")
    return report


# options -------------------------------------------------------------------------------------------------------------


def _check_folders(out: Path, write: Path) -> None:
    check_out(out)
    if (out / "spec.json").exists():
        raise UsageError(f"--out is {out}, which is a run; name a folder for the runs of the study")
    check_write(write)
