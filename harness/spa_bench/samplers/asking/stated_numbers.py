"""Probabilities as models write them: in numbers, and in words beside them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_DECIMAL = r"[-+]?(?:\d+(?:[.,]\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(rf"(?<![\w.,])(?<![a-zA-Z]-)({_DECIMAL})(?!\w|[.,]\d)\s*(%|％|percent\b)?", re.IGNORECASE)
_RATIO = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/|in|out of|:)\s*(\d+(?:\.\d+)?)\s*", re.IGNORECASE)
_GROUPED = re.compile(r"[-+]?[1-9]\d*,\d{3}")  # 1,000 is a thousand, 0,125 an eighth
_REMARK = re.compile(r"\s*\([^()%\d]*\)\s*$")  # such as (rare)
_ELSEWHERE = (  # the word in other languages, in which models answer too
    r"wahrscheinlichkeit|probabilit(?:é|à)|probabili?dade?|waarschijnlijkheid|вероятность|prawdopodobieństwo|olasılık"
    r"|概率|可能性|確率|확률"
)
_WORD = rf"\b(?:prob(?:ability|\.)?|likelihood|confidence|{_ELSEWHERE})"
_P = r"(?<=[(\[（$])\s{0,2}p(?=\s{0,2}\$?\s{0,2}[:=≈~<>])"  # p = 0.2 in brackets
_ABOUT = r"(?:[<>≤≥~≈]\s?)?"
_UNIT = r"(?:\s{0,2}(?:probability|prob\.|likelihood|chance|likely|confidence)\b)?"
SAID = re.compile(  # lengths are bounded, so that a long run of spaces is read once
    rf"[(（\[{{*_$\s]{{0,4}}(?:{_WORD}|{_P})[*_\s]{{0,4}}(?:is|of)?[\s:：=≈~<>≤≥*_]{{0,8}}"
    r"([-+]?[\d.][\d.,eE/+-]{0,30}\s{0,2}[%％]?)[)）\]}*_.,;$\s]{0,4}",
    re.IGNORECASE,
)
LAST = re.compile(rf"[(（\[]\s{{0,2}}({_ABOUT}[\d.][\d.,/]{{0,30}}\s{{0,2}}[%％]?){_UNIT}\s{{0,2}}[)）\]][*_.\s]{{0,4}}$")
_FIRST = re.compile(  # in brackets at the beginning of a line: no number that may be one of the text
    rf"[*_]{{0,3}}[(\[]\s?({_ABOUT}(?:0?[.,]\d{{1,12}}|\d{{1,3}}(?:\.\d{{1,12}})?\s?%))\s?[)\]][*_:\s]{{0,6}}(?=\S)"
)
# at the end of a line, without words or brackets: a decimal, a percentage or a fraction, because any number may end a line
_TAIL = re.compile(
    r"[*_]{0,3}(?:\s{0,4}[:=–—|→]|\s{0,4}->|,?\s{1,4}[-–—(]?)[*_\s]{0,4}"
    rf"({_ABOUT}(?:\d{{1,3}}[.,]\d{{1,12}}\s?%?|\.\d{{1,12}}|\d{{1,3}}\s?%|\d{{1,4}}/\d{{1,4}})){_UNIT}[)*_.\s]{{0,4}}$"
)
_OWN = re.compile(
    rf"[-*•>_#\s(\[]{{0,8}}(?:(?:stated|estimated)\s)?{_WORD}[*_\s]{{0,4}}[:：=][*_\s]{{0,4}}(.{{1,60}})", re.IGNORECASE
)
_WITH = re.compile(r"(?:\bwith|\bat|\bhas)(?:\s{1,4}an?)?\s{0,4}$", re.IGNORECASE)
_CUT = re.compile(rf"((?:{_WORD}|\bp)[\"'*_\s]{{0,4}}(?:is|of)?[\s:=≈~<>*_\"']{{0,8}})[\d.,]{{1,30}}\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Raw:
    """An answer as it stands in a reply; `said` are the letters in the place of its probability."""

    text: str
    said: str
    whole: bool = True


def probabilities(said: Sequence[str]) -> list[float | None]:
    """The probabilities of the answers of a reply, from 0 to 1; None for what is none.

    Where a number without a unit is above 1, and all of them are at most 100, they are all percentages.
    """
    read = [_number(one) for one in said]
    bare = [value for value, unit in read if value is not None and unit is None]
    hundred = any(value > 1 for value in bare) and all(value <= 100 for value in bare)
    made: list[float | None] = []
    for value, unit in read:
        share = None if value is None else value / (unit or (100 if hundred else 1))
        made.append(share if share is not None and 0 <= share <= 1 else None)
    return made


def are_probabilities(said: Sequence[str]) -> bool:
    """Whether all of these can be nothing else: numbers from 0 to 1, percentages and fractions, or numbers that sum to 100."""
    read = [_number(one) for one in said]
    if any(share is None for share in probabilities(said)):
        return False
    total = math.fsum(value for value, _ in read if value is not None)
    return all(unit or (value is not None and value <= 1) for value, unit in read) or (len(read) > 1 and abs(total - 100) <= 1)


def _number(said: str) -> tuple[float | None, int | None]:
    """(the only number, what it is counted in: 100 for percent, 1 for a fraction, None where that is open).

    The number is None for anything else, for several numbers that are not the same, and for what is not finite or below 0.
    """
    said = html.unescape(said[:100]).lstrip(" \t\r\n*_`\"'").rstrip(" \t\r\n.,;*_`\"'")
    if ratio := _RATIO.fullmatch(said):
        over = float(ratio[2])
        return (float(ratio[1]) / over if over else None), 1
    numbers = list(_NUMBER.finditer(_REMARK.sub("", said)))
    if not numbers or any(_GROUPED.match(number[0]) for number in numbers):
        return None, None
    values = [float(number[1].replace(",", ".")) for number in numbers]
    units = [100 if number[2] else None for number in numbers]
    shares = [value / (unit or 1) for value, unit in zip(values, units, strict=True)]
    if not all(math.isclose(share, shares[0]) for share in shares):
        return None, None
    return (values[0] if math.isfinite(values[0]) and values[0] >= 0 else None), units[0]


def said_alone(line: str) -> str | None:
    """What a line that says nothing else states to be the probability; None for another line."""
    if match := SAID.fullmatch(line.strip()):
        return match[1]
    match = _OWN.fullmatch(line.rstrip())
    if match and (are_probabilities([match[1]]) or len(match[1].split()) <= 3):
        return match[1].strip("*_ )]")
    return None


def last(line: str) -> re.Match[str] | None:
    """What a line ends with that may be a probability in brackets, as a year is not."""
    match = LAST.search(line)
    value, unit = _number(match[1]) if match else (None, None)
    return match if value is not None and value <= (unit or 100) else None


def parted(line: str, *, tail: bool = False) -> tuple[str, str]:
    """(a line without its probability, what it states); `tail`: a bare number may stand at its end."""
    worded = SAID.search(line)
    match = worded or last(line) or (_TAIL.search(line) if tail else None)
    if not match and (first := _FIRST.match(line)):
        return line[first.end() :].strip(' \t*_"'), first[1]
    text = line[: match.start()] if match else line
    return (_WITH.sub("", text) if worded else text).strip(' \t-–—:：,，;*_"|'), match[1] if match else ""


def without_cut_number(text: str) -> str:
    """A text that was cut without the number of a probability in which it ends, which may lack digits."""
    return _CUT.sub(r"\1", text)
