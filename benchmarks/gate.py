"""How often `spa-bench check` is red when nothing changed but the seed, and whether planted regressions turn it red.

`python benchmarks/gate.py --out runs/gate [--reruns 40] [--limit 40] [--sampler spa-lexical] [--set lora.steps=12]` makes real
runs on the embedded model, one by one: a baseline of seeds 0 to 4, `--reruns` more of one seed each, and one run of each
planted regression. It resumes where it stopped (what is graded is kept) and ends with Markdown for docs/how-to/gate.md.
The code must not change meanwhile. About 30 s of one core a run, two thirds of it training; `--table-only` makes no re-runs.

False alarms are counted twice: the re-runs against the baseline, which they share, and every set of five consecutive seeds as
baseline against all other runs. Planted, each through the command line or in the way named here:

- adapters swapped for the base: `--set lora.learning_rate=1e-12`, which leaves B at 0, so that every member is the base;
- temperature changed from 0: `--set decoding.temperature=1.0`, which costs little, and `=2.0`;
- partition shuffled: `--set partition.method=random`;
- one member missing: `--set members=3 --set draws=3`;
- grader broken: a copy of a re-run in which every third right answer is called wrong, measured again by `spa-bench grade`;
- one verdict flipped: a copy of the baseline's seed 0, of the same spec, with one verdict the other way round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from spa_bench.compare.gate import GateVerdict, check
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.types import Verdict

BASELINE = 5
PLANTED = 1000  # a seed that no re-run has
SETTINGS = {
    "adapters swapped for the base": ["--set", "lora.learning_rate=1e-12"],
    "temperature changed to 1": ["--set", "decoding.temperature=1.0"],
    "temperature changed to 2": ["--set", "decoding.temperature=2.0"],
    "partition shuffled": ["--set", "partition.method=random"],
    "one member missing": ["--set", "members=3", "--set", "draws=3"],
}
_WHOLE = 3  # of the right answers, one in so many is called wrong by the broken grader


def make(a: argparse.Namespace, folder: Path, seeds: Sequence[int], extra: Sequence[str] = ()) -> list[Path]:
    """The graded runs of `seeds` in `folder`; those that are missing are made by one command."""
    name = Path(a.sampler).stem

    def there(seed: int) -> Path | None:
        return next((p.parent for p in folder.glob(f"{a.task}-{name}-s{seed}-*/metrics.json")), None)

    if missing := [str(seed) for seed in seeds if there(seed) is None]:
        settings = [word for value in a.settings for word in ("--set", value)]
        command = [sys.executable, "-m", "spa_bench", "run", "--sampler", a.sampler, "--task", a.task]
        command += ["--seeds", ",".join(missing), "--limit", str(a.limit), "--threads", str(a.threads)]
        command += ["--workers", str(a.threads), "--out", str(folder), *settings, *extra]
        environment = {**os.environ, "SPA_BENCH_CACHE": str(a.out / ".cache")}
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
        print(f"made in {folder}: seeds {', '.join(missing)}", file=sys.stderr, flush=True)
    return [run for seed in seeds if (run := there(seed)) is not None]


def misjudged(run: Path, folder: Path, *, all_of: bool) -> Path:
    """A copy of `run` whose grader erred: on every third right answer, or on the first answer alone."""
    copy = folder / run.name
    if (copy / "metrics.json").exists():
        return copy
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    opened = open_run(copy)
    grades = opened.grade_log.rows()
    if all_of:
        wrong = {grade.key for grade in islice((g for g in grades if g.verdict == Verdict.PASSED), 0, None, _WHOLE)}
        altered = [replace(g, verdict=Verdict.WRONG) if g.key in wrong else g for g in grades]
    else:
        other = Verdict.WRONG if grades[0].verdict == Verdict.PASSED else Verdict.PASSED
        altered = [replace(grades[0], verdict=other), *grades[1:]]
    _measure_anew(opened, altered)
    return copy


def _measure_anew(run: RunFolder, grades: Sequence[object]) -> None:
    for name in ("grades.jsonl", "metrics.json"):
        (run.path / name).unlink()
    run.grade_log.append(grades)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "spa_bench", "grade", str(run.path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rates(runs: Sequence[Path], folder: Path) -> list[list[str]]:
    """Rows of how often re-runs were red: against the first five seeds, and against every five in a row."""
    found = []
    for words, tolerance in (("the default tolerances", None), ("no tolerance", 0.0)):
        counts = []
        for start in range(0, len(runs) - BASELINE + 1, BASELINE):
            baseline = _linked(runs[start : start + BASELINE], folder / f"baseline-{start}")
            others = [run for i, run in enumerate(runs) if not start <= i < start + BASELINE]
            red = [run for run in others if not check(run, baseline, tolerance=tolerance).ok]
            counts.append((len(red), len(others)))
        one, of = counts[0]
        every, of_all = (sum(count[i] for count in counts) for i in (0, 1))
        found.append([words, f"{one} of {of}", f"{every} of {of_all} ({100 * every / max(of_all, 1):.1f} %)"])
    return found


def _linked(runs: Sequence[Path], folder: Path) -> Path:
    """A folder of links to `runs`: what `--against` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        link = folder / run.name
        if not link.is_symlink():
            link.symlink_to(run.resolve(), target_is_directory=True)
    return folder


def planted(a: argparse.Namespace, runs: Sequence[Path], baseline: Path) -> list[tuple[str, GateVerdict]]:
    """(what was planted, the verdict on it)."""
    place = a.out / "planted"
    there = {
        **{name: make(a, place / name.replace(" ", "-"), [PLANTED], extra)[0] for name, extra in SETTINGS.items()},
        "grader broken": misjudged(runs[BASELINE], place / "grader", all_of=True),
        "one verdict flipped, same spec": misjudged(runs[0], place / "verdict", all_of=False),
    }
    return [(name, check(run, baseline)) for name, run in there.items()]


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gate"))
    parser.add_argument("--sampler", default="spa-lexical")
    parser.add_argument("--task", default="mini-code")
    parser.add_argument("--reruns", type=int, default=40)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", dest="settings", help="default: lora.steps=12")
    parser.add_argument("--table-only", action="store_true", help="make no runs: from those that are there")
    a = parser.parse_args()
    a.settings = ["lora.steps=12"] if a.settings is None else a.settings
    folder = a.out / "runs"
    if a.table_only:
        runs = sorted((p.parent for p in folder.glob("*/metrics.json")), key=lambda run: int(open_run(run).spec["seed"]))
    else:
        runs = make(a, folder, range(BASELINE + a.reruns))
    if len({open_run(run).spec["code"]["source"] for run in runs}) > 1:
        raise SystemExit(f"the runs in {folder} are of several revisions of the code; make them with one, in a new folder")
    if len(runs) <= BASELINE:
        raise SystemExit(f"{len(runs)} runs in {folder}: a baseline takes {BASELINE}, and there must be one more")
    baseline = _linked(runs[:BASELINE], a.out / "baseline-0")
    print(f"{a.sampler} on the first {a.limit} problems of {a.task}, {', '.join(a.settings)}; one seed each, alpha 0.05.\n")
    print("| re-runs with another seed, red | against seeds 0 to 4 | against every five seeds in a row |\n|---|---|---|")
    for row in rates(runs, a.out):
        print(f"| {' | '.join(row)} |")
    print("\n| planted | verdict | what the gate says |\n|---|---|---|")
    for name, verdict in planted(a, runs, baseline):
        colour, said = verdict.report.splitlines()[0].split(": ", 1)
        print(f"| {name} | {colour} | {said.removeprefix(f'against {baseline}: ')} |")


if __name__ == "__main__":
    main()
