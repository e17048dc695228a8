"""The command line: `spa-bench COMMAND`; options.py has the commands. Thin: it parses, calls and prints."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence

from spa_bench.cli.gate import ACTIONS as GATE_ACTIONS
from spa_bench.cli.options import build
from spa_bench.cli.report import ACTIONS as WATCH_ACTIONS
from spa_bench.cli.run import ACTIONS as RUN_ACTIONS
from spa_bench.cli.spa import ACTIONS as SPA_ACTIONS
from spa_bench.errors import SpaBenchError, StoreError, UsageError
from spa_bench.support.files import write_text
from spa_bench.support.interrupt import patiently

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_NAMED = _FULL | {errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}
"""Errors of the system in which nothing but what the user named can be at fault."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 2 an error the user can mend (one line on stderr), 130 interrupted.

    `doctor` ends with 1 where the main job cannot run, `check` where runs fall behind their baseline.
    """
    from spa_bench.support.console import error_line, speakable

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
        if error.errno not in _NAMED:
            raise
        more = "; make room or use another folder, and run it again" if error.errno in _FULL else ""
        error_line(f"{error.filename or 'the disk'}: {error.strerror}{more}")
        return 2


def entry() -> None:
    """The console script. What nobody foresaw ends in 70, so that a fault of ours is not taken for a red check."""
    try:
        sys.exit(main())
    except Exception:
        import traceback

        traceback.print_exc()
        print("spa-bench: this is a fault of spa-bench; please report it with the lines above", file=sys.stderr)
        sys.exit(70)


def _show(a: argparse.Namespace) -> None:
    from spa_bench.publish.show import show
    from spa_bench.runs.folder import open_run
    from spa_bench.runs.reopen import task_of

    folders = [open_run(path) for path in a.runs]
    for folder in folders:
        if len(folders) > 1:
            print(f"== {folder.path}")
        print(show(folder, task_of(folder, a.task_file), a.problem))


def _list(a: argparse.Namespace) -> None:
    from spa_bench.cli.list import catalogue

    print(catalogue(a.what))


def _leaderboard(a: argparse.Namespace) -> int:
    from spa_bench.compare import leaderboard

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
        write_text(a.write, text.rstrip() + "\n")
    return 0


def _submit(a: argparse.Namespace) -> int:
    """Check result files; 1 when one has faults."""
    from spa_bench.compare.leaderboard import check

    if missing := [path for path in a.runs if not path.is_file()]:
        raise UsageError(f"{missing[0]} is no file; --submit checks result files")
    found = {str(path): check(path) for path in a.runs}
    if a.json:
        print(json.dumps(found, indent=1))
    else:
        for path, faults in found.items():
            print("\n".join(f"{path}: {fault}" for fault in faults) if faults else f"{path}: complete and consistent")
    return 1 if any(found.values()) else 0


def _verify(a: argparse.Namespace) -> int:
    """0: all are whole, 1: something was found, 2: something could not be checked."""
    from spa_bench.runs.folder import open_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.runs.verify import notes, verify
    from spa_bench.support.cache import stage_cache
    from spa_bench.support.console import error_line

    found, unchecked = {}, False
    for path in a.runs:
        said: list[str] = []
        try:
            folder = open_run(path)
            faults = verify(folder, task_of(folder, a.task_file), cache=stage_cache())
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


def _doctor(a: argparse.Namespace) -> int:
    from spa_bench.cli.doctor import examine, obstacle, table
    from spa_bench.support.console import error_line

    rows = examine()
    print(json.dumps([vars(row) for row in rows], indent=1) if a.json else table(rows))
    if reason := obstacle(rows):
        error_line(reason)
    return 1 if reason else 0


def _export(a: argparse.Namespace) -> None:
    from spa_bench.publish.export import export
    from spa_bench.runs.folder import open_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.support.console import Reporter

    folder = open_run(a.run)
    console = Reporter()
    for line in export(folder, task_of(folder, a.task_file), to=a.to, out=a.out):
        console.note(line)
    console.note(f"how to use it: {a.out / 'README.md'}")
    print(a.out)


def _power(a: argparse.Namespace) -> None:
    from spa_bench.compare import power

    design, counts = power.design_of(a)
    if a.task:
        from spa_bench.cards.task import load_task_card
        from spa_bench.runs.job import load_task

        counts = [len(load_task(load_task_card(a.task)).problems)]
    found = power.rows(design, a.problems or counts, a.difference)
    print(json.dumps(power.content(design, found), indent=1) if a.json else power.table(design, found))


def _study(a: argparse.Namespace) -> None:
    from spa_bench.cli.study import study

    study(a)


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    **RUN_ACTIONS,
    "show": _show,
    "list": _list,
    "leaderboard": _leaderboard,
    "doctor": _doctor,
    "verify": _verify,
    "export": _export,
    "power": _power,
    **GATE_ACTIONS,
    **SPA_ACTIONS,
    **WATCH_ACTIONS,
    "study": _study,
}

if __name__ == "__main__":
    entry()
