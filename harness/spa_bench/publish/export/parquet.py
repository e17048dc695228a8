"""Runs as Parquet: a file for each table of `tables`, for pandas, DuckDB, Polars and R."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.publish.export import facts, tables
from spa_bench.publish.export.samples import Content, Samples


def content(runs: Sequence[Samples]) -> Content:
    """NAME.parquet for each table that has rows, and README.md. Raises as `tables.tables`."""
    files = tables.tables(runs)
    left_out = tables.left_out(runs)
    notes = tuple(
        f"{s.run.path.name} is not graded: its verdicts and metrics are null or absent; see `spa-bench grade`"
        for s in runs
        if not s.graded
    )
    about = "\n".join(f"- `{name}.parquet`: {tables.ABOUT[name]}." for name in files)
    readme = f"""# {facts.title(runs)}, as tables

{about}

Every table but `problems` begins with `run`, the hash of the run's spec, and `task`, `sampler`, `model` and `seed`.

    import pandas as pd
    samples = pd.read_parquet("samples.parquet")

    duckdb -c "select sampler, avg(passed::int) from 'samples.parquet' group by sampler"

{facts.run_lines(runs)}
{facts.said_left_out(left_out)}"""
    return Content({**{f"{name}.parquet": data for name, data in files.items()}, "README.md": readme.encode()}, notes, left_out)
