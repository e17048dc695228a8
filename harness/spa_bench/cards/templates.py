"""Templates: the words of a prompt as a text file, in the folder `templates` of spa-bench or beside a card.

An option declares a template by `template_file(NAME, needs=..., may=...)` as its default. A card gives the name of one of ours,
the path of a file (`mine.txt`, relative to the card), or the text itself. When a card is read, the text takes the place of name
and path: a run's spec has the words, and so has its hash.

In a template `{word}` is a placeholder. `{{word}}` stands for the letters `{word}`; other braces stand for themselves.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from spa_bench.cards.reading import cards_folder
from spa_bench.errors import CardError
from spa_bench.support.home import expanded
from spa_bench.support.text import did_you_mean

_ENDINGS = (".txt", ".md")  # of a template's file
_PLACE = re.compile(r"\{\{[a-z_]+\}\}|\{([a-z_]+)\}")


@dataclasses.dataclass(frozen=True)
class _Declared:
    """What the text of an option must have."""

    needs: frozenset[str]  # placeholders without which the prompt means nothing
    may: frozenset[str]  # others that are filled in
    lines: bool  # a list with an entry a line, without placeholders


def template_file(name: str, *, needs: str = "prompt", may: str = "") -> str:
    """The default of an option that is a template: one of ours, with the placeholders it needs and may have, by spaces."""
    told = _Declared(frozenset(needs.split()), frozenset(may.split()), lines=False)
    return dataclasses.field(default=name, metadata={"template": told})


def list_file(name: str) -> str:
    """The default of an option that is a list, with an entry a line: one of our files."""
    return dataclasses.field(default=name, metadata={"template": _Declared(frozenset(), frozenset(), lines=True)})


def template_names() -> list[str]:
    """The names of the templates that come with spa-bench."""
    return sorted(path.stem for path in cards_folder("templates").glob("*.txt"))


def template_text(value: str, where: str, *, needs: str, may: str = "") -> str:
    """The text of one template: `value` is a name of ours, a path from the current folder, or the text itself.

    `where` names the option in messages. Raises CardError as with_texts.
    """
    told = _Declared(frozenset(needs.split()), frozenset(may.split()), lines=False)
    return _checked(_text(value, Path.cwd(), where), told, f"{where} ({_called(value)})")


def with_texts(options: object, folder: Path | None, where: str) -> object:
    """`options` with the text of each template in place of its name or path; others are as they were.

    Relative paths start at `folder`, or at the current one where it is None. Raises CardError for a file that cannot be read, a
    placeholder that is missing, and one that nothing fills.
    """
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        return options
    texts = {}
    for spec in dataclasses.fields(options):
        told = spec.metadata.get("template")
        if isinstance(told, _Declared):
            key = f"{where}: options.{spec.name}"
            value = vars(options)[spec.name]
            texts[spec.name] = _checked(_text(value, folder or Path.cwd(), key), told, f"{key} ({_called(value)})")
    return dataclasses.replace(options, **texts) if texts else options


def filled_in(text: str, values: Mapping[str, object]) -> str:
    """A template's text with `values` in the place of its placeholders, without white space at its ends.

    What is filled in is not looked at again: a problem may have braces. A value that the text has no place for has no effect.
    """
    return _PLACE.sub(lambda found: str(values[found[1]]) if found[1] else found[0][1:-1], text).strip()


def entries(text: str) -> tuple[str, ...]:
    """The entries of a list: its lines, without empty ones and those that begin with #."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def is_text(value: str) -> bool:
    """Whether the value of an option is the text itself: it has a line break, a brace, or spaces without a file's ending."""
    return "\n" in value or "{" in value or (" " in value.strip() and not value.endswith(_ENDINGS))


def _called(value: str) -> str:
    return "the text" if is_text(value) else value


def _text(value: str, folder: Path, key: str) -> str:
    """The text behind the value of an option, which ends in a line break."""
    if is_text(value):
        text = value
    elif "/" in value or value.endswith(_ENDINGS):
        text = _read(folder / expanded(value), key)
    elif value in template_names():
        text = _read(cards_folder("templates") / f"{value}.txt", key)
    else:
        near = did_you_mean(value, template_names())
        raise CardError(f"{key} is {value!r}: neither a path of yours, such as mine.txt, nor a template of ours{near}")
    return text.replace("\r\n", "\n").rstrip() + "\n"


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CardError(f"{key}: cannot read the template {path}: {said}") from error


def _checked(text: str, told: _Declared, where: str) -> str:
    if told.lines:
        if not entries(text):
            raise CardError(f"{where} has no entry: write one on each line")
        return text
    found = {match[1] for match in _PLACE.finditer(text) if match[1]}
    takes = ", ".join(f"{{{name}}}" for name in sorted(told.needs | told.may))
    if missing := sorted(told.needs - found):
        raise CardError(f"{where} has no {{{missing[0]}}}; its placeholders are {takes}")
    if unknown := sorted(found - told.needs - told.may):
        raise CardError(
            f"{where} has {{{unknown[0]}}}, which nothing fills in; its placeholders are {takes}; "
            f"write {{{{{unknown[0]}}}}} for these letters themselves"
        )
    return text
