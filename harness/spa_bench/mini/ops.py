"""The vocabulary of the embedded world: steps that filter or map, and reducers that end a pipeline.

A pipeline reads a list of integers, a list of strings or the characters of a string, applies 0 to 4 steps and reduces what is
left. Every table row has its wording and its code, so that a reader sees both side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

LETTERS = tuple("aeinorst")
SMALL = tuple(str(i) for i in range(2, 10))


@dataclass(frozen=True, kw_only=True)
class Step:
    """One filter or map. In `code`, `{x}` is the element and `{p}` the parameter."""

    name: str
    kind: str  # "filter" or "map"
    source: str  # "int", "str" or "char": the element it accepts
    target: str  # the element it produces
    code: str  # a condition for a filter, an expression for a map
    negated: str  # the opposite condition; empty for a map
    wording: tuple[str, str]  # imperative and gerund
    params: tuple[str, ...] = ()  # the possible values of {p}; empty when the step has no parameter


@dataclass(frozen=True, kw_only=True)
class Reducer:
    """The end of a pipeline, which makes its result. `final` reads a list `{l}`; `whole` reads any iterable `{it}`."""

    name: str
    source: str
    wording: str
    final: str
    whole: str = ""  # empty: needs a named list
    start: str = ""  # fold: initial value; empty when the reducer has no natural fold
    update: str = ""  # fold: statement over accumulator {a} and element {x}
    right: str = ""  # fold: expression over element {x} and the result {r} of the rest


def _filter(name: str, source: str, code: str, negated: str, noun: str, params: tuple[str, ...] = ()) -> Step:
    return Step(
        name=name,
        kind="filter",
        source=source,
        target=source,
        code=code,
        negated=negated,
        wording=(f"keep {noun}", f"keeping {noun}"),
        params=params,
    )


def _map(name: str, source: str, code: str, wording: tuple[str, str], params: tuple[str, ...] = (), target: str = "") -> Step:
    return Step(
        name=name, kind="map", source=source, target=target or source, code=code, negated="", wording=wording, params=params
    )


_VOWELS = '"aeiou"'

STEPS: tuple[Step, ...] = (
    _filter("even", "int", "{x} % 2 == 0", "{x} % 2 != 0", "the even numbers"),
    _filter("odd", "int", "{x} % 2 == 1", "{x} % 2 == 0", "the odd numbers"),
    _filter("positive", "int", "{x} > 0", "{x} <= 0", "the positive numbers"),
    _filter("negative", "int", "{x} < 0", "{x} >= 0", "the negative numbers"),
    _filter("above", "int", "{x} > {p}", "{x} <= {p}", "the numbers greater than {p}", SMALL),
    _filter("below", "int", "{x} < {p}", "{x} >= {p}", "the numbers less than {p}", SMALL),
    _filter("multiple", "int", "{x} % {p} == 0", "{x} % {p} != 0", "the multiples of {p}", SMALL[1:]),
    _filter("not-multiple", "int", "{x} % {p} != 0", "{x} % {p} == 0", "the numbers not divisible by {p}", SMALL[1:]),
    _filter("not-equal", "int", "{x} != {p}", "{x} == {p}", "the numbers other than {p}", SMALL),
    _filter("far", "int", "abs({x}) > {p}", "abs({x}) <= {p}", "the numbers with absolute value above {p}", SMALL),
    _map("add", "int", "{x} + {p}", ("add {p} to each", "adding {p} to each"), SMALL),
    _map("subtract", "int", "{x} - {p}", ("subtract {p} from each", "subtracting {p} from each"), SMALL),
    _map("times", "int", "{x} * {p}", ("multiply each by {p}", "multiplying each by {p}"), SMALL),
    _map("square", "int", "{x} ** 2", ("square each", "squaring each")),
    _map("negate", "int", "-{x}", ("negate each", "negating each")),
    _map("abs", "int", "abs({x})", ("take absolute values", "taking absolute values")),
    _map("mod", "int", "{x} % {p}", ("take each modulo {p}", "taking each modulo {p}"), SMALL),
    _map("floordiv", "int", "{x} // {p}", ("divide each by {p} rounding down", "dividing each by {p} rounding down"), SMALL),
    _map("from", "int", "{p} - {x}", ("subtract each from {p}", "subtracting each from {p}"), SMALL),
    _map("at-least", "int", "max({x}, {p})", ("raise each to at least {p}", "raising each to at least {p}"), SMALL),
    _map("at-most", "int", "min({x}, {p})", ("cap each at {p}", "capping each at {p}"), SMALL),
    _filter("longer", "str", "len({x}) > {p}", "len({x}) <= {p}", "the words longer than {p}", SMALL[:4]),
    _filter("shorter", "str", "len({x}) < {p}", "len({x}) >= {p}", "the words shorter than {p}", SMALL[1:6]),
    _filter("even-length", "str", "len({x}) % 2 == 0", "len({x}) % 2 != 0", "the words of even length"),
    _filter("starts", "str", '{x}.startswith("{p}")', 'not {x}.startswith("{p}")', 'the words starting with "{p}"', LETTERS),
    _filter("ends", "str", '{x}.endswith("{p}")', 'not {x}.endswith("{p}")', 'the words ending with "{p}"', LETTERS),
    _filter("contains", "str", '"{p}" in {x}', '"{p}" not in {x}', 'the words containing "{p}"', LETTERS),
    _filter("lacks", "str", '"{p}" not in {x}', '"{p}" in {x}', 'the words without "{p}"', LETTERS),
    _filter("palindrome", "str", "{x} == {x}[::-1]", "{x} != {x}[::-1]", "the palindromes"),
    _map("upper", "str", "{x}.upper()", ("uppercase each", "uppercasing each")),
    _map("capitalize", "str", "{x}.capitalize()", ("capitalize each", "capitalizing each")),
    _map("reverse", "str", "{x}[::-1]", ("reverse each", "reversing each")),
    _map("double", "str", "{x} * 2", ("repeat each twice", "repeating each twice")),
    _map("suffix", "str", '{x} + "{p}"', ('append "{p}" to each', 'appending "{p}" to each'), LETTERS),
    _map("prefix", "str", '"{p}" + {x}', ('prepend "{p}" to each', 'prepending "{p}" to each'), LETTERS),
    _map("initial", "str", "{x}[:1]", ("take the first letter of each", "taking the first letter of each")),
    _map("tail", "str", "{x}[1:]", ("drop the first letter of each", "dropping the first letter of each")),
    _map("remove", "str", '{x}.replace("{p}", "")', ('remove "{p}" from each', 'removing "{p}" from each'), LETTERS),
    _map("length", "str", "len({x})", ("take the length of each", "taking the length of each"), target="int"),
    _filter("vowel", "char", "{x} in " + _VOWELS, "{x} not in " + _VOWELS, "the vowels"),
    _filter("not-vowel", "char", "{x} not in " + _VOWELS, "{x} in " + _VOWELS, "the characters that are not vowels"),
    _filter("is-letter", "char", "{x}.isalpha()", "not {x}.isalpha()", "the letters"),
    _filter("is-digit", "char", "{x}.isdigit()", "not {x}.isdigit()", "the digits"),
    _filter("is-upper", "char", "{x}.isupper()", "not {x}.isupper()", "the uppercase letters"),
    _filter("is-lower", "char", "{x}.islower()", "not {x}.islower()", "the lowercase letters"),
    _filter("is", "char", '{x} == "{p}"', '{x} != "{p}"', 'the characters equal to "{p}"', LETTERS),
    _filter("is-not", "char", '{x} != "{p}"', '{x} == "{p}"', 'the characters other than "{p}"', LETTERS),
    _map("char-upper", "char", "{x}.upper()", ("uppercase each", "uppercasing each")),
    _map("char-lower", "char", "{x}.lower()", ("lowercase each", "lowercasing each")),
    _map("char-swap", "char", "{x}.swapcase()", ("swap the case of each", "swapping the case of each")),
    _map("char-double", "char", "{x} * 2", ("repeat each twice", "repeating each twice"), target="str"),
    _map("char-suffix", "char", '{x} + "{p}"', ('append "{p}" to each', 'appending "{p}" to each'), LETTERS, "str"),
    _map("code", "char", "ord({x})", ("take the code of each", "taking the code of each"), target="int"),
)


def _shared(source: str, empty: str) -> tuple[Reducer, ...]:
    return (
        Reducer(
            name="list",
            source=source,
            wording="the resulting list",
            final="{l}",
            whole="list({it})",
            start="[]",
            update="{a}.append({x})",
            right="[{x}] + {r}",
        ),
        Reducer(
            name="count",
            source=source,
            wording="how many there are",
            final="len({l})",
            whole="",
            start="0",
            update="{a} += 1",
            right="1 + {r}",
        ),
        Reducer(
            name="distinct",
            source=source,
            wording="how many distinct ones there are",
            final="len(set({l}))",
            whole="len(set({it}))",
        ),
        Reducer(name="first", source=source, wording=f"the first one or {empty}", final="{l}[0] if {l} else " + empty),
        Reducer(name="last", source=source, wording=f"the last one or {empty}", final="{l}[-1] if {l} else " + empty),
        Reducer(name="sorted", source=source, wording="them sorted", final="sorted({l})", whole="sorted({it})"),
    )


_TEXT = (
    Reducer(
        name="concat",
        source="str",
        wording="them joined together",
        final='"".join({l})',
        whole='"".join({it})',
        start='""',
        update="{a} += {x}",
        right="{x} + {r}",
    ),
    Reducer(name="dashes", source="str", wording="them joined by dashes", final='"-".join({l})', whole='"-".join({it})'),
)

REDUCERS: tuple[Reducer, ...] = (
    *_shared("int", "0"),
    Reducer(
        name="sum",
        source="int",
        wording="the sum",
        final="sum({l})",
        whole="sum({it})",
        start="0",
        update="{a} += {x}",
        right="{x} + {r}",
    ),
    Reducer(
        name="product",
        source="int",
        wording="the product",
        final="math.prod({l})",
        whole="math.prod({it})",
        start="1",
        update="{a} *= {x}",
        right="{x} * {r}",
    ),
    Reducer(name="max", source="int", wording="the largest or 0", final="max({l}, default=0)", whole="max({it}, default=0)"),
    Reducer(name="min", source="int", wording="the smallest or 0", final="min({l}, default=0)", whole="min({it}, default=0)"),
    Reducer(
        name="descending",
        source="int",
        wording="them in descending order",
        final="sorted({l}, reverse=True)",
        whole="sorted({it}, reverse=True)",
    ),
    Reducer(name="mean", source="int", wording="the average rounded down or 0", final="sum({l}) // len({l}) if {l} else 0"),
    *_shared("str", '""'),
    *_TEXT,
    Reducer(
        name="longest",
        source="str",
        wording='the longest or ""',
        final='max({l}, key=len, default="")',
        whole='max({it}, key=len, default="")',
    ),
    Reducer(
        name="shortest",
        source="str",
        wording='the shortest or ""',
        final='min({l}, key=len, default="")',
        whole='min({it}, key=len, default="")',
    ),
    Reducer(
        name="total-length",
        source="str",
        wording="the total length",
        final='len("".join({l}))',
        whole='len("".join({it}))',
        start="0",
        update="{a} += len({x})",
        right="len({x}) + {r}",
    ),
)


def steps_for(element: str) -> tuple[Step, ...]:
    """Steps that accept `element` ("int", "str" or "char")."""
    return tuple(s for s in STEPS if s.source == element)


def reducers_for(element: str) -> tuple[Reducer, ...]:
    """Reducers that accept `element`; characters have the reducers of strings, except those of length."""
    if element != "char":
        return tuple(r for r in REDUCERS if r.source == element)
    return tuple(r for r in REDUCERS if r.source == "str" and r.name not in {"longest", "shortest", "total-length"})
