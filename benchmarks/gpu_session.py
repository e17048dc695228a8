"""What can only be known on a GPU, in pieces of at most nine minutes: see docs/reference/benchmarks.md.

    python benchmarks/gpu_session.py [--piece all|tests|mini|attribution|training|memory|decoding|engines|batches|kl]
        [--device cuda] [--small] [--out gpu-session.json] [--page]

Networks of a 7B model's shape with random weights are made on the device: nothing is downloaded, and torch, transformers, peft,
pandas and sacrebleu are enough. A piece can be repeated; its result takes the place of the last one in the file of `--out`. A
piece that fails is kept there as its error, and the others go on; exit code 1. `--page` prints the section of the page from the
file and measures nothing. `--device cpu --small` runs every piece on tiny shapes, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from gpu_parts import pieces
from gpu_parts.setting import Setting, free

PIECES: dict[str, Callable[[Setting], Any]] = {
    "tests": pieces.run_tests,
    "mini": pieces.mini_code,
    "attribution": pieces.attribution,
    "training": pieces.training,
    "memory": pieces.memory,
    "decoding": pieces.decoding,
    "engines": pieces.engines,
    "batches": pieces.batch_sizes,
    "kl": pieces.kl_of_itself,
}
SECONDS = 540  # of one piece


def machine(device: str) -> dict[str, str]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "day": time.strftime("%Y-%m-%d"),
    }


def run_piece(name: str, setting: Setting) -> dict[str, Any]:
    """The result of a piece with its seconds, or its error."""
    began = time.monotonic()
    try:
        result = {"result": PIECES[name](setting)}
    except Exception as error:  # kept, so that the other pieces of a short session are not lost
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}".split("\n", 1)[0]}
    free()
    seconds = time.monotonic() - began
    late = {"late": f"more than {SECONDS} s"} if seconds > SECONDS else {}
    return {**result, **late, "seconds": round(seconds, 1), "small": setting.small, **machine(setting.device)}


def page(found: dict[str, Any]) -> str:
    """The section of docs/reference/benchmarks.md: a table for each piece, or the error."""
    lines = ["## On a GPU", ""]
    for name in PIECES:
        one = found.get(name)
        if one is None:
            lines += [f"**{name}**: not run.", ""]
            continue
        where = f"{one['device']}, torch {one['torch']}, {one['day']}" + (", tiny shapes" if one["small"] else "")
        lines += [f"**{name}** ({where}; {one['seconds']:.0f} s)", ""]
        if "error" in one:
            lines += [f"failed: {one['error']}", ""]
            continue
        rows = one["result"] if isinstance(one["result"], list) else [one["result"]]
        head = list(rows[0])
        lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(_cell(row.get(key)) for key in head) + " |" for row in rows] + [""]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--piece", default="all", choices=("all", *PIECES))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="tiny shapes")
    parser.add_argument("--out", type=Path, default=Path("gpu-session.json"))
    parser.add_argument("--page", action="store_true", help="print the page's section from --out")
    options = parser.parse_args(argv)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.page:
        print(page(found))
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device; --device cpu --small tries the pieces on tiny shapes", file=sys.stderr)
        return 2
    failed = []
    for name in PIECES if options.piece == "all" else (options.piece,):
        found[name] = run_piece(name, Setting(device=options.device, small=options.small))
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps({name: found[name]}), flush=True)
        failed += [name] * ("error" in found[name])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
