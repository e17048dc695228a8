"""How different the samples of one problem are: as text, and as programs that are right.

`diversity_score` is the paper's column (arXiv 2411.06722), computed over the keys that the caller passes: the graded texts
(`exact`) or their `program_key`s (`ast`). `effective_diversity` counts only what is correct, after "effective semantic
diversity" (Shypula et al., arXiv 2504.12522). They tell programs apart by behaviour. Correct programs agree on the tests by
definition, so here the normalised syntax tree tells them apart.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache


def diversity_score(texts: Sequence[str], *, failed: Sequence[bool] | None = None) -> float | None:
    """1 - (duplicate pairs / all pairs) over the texts of one problem, in [0, 1]; None with fewer than 2 texts.

    Two texts are duplicates when they are equal, character by character, so strip them first. Duplicates are counted by
    class: a class of m texts has m * (m - 1) / 2 pairs. `failed[i]` says that sample i has no answer. Such a sample still
    counts among all pairs, and every pair with it is a duplicate pair, so that failing never looks diverse. Two empty
    *answers* that did not fail are simply equal. The score rewards garbage as much as insight: read it beside quality.

    Raises ValueError when `failed` has another length.
    """
    n = len(texts)
    if failed is not None and len(failed) != n:
        raise ValueError(f"{n} texts but {len(failed)} marks of failure")
    if n < 2:
        return None
    answers = texts if failed is None else [text for text, none in zip(texts, failed, strict=True) if not none]
    different = _pairs(len(answers)) - sum(_pairs(m) for m in Counter(answers).values())
    return 1.0 - (_pairs(n) - different) / _pairs(n)


def _pairs(n: int) -> int:
    return n * (n - 1) // 2


def distinct_correct(sources: Sequence[str], valid: Sequence[bool]) -> int:
    """The number of different programs (by `program_key`) among the valid ones of one problem.

    `sources` are whole programs, prompt + completion; `valid[i]` says whether source i is correct. Raises ValueError when the
    lengths differ or there is no sample.
    """
    if not sources:
        raise ValueError("no samples: there is nothing to count")
    if len(sources) != len(valid):
        raise ValueError(f"{len(sources)} sources but {len(valid)} verdicts")
    return len({program_key(source) for source, good in zip(sources, valid, strict=True) if good})


def effective_diversity(sources: Sequence[str], valid: Sequence[bool]) -> float:
    """Different correct programs / all samples, in [0, 1]; 0.0 when none is correct.

    The samples are those of one problem; arguments and errors are as in `distinct_correct`. Wrong samples add nothing above
    the line and count below it, so neither garbage nor copies of one solution raise the value. It depends on n: compare at
    equal n.
    """
    return distinct_correct(sources, valid) / len(sources)


def program_key(source: str) -> str:
    """The key by which two programs count as the same: `normalize_ast`, or the text itself where that is None."""
    normal = normalize_ast(source)
    return _unparsed(source) if normal is None else normal


def key_of_tokens(source: str, tokens: Sequence[str] | None) -> str:
    """The `program_key` of a source whose `normal_tokens` are already known."""
    return _unparsed(source) if tokens is None else " ".join(tokens)


def _unparsed(source: str) -> str:
    # A normal form starts with "Module(", so it never equals such a key.
    return f"unparsed:{source}"


@lru_cache(maxsize=8192)
def normalize_ast(source: str) -> str | None:
    """The syntax tree of a program as text, local names numbered and docstrings dropped; None if it does not parse.

    Layout, comments and bare string statements (docstrings among them) have no effect. Every name that the source *binds*
    (arguments, variables, loop, comprehension, lambda and except names, functions and classes at any level) becomes v0, v1,
    ... by first appearance in the tree. Names that mean something outside stay: builtins and other names that the source does
    not bind, imported names, attributes, keywords of calls, names bound in a class body, and parameters that some call of the
    source names by keyword. A binding that shadows a builtin (`sum = 0`) is renamed.

    Limits: one map renames the whole source and knows no scopes. It never gives two names the same number, but two
    programs that differ only in *reusing* a name in another scope count as different. Annotations count. Texts can be
    compared within one version of Python only; the text is a key, and is not meant to be stored.

    It raises for no text: the result is None for text that Python cannot parse (null bytes, nesting beyond its limits) or
    print (huge integers).
    """
    tokens = normal_tokens(source)
    return None if tokens is None else " ".join(tokens)


def normal_tokens(source: str) -> list[str] | None:
    """The pieces of `normalize_ast` before they are joined by spaces; None if the source does not parse.

    "Type(" opens a node and ")" closes it, "[" and "]" enclose a list, anything else is a value: an identifier or a repr.
    No repr can be mistaken for one of those, since strings keep their quotes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray "\d" in a sample must not warn the user
            return _render(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


_NAME_FIELD = {  # node -> the field that holds an identifier; all but Name bind it
    "Name": "id",
    "arg": "arg",
    "FunctionDef": "name",
    "AsyncFunctionDef": "name",
    "ClassDef": "name",
    "ExceptHandler": "name",
    "MatchAs": "name",
    "MatchStar": "name",
    "MatchMapping": "rest",
    "TypeVar": "name",  # this and the next two: Python 3.12
    "ParamSpec": "name",
    "TypeVarTuple": "name",
}
_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}  # these follow from the structure, or have no effect at run time
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass
class _Names:
    """What a program does with its names, collected while its tree is walked."""

    bound: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)  # imported, or bound in a class body: reached as attributes
    parameters: set[str] = field(default_factory=set)
    keywords: set[str] = field(default_factory=set)  # keywords that calls use

    def note(self, node: ast.AST, name: str | None, in_class: bool) -> None:
        """Record what `node`, which holds the identifier `name`, says about names."""
        if isinstance(node, ast.alias):
            self.kept.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.keyword) and node.arg:
            self.keywords.add(node.arg)
        elif name is None or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            return
        else:
            self.bound.add(name)
            if isinstance(node, ast.arg):
                self.parameters.add(name)
            elif in_class:
                self.kept.add(name)

    def renamed(self, name: str) -> bool:
        """Whether `name` becomes a number."""
        if name in self.kept or (name in self.keywords and name in self.parameters):
            return False
        # An unbound name that looks like one of ours is numbered too, else it could be mistaken for a bound one.
        return name in self.bound or re.fullmatch(r"v\d+", name) is not None


class _Identifier(str):
    """A name in the rendered text that may still be replaced."""


def _render(tree: ast.Module) -> list[str]:
    """The tree as pieces of text. It does not recurse, so that the deepest program that parses does not exhaust the stack."""
    names = _Names()
    out: list[str] = []
    stack: list[tuple[object, bool]] = [(tree, False)]  # what is left to write, and whether a class body holds it
    while stack:
        item, in_class = stack.pop()
        if isinstance(item, str):
            out.append(item)
        elif isinstance(item, list):
            out.append("[")
            stack.append(("]", in_class))
            stack.extend((_writable(part), in_class) for part in reversed(item) if not _bare_string(part))
        elif isinstance(item, ast.AST):
            kind = type(item).__name__
            name_field = _NAME_FIELD.get(kind)
            names.note(item, getattr(item, name_field) if name_field else None, in_class)
            inside = isinstance(item, ast.ClassDef) or (in_class and not isinstance(item, _FUNCTIONS))
            out.append(f"{kind}(")
            stack.append((")", inside))
            for name in reversed(item._fields):
                if name not in _LEFT_OUT:
                    value = getattr(item, name, None)
                    identifier = name == name_field or isinstance(item, ast.Global | ast.Nonlocal)
                    stack.append((_writable(value, identifier=identifier), inside))
    numbers: dict[str, str] = {}
    for place, text in enumerate(out):
        if isinstance(text, _Identifier) and names.renamed(text):
            out[place] = numbers.setdefault(str(text), f"v{len(numbers)}")
    return out


def _writable(value: object, *, identifier: bool = False) -> object:
    """A node or list as it is; an identifier marked as one; any other value as its repr."""
    if isinstance(value, list):
        return [_Identifier(part) for part in value] if identifier else value
    if isinstance(value, ast.AST | _Identifier):
        return value
    return _Identifier(value) if identifier and isinstance(value, str) else repr(value)


def _bare_string(statement: object) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    )
