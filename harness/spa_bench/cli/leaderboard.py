"""`spa-bench leaderboard`: a table of runs, seeds pooled, with paired differences."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from spa_bench.cli.options import OUTPUT, WHAT, Results, TaskFile, a_path, name_metrics, name_samplers, option
from spa_bench.errors import UsageError
from spa_bench.support.files import write_text

if TYPE_CHECKING:
    from spa_bench.runs.folder import RunFolder


def leaderboard(
    runs: Results,
    /,
    *,
    reference: Annotated[
        str | None,
        option("print paired differences of this sampler against the others", WHAT, metavar="SAMPLER", completer=name_samplers),
    ] = None,
    sort: Annotated[
        str | None,
        option("sort each task's rows by this metric, the best first", WHAT, metavar="METRIC", completer=name_metrics),
    ] = None,
    at_equal: Annotated[
        Literal["tokens", "seconds"] | None,
        option("compare, and sort, at an equal budget a problem: tokens drawn, or seconds of generation", WHAT),
    ] = None,
    submit: Annotated[bool, option("only check that RUNS are complete and consistent result files", WHAT)] = False,
    again: Annotated[
        Literal["recompute", "regrade"] | None,
        option(
            "with --submit: recompute all metrics from the samples beside each file; regrade runs its programs here first",
            WHAT,
            name="--from-samples",
        ),
    ] = None,
    task_file: TaskFile = None,
    style: Annotated[Literal["md", "csv", "json", "latex"], option("of the table", OUTPUT, name="--format")] = "md",
    as_json: Annotated[bool, option("the same as --format json", OUTPUT, name="--json")] = False,
    write: Annotated[Path | None, a_path("write it there too", OUTPUT, metavar="FILE")] = None,
    save: Annotated[
        Path | None,
        a_path("write a result file for each row, or one file that has all of them", OUTPUT, metavar="DIR|FILE.json"),
    ] = None,
    samples: Annotated[
        bool, option("with --save: write the samples of the runs beside each file too, so that others can recompute it", OUTPUT)
    ] = False,
    measured_by: Annotated[
        str | None,
        option(
            "with --save: who made these runs, a line that stands in the files, e.g. a name and a URL", OUTPUT, metavar="LINE"
        ),
    ] = None,
) -> int:
    """A table of runs, seeds pooled, with paired differences."""
    from spa_bench.compare import leaderboard as board

    if again and not submit:
        raise UsageError(f"--from-samples {again} is a part of --submit; give that too")
    if submit:
        return _submit(runs, again, task_file, as_json=as_json)
    if save is None and (measured_by is not None or samples):
        given = "--measured-by stands in" if measured_by is not None else "--samples goes beside"
        raise UsageError(f"{given} the files that --save writes; give --save too")
    results, folders = board.find_with_runs(runs)
    if measured_by is not None:
        results = board.marked(results, measured_by)
    rows = board.build_rows(results)
    if reference:
        board.row_of(rows, reference)
    rows, budgets = board.arrange(rows, sort=sort, what=at_equal)
    spent = {one.row.result["group_hash"]: (budget, one) for budget in budgets.values() for one in budget.rows}
    if save:
        _save(results, folders if samples else None, save)
    form = "json" if as_json else style
    if form == "json":
        extra = {group: {"at_equal": board.budget_json(budget, one)} for group, (budget, one) in spent.items()}
        text = json.dumps([row.to_json() | extra.get(row.result["group_hash"], {}) for row in rows], indent=1)
    elif form == "md":
        named = {"--reference": reference, "--sort": sort, "--at-equal": at_equal}
        options = [word for name, value in named.items() if value for word in (name, value)]
        command = shlex.join(["spa-bench", "leaderboard", *map(str, runs), *options])
        text = board.markdown(rows, reference=reference, command=command, budgets=budgets)
    else:
        at = {group: board.measured(one) for group, (_, one) in spent.items()}
        text = board.as_csv(rows, at=at) if form == "csv" else board.as_latex(rows, budgets=budgets)
    print(text.rstrip())
    if write:
        write_text(write, text.rstrip() + "\n")
    return 0


def _save(results: Sequence[dict[str, Any]], runs: Sequence[RunFolder] | None, save: Path) -> None:
    """Write the files of `results`, with the samples of `runs` beside them, if given, and print their names on stderr."""
    from spa_bench.compare import leaderboard as board
    from spa_bench.compare.submission import check_runs, save_samples

    if runs is not None:
        check_runs(results, runs)
    written = board.save_all(results, save)
    if runs is not None:
        each = [results] if save.suffix == ".json" else [[result] for result in results]
        written += [save_samples(path, mine, runs) for path, mine in zip(written, each, strict=True)]
    for path in written:
        print(path, file=sys.stderr)


def _submit(files: Sequence[Path], again: str | None, task_file: Path | None, *, as_json: bool) -> int:
    """Check result files, and print the rows that they would add; the exit code is 1 when one has faults."""
    from spa_bench.compare.submission import inspect_file

    if missing := [path for path in files if not path.is_file()]:
        raise UsageError(f"{missing[0]} is no file; --submit checks result files")
    found = {
        str(path): inspect_file(path, recomputed=again is not None, regrade=again == "regrade", task_file=task_file)
        for path in files
    }
    if as_json:
        print(json.dumps({path: one.to_json() for path, one in found.items()}, indent=1))
    else:
        for path, one in found.items():
            print("\n".join(f"{path}: {line}" for line in [*(one.faults or ["complete and consistent"]), *one.notes]))
        for one in found.values():
            print(f"\n{text}" if (text := one.markdown()) else "")
    return 1 if any(one.faults for one in found.values()) else 0
