"""Programs among the answers of a data set: which answers are code, what their syntax trees are like, whether they run.

Whether a text is code is decided by its lines, so prose is left out of the shares and a program that does not parse is not. A
program that runs has been executed once in a sandbox, whole, and has ended without an exception.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spa_bench.datasets.pairs import Item
from spa_bench.grading import Grader, Program
from spa_bench.grading.to_its_end import parsed, to_its_end
from spa_bench.types import Verdict

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = {"", "python", "python3", "py"}
_LINE = re.compile(
    r"""^\s*(
        (async\s+)?def\s+\w+\s*\( | class\s+\w+ | import\s+\w | from\s+[\w.]+\s+import\b | return\b | @\w+
        | (for|while|if|elif|with|except)\b.*:\s*(\#.*)?$ | (else|try|finally)\s*:\s*$ | (pass|break|continue)\s*$
        | [A-Za-z_][\w.\[\]'", ]*\s*([-+*/%|&]|//|\*\*)?=(?!=)\s*\S | [A-Za-z_][\w.]*\(.*\)\s*;?\s*$
        | assert\b.* | raise\s+\w+ | \#
        | [{}()\[\]]+[;,]?\s*$ | .*[;{]\s*$ | </?\w+[^>]*> | //
        | (SELECT|INSERT|UPDATE|CREATE)\s
    )""",
    re.VERBOSE,
)
_WIDEST = 300  # characters of a line that are looked at


@dataclass(frozen=True)
class Code:
    """The program in an answer."""

    source: str
    tree: ast.Module | None  # None: it does not parse as Python


def code_of(item: Item) -> Code | None:
    """The program of a pair: the answer's fenced Python, else the answer, else prompt and answer together. None: no code.

    An answer that continues the prompt, such as the body of a function, is a program together with it. Fenced code of another
    language is no code here, and a text without any fence is code where it parses as more than a word, or where at least half
    of its lines look like those of a program, of whatever language.
    """
    blocks = _FENCE.findall(item.answer)
    if blocks:
        ours = [text for language, text in blocks if language.lower() in _PYTHON]
        return _code("\n".join(ours)) if ours else None
    whole = item.asked + item.answer
    if item.asked.strip() and item.asked.endswith((":\n", ":", "\n")) and _looks(item.asked) and (tree := parsed(whole)):
        return Code(whole, tree)
    alone = parsed(item.answer)
    if alone is not None and _says_something(alone):
        return Code(item.answer, alone)
    if not _looks(item.answer):
        return None
    continues = item.answer[:1].isspace() and _looks(item.asked)
    return Code(whole if continues else item.answer, None)


def depth_of(tree: ast.AST) -> int:
    """The nodes on the longest way from the root of a syntax tree to a leaf, both counted."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
    return deepest


def kinds_of(tree: ast.AST) -> int:
    """The number of different kinds of nodes in a syntax tree."""
    return len({type(node) for node in ast.walk(tree)})


def run_programs(
    codes: Sequence[Code | None],
    items: Sequence[Item],
    grader: Grader,
    *,
    seconds: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[bool | None], list[bool | None]]:
    """(whether each program runs, whether it passes its own tests), None where there is no program, or there are no tests.

    Programs may use the standard library and numpy, `seconds` of CPU time each, and have no input. One that does not parse does
    not run. Raises SandboxError.
    """
    runs: list[bool | None] = [None if code is None else False for code in codes]
    passes: list[bool | None] = [
        False if code is not None and item.tests else None for code, item in zip(codes, items, strict=True)
    ]
    programs: list[Program] = []
    places: list[tuple[list[bool | None], int]] = []
    for i, (code, item) in enumerate(zip(codes, items, strict=True)):
        if code is None or code.tree is None:
            continue
        programs.append(to_its_end(code.source, seconds=seconds, problem=f"pair {i}"))
        places.append((runs, i))
        if item.tests:
            called = f"\ncheck({item.entry_point})" if item.entry_point and "def check(" in item.tests else ""
            tested = f"{code.source}\n\n{item.tests}{called}"
            programs.append(to_its_end(tested, seconds=seconds, problem=f"pair {i}"))
            places.append((passes, i))
    for done, (index, outcome) in enumerate(grader.run(programs), 1):
        into, place = places[index]
        into[place] = outcome.verdict is Verdict.PASSED
        progress(done, len(programs))
    return runs, passes


def _code(text: str) -> Code:
    return Code(text, parsed(text))


def _says_something(tree: ast.Module) -> bool:
    """Whether a tree is more than words, numbers and signs between them, as prose may parse by chance."""
    plain = (ast.Name, ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Attribute, ast.AnnAssign)
    return any(
        not (isinstance(node, ast.AnnAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, plain)))
        for node in tree.body
    )


def _looks(text: str) -> bool:
    """Whether at least half of the lines with text look like those of a program."""
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and 2 * sum(_LINE.match(line[:_WIDEST]) is not None for line in lines) >= len(lines)
