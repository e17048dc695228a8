"""`spa-bench leaderboard`: a table of runs, seeds pooled, with paired differences."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from spa_bench.cli.options import OUTPUT, WHAT, Results, a_path, name_metrics, name_samplers, option
from spa_bench.errors import UsageError
from spa_bench.support.files import write_text


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
    style: Annotated[Literal["md", "csv", "json", "latex"], option("of the table", OUTPUT, name="--format")] = "md",
    as_json: Annotated[bool, option("the same as --format json", OUTPUT, name="--json")] = False,
    write: Annotated[Path | None, a_path("write it there too", OUTPUT, metavar="FILE")] = None,
    save: Annotated[
        Path | None,
        a_path("write a result file for each row, or one file that has all of them", OUTPUT, metavar="DIR|FILE.json"),
    ] = None,
    measured_by: Annotated[
        str | None,
        option(
            "with --save: who made these runs, a line that stands in the files, e.g. a name and a URL", OUTPUT, metavar="LINE"
        ),
    ] = None,
) -> int:
    """A table of runs, seeds pooled, with paired differences."""
    from spa_bench.compare import leaderboard as board

    if submit:
        return _submit(runs, as_json=as_json)
    if measured_by is not None and save is None:
        raise UsageError("--measured-by stands in the files that --save writes; give --save too")
    results = board.find_results(runs)
    if measured_by is not None:
        results = board.marked(results, measured_by)
    rows = board.build_rows(results)
    if reference:
        board.row_of(rows, reference)
    rows, budgets = board.arrange(rows, sort=sort, what=at_equal)
    spent = {one.row.result["group_hash"]: (budget, one) for budget in budgets.values() for one in budget.rows}
    if save:
        for path in board.save_all(results, save):
            print(path, file=sys.stderr)
    form = "json" if as_json else style
    if form == "json":
        extra = {group: {"at_equal": board.budget_json(budget, one)} for group, (budget, one) in spent.items()}
        text = json.dumps([row.to_json() | extra.get(row.result["group_hash"], {}) for row in rows], indent=1)
    elif form == "md":
        given = {"--reference": reference, "--sort": sort, "--at-equal": at_equal}
        options = [word for name, value in given.items() if value for word in (name, value)]
        again = shlex.join(["spa-bench", "leaderboard", *map(str, runs), *options])
        text = board.markdown(rows, reference=reference, command=again, budgets=budgets)
    else:
        at = {group: board.measured(one) for group, (_, one) in spent.items()}
        text = board.as_csv(rows, at=at) if form == "csv" else board.as_latex(rows, budgets=budgets)
    print(text.rstrip())
    if write:
        write_text(write, text.rstrip() + "\n")
    return 0


def _submit(files: Sequence[Path], *, as_json: bool) -> int:
    """Check result files; the exit code is 1 when one has faults."""
    from spa_bench.compare.leaderboard import check

    if missing := [path for path in files if not path.is_file()]:
        raise UsageError(f"{missing[0]} is no file; --submit checks result files")
    faults = {str(path): check(path) for path in files}
    if as_json:
        print(json.dumps(faults, indent=1))
    else:
        for path, lines in faults.items():
            print("\n".join(f"{path}: {line}" for line in lines) if lines else f"{path}: complete and consistent")
    return 1 if any(faults.values()) else 0
