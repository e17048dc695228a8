"""How good and how dear the influence scores are, on the embedded model: see docs/explanation/attribution-quality.md.

    python benchmarks/attribution.py [all|exact|lds|peers|speed|plot] [--peers-python PYTHON] [--json] [--threads 1]

exact: rank correlation with the exact damped inverse of the Gauss-Newton matrix of a small adapter.
lds:   linear datamodelling score: 64 random halves, 5 seeds each, with its ceiling. Minutes to an hour the first time.
peers: whether the libraries' interpreter works, and their scores with plain gradients beside ours.
speed: seconds and memory beside the libraries, growth with N and M, lissa extrapolated.
plot:  pictures of the last results, under docs/explanation/.

kronfluence and dattri run with an interpreter of their own (benchmarks/attribution_peers.sh makes it); without it their
part is skipped. Everything dear is kept in a cache folder, and a stopped run goes on where it was. Exit code 1 when a
floor was measured and missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attribution_parts import part_exact, part_lds, part_plot, part_speed
from attribution_parts.peers import has_peers, run_peer
from attribution_parts.plain import gradients
from attribution_parts.retrain import Retraining
from attribution_parts.setting import RECIPE, Where, default_cache, load_model
from attribution_parts.small import BLOCKS, WHOLE, make_small

from spa_bench.errors import SpaBenchError, UsageError

PARTS = ("exact", "lds", "peers", "speed", "plot")
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "explanation"


def run_part(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """The result of one part, kept as `PART.json` in the cache folder."""
    where = Where(options.cache, options.threads)
    python = options.peers_python if part in {"exact", "lds", "peers", "speed"} else ""
    if not python and part in {"exact", "lds", "peers", "speed"}:
        _say(f"{part}: libraries skipped; --peers-python names the interpreter that benchmarks/attribution_peers.sh makes")
    elif python and not has_peers(python):
        raise UsageError(f"{python} cannot import kronfluence and dattri; make it with benchmarks/attribution_peers.sh")
    if part == "plot":
        return _plot(options.cache)
    model = load_model(options.threads)
    if part == "exact":
        result = part_exact.run_exact(where, model, BLOCKS, WHOLE, _say, python=python)
    elif part == "lds":
        result = part_lds.run_lds(where, model, Retraining(RECIPE), _say, python=python)
    elif part == "peers":
        result = check_peers(where, model, python) if python else {"skipped": True}
    else:
        lissa = (_kept(options.cache, "exact") or {}).get("whole", {}).get("lissa")
        result = part_speed.run_speed(where, model, part_speed.SpeedSetting(), _say, python=python, lissa=lissa)
    options.cache.mkdir(parents=True, exist_ok=True)
    (options.cache / f"{part}.json").write_text(json.dumps(result, indent=1, default=list) + "\n")
    return result


def check_peers(where: Where, model: Any, python: str) -> dict[str, Any]:
    """kronfluence with strategy identity against our plain inner products: the same model, loss and parameters?"""
    small = make_small(where, model, WHOLE, _say)
    pairs, queries = small.pairs[:16], small.queries[:4]
    found = run_peer(python, "kronfluence-identity", model, small.folder / "adapter", pairs, queries, threads=where.threads)
    wanted = (gradients(model, small.adapter, pairs) @ gradients(model, small.adapter, queries).T).numpy()
    return {"largest_difference": float(np.abs(found.scores - wanted).max() / np.abs(wanted).max())}


def missed(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Floors that were measured and not reached."""
    found = []
    if exact := results.get("exact"):
        if exact["ekfac"]["value"] < part_exact.FLOOR:
            found.append(f"ekfac against the block-diagonal matrix: {exact['ekfac']['value']:.3f} < {part_exact.FLOOR}")
        lissa = exact["whole"]["lissa"]
        if lissa is None or lissa["value"] < part_exact.FLOOR:
            found.append(f"lissa against the full matrix: {lissa['value'] if lissa else 'nothing'} < {part_exact.FLOOR}")
    if (lds := results.get("lds")) and lds["difference"] and lds["difference"]["low"] <= part_lds.FLOOR:
        found.append(f"LDS minus {lds['library']}'s: lower end {lds['difference']['low']:.3f} <= {part_lds.FLOOR}")
    if speed := results.get("speed"):
        # as a library comes: with its curvature from all examples
        libraries = {n: r for n, r in speed["ratios"].items() if n.endswith("curvature of all examples")}
        if libraries and min(libraries.values()) < part_speed.FLOOR_LIBRARY:
            name = min(libraries, key=lambda n: libraries[n])
            found.append(f"{name}: {libraries[name]:.2f} x the default's seconds < {part_speed.FLOOR_LIBRARY}")
        for name, one in speed["lissa"].items():
            if one["ratio"] < part_speed.FLOOR_LISSA:
                found.append(f"lissa, {name}: {one['ratio']:.1f} x the default's seconds < {part_speed.FLOOR_LISSA}")
    return found


def _plot(cache: Path) -> dict[str, Any]:
    made = []
    if speed := _kept(cache, "speed"):
        part_plot.plot_cost(speed, PICTURES / "attribution-cost.svg")
        made.append("attribution-cost.svg")
    if lds := _kept(cache, "lds"):
        part_plot.plot_lds(lds, PICTURES / "attribution-lds.svg")
        made.append("attribution-lds.svg")
    return {"pictures": made}


def _kept(cache: Path, part: str) -> dict[str, Any] | None:
    file = cache / f"{part}.json"
    return json.loads(file.read_text()) if file.exists() else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(part: str, result: dict[str, Any]) -> str:
    tables = {"exact": part_exact.table, "lds": part_lds.table, "speed": part_speed.table}
    return tables[part](result) if part in tables else json.dumps(result)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("part", nargs="?", default="all", choices=("all", *PARTS), help="default: all, in turn")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="what is dear is kept here (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--peers-python", default="", help="interpreter with kronfluence and dattri; default: they are skipped")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(argv)
    if options.threads < 1:
        parser.error(f"--threads {options.threads} is too small; give 1 or more")
    results = {}
    try:
        for part in PARTS if options.part == "all" else (options.part,):
            results[part] = run_part(part, options)
            if not options.json:
                print(f"== {part}\n{_table(part, results[part])}\n", flush=True)
    except SpaBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = missed(results)
    if options.json:
        print(json.dumps({**results, "missed": found}, indent=1, default=list))
    else:
        for line in found:
            print(f"missed: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
