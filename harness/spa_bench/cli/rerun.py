"""`spa-bench rerun`: repeat a run from its spec, and report what differs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import (
    OUTPUT,
    WHERE,
    Embedding,
    Json,
    Judge,
    Loading,
    ModelWorkers,
    RunFolder,
    TaskFile,
    a_path,
    option,
    overrides,
)


def rerun(
    run: RunFolder,
    /,
    *,
    use_cache: Annotated[bool, option("take adapters from the stage cache instead of training them again", WHERE)] = False,
    task_file: TaskFile = None,
    data: Annotated[Path | None, a_path("where the run's training pairs are on this machine", WHERE, metavar="FILE")] = None,
    queries: Annotated[
        Path | None, a_path("where the run's attribution queries are on this machine", WHERE, metavar="FILE")
    ] = None,
    loading: Loading | None = None,
    spread: ModelWorkers | None = None,
    judge: Judge | None = None,
    embedding: Embedding = None,
    settings: Annotated[
        tuple[str, ...], overrides("an option of the engine that no spec has, e.g. engine.base_url=http://host:8000 for vllm")
    ] = (),
    out: Annotated[
        Path | None,
        a_path("where the repetition goes (default: reruns, beside the folder of runs)", OUTPUT, metavar="DIR"),
    ] = None,
    as_json: Json = False,
) -> int:
    """Do a run again from its spec and say what came out otherwise. The exit code is 1 where anything did."""
    from spa_bench.runs import rerun as repeat

    loading, spread, judge = loading or Loading(), spread or ModelWorkers(), judge or Judge()
    options = repeat.RerunOptions(
        out=out,
        use_cache=use_cache,
        task_file=task_file,
        data=data,
        queries=queries,
        batch_size=loading.batch_size,
        trust_remote_code=loading.trust_remote_code,
        executor=spread.executor_options(),
        judge=judge.options(),
        embedding=embedding,
        settings=settings,
    )
    folder, differences = repeat.rerun(run, options)
    if as_json:
        print(json.dumps({"same": differences.same, "run": str(folder.path), **asdict(differences)}, indent=1))
    else:
        print("\n".join(differences.lines()))
    return 0 if differences.same else 1
