"""`spa-bench describe`: quality, diversity and complexity of data sets, and their likeness to a target."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

from spa_bench.cli.options import GRADED, OUTPUT, WHAT, WHERE, Json, a_count, a_path, name_models, option, overrides


def describe(
    sources: Annotated[
        list[str],
        option(
            "data sets: files, hub:NAME, mini or mini-nlu, as run's --data (docs/how-to/describe-data.md)", metavar="SOURCE"
        ),
    ],
    /,
    *,
    target: Annotated[
        str | None,
        option("a source with which the others are compared, such as the data that is wanted", WHAT, metavar="SOURCE"),
    ] = None,
    parts: Annotated[
        Path | None,
        a_path(
            "a partition of the only source, a row for each part: a folder that `spa partition` printed, or a file of labels",
            WHAT,
            metavar="DIR|FILE",
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "the model under which loss, perplexity and gradients are (default: embedded for mini and mini-nlu, else none)",
            WHAT,
            metavar="NAME|PATH|HUB-ID|none",
            completer=name_models,
        ),
    ] = None,
    encoder: Annotated[
        str,
        option("what gives each pair a vector: tf-idf, embedded, or a model as attribution.encoder", WHAT, metavar="NAME"),
    ] = "tf-idf",
    judge: Annotated[
        str | None, option("a model that rates each pair from 1 to 10", WHAT, metavar="NAME|PATH|HUB-ID", completer=name_models)
    ] = None,
    judge_template: Annotated[
        str, option("what the judge is asked: a template of ours, or a file", WHAT, metavar="NAME|FILE")
    ] = "answer-quality",
    limit: Annotated[
        int | None, a_count("pairs of each source, drawn with the seed (default: 1000)", WHAT, metavar="L")
    ] = None,
    share: Annotated[
        float | None, option("the share of each source that is measured, instead; 1: all", WHAT, metavar="X")
    ] = None,
    at: Annotated[
        int | None,
        a_count(
            "m, the pairs at which measures that depend on their number are (default: half of the smallest set, at most 128)",
            WHAT,
            metavar="M",
        ),
    ] = None,
    no_gradients: Annotated[bool, option("leave out the Vendi score of gradients, which takes longest", WHAT)] = False,
    no_run: Annotated[bool, option("run no program: the shares that run and pass are left out", GRADED)] = False,
    sandbox: Annotated[
        str | None, option("bwrap, docker, landlock (default: the first that works here) or none-i-trust-this-code", GRADED)
    ] = None,
    workers: Annotated[int | None, a_count("programs at once (default: the cores of this process)", GRADED)] = None,
    settings: Annotated[tuple[str, ...], overrides("override a key of [data], e.g. data.unusable=drop")] = (),
    seed: Annotated[int, a_count("seed of what is drawn", WHAT)] = 0,
    device: Annotated[str, option("auto, cpu or cuda", WHERE)] = "auto",
    dtype: Annotated[str, option("auto, float32, bfloat16 or float16", WHERE)] = "auto",
    threads: Annotated[int | None, a_count("CPU threads (default: the cores this process may use)", WHERE)] = None,
    revision: Annotated[str | None, option("branch, tag or commit of a model on the hub", WHERE)] = None,
    out: Annotated[
        Path | None,
        a_path(
            "write a page (.html, or .md with its picture beside it) or a picture (.svg, .png, .pdf)", OUTPUT, metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Quality, diversity and complexity of data sets, each with an interval; and how like a target they are."""
    from spa_bench.datasets.describe import How
    from spa_bench.datasets.from_sources import DescribeOptions, describe_sources, write
    from spa_bench.datasets.tables import text
    from spa_bench.publish.report.document import document
    from spa_bench.runs.reopen import ModelOptions
    from spa_bench.support.console import Reporter

    options = DescribeOptions(
        sources=tuple(sources),
        target=target,
        parts=parts,
        model=model,
        loading=ModelOptions(device=device, dtype=dtype, threads=threads, revision=revision),
        judge=judge,
        limit=limit,
        share=share,
        settings=settings,
        run=not no_run,
        sandbox=sandbox,
        workers=workers,
        how=How(seed=seed, encoder=encoder, size=at, gradients=not no_gradients, judge_template=judge_template),
        out=out,
    )
    console = Reporter()
    found = describe_sources(options, console)
    if out is not None:
        said = {"--target": target, "--parts": parts, "--model": model, "--judge": judge, "--limit": limit, "--share": share}
        said |= {"--at": at, "--seed": seed or None, "--threads": threads, "--revision": revision}
        usual = {"--encoder": "tf-idf", "--judge-template": "answer-quality", "--device": "auto", "--dtype": "auto"}
        given = {"--encoder": encoder, "--judge-template": judge_template, "--device": device, "--dtype": dtype}
        said |= {name: value for name, value in given.items() if value != usual[name]}
        words = ["spa-bench", "describe", *sources]
        words += [word for name, value in said.items() if value is not None for word in (name, str(value))]
        words += [word for one in settings for word in ("--set", one)] + ["--no-gradients"] * no_gradients
        command = shlex.join([*words, *["--no-run"] * no_run])
        for path in write(found, out, command, lambda text: document(text, title="Data sets: quality, diversity, complexity")):
            console.note(f"written: {path}")
    print(json.dumps(found.to_json(), indent=1) if as_json else text(found))
