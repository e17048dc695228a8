"""The examples that a prompt itself gives of a function: calls with their results, as a reader finds them in its docstring.

They are read from the text of the prompt alone. Hidden tests never come here: a sampler that judged by them would be graded by
what it had already seen.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass

_BEGIN = re.compile(  # what may stand before an example: a bullet or a number, then words that say that it is one
    r"\A(?:[-*•+]|\d{1,3}[.)])?\s*(?:(?:for (?:example|instance)|examples?(?: \d{1,3})?|e\.\s?g\.|ex\.)\s*[,:]?(?=[\s`]))?\s*",
    re.IGNORECASE,
)
_SHOULD = "returns?|gives?|equals?|should (?:return|be|equal|give)|is"
_RESULT = re.compile(rf"\s*(?:==|=>|=|->|➞|→|#\s*=>|#\s*->|#|(?:{_SHOULD})\b)\s*", re.IGNORECASE)
_EQUATION = re.compile(r"^[ \t]*[A-Za-z_]\w*\([A-Za-z_][^)\n]*\)[ \t]*=(?!=)", re.MULTILINE)  # f(n) = f(n - 1) + 1
_QUOTED = re.compile(r"(`{1,2})([^`]+)\1(.*)", re.DOTALL)
_ERRORS = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)

Arguments = tuple[object, ...]
_Found = tuple[str, Arguments, object, str]  # function, arguments, result, the text in the prompt


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The examples of one prompt."""

    entry_point: str  # the function that they call; "": there are none
    calls: tuple[tuple[Arguments, object], ...]  # (positional arguments, result)
    sources: tuple[str, ...]  # the text of each in the prompt

    @property
    def reference(self) -> str:
        """A program that returns the results of these calls and nothing else."""
        rows = "".join(f"    ({arguments!r}, {result!r}),\n" for arguments, result in self.calls)
        return (
            f"_KNOWN = [\n{rows}]\n\n\ndef {self.entry_point}(*given):\n    for arguments, result in _KNOWN:\n"
            "        if arguments == given:\n            return result\n    raise LookupError('not an example')\n"
        )


def examples_in(prompt: str) -> Examples:
    """The examples in a prompt: `>>> f(1)` with its result below, `assert f(1) == 2`, lines such as `f(1) == 2` or `f(1) -> 2`.

    A line may begin with a bullet or with *For example*, have its parts in backticks, and say `f(1) = 2`, *f(1) returns 2* or
    *f(1) should return 2*. Where the prompt has an equation such as `f(n) = f(n - 1) + 1`, lines with `=` belong to it
    and are no examples. Arguments and results must be literals; of a tuple without brackets nobody knows where it ends.

    Only calls of one function count: the last one that the prompt begins to define, or, where it defines none, the one that is
    called most often. Equal calls count once; with different results they do not count.
    """
    lines = [line.strip() for line in prompt.splitlines()]
    found: list[_Found] = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if one := _example(line, below, equals=not _EQUATION.search(prompt)):
            found.append(one)
    defined = re.findall(r"^def\s+(\w+)\s*\(", prompt, re.MULTILINE)
    names = Counter(name for name, *_ in found)
    entry = defined[-1] if defined else names.most_common(1)[0][0] if names else ""
    results: dict[str, list[tuple[Arguments, object, str]]] = {}
    for name, arguments, result, source in found:
        if name == entry:
            results.setdefault(repr(arguments), []).append((arguments, result, source))
    kept = [rows[0] for rows in results.values() if len({repr(result) for _, result, _ in rows}) == 1]
    return Examples(
        entry_point=entry if kept else "",
        calls=tuple((arguments, result) for arguments, result, _ in kept),
        sources=tuple(source for *_, source in kept),
    )


def _example(line: str, below: str, *, equals: bool) -> _Found | None:
    """What a line gives that is an example; None for any other, such as one with `=` where `equals` is false."""
    text, typed = line.removeprefix(">>>").strip().rstrip(",.;"), line.startswith(">>>")
    if re.match(r"assert\b", text):
        return _asserted(text, line)
    if not typed:
        text = _unquoted(_BEGIN.sub("", text, count=1))
    for end in _call_ends(text):
        call = _call(text[:end])
        if call is None:
            continue
        rest = text[end:].strip()
        if typed and (not rest or rest.startswith("#")):
            return _with_result(call, below, f"{line}\n{below}")
        separator = _RESULT.match(rest)
        if separator is None or (typed and below == "False") or (separator[0].strip() == "=" and not equals):
            return None
        return _with_result(call, _unquoted(rest[separator.end() :]), line)
    return None


def _asserted(text: str, source: str) -> _Found | None:
    """The call and result of `assert f(1) == 2`, without the message that it may have."""
    try:
        [node] = ast.parse(text).body
    except _ERRORS:
        return None
    test = node.test if isinstance(node, ast.Assert) else None
    if not isinstance(test, ast.Compare) or len(test.ops) > 1 or not isinstance(test.ops[0], ast.Eq | ast.Is):
        return None
    call = _called(test.left)
    return _with_result(call, ast.unparse(test.comparators[0]), source) if call else None


def _unquoted(text: str) -> str:
    """`text` without the backticks around its first part."""
    quoted = _QUOTED.fullmatch(text)
    return f"{quoted[2]}{quoted[3]}" if quoted else text


def _call_ends(text: str) -> list[int]:
    """The places behind each closing bracket, of a text that begins with a call."""
    return [m.end() for m in re.finditer(r"\)", text)] if re.match(r"[A-Za-z_]\w*\s*\(", text) else []


def _call(text: str) -> tuple[str, Arguments] | None:
    try:
        return _called(ast.parse(text, mode="eval").body)
    except _ERRORS:
        return None


def _called(node: ast.expr) -> tuple[str, Arguments] | None:
    """The function and the arguments of a call by place, all of them literals; None for anything else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
        return None
    try:
        return node.func.id, tuple(ast.literal_eval(argument) for argument in node.args)
    except _ERRORS:
        return None


def _with_result(call: tuple[str, Arguments], text: str, source: str) -> _Found | None:
    try:
        result = ast.literal_eval(text.strip())
    except _ERRORS:
        return None
    return None if isinstance(result, tuple) and not text.strip().startswith("(") else (*call, result, source)
