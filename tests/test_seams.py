"""The seams between the parts: values instead of a parsed command line, declared members instead of look-ups, no Any."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "harness" / "spa_bench"
FILES = sorted(PACKAGE.rglob("*.py"))
PARSERS = {"mini/train.py"}  # a program of its own: `python -m spa_bench.mini.train`

# Where a member may be there or not, because the object is not ours: file -> the members that are asked for.
FOREIGN = {
    "cards/fingerprint.py": {
        "__file__",
        "__dict__",
        "__module__",
        "__name__",
        "__qualname__",
    },  # objects and modules of the user's
    "cards/plugins.py": {"__file__"},  # a module of the user's: none where it is built in
    "cards/source.py": {"__file__"},
    "cli/mistakes.py": {"exception_message"},  # errors of the command-line library
    "grading/compare.py": {"shape", "size"},  # what a program returned: arrays, of any library
    "models/chat.py": {"chat_template"},  # tokenizers
    "models/embed.py": {"max_position_embeddings"},  # configs of architectures
    "models/hf/loading.py": {"backend_tokenizer", "eos_token_id", "chat_template"},
    "models/hf/unloaded.py": {"_commit_hash"},
    "models/hf/stacked_lora.py": {"get_output_embeddings", "weight"},  # torch modules
    "spa/attribution/embedding.py": {"toarray"},  # an array, or scipy's sparse one
    "spa/partition/clusters.py": {"tocsr"},
    "spa/data/sources.py": {"strerror"},  # OSError, or one of a library
    "spa/kept.py": {"filename", "strerror"},
    "tasks/lm_eval/asking.py": {"multiple_input"},  # lm-eval's tasks
    "tasks/lm_eval/library.py": {"MULTIMODAL", "UNSAFE_CODE", "env", "version"},
}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file: walking a tree takes longer than what the tests look at in it."""
    return tuple(ast.walk(tree(path)))


def probes(path: Path) -> Iterator[str]:
    """Names of members that a file asks for with a default: hasattr(x, "name"), getattr(x, "name", default)."""
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            name = node.args[1]
            asks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            if asks and isinstance(name, ast.Constant):
                yield str(name.value)


def names(node: ast.AST) -> set[str]:
    """Every name in `node`, those in quoted annotations too."""
    return named(ast.walk(node))


def named(inner: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in inner:
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and node.value in ("Any", "Namespace"):
            found.add(node.value)
    return found


def imported(path: Path) -> set[str]:
    found = {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    return found | {str(node.module) for node in nodes(path) if isinstance(node, ast.ImportFrom)}


def unnamed_encodings(path: Path) -> Iterator[str]:
    """Places where a file reads or writes text in the encoding of the machine's locale."""
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg for keyword in node.keywords}
        method, function = getattr(node.func, "attr", ""), getattr(node.func, "id", "")
        mode = next((str(a.value) for a in node.args if isinstance(a, ast.Constant) and not str(a.value).strip("rwab+xt")), "r")
        text = method in ("read_text", "write_text") or (method in ("run", "Popen") and "text" in given)
        text |= "fdopen" in (method, function) and "b" not in mode
        text |= function == "open" and "b" not in mode
        if text and "encoding" not in given:
            yield f"{place(path)}:{node.lineno}"


def test_text_has_the_same_encoding_whatever_the_locale():
    assert [where for path in FILES for where in unnamed_encodings(path)] == []


def test_a_parsed_command_line_stays_where_it_was_parsed():
    reading = {place(path) for path in FILES if "argparse" in imported(path) or "Namespace" in named(nodes(path))}
    assert reading == PARSERS


def test_the_program_that_parses_by_itself_does_so_in_its_main_alone():
    for name in PARSERS:
        outside = [node for node in tree(PACKAGE / name).body if getattr(node, "name", "") != "main"]
        assert not any(names(node) & {"argparse", "Namespace", "ArgumentParser"} for node in outside), name


@pytest.mark.parametrize("path", FILES, ids=place)
def test_members_of_our_own_objects_are_declared_and_not_looked_for(path: Path):
    assert set(probes(path)) <= FOREIGN.get(place(path), set())


@pytest.mark.parametrize("name", FOREIGN)
def test_the_list_of_members_that_may_be_missing_has_no_old_entries(name: str):
    assert FOREIGN[name] <= set(probes(PACKAGE / name))


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_protocol_says_what_it_takes_and_gives(path: Path):
    for node in nodes(path):
        if isinstance(node, ast.ClassDef) and any("Protocol" in names(base) for base in node.bases):
            assert "Any" not in names(node), f"{place(path)}, line {node.lineno}: {node.name}"


@pytest.mark.parametrize("path", [path for path in FILES if place(path).startswith(("spa/", "runs/"))], ids=place)
def test_what_trains_and_runs_takes_no_model_or_network_of_any_type(path: Path):
    for node in nodes(path):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            assert not (isinstance(node.annotation, ast.Name) and node.annotation.id == "Any"), f"line {node.lineno}"


MOST_FIELDS = 4  # that a dataclass may take by place


def dataclasses_of(path: Path) -> Iterator[tuple[ast.ClassDef, ast.expr]]:
    """Every dataclass of a file with its decorator."""
    for node in nodes(path):
        if isinstance(node, ast.ClassDef):
            yield from ((node, d) for d in node.decorator_list if "dataclass" in names(d))


def init_fields(node: ast.ClassDef) -> list[str]:
    """The fields that a dataclass takes, its own and not those of its bases."""
    fields = [b for b in node.body if isinstance(b, ast.AnnAssign) and "ClassVar" not in names(b.annotation)]
    return [ast.unparse(b.target) for b in fields if b.value is None or "init=False" not in ast.unparse(b.value)]


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_dataclass_of_more_than_four_fields_takes_them_by_name(path: Path):
    for node, decorator in dataclasses_of(path):
        said = {k.arg: ast.unparse(k.value) for k in decorator.keywords} if isinstance(decorator, ast.Call) else {}
        assert len(init_fields(node)) <= MOST_FIELDS or said.get("kw_only") == "True", f"{node.name}, line {node.lineno}"
