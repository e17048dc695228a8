"""Reads answers with stated probabilities that stand in tags."""

from __future__ import annotations

import ast
import html
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from spa_bench.samplers.asking.fences import blocks_of, lines_of, parses, tree_of
from spa_bench.samplers.asking.reading import unfenced
from spa_bench.samplers.asking.stated_numbers import SAID, Raw, said_alone

_NAMES = "response|answer|candidate|item"
_QUOTES = "`'\"\\"  # a tag right behind one is named, and begins nothing
_OPENING = re.compile(rf"<({_NAMES}|text)(?:_?\d+)?\b([^>\n]*)>", re.IGNORECASE)
_TEXT = re.compile(r"<(/?)text\b[^>\n]*>(\s*<!\[CDATA\[)?", re.IGNORECASE)
_WORD_BEFORE = re.compile(r"[^\W\d_][ \t]+\Z")
_CDATA = re.compile(r"\A\s*<!\[CDATA\[(.*?)(?:\]\]>\s*\Z|\Z)", re.DOTALL)
_CDATA_END = re.compile(r"\]\]>\s*</text", re.IGNORECASE)
_SHARE = r"(?:numeric[_-]?)?prob(?:ability)?"
_PROBABILITY = re.compile(rf"<{_SHARE}\b[^>\n/]*>\s*([^\n]*?)\s*(?:</|<(?=[a-z])|\n|\Z)", re.IGNORECASE)
_ELEMENT = re.compile(rf"<{_SHARE}\b[^>\n/]*>\s*([^\n]*?)\s*(?:</(?:{_SHARE}\s*>)?|<(?=[a-z])|\n|\Z)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\bprob(?:ability)?\s*=\s*(?:\"([^\"\n]*)|'([^'\n]*)|([^\"'>\s]*))", re.IGNORECASE)
_TAG = re.compile(rf"(?<![`'\"\\])</?(?:(?:{_NAMES})(?:s|_?\d+)?|text|{_SHARE}|reasoning)\b[^>\n]*>", re.IGNORECASE)
_STRUCTURE = re.compile(rf"\s*</?(?:(?:{_NAMES})(?:s|_?\d+)?|text|{_SHARE})\b", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|#0*39|#x27);")
_ENTITIES = ("lt", "gt", "amp", "quot", "apos")


def tagged(text: str, finished: bool, program: bool) -> Iterator[Raw]:
    """Answers in <response> tags; where there are none, in <text> tags.

    Which tag begins an answer is told by the first one; what is within a <text> is its text, whatever tags it has.
    """
    shape = _shape(text)
    spans = _spans_of_text(shape)
    name = _outermost(shape, spans)
    starts = [m for m in _openings(shape, spans) if m[1].lower() == name] if name else []
    if not starts:
        return
    firsts = [m.start() for m in starts]
    ends = [end for _, end in pairwise([*firsts, len(text)])]
    parts = [_parted(text, shape, start, end, spans) for start, end in zip(starts, ends, strict=True)]
    near = _near([text[: firsts[0]], *(behind for _, _, behind in parts)])
    for i, (start, (body, closed, _)) in enumerate(zip(starts, parts, strict=True)):
        words, said, ended = _read(body, start[2], near[i])
        whole = finished or closed or ended or i + 1 < len(parts)
        yield Raw(_unescaped(words) if program else words, said, whole)


def _shape(text: str) -> str:
    """`text` without the brackets of tags in fenced blocks, with each character in its place.

    A block with a line that begins with a tag of ours holds answers, or is not closed where it should be.
    """
    lines = text.splitlines(keepends=True)
    for block in blocks_of(lines_of(text)):
        inner = lines[block.first + 1 : block.end - block.closed]
        if not any(map(_STRUCTURE.match, inner)):
            lines[block.first + 1 : block.end - block.closed] = [line.replace("<", " ") for line in inner]
    return "".join(lines)


def _near(gaps: Sequence[str]) -> Sequence[str]:
    """The text beside each answer, of that before, between and behind them, in which its probability may stand.

    It is what is behind, unless a probability stands before the first and none behind the last; where both do, neither counts.
    """
    first, last = (bool(_PROBABILITY.search(gap) or SAID.search(gap)) for gap in (gaps[0], gaps[-1]))
    if first and last:
        return [""] * (len(gaps) - 1)
    return gaps[:-1] if first else gaps[1:]


def _outermost(text: str, spans: Sequence[tuple[int, int, bool]]) -> str:
    """The name of the tag that begins an answer, in small letters; "" where there is none.

    It is the first; one that holds several answers of another name is passed through.
    """
    found = _openings(text, spans)
    if not found:
        return ""
    name = found[0][1].lower()
    seconds = [m[1].lower() for m in found if m[1].lower() != name]
    alone = sum(m[1].lower() == name for m in found) == 1
    if alone and seconds and seconds.count(seconds[0]) > 1 and (seconds[0] == "text" or len(_PROBABILITY.findall(text)) > 1):
        return seconds[0]
    return name


def _openings(text: str, spans: Sequence[tuple[int, int, bool]]) -> list[re.Match[str]]:
    """The tags that can begin an answer, outside of what is within a <text>."""
    firsts = [first for first, _, _ in spans]
    found = []
    for match in _OPENING.finditer(text):
        place = bisect_right(firsts, match.start() - 1) - 1
        inside = place >= 0 and match.start() < spans[place][1]
        if (
            not inside
            and not _is_quoted(text, match)
            and not _is_mentioned(text, match, match[1])
            and (match[1].lower() != "text" or not match[2].strip())
        ):
            found.append(match)
    return found


def _is_quoted(text: str, tag: re.Match[str]) -> bool:
    return tag.start() > 0 and text[tag.start() - 1] in _QUOTES


def _is_mentioned(text: str, tag: re.Match[str], name: str) -> bool:
    """Whether a tag stands behind a word, as in `A <text> is`, and is not closed before the next one of its name."""
    if not _WORD_BEFORE.search(text[max(0, tag.start() - 9) : tag.start()]):
        return False
    following = re.compile(rf"<(/?){name}(?:_?\d+)?\b", re.IGNORECASE).search(text, tag.end())
    return following is None or not following[1]


def _spans_of_text(text: str) -> list[tuple[int, int, bool]]:
    """(place behind <text>, place of what ends it, whether that is its closing tag) of each, in their order.

    Its closing tag is the one that leaves as many closed as opened; where none does, it ends at the first other tag.
    """
    marks, closing = list(_TEXT.finditer(text)), dict[int, int]()
    opened: list[int] = []
    for i, mark in enumerate(marks):
        if not mark[1] and (opened or not _is_quoted(text, mark)) and not _is_mentioned(text, mark, "text"):
            opened.append(i)
        elif mark[1] and opened:
            closing[opened.pop()] = i
    spans: list[tuple[int, int, bool]] = []
    reached = 0
    for i, mark in enumerate(marks):
        if mark[1] or mark.start() < reached or _is_quoted(text, mark) or _is_mentioned(text, mark, "text"):
            continue
        start = mark.start(2) if mark[2] else mark.end()
        data_end = _CDATA_END.search(text, start) if mark[2] else None
        if data_end:
            spans.append((start, data_end.end() - len("</text"), True))
        elif i in closing:
            spans.append((start, marks[closing[i]].start(), True))
        else:
            spans.append((start, _end_of_unclosed(text, start), False))
        reached = spans[-1][1]
    return spans


def _end_of_unclosed(text: str, start: int) -> int:
    found = re.compile(rf"<{_SHARE}\b[^>\n]*>|</?(?:{_NAMES})(?:_?\d+)?\s*>|</?text\s*>", re.IGNORECASE).search(text, start)
    return found.start() if found else len(text)


def _parted(
    text: str, shape: str, start: re.Match[str], end: int, spans: Sequence[tuple[int, int, bool]]
) -> tuple[tuple[str, str, bool], bool, str]:
    """((what is beside the text of an answer, its text, whether that is closed), whether the answer is, what is behind it)."""
    first = start.start() if start[1].lower() == "text" else start.end()
    place = bisect_right(spans, (first, -1, False))
    inner = spans[place] if place < len(spans) and spans[place][0] <= end else None
    close = re.compile(rf"(?<![`'\"\\])</{start[1]}(?:_?\d+)?\s*>", re.IGNORECASE).search(
        shape, inner[1] if inner else first, end
    )
    stop = close.start() if close else end
    behind = text[close.end() : end] if close else ""
    if inner is None:
        other = re.compile(rf"<({_NAMES})\b[^>\n]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL).search(shape, first, stop)
        if other and not text[first : other.start()].strip():
            return (text[other.end() : stop], text[other.start(2) : other.end(2)], True), close is not None, behind
        return ("", text[first:stop], False), close is not None, behind
    beside = text[first : inner[0]] + "\n" + text[inner[1] : stop]
    return (beside, text[inner[0] : inner[1]], inner[2]), close is not None, behind


def _read(body: tuple[str, str, bool], attributes: str, near: str) -> tuple[str, str, bool]:
    """(the text of an answer, what it states to be its probability, whether the answer has come to its end)."""
    beside, words, closed = body
    tag = _PROBABILITY.search(beside)
    if not tag and (tag := _ELEMENT.search(words)):
        if closed and words[tag.end() :].strip():
            tag = None  # a part of the text
        else:
            words = words[: tag.start()].rstrip() or words[tag.end() :]
    given = _ATTRIBUTE.search(attributes)
    tag = tag or (None if given else _PROBABILITY.search(near))
    data = _CDATA.match(words)
    words = data[1] if data else (words if closed else _untagged(words))
    words = words.strip("\n")
    if tag:
        return words, tag[1], True
    if given:
        return words, next((one for one in given.groups() if one), ""), closed
    return _worded(words, _TAG.sub("", beside), near) or (words, "", closed)


def _worded(words: str, beside: str, near: str) -> tuple[str, str, bool] | None:
    """What _read tells of an answer whose probability is in words, in its last line or beside it; None for another."""
    lines = words.rstrip().splitlines()
    if len(lines) > 1 and (alone := said_alone(lines[-1])) is not None:
        return "\n".join(lines[:-1]).strip("\n"), alone, True
    if worded := SAID.search(beside) or SAID.search(near):
        return words, worded[1], True
    ends = SAID.search(lines[-1]) if lines else None
    if ends and ends.end() == len(lines[-1]) and ends[0].strip()[:1] in ("(", "["):
        return "\n".join([*lines[:-1], lines[-1][: ends.start()].rstrip()]), ends[1], True
    return None


def _untagged(words: str) -> str:
    """A text without our tags, but those within a fenced block."""
    places = [0, *(edge for tag in _TAG.finditer(_shape(words)) for edge in tag.span()), len(words)]
    return "".join(words[a:b] for a, b in zip(places[::2], places[1::2], strict=True))


def _unescaped(words: str) -> str:
    """A program with its entities as characters, where it is one only then."""
    if not _ENTITY.search(words):
        return words
    whole = html.unescape(words)
    tree = tree_of(unfenced(words))
    as_names = tree is not None and any(
        isinstance(node, ast.BinOp) and isinstance(node.right, ast.Name) and node.right.id in _ENTITIES
        for node in ast.walk(tree)
    )
    return whole if (tree is None or as_names) and parses(unfenced(whole)) else words
