"""Who may import whom, torch stays where it belongs, and looking at results loads no torch.

`python tests/test_layering.py` draws the picture in docs/explanation/architecture.md again, from the table here.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "harness" / "spa_bench"
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
# A unit is a folder or module directly under spa_bench: what it may import beside itself, types and errors.
MAY_IMPORT = {
    "support": "",
    "metrics": "",
    "sandbox": "",
    "grading": "sandbox",
    "cards": "support",
    "executors": "support",
    "models": "executors support",
    "samplers": "cards models metrics support",
    "tasks": "cards grading sandbox support",
    "mini": "cards",
    "spa": "cards grading mini models samplers sandbox support",
    "runs": "cards executors grading metrics mini models samplers sandbox spa support tasks",
    "datasets": "cards grading metrics mini models runs sandbox spa support tasks",
    "compare": "cards datasets metrics mini models runs sandbox spa support tasks",
    "publish": "cards compare metrics runs support tasks",
    "cli": "cards compare datasets executors grading metrics mini models publish runs sandbox spa support tasks",
    "lm_eval": "cards mini models runs samplers spa support tasks",
    "api": "cards compare metrics models publish runs samplers support tasks",
    "__init__": "api cards metrics models samplers support tasks",
    "__main__": "cli",
}
ROOT_MODULES = {"__init__", "__main__", "types", "errors", "lm_eval"}  # docs/explanation/architecture.md says why
ROOT_FILES = {*(f"{name}.py" for name in ROOT_MODULES), "__init__.pyi", "py.typed"}
HEAVY = {"torch", "transformers", "peft", "safetensors", "tokenizers", "accelerate", "gguf"}
HOMES = {name: {"models", "spa", "mini"} for name in HEAVY}
LM_EVAL = {f"tasks/lm_eval/{name}.py" for name in ("library", "rewriting", "scoring", "model")} | {"lm_eval.py"}
HOMES |= {name: {"publish/report"} for name in ("altair", "vl_convert", "markupsafe", "markdown_it")}
# export/grader.py is copied beside an exported task: it runs inside lm-eval, where it imports evalplus and nothing of ours
HOMES |= {"openai": {"models/openai"}, "mauve": {"datasets/likeness.py"}}
HOMES |= {"evalplus": {"tasks/evalplus.py", "publish/export/grader.py", "runs/references/passes.py"}, "lm_eval": LM_EVAL}
HOMES |= {"ray": {"executors/ray_side.py"}, "pandas": {"api", "tasks/lm_eval/local.py"}}
HOMES |= {"argparse": {"mini/train.py"}, "cyclopts": {"cli"}}  # no parsed command line below cli/

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Modules that a file imports, wherever in it: those of functions and of TYPE_CHECKING count, and those of public names."""
    return (*_imports(path), *_public_names(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def _public_names(path: Path) -> Iterator[str]:
    """The modules in the table `_NAMES` of the package, which imports them by name when they are used."""
    if path == PACKAGE / "__init__.py":
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_NAMES":
                yield from (f"spa_bench.{module}" for module in ast.literal_eval(node.value))


MODULES = {module_name(path): path for path in FILES}


def picture() -> str:
    """The table as a Mermaid flowchart; what another arrow of the same unit implies is left out."""
    allowed = {unit: set(others.split()) & MAY_IMPORT.keys() for unit, others in MAY_IMPORT.items()}
    reached: dict[str, set[str]] = {}
    for unit in graphlib.TopologicalSorter(allowed).static_order():
        reached[unit] = allowed[unit].union(*(reached[other] for other in allowed[unit]))
    lines = ["```mermaid", "flowchart BT", "    base[types, errors]"]
    for unit, others in allowed.items():
        direct = sorted(o for o in others if not any(o in reached[other] for other in others)) or ["base"]
        lines += [f"    {other} --> {unit}" for other in direct]
    return "\n".join([*lines, "```"])


def test_the_root_has_no_other_modules():
    assert {path.name for path in PACKAGE.iterdir() if not path.is_dir()} == ROOT_FILES
    assert {unit_of(module) for module in MODULES} == {*MAY_IMPORT, *ROOT_MODULES}


def test_every_folder_and_every_file_of_the_root_has_a_row_in_the_docs():
    rows = re.findall(r"^\| `([^`]+)` \| ", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    folders = {f"{unit}/" for unit in MAY_IMPORT if unit not in ROOT_MODULES}
    assert [name for name in sorted(folders | ROOT_FILES) if rows.count(name) != 1] == []


def test_the_public_names_of_the_package_count_as_imports():
    leads = {unit_of(module) for module in imports(PACKAGE / "__init__.py") if module.startswith("spa_bench.")}
    assert leads == {*MAY_IMPORT["__init__"].split(), "types", "errors"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_module_imports_what_its_folder_may(path: Path):
    unit = unit_of(module_name(path))
    allowed = {unit, "types", "errors", *MAY_IMPORT.get(unit, "").split()} - ({"errors"} if unit == "metrics" else set())
    for target in imports(path):
        assert target.split(".")[0] != "spa_bench" or unit_of(target) in allowed, f"{path.name} imports {target}"


def test_no_circle_of_folders_or_of_modules():
    graphlib.TopologicalSorter({unit: set(others.split()) for unit, others in MAY_IMPORT.items()}).prepare()
    graph = {name: {i for i in imports(path) if i in MODULES and i != name} for name, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_packages_are_imported_only_in_their_homes(path: Path):
    place = path.relative_to(PACKAGE).as_posix()
    for target in imports(path):
        homes = HOMES.get(target.split(".")[0])
        assert homes is None or any(place == home or place.startswith(f"{home}/") for home in homes), f"{place}: {target}"


def test_the_picture_in_the_docs_is_made_of_this_table():
    assert picture() in ARCHITECTURE.read_text(encoding="utf-8"), "run: python tests/test_layering.py"


if __name__ == "__main__":
    before, _, rest = ARCHITECTURE.read_text(encoding="utf-8").partition("```mermaid")
    ARCHITECTURE.write_text(before + picture() + rest.partition("```")[2], encoding="utf-8")
