"""Makes the parts of pages that come from the code: every key of a card, and every option of a command.

    python scripts/docs/pages.py            # write them
    python scripts/docs/pages.py --check    # exit code 1, and the names of pages that are out of date

A page keeps what stands above the line GENERATED. A key's type and default are those of its dataclass. What it changes, and its
unit in square brackets, are the comment beside the field or above it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spa_bench.cards.kinds import CardKind, NoOptions
from spa_bench.cards.registry import TABLES, kind_of
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.task import TaskCard
from spa_bench.cli.commands import EXAMPLES, FAMILIES
from spa_bench.cli.completion import INSTALL
from spa_bench.cli.main import build
from spa_bench.errors import SpaBenchError
from spa_bench.runs.engines import engine_kind

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = "<!-- What follows is made by scripts/docs/pages.py: change the code, then run it. -->"
_FROM_FILE = {"name": "the name of the file", "description": "the name"}  # what a card takes that leaves these keys out
_LONG = 60  # characters: a longer default is named, and not printed


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a card."""

    name: str
    type: str
    default: str
    unit: str  # "": none
    meaning: str


def keys(card: type) -> Iterator[Key]:
    """The keys of a dataclass in their order, those of tables in it left out. Raises ValueError for a key without a comment."""
    said = comments(card)
    for field in dataclasses.fields(card):
        if _table(field) is not None or field.name == "options":
            continue
        if field.name not in said:
            raise ValueError(f"{card.__name__}.{field.name} has no comment; say what it changes, beside it or above it")
        unit, meaning = re.fullmatch(r"(?:\[(.*?)\] )?(.*)", said[field.name], re.DOTALL).groups()  # type: ignore[union-attr]
        default = _FROM_FILE.get(field.name) or _default(field)
        yield Key(name=field.name, type=_type(str(field.type)), default=default, unit=unit or "", meaning=meaning)


def comments(card: type) -> dict[str, str]:
    """The comment of each field of a dataclass: beside it, and else the lines above it."""
    source = inspect.getsource(card)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    at = {token.start[0]: token.string.removeprefix("#").strip() for token in tokens if token.type == tokenize.COMMENT}
    [node] = ast.parse(source).body
    said = {}
    last = 0
    for part in node.body:  # type: ignore[attr-defined]
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            lines = range(part.lineno, (part.end_lineno or part.lineno) + 1)
            above = [at[line] for line in range(last + 1, part.lineno) if line in at]
            if beside := [at[line] for line in lines if line in at] or above:
                said[part.target.id] = " ".join(beside)
        last = part.end_lineno
    return said


def _table(field: dataclasses.Field[object]) -> type | None:
    """The dataclass of a key that is a table, such as [decoding]."""
    factory = field.default_factory
    return factory if isinstance(factory, type) and dataclasses.is_dataclass(factory) and factory is not NoOptions else None


def _type(text: str) -> str:
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "None": "nothing"}
    parts = [
        f"list of {words[inner[1]]}s" if (inner := re.fullmatch(r"tuple\[(\w+), \.\.\.\]", part)) else words[part]
        for part in text.split(" | ")
        if part != "None"
    ]
    return " or ".join(parts)


def _default(field: dataclasses.Field[object]) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        return "must be given"
    if value is None:
        return "none"
    if isinstance(value, str) and ("\n" in value or len(value) > _LONG):
        return "a text of the harness"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(_toml(part) for part in value) + "]`"
    return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def table(found: list[Key], units: bool = True) -> str:
    """The keys as a Markdown table."""
    head = ["key", "type", "default", *(["unit"] if units else []), "what it changes"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for key in found:
        cells = [f"`{key.name}`", key.type, key.default, *([key.unit] if units else []), key.meaning]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _tables(card: type, prefix: str = "") -> Iterator[str]:
    """A section for each table of a card."""
    for field in dataclasses.fields(card):
        inner = _table(field)
        if inner is not None:
            name = f"{prefix}{field.name}"
            yield f"### `[{name}]`\n\n{(inner.__doc__ or '').splitlines()[0]}\n\n{table(list(keys(inner)))}"
            yield from _tables(inner, f"{name}.")


def cards_page() -> str:
    """Every key of the cards of samplers and tasks, the options of each kind, and those of each engine."""
    parts = [f"## A sampler's card\n\n{table(list(keys(SamplerCard)))}", *_tables(SamplerCard)]
    parts += _kinds("sampler", "[options]")
    parts += _kinds("synthesis", "[synthesize.options]", "of method")
    parts += [f"## A task's card\n\n{table(list(keys(TaskCard)))}", *_tables(TaskCard)]
    parts += _kinds("task", "[options]")
    parts.append("## An engine's options\n\n`--set engine.KEY=VALUE`; they stand in no card.")
    for name in TABLES["engine"]:
        if found := list(keys(engine_kind(name).options)):
            parts.append(f"### engine `{name}`\n\n{table(found, units=False)}")
    return "\n\n".join(parts)


def _kinds(what: str, heading: str, of: str = "of kind") -> Iterator[str]:
    for name in TABLES[what]:
        kind: CardKind[object, object] = kind_of(CardKind, what, name)
        if kind.options is not NoOptions:
            yield f"### `{heading}` {of} `{name}`\n\n{table(list(keys(kind.options)))}"


def commands_page() -> str:
    """Every command with its options and examples, from the application itself."""
    text = build().generate_docs(output_format="markdown", heading_level=1)
    text = text[text.index("## spa-bench run") : text.index(f"\n## spa-bench {INSTALL}")] + "\n"
    text = re.sub(r"\(docs/([\w-]+/([\w-]+)\.md)\)", _page_link, text)
    text = re.sub(r"\bdocs/([\w-]+/([\w-]+)\.md)", _page_link, text)
    for name, examples in EXAMPLES.items():
        if name == INSTALL:  # the page names it at its top
            continue
        level = "###" if name.partition(" ")[0] in FAMILIES and " " in name else "##"
        head = f"{level} spa-bench {name}\n"
        start = text.index(head) + len(head)
        end = next(iter(m.start() + start for m in re.finditer(r"^##", text[start:], re.MULTILINE)), len(text))
        block = "```bash\n" + "\n".join(examples) + "\n```\n\n"
        text = text[:end].rstrip() + "\n\n" + block + text[end:]
    return text.replace("```console", "```text").strip()


def _page_link(match: re.Match[str]) -> str:
    link = f"[{match[2]}](../{match[1]})".replace("../reference/", "")
    return f"({link})" if match[0].startswith("(") else link


PAGES = {"reference/cards.md": cards_page, "reference/commands.md": commands_page}


def written(page: str) -> str:
    """The whole text that a page should have."""
    head, mark, _ = (DOCS / page).read_text(encoding="utf-8").partition(GENERATED)
    if not mark:
        raise ValueError(f"docs/{page} has no line {GENERATED!r}")
    return f"{head}{GENERATED}\n\n{PAGES[page]()}\n"


def main(check: bool) -> int:
    """Writes the pages, or with `check` names those that are out of date."""
    try:
        new = {page: written(page) for page in PAGES}
    except (ValueError, SpaBenchError) as error:
        print(f"docs: {error}", file=sys.stderr)
        return 2
    stale = [page for page, text in new.items() if text != (DOCS / page).read_text(encoding="utf-8")]
    for page in stale:
        if check:
            print(f"docs/{page} is out of date; run python scripts/docs/pages.py", file=sys.stderr)
        else:
            (DOCS / page).write_text(new[page], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
