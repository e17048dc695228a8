"""Imports point one way, torch stays where it belongs, and looking at results loads no torch."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "harness" / "spa_bench"
# A unit is a module or a package directly under spa_bench. It may import itself and units of the lines above its own.
LAYERS = (
    {"__init__", "types", "errors", "seeds", "interrupt", "provenance", "cache", "paths"},
    {"plugins"},
    {"registry", "console", "json_rows", "sandbox", "metrics", "log", "tail", "gate_options", "watch_options"},
    {"spa_cards", "grading", "options", "lock"},
    {"cards"},
    {"store", "arguments", "extensions"},
    {"embeddings", "trackers"},
    {"models", "mini"},
    {"samplers"},
    {"tasks", "spa"},
    {"measure", "spread", "timing", "samples_file", "catalogue", "plan", "doctor", "export", "power"},
    {"choosing", "show"},
    {"run"},
    {"verify", "rerun", "leaderboard"},
    {"loading", "gate"},
    {"report"},
    {"study", "lm_eval", "view"},
    {"run_commands", "spa_commands", "gate_commands", "watch_commands"},
    {"cli"},
    {"__main__"},
)
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}
HEAVY = {"torch", "transformers", "peft", "safetensors", "tokenizers", "accelerate"}
HOMES = {name: {"models", "spa", "mini"} for name in HEAVY}
LM_EVAL = {f"tasks/lm_eval/{name}.py" for name in ("library", "rewriting", "scoring", "model")} | {"lm_eval.py"}
# export/grader.py is copied beside an exported task: it runs inside lm-eval, where it imports evalplus and nothing of ours
HOMES |= {name: {"report"} for name in ("altair", "vl_convert", "markupsafe", "markdown_it")}
HOMES |= {"evalplus": {"tasks/evalplus.py", "export/grader.py"}, "lm_eval": LM_EVAL}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """Modules that a file imports; without `lazy` only those that run when it is imported."""
    tree = ast.parse(path.read_text())
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        skipped = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if lazy or not skipped:
            pending += ast.iter_child_nodes(node)


MODULES = {module_name(path): path for path in FILES}


def test_every_module_has_a_layer():
    assert {unit_of(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_to_lower_layers(path: Path):
    unit = unit_of(module_name(path))
    for target in imports(path, lazy=True):
        if target.split(".")[0] == "spa_bench":
            other = unit_of(target)
            assert other == unit or LEVEL[other] < LEVEL[unit], f"{path.name} imports {target}"


def test_no_two_modules_import_each_other():
    graph = {name: {i for i in imports(path, lazy=False) if i in MODULES} for name, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(MODULES)


def test_metrics_know_neither_models_nor_tasks():
    for path in (PACKAGE / "metrics").glob("*.py"):
        units = {unit_of(i) for i in imports(path, lazy=True) if i.startswith("spa_bench")}
        assert units <= {"metrics", "types"}, path.name


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_heavy_packages_are_imported_only_in_their_homes(path: Path):
    place = path.relative_to(PACKAGE).as_posix()
    for target in imports(path, lazy=True):
        homes = HOMES.get(target.split(".")[0])
        assert homes is None or place in homes or place.split("/")[0] in homes, f"{place} imports {target}"


@pytest.mark.parametrize(
    "modules",
    [
        "spa_bench",
        "spa_bench.cli, spa_bench.leaderboard, spa_bench.cards, spa_bench.store, spa_bench.metrics.suite",
        "spa_bench.report, spa_bench.report.command",
    ],
)
def test_looking_at_results_loads_no_torch(modules: str, tmp_path: Path):
    script = f"import {modules}, sys; print(sorted({sorted(HEAVY)!r} & sys.modules.keys()))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)})
    assert done.stderr == ""
    assert done.stdout == "[]\n"
