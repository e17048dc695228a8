"""`spa-bench similarity triplets|learn`: a similarity of texts that is learned, for the Vendi score and for archives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import OUTPUT, WHAT, WHERE, Json, Results, a_count, a_path, option

Seed = Annotated[int, a_count("seed of what is drawn or held out", WHAT)]


def triplets(
    runs: Results,
    /,
    *,
    out: Annotated[Path, a_path("write the triplets there, a JSON object a line", OUTPUT, metavar="FILE.jsonl")],
    a_problem: Annotated[int, a_count("the most triplets of a problem", WHAT, name="--a-problem")] = 20,
    seed: Seed = 0,
) -> None:
    """Triplets from what the programs of runs do: anchor and near do the same on the probes of their problem, far does not."""
    from spa_bench.errors import UsageError
    from spa_bench.runs.find import run_paths
    from spa_bench.runs.folder import given_run
    from spa_bench.runs.triplets import triplets_of_runs, write_triplets

    if a_problem < 1:
        raise UsageError(f"--a-problem is {a_problem}; it must be at least 1")
    paths = [found for path in runs for found in run_paths(path) or [path]]
    made = triplets_of_runs([given_run(path) for path in paths], a_problem=a_problem, seed=seed)
    write_triplets(made, out)
    origins = {(t.origin.task, t.origin.problem) for t in made if t.origin}
    print(f"{len(made)} triplets of {len(origins)} problems of {', '.join(sorted({task for task, _ in origins}))} in {out}")


def learn(
    triplets: Annotated[
        list[Path], a_path("files of triplets: rows with anchor, near, far, and group if there is one", metavar="TRIPLETS")
    ],
    /,
    *,
    encoder: Annotated[
        str,
        option("the model whose embeddings are projected; embedded: ours", WHAT, metavar="PATH|HUB-ID"),
    ],
    out: Annotated[Path, a_path("write the similarity there: a new folder, for --embedding", OUTPUT, metavar="DIR")],
    dims: Annotated[int, a_count("coordinates of the projection", WHAT)] = 8,
    seed: Seed = 0,
    device: Annotated[str, option("cpu, cuda, cuda:1 or auto", WHERE)] = "auto",
    as_json: Json = False,
) -> None:
    """Learn from triplets which texts are alike, and say how often triplets that were held out are told right."""
    from spa_bench.compare.leaderboard import number
    from spa_bench.runs.similarity import LearnOptions, learn_similarity
    from spa_bench.support.console import Reporter

    options = LearnOptions(encoder=encoder, dims=dims, seed=seed, device=device)
    shown, about = learn_similarity(triplets, out, options, Reporter())
    if as_json:
        print(json.dumps(about, indent=1))
        return
    print(f"held out: {shown.triplets} triplets of {shown.groups} groups, told right by")
    for name, value in (("the learned similarity", shown.learned), ("the encoder's cosine", shown.plain)):
        print(f"  {name}: {number(value)}")
    print(f"  difference: {number(shown.difference)}")
    print(f"folder: {out}")
