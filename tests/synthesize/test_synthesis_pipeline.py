"""Rounds of drafts: they resume behind the last whole round with the same bytes, and end with the counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.mini.data import instructions
from spa_bench.models.mock import MockModel, Reply
from spa_bench.spa.data.sets import load_examples
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting, SynthesisKind
from spa_bench.spa.synthesize.filters import Filters, Limits
from spa_bench.spa.synthesize.pipeline import BARREN, Made, make_pairs
from spa_bench.spa.synthesize.programs import CodeFilter
from spa_bench.spa.synthesize.stage import Order, Synthesized, enough, synthesize
from spa_bench.spa.synthesize.targets import read_targets
from spa_bench.support.console import Reporter
from spa_bench.types import Example

QUIET = Reporter(quiet=True)
TARGET = Example("Who is it?", "Ann")


class Counting:
    """Drafts numbers; every third repeats the one before, and the number of earlier pairs is in each."""

    def __init__(self, setting: Setting, stop: int = -1, draft: str = ""):
        self._seed, self._stop, self._draft = setting.seed, stop, draft

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        (kept / "made").write_text("once")
        return Prepared(facts={"size": 7}, round=self.round)

    def round(self, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        for place in range(6):
            if number * 6 + place == self._stop:
                raise ModelError("the server at http://x answers 500")
            text = self._draft or f"{self._seed} {number} {place - (place % 3 == 2)} {len(pairs)}"
            yield Draft(text=text, example=Example(f"number {text}", text), tokens=2)


def filters(**settings: object) -> Filters:
    code = CodeFilter(level=str(settings.get("code", "none")), programs=False, run=lambda programs: [""] * len(programs))
    return Filters(targets=[TARGET], code=code, near=1.0, limits=Limits(), problems=None)


def make(folder: Path, *, stop: int = -1, draft: str = "", pairs: int = 20, drafts: int = 0, code: str = "none") -> Made:
    folder.mkdir(exist_ok=True)
    card = SynthesisCard(method="counting", pairs=pairs, drafts=drafts)
    setting = Setting(card=card, model=MockModel(), targets=[TARGET], seed=3)
    kind = SynthesisKind(build=lambda own: Counting(own, stop, draft))
    return make_pairs(kind, setting, filters(code=code), folder, QUIET)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_rounds_go_on_until_there_are_enough(tmp_path: Path):
    made = make(tmp_path)
    assert (len(made.pairs), made.rounds, made.funnel.drafts, made.ended) == (20, 5, 30, "enough")
    assert made.tokens == 60
    assert made.prepared == {"size": 7}
    assert made.funnel.said() == "10 exact: equal to an earlier pair"


@pytest.mark.parametrize("stop", range(30))
def test_a_stopped_synthesis_goes_on_with_the_same_bytes(stop: int, tmp_path: Path):
    whole = make(tmp_path / "whole")
    with pytest.raises(ModelError) as caught:
        make(tmp_path / "stopped", stop=stop)
    rounds = stop // 6
    kept = f"{rounds} whole round{'s' * (rounds != 1)}"
    assert f"{4 * rounds} of 20 pairs from {kept} are kept, and the same command resumes" in str(caught.value)
    assert str(caught.value).startswith("the server at http://x answers 500; ")
    again = make(tmp_path / "stopped")
    assert again == whole
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def test_whole_rounds_are_not_drafted_again(tmp_path: Path):
    make(tmp_path)
    assert make(tmp_path, stop=0).ended == "enough"


def test_drafts_that_are_spent_end_it(tmp_path: Path):
    made = make(tmp_path, pairs=20, drafts=20)
    assert (made.ended, made.funnel.drafts, len(made.pairs)) == ("spent", 20, 14)


def test_all_duplicates_end_it(tmp_path: Path):
    made = make(tmp_path, draft="same", pairs=1000)
    assert (made.ended, len(made.pairs)) == ("barren", 1)
    assert BARREN <= made.funnel.drafts - 1 < BARREN + 6
    assert made.funnel.said() == f"{made.funnel.drafts - 1} exact: equal to an earlier pair"


def test_all_invalid_end_it(tmp_path: Path):
    made = make(tmp_path, draft="def f(", pairs=1000, code="parse")
    assert (made.ended, len(made.pairs)) == ("barren", 0)
    assert made.funnel.said() == f"{made.funnel.drafts} code: does not parse"


def test_a_method_without_drafts_ends_it(tmp_path: Path):
    class Silent(Counting):
        def round(self, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
            yield from super().round(number, pairs) if number < 2 else ()

    setting = Setting(card=SynthesisCard(method="x", pairs=20), model=MockModel(), targets=[TARGET], seed=0)
    made = make_pairs(SynthesisKind(build=Silent), setting, filters(), tmp_path, QUIET)
    assert (made.ended, len(made.pairs), made.rounds) == ("exhausted", 8, 3)


# the stage ----------------------------------------------------------------------------------------------------------

SECTIONS = "[Problem]\nDouble a number, please.\n[Solution]\n```python\ndef double(x):\n    return 2 * x\n```"


def order(replies: Sequence[str], seed: int = 0, **settings: object) -> Order:
    values = {f"synthesize.{key}": value for key, value in settings.items()}
    card = load_sampler_card("single", {"synthesize.method": "oss-instruct", "synthesize.code": "parse", **values}).synthesize
    return Order(card=card, model=MockModel(replies=[Reply(text=text) for text in replies]), seed=seed)


def made(wanted: Order, cache: Path) -> Synthesized:
    return synthesize(wanted, cache=cache, console=QUIET)


def test_pairs_that_are_there_are_kept_and_can_be_used(tmp_path: Path):
    wanted = order([SECTIONS], pairs=10, drafts=32)
    found = made(wanted, tmp_path)
    with pytest.raises(DataError) as caught:
        enough(found, wanted.card)
    said = str(caught.value)
    assert "1 of 10 pairs from 32 drafts in 1 rounds; fell: 31 exact: equal to an earlier pair" in said
    assert f"these pairs are in {found.file}: --set synthesize.least=1 uses them" in said
    less = order([SECTIONS], pairs=10, drafts=32, least=1)
    again = made(less, tmp_path)
    assert again.folder == found.folder
    assert enough(again, less.card) == again
    assert json.loads(again.file.read_text()) == {
        "instruction": "Double a number, please.",
        "response": "```python\ndef double(x):\n    return 2 * x\n```",
    }


def test_no_pair_at_all_is_an_error_with_the_counts(tmp_path: Path):
    wanted = order(["I am sorry."], pairs=2, drafts=32)
    with pytest.raises(DataError, match="0 of 2 pairs from 32 drafts in 1 rounds; fell: 32 readable: the reply has no section"):
        enough(made(wanted, tmp_path), wanted.card)


def test_the_pairs_are_read_as_instructions(tmp_path: Path):
    found = made(order([SECTIONS], pairs=1), tmp_path)
    [pair] = load_examples(str(found.file))
    assert "### Instruction:\nDouble a number, please." in pair.prompt


def test_seed_targets_and_model_make_another_synthesis(tmp_path: Path):
    folders = {
        made(one, tmp_path).folder
        for one in (
            order([SECTIONS], pairs=1),
            order([SECTIONS], pairs=1, seed=1),
            order([SECTIONS], pairs=1, targets="mini-nlu"),
            order([SECTIONS, SECTIONS], pairs=1),
            order([SECTIONS], pairs=1, **{"options.lines": 3}),
        )
    }
    assert len(folders) == 5


def test_the_report_says_what_was_done(tmp_path: Path):
    found = made(order([SECTIONS], pairs=1), tmp_path)
    report = found.report
    assert (report["method"], report["targets"], report["model"], report["pairs"]) == ("oss-instruct", "mini", "mock", 1)
    assert report["compared_with"] == "nothing: no task is named"
    assert report["code"] == "parse: its program parses"
    page = (found.folder / "report.md").read_text()
    assert "| readable " in page
    assert "surplus: 31" not in page  # the others are duplicates


def test_the_report_names_the_targets_of_this_order_where_others_made_the_same_pairs(tmp_path: Path):
    found = []
    for name in ("first.jsonl", "second.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n')
        found.append(made(order([SECTIONS], pairs=1, targets=str(tmp_path / name)), tmp_path / "cache"))
    assert found[0].folder == found[1].folder
    assert [one.report["targets"] for one in found] == ["first.jsonl", "second.jsonl"]


def test_one_target_is_too_few(tmp_path: Path):
    file = tmp_path / "one.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    with pytest.raises(DataError, match=r"one.jsonl has 1 example, and oss-instruct needs at least 2 different ones"):
        read_targets(order([], targets=str(file)).card)


def test_targets_are_text_without_a_template(tmp_path: Path):
    file = tmp_path / "two.jsonl"
    file.write_text('{"instruction": "a", "response": "b"}\n{"question": "c", "answer": "d"}\n')
    found = read_targets(order([], targets=str(file)).card)
    assert [(pair.prompt, pair.completion) for pair in found] == [("a\n", "b"), ("c\n", "d")]
    assert len(read_targets(order([]).card)) == len(set(instructions()))


def test_a_method_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_method.py").write_text(
        "from spa_bench.spa.synthesize.base import Prepared\n"
        "class Own:\n"
        "    def prepare(self, *, progress, kept):\n        return Prepared(facts={}, round=self.round)\n"
        "    def round(self, number, pairs):\n        raise KeyError('lost')\n"
        "def build(setting):\n    return Own()\n"
    )
    with pytest.raises(
        UsageError, match=r"synthesize.method 'own_method:build' failed: KeyError: 'lost' \(own_method.py, line 6\)"
    ):
        made(order([], method="own_method:build"), tmp_path / "cache")
