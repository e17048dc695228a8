"""Kinds of samplers: their options come from their own module, and a user's own file is a kind like any other."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from doubles import MockModel, mock_run, sampler_card
from spa_bench.cards.kinds import NoOptions
from spa_bench.cards.registry import TABLES
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError, UsageError
from spa_bench.samplers.base import SamplerKind, one_member, sampler_kind, spread
from spa_bench.types import Request

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "warm-up.toml"


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder on the import path, and the examples too; modules from there are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path  # type: ignore[misc]
    for name in set(sys.modules) - before:
        del sys.modules[name]


def card(folder: Path, text: str) -> str:
    path = folder / "card.toml"
    path.write_text(f'description = "x"\n{text}\n')
    return str(path)


def module(folder: Path, text: str) -> None:
    (folder / "mine.py").write_text(text + "\ndef build(card, adapters):\n    return card\n")


# the example of the documentation ------------------------------------------------------------------------------------


def test_the_example_of_the_documentation_runs(on_path: Path, three: Path, tmp_path: Path, sandbox: Any):
    loaded = load_sampler_card(str(EXAMPLE))
    seen: list[Request] = []
    model = MockModel(lambda request: seen.append(request) or f"    return {request.draw}\n")
    fields = {"kind": loaded.kind, "options": loaded.options, "decoding": loaded.decoding}
    folder = mock_run(tmp_path / "runs", three, model, n=3, **fields)
    assert len(folder.records()) == len(folder.grades()) == 9
    assert folder.spec["sampler"]["kind"] == "warm_up:KIND"
    assert folder.spec["sampler"]["options"] == {"step": 0.2}
    heat = {r.draw: r.decoding.temperature for r in seen}
    assert heat == {0: 0.2, 1: pytest.approx(0.4), 2: pytest.approx(0.6)}


def test_the_options_of_the_example_are_checked(on_path: Path):
    with pytest.raises(CardError, match=r"options\.step is -1\.0; it must not be negative"):
        load_sampler_card(str(EXAMPLE), {"options.step": -1})
    with pytest.raises(CardError, match=r"unknown key 'options\.stepp' in .* with --set; did you mean 'options.step'\?"):
        load_sampler_card(str(EXAMPLE), {"options.stepp": 1})
    with pytest.raises(CardError, match=r"'options\.step' in .* must be a number; got 'hot'"):
        load_sampler_card(str(EXAMPLE), {"options.step": "hot"})


def test_the_documentation_names_every_kind_and_option():
    text = (DOCS / "how-to" / "add-a-sampler.md").read_text()
    for kind in TABLES["sampler"]:
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{kind}` |")]
        for field in fields(sampler_kind(kind).options):
            assert f"`{field.name}`" in line


def test_the_card_in_the_documentation_is_the_shipped_one():
    shipped = (DOCS.parent / "baselines" / "min-p.toml").read_text()
    assert f"```toml\n{shipped}```" in (DOCS / "how-to" / "add-a-sampler.md").read_text()


# kinds of one's own --------------------------------------------------------------------------------------------------


def test_a_kind_may_have_a_check_of_its_cards(on_path: Path):
    refuses = "from spa_bench.errors import CardError\ndef check(card):\n    raise CardError(f'no {card.name}')"
    module(on_path, refuses)
    with pytest.raises(CardError, match=r"^no card$"):
        load_sampler_card(card(on_path, 'kind = "mine:build"'))


def test_a_kind_without_options_has_none_to_set(on_path: Path):
    module(on_path, "")
    assert load_sampler_card(card(on_path, 'kind = "mine:build"')).options == NoOptions()
    with pytest.raises(CardError, match=r"unknown key 'options\.pool' in .*card\.toml; kind 'mine:build' has no options"):
        load_sampler_card(card(on_path, 'kind = "mine:build"\noptions.pool = 3'))
    with pytest.raises(CardError, match=r"kind 'mixture' has no options"):
        load_sampler_card(card(on_path, "options.pool = 3"))


def test_options_that_are_no_table_or_no_dataclass_are_refused(on_path: Path):
    module(on_path, "OPTIONS = dict")
    with pytest.raises(CardError, match=r"the OPTIONS of kind 'mine:build' must be a dataclass; got <class 'dict'>"):
        load_sampler_card(card(on_path, 'kind = "mine:build"'))
    with pytest.raises(CardError, match=r"'options' in .*card\.toml must be a table \[options\]; got 3"):
        load_sampler_card(card(on_path, "options = 3"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nowhere.at.all:build", r"'nowhere\.at\.all:build' leads to the module 'nowhere\.at\.all', which cannot be imported"),
        ("mine:bild", r"'mine:bild' leads to the module 'mine', which has no 'bild'; did you mean 'build'\?$"),
        ("mine.py:build", r"'mine\.py:build' .* cannot be imported: .*; a module is named without \.py: 'mine'$"),
        ("mine:", r"'mine:' leads to the module 'mine', which has no ''"),
        (":build", r"':build' leads to no module: write module:NAME, the file's name without \.py and without its folder"),
        ("./mine:build", r"'\./mine:build' leads to no module: write module:NAME"),
        ("here/mine:build", r"'here/mine:build' leads to no module: write module:NAME"),
        ("not.there:build", r"cannot be imported: No module named 'not'; is the folder with the module on PYTHONPATH\?$"),
        (
            "broken:build",
            r"cannot be imported: No module named 'not_installed_here' \(broken\.py, line 1\); install it, or put its",
        ),
        ("fails:build", r"which cannot be imported: division by zero \(fails\.py, line 2\)$"),
    ],
)
def test_a_kind_that_leads_nowhere_says_where(on_path: Path, kind: str, message: str):
    module(on_path, "")
    (on_path / "broken.py").write_text("import not_installed_here\n")
    (on_path / "fails.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    with pytest.raises(UsageError, match=message) as error:
        load_sampler_card(card(on_path, f'kind = "{kind}"'))
    assert "\n" not in str(error.value)


def test_a_module_in_the_current_folder_says_how_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "beside.py").write_text("def build(card, adapters): ...\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"No module named 'beside'; its file is in this folder: write PYTHONPATH=\. before"):
        load_sampler_card(card(tmp_path, 'kind = "beside:build"'))


def test_a_kind_of_ones_own_needs_no_line_in_the_registry(on_path: Path):
    module(on_path, "")
    kind = sampler_kind("mine:build")
    assert kind.build("card", []) == "card"
    assert kind == SamplerKind(build=kind.build)  # all else is the default


# shared pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "count", "parts"), [(7, 3, [3, 2, 2]), (2, 3, [1, 1, 0]), (0, 2, [0, 0]), (6, 3, [2, 2, 2])])
def test_a_total_is_spread_evenly(total: int, count: int, parts: list[int]):
    assert spread(total, count) == parts


def test_one_member_lets_one_member_pass():
    one_member(sampler_card(kind="oversample-dpp"))
    with pytest.raises(CardError, match="has one member, and the card has 3"):
        one_member(sampler_card(kind="oversample-dpp", members=3, adapters="seeds"))
