"""Pages and pictures that are made from the code are what the code gives, and every key of a card has its words."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.task import TaskCard
from spa_bench.cli.commands import COMMANDS, FAMILIES

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts" / "docs"
sys.path.insert(0, str(SCRIPTS))
import pages  # noqa: E402
import pictures  # noqa: E402


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_generated_page_is_what_the_code_gives(page: str):
    committed = (pages.DOCS / page).read_text(encoding="utf-8")
    assert pages.written(page) == committed, f"docs/{page} is out of date: run python scripts/docs/pages.py"


def test_the_page_of_cards_has_every_key_with_what_it_changes():
    text = (pages.DOCS / "reference" / "cards.md").read_text(encoding="utf-8")
    for card in (SamplerCard, TaskCard):
        for field in fields(card):
            assert f"| `{field.name}` |" in text or f"`[{field.name}]`" in text, field.name


def test_the_page_of_commands_has_every_command():
    text = (pages.DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"\n## spa-bench {name}\n" not in text] == []
    assert [
        f"{first} {name}"
        for first, (*_, seconds) in FAMILIES.items()
        for name in seconds
        if f"\n### spa-bench {first} {name}\n" not in text
    ] == []


@dataclass(frozen=True)
class _Card:
    """A card with comments in all places."""

    plain: int = 1  # [steps] beside it
    # [tokens] above it,
    # in two lines
    above: tuple[str, ...] = ("a",)
    bare: str = "x"  # no unit
    either: str | None = None  # "" or not
    share: float = 2e-3  # a number


def test_a_key_takes_unit_and_meaning_from_the_comment_beside_or_above_it():
    found = {key.name: key for key in pages.keys(_Card)}
    assert (found["plain"].unit, found["plain"].meaning, found["plain"].default) == ("steps", "beside it", "`1`")
    assert (found["above"].unit, found["above"].meaning) == ("tokens", "above it, in two lines")
    assert (found["above"].type, found["above"].default) == ("list of texts", '`["a"]`')
    assert (found["bare"].unit, found["bare"].default) == ("", '`"x"`')
    assert (found["either"].type, found["either"].default) == ("text", "none")
    assert found["share"].default == "`0.002`"


@dataclass(frozen=True)
class _Mute:
    """A card with a key that nothing is said of."""

    said: int = 1  # something
    unsaid: int = 2


def test_a_key_without_a_comment_is_refused():
    with pytest.raises(ValueError, match=r"_Mute\.unsaid has no comment"):
        list(pages.keys(_Mute))


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_shows_what_the_code_gives(name: str):
    committed = (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    now = pictures.labels(pictures.drawn(pictures.PICTURES[name]))
    assert now == pictures.labels(committed), "run python scripts/docs/pictures.py"


def test_what_the_page_on_diversity_metrics_says_of_them_is_so():
    same, renamed, four, wrong, noise = pictures.hidden().values()
    assert (renamed["diversity_score[exact]"], renamed["diversity_score[ast]"]) == (1, 0)
    assert same["effective_diversity[ast,correct]"] == renamed["effective_diversity[ast,correct]"] == 0.25
    assert four["effective_diversity[ast,correct]"] == 1
    assert wrong["diversity_score[ast]"] == 1
    assert noise["vendi[ngram,q=1]"] == max(row["vendi[ngram,q=1]"] for row in pictures.hidden().values())
    assert (noise["effective_diversity[ast,correct]"], noise["pass@1"]) == (0, 0)
