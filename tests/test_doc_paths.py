"""What README.md, CONTRIBUTING.md and the pages of docs/ name exists: paths, modules, their attributes, links, headings."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

import spa_bench
from spa_bench.cards import plugins
from spa_bench.cli.commands import COMMANDS, FAMILIES
from spa_bench.cli.main import build

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "harness" / "spa_bench"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "leaderboards" / "README.md", *sorted(DOCS.rglob("*.md"))]
PATH = re.compile(
    r"(?<![\w/.~*:{<-])(?:[\w.-]+/)+[\w.-]+\.(?:py|js|toml|sh|md|yml|yaml|jsonl|json|svg|html|cff)(?![\w/-]|\.gz)"
)
FOLDER = re.compile(r"`((?:[\w.-]+/)+)`")
MODULE_FILE = re.compile(r"(?<![\w/.-])\w+\.py\b")
DOTTED = re.compile(r"(?<![\w/])spa_bench(?:\.[A-Za-z_]\w*)+")
PLACES = (ROOT, DOCS, PACKAGE.parent, PACKAGE, DOCS / "examples")
# what a command writes, what the reader has, and files of other packages
ELSEWHERE = {
    "DIR/README.md",
    "dattri/func/fisher.py",
    "docs/examples/sanitized_mbpp.jsonl",
    "leaderboards/results/mine.json",
    "report/index.html",
    "runs/demo/leaderboard.md",
    "runs/demo/report/index.html",
    "site/index.html",
    "task/grader.py",
}
SHELL = re.compile(r" (?:\||\|\||&&|>) ?")  # what a shell does with a command's output
FOLDERS_ELSEWHERE = {"build/", "logged/", "runs/", "sent/", "sentence-transformers/"}
GROUPS = set(plugins.GROUPS.values())  # of entry points


def is_there(path: str) -> bool:
    return any((place / path).exists() for place in PLACES)


def resolves(name: str) -> bool:
    """Whether `name` is a module of ours, or an attribute of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        place = PACKAGE.parent.joinpath(*parts[:end])
        if place.with_suffix(".py").exists() or (place / "__init__.py").exists():
            if end == len(parts):
                return True
            found: object = importlib.import_module(".".join(parts[:end]))
            for part in parts[end:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of `page`, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)).lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_on_a_page_exist(page: Path):
    text = re.sub(r"https?://\S+", "", page.read_text(encoding="utf-8"))
    missing = {
        path for path in PATH.findall(text) if not is_there(path) and not path.startswith("../") and path not in ELSEWHERE
    }
    folders = {path for path in FOLDER.findall(text) if not is_there(path) and path not in FOLDERS_ELSEWHERE}
    assert (missing, folders) == (set(), set())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_on_a_page_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    files = {path.name for folder in (PACKAGE, ROOT / "tests", ROOT / "benchmarks", DOCS) for path in folder.rglob("*.py")}
    assert {name for name in MODULE_FILE.findall(text) if name not in files} == set()
    assert {name for name in DOTTED.findall(text) if name not in GROUPS and not resolves(name)} == set()


def test_modules_named_in_the_package_exist():
    sources = {path: set(DOTTED.findall(path.read_text(encoding="utf-8"))) - GROUPS for path in PACKAGE.rglob("*.py")}
    assert {f"{path.name}: {name}" for path, names in sources.items() for name in names if not resolves(name)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_on_a_page_lead_somewhere(page: Path):
    text = re.sub(r"^```text\n.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_a_missing_path_and_a_missing_name_are_found():
    assert PATH.findall("see `spa/nothing.py` and ~/x/y.py") == ["spa/nothing.py"]
    assert not is_there("spa/nothing.py")
    assert not resolves("spa_bench.rnu")
    assert not resolves("spa_bench.types.Nothing")
    assert resolves("spa_bench.types.Member")


def test_every_page_can_be_reached_from_the_readme_in_two_steps():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    indexes = {page for page in DOCS.rglob("index.md") if f"]({page.relative_to(ROOT)}" in readme}
    listed = {
        (index.parent / target).resolve()
        for index in indexes
        for target in re.findall(r"\]\(([^)#\s]+\.md)", index.read_text(encoding="utf-8"))
    }
    assert [str(page.relative_to(DOCS)) for page in sorted(DOCS.rglob("*.md")) if page not in indexes | listed] == []


def test_the_readme_is_short_and_its_table_is_that_of_the_leaderboard():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    board = (ROOT / "leaderboards" / "mini-code.md").read_text(encoding="utf-8").splitlines()
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:]] for line in reversed(board) if "|" in line}
    head = cells["sampler"]
    [start] = [i for i, line in enumerate(lines) if line.startswith("| sampler")]
    columns = [c.split("(")[0].strip().replace(" ", "_").lower() for c in lines[start].split("|")[2:-1]]
    rows = [line for line in lines[start + 2 : start + 7] if line.startswith("| ")]
    assert len(rows) == 5
    for row in rows:
        sampler, *shown = (c.strip() for c in row.split("|")[1:-1])
        for column, value in zip(columns, shown, strict=True):
            wanted = re.findall(r"\d\.\d+", cells[sampler.split(":")[0]][head.index(column)])
            found = re.findall(r"\d\.\d+", value)
            assert all(abs(float(w) - float(f)) <= 0.00501 for w, f in zip(wanted, found, strict=True)), (sampler, column)


def test_the_version_is_the_same_everywhere():
    version = spa_bench.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version} - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_paths_that_moved_lead_to_what_is_there():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("| old | new |")[2].partition("\n\n")[0]
    rows = [line.split("|")[2] for line in changes.splitlines() if line.strip().startswith("| `")]
    assert len(rows) > 5
    for row in rows:
        for module, names in re.findall(r"from (spa_bench[\w.]*) import ([\w, ]+)", row):
            assert all(resolves(f"{module}.{name.strip()}") for name in names.split(","))
        assert all(resolves(name) for name in DOTTED.findall(row))
        assert all(is_there(path) for path in re.findall(r"spa_bench/[\w/]+\.py", row))


def test_the_page_of_commands_names_each_command():
    text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"spa-bench {name} " not in text and f"spa-bench {name}\n" not in text] == []
    assert [name for *_, seconds in FAMILIES.values() for name in seconds if name not in text] == []


LINES = [
    (page, line)
    for page in PAGES
    for block in re.findall(r"```(?:bash)?\n(.*?)```", page.read_text(encoding="utf-8").replace("\\\n", " "), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("spa-bench ")
    and "…" not in line
    and "..." not in line
    and (not line.startswith("spa-bench demo") or "demo" in COMMANDS)
]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page.stem}:{line[:50]}" for page, line in LINES])
def test_the_command_line_takes_the_commands_of_the_pages(page: Path, line: str):
    words = shlex.split(SHELL.split(line)[0], comments=True)[1:]
    build().parse_args(words, exit_on_error=False, print_error=False)
