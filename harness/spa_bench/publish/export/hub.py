"""Runs as a dataset folder of the Hugging Face hub: Parquet files, the specs, and a card that says how they were made.

`datasets.load_dataset(FOLDER, "samples")` reads the folder as it is, and a push makes it a dataset of the hub: the card's
`configs` name the files. The split is `test`, because answers to a benchmark are not to be trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from spa_bench.errors import UsageError
from spa_bench.publish.export import facts, tables
from spa_bench.publish.export.samples import Content, Samples
from spa_bench.runs.folder import spec_bytes

UNKNOWN = "unknown"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def content(runs: Sequence[Samples], licence: str = UNKNOWN) -> Content:
    """data/NAME.parquet, specs/HASH.json and README.md, the card.

    Raises UsageError for a `licence` that cannot be an identifier of the hub, and as `tables.tables`.
    """
    if not _LICENCE.fullmatch(licence):
        raise UsageError(f"--license is {licence!r}; it is an identifier of the hub, such as apache-2.0, cc-by-4.0 or other")
    files = tables.tables(runs)
    left_out = tables.left_out(runs)
    written = {f"data/{name}.parquet": data for name, data in files.items()}
    written |= {f"specs/{s.run.hash}.json": spec_bytes(s.run.spec) for s in runs}
    card = _front(runs, list(files), licence) + _body(runs, list(files), licence, left_out)
    notes = tuple(f"{s.run.path.name} is not graded: its verdicts and metrics are absent" for s in runs if not s.graded)
    if licence == UNKNOWN:
        notes += (
            "the card's licence is 'unknown': problems keep the licence of their benchmark, and answers may have one of "
            "their model's; --license ID sets it",
        )
    if places := facts.places(runs):
        notes += (f"the specs name places on this machine ({', '.join(places)}): look at them before you push",)
    return Content({**written, "README.md": card.encode()}, notes, left_out)


def _front(runs: Sequence[Samples], names: Sequence[str], licence: str) -> str:
    """The YAML between the lines of dashes; a value in JSON is one in YAML."""
    count = sum(s.count for s in runs)
    size = next((said for most, said in _SIZES if count < most), "n>10M")
    tags = ["spa-bench", "evaluation", "diversity", *sorted({s.task.name for s in runs})]
    lines = [
        "---",
        f"pretty_name: {json.dumps(facts.title(runs))}",
        f"license: {licence}",
        f"tags: {json.dumps(tags)}",
        f"size_categories: {json.dumps([size])}",
        "configs:",
    ]
    for name in sorted(names, key=lambda one: one != "samples"):
        lines += [f"- config_name: {name}", f"  data_files: [{{split: test, path: data/{name}.parquet}}]"]
        lines += ["  default: true"] if name == "samples" else []
    return "\n".join([*lines, "---", ""])


def _body(runs: Sequence[Samples], names: Sequence[str], licence: str, left_out: Sequence[str]) -> str:
    about = "\n".join(f"- `{name}`: {tables.ABOUT[name]}." for name in names)
    first = runs[0].run.spec
    made = f"spa-bench {first['versions'].get('spa-bench', '')}".strip()
    terms = "Its licence is not stated yet." if licence == UNKNOWN else f"Its licence is `{licence}`."
    return f"""
# {facts.title(runs)}

Answers of language models to the problems of a benchmark, their verdicts, and metrics of quality and diversity with intervals,
made with {made}. A *sampler* is a way of drawing answers: one or more members, each with an adapter or none, and a
decoding.

{about}

    from datasets import load_dataset
    samples = load_dataset("USER/NAME", "samples", split="test")  # or the path of this folder

## How it was made

{facts.run_lines(runs)}
Everything that can change a number of a run is in `specs/HASH.json`, and in the column `spec` of `runs`: sampler, decoding,
seed, hashes of model, data and problems, versions, machine. `spa-bench rerun` repeats a run.
Intervals: {facts.INTERVAL}.
An answer without a text has failed: it is wrong, and no different from any other.

## Terms

{terms} Problems keep the licence of their benchmark. Programs were written by a model: run them in a sandbox
alone. Please do not train on a benchmark's answers; the split is therefore `test`.

## Push it

    hf upload USER/NAME . --repo-type dataset --exclude export.json

{facts.said_left_out(left_out)}"""
