"""The command line: `spa-bench COMMAND`; options.py has the commands. Thin: it parses, calls and prints."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from spa_bench.arguments import check_limit, check_out, check_sandbox, data_of, label_of, price_of, seeds_of, workers_of
from spa_bench.errors import SpaBenchError, StoreError, UsageError
from spa_bench.gate_commands import ACTIONS as GATE_ACTIONS
from spa_bench.interrupt import patiently
from spa_bench.options import EMBEDDED, build
from spa_bench.spa_commands import ACTIONS as SPA_ACTIONS
from spa_bench.watch_commands import ACTIONS as WATCH_ACTIONS

if TYPE_CHECKING:
    from spa_bench.store import RunFolder
    from spa_bench.tasks.code import CodeTask

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 2 an error the user can mend (one line on stderr), 130 interrupted.

    `doctor` ends with 1 where the main job cannot run, `check` where runs fall behind their baseline.
    """
    from spa_bench.console import error_line, speakable

    # before torch is loaded: threads that spin on a busy machine fall to a fraction of one thread's speed
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    speakable()
    arguments = build(_ACTIONS).parse_args(argv)
    try:
        with patiently(error_line):
            return arguments.act(arguments) or 0
    except SpaBenchError as error:
        error_line(error)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as in `spa-bench list tasks | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        again = shlex.join(["spa-bench", *(sys.argv[1:] if argv is None else argv)])
        error_line(f"interrupted; nothing that was done is lost, go on with: {again}")
        return 130
    except OSError as error:
        if error.errno not in _DISK:
            raise
        error_line(f"{error.filename or 'the disk'}: {error.strerror}; make room or use another folder, and run it again")
        return 2


def entry() -> None:
    """The console script."""
    sys.exit(main())


# commands ------------------------------------------------------------------------------------------------------------


def _run(a: argparse.Namespace) -> None:
    from spa_bench.cards import load_sampler_card, load_task_card, parse_overrides
    from spa_bench.console import Reporter
    from spa_bench.extensions import load_metrics
    from spa_bench.loading import load_embedder, load_model
    from spa_bench.run import Job, check_draws, check_model, check_task, generate, grade, load_task
    from spa_bench.sandbox import choose
    from spa_bench.spa.training_data import read_sources
    from spa_bench.trackers.tracking import Tracking, names_of

    trackers = names_of(a.log)
    seeds, workers, price = seeds_of(a), workers_of(a), price_of(a)
    check_limit(a.limit)
    check_out(a.out)
    check_sandbox(a.sandbox, used=False)
    load_metrics(a.metrics)
    sampler_settings, task_settings = parse_overrides(a.settings)
    sampler_settings |= data_of(a)
    card, task_card = load_sampler_card(a.sampler, sampler_settings), load_task_card(a.task, task_settings)
    n = card.draws if a.n is None else a.n
    if a.n is None and n % card.members:
        n = card.members
    check_draws(card, n)
    read_sources(card)  # for their errors alone, before anything is said
    noise = {"auto": None, "yes": True, "no": False}[a.noise_floor]
    # before anything is computed: it may not be there
    task = load_task(task_card)
    sandbox = a.sandbox or "bwrap"
    if a.until != "generate" and task.runs_code:
        sandbox = choose(a.sandbox, task_card.packages).name
    model = load_model(a.model, a)
    check_task(card, task, model, a.limit)
    check_model(card, model, task)
    embedder = load_embedder(a.embedding, a) if a.embedding else None
    embedding = embedder.describe() if embedder else {}
    from spa_bench.plan import plan_lines
    from spa_bench.spa.stages import default_cache

    console = Reporter()
    for line in plan_lines(card, task, model, n=n, seeds=seeds, limit=a.limit, embedded=a.model == EMBEDDED):
        console.note(line)
    if embedder:
        console.note(f"embedding: {embedder.name}, the first {embedder.limit} tokens of a text")
    folders = []
    with Tracking(trackers, console.note, samples=a.log_samples) as tracking:
        for seed in seeds:
            reporter = tracking.reporter()
            job = Job(card, task_card, n, seed, a.limit, sandbox, a.grading, noise, embedding, tuple(a.metrics))
            cache = default_cache()
            folder = generate(job, task, model, a.out, cache, reporter, price=price, begun=tracking.begin)
            if a.until != "generate":
                load = (lambda: embedder) if embedder else None
                grade(folder, task, reporter, sandbox=None, workers=workers, embedder=load, price=price)
            tracking.finish("generated" if a.until == "generate" else "finished")
            folders.append(folder)
    if a.until == "generate":
        paths = [str(f.path) for f in folders]
        print(json.dumps(paths) if a.json else "\n".join(paths))
        console.note("grade with: spa-bench grade " + " ".join(str(f.path) for f in folders))
    else:
        _summary(folders, as_json=a.json)


def _grade(a: argparse.Namespace) -> None:
    from spa_bench.console import Reporter
    from spa_bench.extensions import load_metrics
    from spa_bench.leaderboard import number
    from spa_bench.loading import embedder_of, task_of
    from spa_bench.run import grade
    from spa_bench.store import ADDED, open_run
    from spa_bench.trackers.tracking import Tracking, names_of
    from spa_bench.types import Estimate

    own, trackers = load_metrics(a.metrics), names_of(a.log)
    workers, price = workers_of(a), price_of(a)
    check_sandbox(a.sandbox, used=True)
    folders = [(folder := open_run(path), embedder_of(folder, a)) for path in a.runs]
    with Tracking(trackers, Reporter().note, samples=a.log_samples) as tracking:
        for folder, load in folders:
            task = task_of(folder, a.task_file)
            console = tracking.reporter()
            tracking.begin(folder)
            grade(folder, task, console, sandbox=a.sandbox, workers=workers, embedder=load, metrics=a.metrics, price=price)
            tracking.finish("finished")
            found = (folder.read_json(ADDED) or {}).get("estimates", {})
            for name in (metric.name for metric in own if metric.name in found):
                console.note(f"{name}: {number(Estimate(**found[name]))}  ({folder.path / ADDED})")
    _summary([folder for folder, _ in folders], as_json=a.json)


def _score(a: argparse.Namespace) -> None:
    from spa_bench.cards import load_task_card, parse_overrides
    from spa_bench.console import Reporter
    from spa_bench.extensions import load_metrics
    from spa_bench.loading import load_embedder
    from spa_bench.run import grade, load_task
    from spa_bench.samples_file import import_samples
    from spa_bench.sandbox import NOT_NEEDED, choose
    from spa_bench.trackers.tracking import Tracking, names_of

    trackers = names_of(a.log)
    workers, label = workers_of(a), label_of(a.name, a.samples)
    check_out(a.out)
    load_metrics(a.metrics)
    sampler_settings, task_settings = parse_overrides(a.settings)
    if sampler_settings:
        raise UsageError(f"score has no sampler: --set takes keys that begin with task.; got {next(iter(sampler_settings))!r}")
    task = cast("CodeTask", load_task(load_task_card(a.task, task_settings)))
    if not hasattr(task, "question"):
        raise UsageError(f"score takes texts, and {task.name} also asks for probabilities; use run")
    sandbox = choose(a.sandbox, task.packages).name if task.runs_code else NOT_NEEDED
    embedder = load_embedder(a.embedding, a) if a.embedding else None
    embedding = embedder.describe() if embedder else {}
    console = Reporter()
    console.note(f"task: {task.name} {task.version}, {len(task.problems)} problems, found: {task.found}")
    folder = import_samples(
        a.samples,
        task,
        a.out,
        label=label,
        cut=a.cut,
        sandbox=sandbox,
        grading=a.grading,
        embedding=embedding,
        metrics=a.metrics,
    )
    console.note(f"run folder: {folder.path}")
    load = (lambda: embedder) if embedder else None
    with Tracking(trackers, console.note, samples=a.log_samples) as tracking:
        tracking.begin(folder)
        grade(folder, task, tracking.reporter(), sandbox=None, workers=workers, embedder=load)
        tracking.finish("finished")
    _summary([folder], as_json=a.json)


def _show(a: argparse.Namespace) -> None:
    from spa_bench.loading import task_of
    from spa_bench.show import show
    from spa_bench.store import open_run

    folders = [open_run(path) for path in a.runs]
    for folder in folders:
        if len(folders) > 1:
            print(f"== {folder.path}")
        print(show(folder, task_of(folder, a.task_file), a.problem))


def _list(a: argparse.Namespace) -> None:
    from spa_bench.catalogue import catalogue

    print(catalogue(a.what))


def _leaderboard(a: argparse.Namespace) -> int:
    from spa_bench import leaderboard

    if a.submit:
        return _submit(a)
    results = leaderboard.find_results(a.runs)
    if a.save:
        for path in leaderboard.save_all(results, a.save):
            print(path, file=sys.stderr)
    rows = leaderboard.build_rows(results)
    if a.reference and all(r.label != a.reference for r in rows):
        there = ", ".join(sorted({r.label for r in rows}))
        raise UsageError(f"no runs of the reference {a.reference!r} here; there are {there}")
    form = "json" if a.json else a.format
    if form == "json":
        text = json.dumps([r.to_json() for r in rows], indent=1)
    elif form == "md":
        again = shlex.join(
            ["spa-bench", "leaderboard", *map(str, a.runs), *(["--reference", a.reference] if a.reference else [])]
        )
        text = leaderboard.markdown(rows, reference=a.reference, command=again)
    else:
        text = leaderboard.as_csv(rows) if form == "csv" else leaderboard.as_latex(rows)
    print(text.rstrip())
    if a.write:
        try:
            a.write.parent.mkdir(parents=True, exist_ok=True)
            a.write.write_text(text.rstrip() + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {a.write}: {error.strerror}") from error
    return 0


def _submit(a: argparse.Namespace) -> int:
    """Check result files; 1 when one has faults."""
    from spa_bench.leaderboard import check

    found = {str(path): check(path) for path in a.runs}
    if a.json:
        print(json.dumps(found, indent=1))
    else:
        for path, faults in found.items():
            print("\n".join(f"{path}: {fault}" for fault in faults) if faults else f"{path}: complete and consistent")
    return 1 if any(found.values()) else 0


def _verify(a: argparse.Namespace) -> int:
    """0: all are whole, 1: something was found, 2: something could not be checked."""
    from spa_bench.console import error_line
    from spa_bench.loading import task_of
    from spa_bench.spa.stages import default_cache
    from spa_bench.store import open_run
    from spa_bench.verify import notes, verify

    found, unchecked = {}, False
    for path in a.runs:
        said: list[str] = []
        try:
            folder = open_run(path)
            faults = verify(folder, task_of(folder, a.task_file), cache=default_cache())
            said = notes(folder)
        except StoreError as error:  # one run that cannot be read must not hide the others
            faults = [str(error)]
        except SpaBenchError as error:  # what is needed to check it is not here
            error_line(error)
            unchecked = True
            continue
        found[str(path)] = faults
        if not a.json:
            print("\n".join([*(faults or [f"{path}: whole"]), *said]))
    if a.json:
        print(json.dumps(found, indent=1))
    return 2 if unchecked else 1 if any(found.values()) else 0


def _rerun(a: argparse.Namespace) -> int:
    import tempfile

    from spa_bench.console import Reporter
    from spa_bench.loading import check_data, embedder_of, job_of, model_of, task_of
    from spa_bench.rerun import compare
    from spa_bench.run import generate, grade
    from spa_bench.spa.stages import default_cache
    from spa_bench.store import open_run

    workers = workers_of(a)
    check_sandbox(a.sandbox, used=True)
    there = open_run(a.run)
    load = embedder_of(there, a)
    job = job_of(there, a.task_file, data=a.data, queries=a.queries)
    task = task_of(there, a.task_file)
    model, embedder = model_of(there, a), load() if job.embedding else None  # what is not here is missed before hours of work
    check_data(there, job, model)
    out = a.out or there.path.resolve().parent.parent / "reruns"
    if out.resolve() in (there.path.resolve(), there.path.resolve().parent):
        raise UsageError(f"--out {out} is where the run itself lies; name another folder for its repetition")
    console = Reporter()
    console.note(f"repeating {there.path} in {out}")
    with tempfile.TemporaryDirectory(prefix="spa-bench-rerun-") as fresh:
        cache = default_cache() if a.use_cache else Path(fresh)
        here = generate(job, task, model, out, cache, console, again=True)
        grade(here, task, console, sandbox=a.sandbox, workers=workers, embedder=(lambda: embedder) if embedder else None)
    found = compare(there, here)
    if a.json:
        print(json.dumps({"same": found.same, "run": str(here.path), **asdict(found)}, indent=1))
    else:
        print("\n".join(found.lines()))
    return 0 if found.same else 1


def _doctor(a: argparse.Namespace) -> int:
    from spa_bench.console import error_line
    from spa_bench.doctor import examine, obstacle, table

    rows = examine()
    print(json.dumps([vars(row) for row in rows], indent=1) if a.json else table(rows))
    if reason := obstacle(rows):
        error_line(reason)
    return 1 if reason else 0


def _export(a: argparse.Namespace) -> None:
    from spa_bench.console import Reporter
    from spa_bench.export import export
    from spa_bench.loading import task_of
    from spa_bench.store import open_run

    folder = open_run(a.run)
    console = Reporter()
    for line in export(folder, task_of(folder, a.task_file), to=a.to, out=a.out):
        console.note(line)
    console.note(f"how to use it: {a.out / 'README.md'}")
    print(a.out)


def _power(a: argparse.Namespace) -> None:
    from spa_bench import power

    design, counts = power.design_of(a)
    if a.task:
        from spa_bench.cards import load_task_card
        from spa_bench.run import load_task

        counts = [len(load_task(load_task_card(a.task)).problems)]
    found = power.rows(design, a.problems or counts, a.difference)
    print(json.dumps(power.content(design, found), indent=1) if a.json else power.table(design, found))


def _study(a: argparse.Namespace) -> None:
    from spa_bench.study.command import study

    study(a)


# helpers -------------------------------------------------------------------------------------------------------------


def _summary(folders: Sequence[RunFolder], *, as_json: bool) -> None:
    from spa_bench.leaderboard import build_rows, from_runs, table
    from spa_bench.show import choices_table, ending

    rows = build_rows(from_runs(folders))
    if as_json:
        print(json.dumps([r.to_json() for r in rows], indent=1))
        return
    for key in dict.fromkeys(r.table_key for r in rows):
        mine = [r for r in rows if r.table_key == key]
        print(f"{mine[0].title}\n{table(mine, style='plain')}")
    if found := choices_table(folders):
        print(f"\n{found}\n")
    for folder in folders:
        print(ending(folder))


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "run": _run,
    "grade": _grade,
    "score": _score,
    "show": _show,
    "list": _list,
    "leaderboard": _leaderboard,
    "doctor": _doctor,
    "verify": _verify,
    "rerun": _rerun,
    "export": _export,
    "power": _power,
    **GATE_ACTIONS,
    **SPA_ACTIONS,
    **WATCH_ACTIONS,
    "study": _study,
}

if __name__ == "__main__":
    entry()
