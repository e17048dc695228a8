"""What K stacked members cost on a multiple-choice task, beside the bare base, each member alone, and K calls of lm-eval.

Every contender answers the same questions from text to log-probabilities, at the same number of rows and of tokens in a pass.
They take turns in a rotated order; a ratio is the median over rounds. On a CPU seconds are those of this process on all its
threads, which other programs on the machine move little.

    python benchmarks/nlu_members.py [--model PATH] [--threads 1] [--json]

`base` is the limit: the base without adapters over K times the requests, through the same code. The claim is ours / base
<= 1.15. `alone` asks the members one after another, as one run a member would; `lm_eval` calls lm-eval once a member, which
loads the model each time (`lm_eval_warm`: without that load). Where lm-eval is not installed its lines are missing.

The questions are those of MMLU in SPA_BENCH_DATA that fit the model's context, formatted as lm-eval does without examples;
without that folder they are made up. The adapters are random, which changes what is thought but not what it costs. Exit code 1
when a member's log-probability differs by more than 1e-4 from what it says alone, or from lm-eval's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from contest import interleave, median_ratio, versions, write_random_adapters

from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.mini.data import MODEL
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.options import OptionEncoder
from spa_bench.types import Asked, Decoding, Member

Scores = list[list[list[float]]]  # (K, problems, options)
LETTERS = "ABCD"
PEERS = {
    "base": "bare base, K × the requests",
    "alone": "each member alone, one after another",
    "lm_eval": "lm-eval, once a member (loads the model each time)",
    "lm_eval_warm": "lm-eval, once a member (loaded before)",
}
_PACKAGES = ["torch", "transformers", "spa-bench"] + ["lm_eval"] * (importlib.util.find_spec("lm_eval") is not None)
_LIMIT = 1.15  # what the stacked pass may cost over the bare base


@dataclass(frozen=True)
class Settings:
    """What is measured, and how."""

    model: str
    problems: int
    members: int
    rounds: int
    rank: int
    seed: int
    batch: int  # rows in a pass, of all members together
    threads: int
    device: str
    dtype: str
    without_lm_eval: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 when log-probabilities differ in float32, 2 on bad input."""
    settings, as_json = _settings(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="spa-bench-") as folder:
            result = run(settings, Path(folder))
    except SpaBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2) if as_json else table(result))
    return int(settings.dtype == "float32" and max(result["largest_difference"].values()) > 1e-4)


def run(settings: Settings, folder: Path) -> dict[str, Any]:
    """One measurement: ratios, seconds of every round, differences, settings and versions."""
    options = HFOptions(device=settings.device, dtype=settings.dtype, batch_size=settings.batch, threads=settings.threads)
    ours, base = HFModel(settings.model, options), HFModel(settings.model, options)
    adapters = write_random_adapters(
        ours.network, folder, members=settings.members, rank=settings.rank, seed=settings.seed, model=settings.model
    )
    members = [Member(f"m{k}", path, Decoding()) for k, path in enumerate(adapters)]
    asked, source = questions(settings.problems, ours)
    many = [replace(one, problem_id=f"{one.problem_id}#{k}") for k in range(len(members)) for one in asked]
    bare = [Member("base", None, Decoding())]
    contenders: dict[str, Callable[[], Scores]] = {
        "ours": lambda: _scores(ours, asked, members),
        "base": lambda: _scores(base, many, bare),
        "alone": lambda: [_scores(ours, asked, [member])[0] for member in members],
    }
    if importlib.util.find_spec("lm_eval") is not None and not settings.without_lm_eval:
        loaded = [_hflm(settings, member) for member in members]
        contenders["lm_eval"] = lambda: [_lm_eval(_hflm(settings, member), asked) for member in members]
        contenders["lm_eval_warm"] = lambda: [_lm_eval(model, asked) for model in loaded]
    found = {name: score() for name, score in contenders.items()}  # the warm-up
    seconds = interleave(contenders, settings.rounds, time.process_time if settings.device == "cpu" else time.perf_counter)
    ratios = {name: median_ratio(seconds[name], seconds["ours"]) for name in contenders if name != "ours"}
    own = np.array(found["ours"])
    peers = {name: np.array(scores) for name, scores in found.items() if name not in {"ours", "base"}}
    return {
        "ours_over_base": median_ratio(seconds["ours"], seconds["base"]),
        "limit": _LIMIT,
        **{f"{name}_over_ours": ratio for name, ratio in ratios.items()},
        "largest_difference": {name: float(np.abs(scores - own).max()) for name, scores in peers.items()},
        "equal_choices": {name: float((scores.argmax(-1) == own.argmax(-1)).mean()) for name, scores in peers.items()},
        "requests": settings.members * sum(len(one.options) for one in asked),
        "questions": source,
        "seconds": seconds,
        "settings": asdict(settings),
        "versions": versions(*_PACKAGES),
        "numerics": ours.numerics(),
    }


def questions(count: int, model: HFModel) -> tuple[list[Asked], str]:
    """`count` questions that fit the model, and where they are from: MMLU of SPA_BENCH_DATA, or made up."""
    folder = Path(os.environ.get("SPA_BENCH_DATA", "")) / "mmlu" / "test"
    real = bool(os.environ.get("SPA_BENCH_DATA")) and folder.is_dir()
    rows = _mmlu(folder) if real else _made_up(4 * count)
    encoder = OptionEncoder(model.codec, model.context)  # no public way: a run asks for what does not fit, and is told
    found: list[Asked] = []
    for row in rows:
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=True))
        topic = f"The following are multiple choice questions (with answers) about {row['subject'].replace('_', ' ')}."
        context = f"{topic}\n\n{row['question'].strip()}\n{listed}\nAnswer:"
        one = Asked(str(len(found)), tuple((context, f" {letter}") for letter in LETTERS), len(LETTERS))
        if all(len(head) + len(tail) <= model.context for head, tail in encoder.pairs(one.options)):
            found.append(one)
        if len(found) == count:
            return found, str(folder) if real else "made up"
    raise UsageError(f"only {len(found)} questions fit the context of {model.context}; give --problems {len(found)}")


def _mmlu(folder: Path) -> list[dict[str, Any]]:
    """Rows of all subjects, in a seeded order."""
    rows = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    random.Random(0).shuffle(rows)
    return rows


def _made_up(count: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    found = []
    for _ in range(count):
        numbers = rng.sample(range(2, 99), 4)
        story = " ".join(f"Box {rng.randrange(99)} holds {rng.randrange(99)} stones." for _ in range(rng.randrange(1, 6)))
        question = f"{story} Which of these numbers is the largest?"
        found.append({"subject": "counting", "question": question, "choices": [str(n) for n in numbers]})
    return found


def _scores(model: HFModel, asked: Sequence[Asked], members: Sequence[Member]) -> Scores:
    model._encoded_before = None  # no public way: a run wants its tokens kept, and here every contender tokenises again
    found = {scores.problem: scores.logprobs.tolist() for scores in model.option_scores(asked, members)}
    return [[found[one.problem_id][k] for one in asked] for k in range(len(members))]


def _hflm(settings: Settings, member: Member) -> Any:
    import logging

    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(
        pretrained=settings.model, peft=str(member.adapter), device=settings.device, dtype=settings.dtype,
        batch_size=settings.batch,
    )  # fmt: skip


def _lm_eval(model: Any, asked: Sequence[Asked]) -> list[list[float]]:
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, option, i) for one in asked for i, option in enumerate(one.options)]
    answers = iter(model.loglikelihood(requests, disable_tqdm=True))
    return [[next(answers)[0] for _ in one.options] for one in asked]


def table(result: Mapping[str, Any]) -> str:
    """`result` for a reader."""
    settings, seconds = result["settings"], result["seconds"]
    lines = [
        f"{settings['problems']} questions ({result['questions']}), {settings['members']} members, "
        f"{result['requests']} log-probabilities, {settings['dtype']} on {settings['device']}, {settings['threads']} threads, "
        f"{settings['batch']} rows a pass, {settings['rounds']} rounds",
        f"model {settings['model']}",
        "",
        f"{'':52} {'seconds':>8}  {'it / ours':>9}",
        f"{'ours: all members in one stacked pass':52} {statistics.median(seconds['ours']):8.2f}",
    ]
    for name, label in PEERS.items():
        if name in seconds:
            lines.append(f"{label:52} {statistics.median(seconds[name]):8.2f}  {result[f'{name}_over_ours']:9.2f}")
    each = [a / b for a, b in zip(seconds["ours"], seconds["base"], strict=True)]
    lines += [
        "",
        f"ours / base {result['ours_over_base']:.3f} ({min(each):.3f} to {max(each):.3f}); the claim: {_LIMIT} at most",
    ]
    for name, difference in result["largest_difference"].items():
        lines.append(f"largest difference of a log-probability from {name}: {difference:.1e}")
    return "\n".join(lines)


def _settings(argv: Sequence[str] | None) -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default=str(MODEL), help="folder or hub name; default: the embedded model")
    parser.add_argument("--problems", type=int, default=32, help="questions of four choices (default: %(default)s)")
    parser.add_argument("--members", type=int, default=8, help="adapters (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, one turn a contender (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the adapters (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="rows in a pass (default: %(default)s)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="CPU threads; default: the cores at hand")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--without-lm-eval", action="store_true", help="leave lm-eval out")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = vars(parser.parse_args(argv))
    as_json = options.pop("json")
    for name in ("problems", "members", "rounds", "rank", "batch", "threads"):
        if options[name] < 1:
            parser.error(f"--{name} {options[name]} is too small; give 1 or more")
    if options["batch"] < options["members"]:
        parser.error(f"--batch {options['batch']} leaves no row for each of {options['members']} members")
    return Settings(**options), as_json


if __name__ == "__main__":
    sys.exit(main())
