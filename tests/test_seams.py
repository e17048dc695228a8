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
    "api/objects.py": {"{name}"},  # an object that a user gave: it lacks members of a protocol, which the message names
    "cards/fingerprint.py": {
        "__dict__",
        "__module__",
        "__name__",
        "__qualname__",
        "{name}",  # a slot that has no value yet
    },  # objects and modules of the user's
    "cards/guard.py": {"{name}"},  # what a user's code built: it lacks members of a protocol, which the message names
    # a module of the user's: it has no file where it is built in, may lack what was named, and declares what it likes
    "cards/plugins.py": {"__file__", "{attribute}", "{f.metadata['beside']}"},
    "cards/own_files.py": {"__file__", "__path__"},  # modules of the user's
    "cards/sampler.py": {"{name}"},  # braces in a description may name no setting, and then stay as they are
    "cards/source.py": {"__file__"},
    "cli/mistakes.py": {"exception_message"},  # errors of the command-line library
    "grading/compare.py": {"shape", "size"},  # what a program returned: arrays, of any library
    "metrics/diversity.py": {"{name}"},  # fields of Python's syntax trees, which differ between versions
    "models/chat.py": {"chat_template"},  # tokenizers
    "models/embed.py": {"max_position_embeddings"},  # configs of architectures
    "executors/ray_side.py": {"actor_init_failed"},  # errors of Ray, which differ between versions
    "models/hf/loading.py": {"backend_tokenizer", "eos_token_id", "chat_template"},
    "models/hf/stacked_lora.py": {"get_output_embeddings", "weight"},  # torch modules
    "runs/own_metrics.py": {"{attribute}"},  # a module of the user's, which may lack what was named
    "sandbox/inside/exceptions.py": {"{name}"},  # exceptions of a program
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
    """Names of members that a file asks for with a default: hasattr(x, "name"), getattr(x, "name", default).

    A name that is computed comes as its expression in braces.
    """
    for node in nodes(path):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            name, function = node.args[1], getattr(node.func, "id", "") or getattr(node.func, "attr", "")
            if function == "hasattr" or (function in ("getattr", "getattr_static") and len(node.args) == 3):
                yield str(name.value) if isinstance(name, ast.Constant) else f"{{{ast.unparse(name)}}}"


def names(node: ast.AST) -> set[str]:
    """Every name in `node`, those in quoted annotations too."""
    return named(ast.walk(node))


def emptied(made: ast.ClassDef) -> set[str]:
    """Members that an object of a class begins without: None by default, or set to None when it is made."""
    found = {ast.unparse(b.target) for b in made.body if isinstance(b, ast.AnnAssign) and is_none(b.value)}
    begin = [b for b in made.body if isinstance(b, ast.FunctionDef) and b.name == "__init__"]
    for node in (inner for one in begin for inner in ast.walk(one)):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        if targets and is_none(node.value):  # type: ignore[attr-defined]
            found |= {target.attr for target in targets if isinstance(target, ast.Attribute)}
    return found


def is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def awaited(path: Path) -> set[str]:
    """CLASS.MEMBER for members that an object begins without, and that one of its methods asserts to be there."""
    found: set[str] = set()
    for made in (node for node in nodes(path) if isinstance(node, ast.ClassDef)):
        asserts = [node for node in ast.walk(made) if isinstance(node, ast.Assert)]
        members = {ast.unparse(a).removeprefix("self.") for one in asserts for a in ast.walk(one.test)}
        found |= {f"{made.name}.{member}" for member in members & emptied(made)}
    return found


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


# file -> members that are not there yet, whatever the order in which methods are called
IN_ORDER = {
    "mini/world.py": {"Task.reducer"},  # a task has a family or a reducer, and keeps it
    "models/hf/stream.py": {"Stream._cache"},  # `turn` lays out rows and cache together, before anything reads them
}


@pytest.mark.parametrize("path", FILES, ids=place)
def test_no_method_works_only_when_another_was_called_before(path: Path):
    assert awaited(path) == IN_ORDER.get(place(path), set())


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_protocol_says_what_it_takes_and_gives(path: Path):
    for node in nodes(path):
        if isinstance(node, ast.ClassDef) and any("Protocol" in names(base) for base in node.bases):
            assert "Any" not in names(node), f"{place(path)}, line {node.lineno}: {node.name}"


TYPED = ("compare/", "datasets/", "mini/", "runs/", "samplers/", "spa/", "tasks/")
# file -> arguments of any type, because a library without types gives them
UNTYPED = {
    "tasks/lm_eval/asking.py": {"task", "doc"},  # lm-eval's tasks, and a row of their data
    "tasks/lm_eval/library.py": {"task"},
    "tasks/lm_eval/rewriting.py": {"entry"},  # an entry of lm-eval's index of tasks
    "tasks/lm_eval/scoring.py": {"task", "value"},  # whatever a task's own metric gives
}


def untyped(path: Path) -> set[str]:
    """Arguments and annotated names of a file that may be of any type."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.arg | ast.AnnAssign) and isinstance(node.annotation, ast.Name) and node.annotation.id == "Any":
            found.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
    return found


@pytest.mark.parametrize("path", [path for path in FILES if place(path).startswith(TYPED)], ids=place)
def test_nothing_of_our_own_is_taken_as_of_any_type(path: Path):
    assert untyped(path) == UNTYPED.get(place(path), set())


def test_the_lists_name_files_that_are_there():
    assert {*FOREIGN, *IN_ORDER, *UNTYPED, *BY_PLACE} <= {place(path) for path in FILES}


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


MOST_PLACES = 5  # arguments that a function may take by place
# file -> functions that take more, and why
BY_PLACE = {
    "mini/ops.py": {"_filter", "_map"},  # rows of a table, which is read by columns
    "spa/attribution/gradients.py": {"forward"},  # torch calls it
}


def long_lists(path: Path) -> set[str]:
    """Functions of a file that take more than MOST_PLACES arguments by place."""
    functions = [node for node in nodes(path) if isinstance(node, ast.FunctionDef)]
    taken = {f: [a.arg for a in (*f.args.posonlyargs, *f.args.args) if a.arg not in ("self", "cls")] for f in functions}
    return {f.name for f, arguments in taken.items() if len(arguments) > MOST_PLACES}


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_long_list_of_arguments_is_given_by_name(path: Path):
    assert long_lists(path) == BY_PLACE.get(place(path), set())
