"""Templates: names, files and texts as options of a card; placeholders that must be there; and the folder that ships."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from spa_bench.cards.kinds import CardKind
from spa_bench.cards.reading import card_names, cards_folder
from spa_bench.cards.registry import TABLES, kind_of
from spa_bench.cards.sampler import build_sampler_card, load_sampler_card
from spa_bench.cards.templates import entries, filled_in, list_file, template_file, template_names, with_texts
from spa_bench.errors import CardError
from spa_bench.samplers.base import sampler_kind

OURS = (cards_folder("templates") / "verbalized.txt").read_text()


@dataclass(frozen=True)
class Options:
    words: str = template_file("verbalized", needs="prompt n", may="answer")
    who: str = list_file("personas")
    plain: str = "verbalized"


def read(folder: Path, **options: str) -> Options:
    made = with_texts(Options(**options), folder, "sampler 'x'")
    assert isinstance(made, Options)
    return made


def test_a_name_is_a_template_of_ours_and_other_options_are_untouched(tmp_path: Path):
    found = read(tmp_path)
    assert found.words == OURS
    assert found.plain == "verbalized"
    assert len(entries(found.who)) >= 8


def test_a_file_stands_beside_the_card_or_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.txt").write_text("\ufeff{prompt} {n}\r\nmore\r\n \n")
    assert read(tmp_path / "sub", words="mine.txt").words == "{prompt} {n}\nmore\n"
    assert read(tmp_path, words="sub/mine.txt").words == "{prompt} {n}\nmore\n"
    assert read(Path("/"), words=str(tmp_path / "sub" / "mine.txt")).words == "{prompt} {n}\nmore\n"
    monkeypatch.setenv("HOME", str(tmp_path / "sub"))
    assert read(Path("/"), words="~/mine.txt").words == "{prompt} {n}\nmore\n"
    (tmp_path / "my own.md").write_text("{prompt} {n}")
    assert read(tmp_path, words="my own.md").words == "{prompt} {n}\n"


@pytest.mark.parametrize("text", ["{prompt} in {n} ways", "Give {n}\nfor {prompt}\n"])
def test_the_text_itself_may_stand_in_the_card_and_is_read_the_same_again(text: str, tmp_path: Path):
    once = read(tmp_path, words=text)
    assert once.words == text.rstrip() + "\n"
    assert read(tmp_path, words=once.words, who=once.who) == once


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "verbalised",
            "options.words is 'verbalised': neither a path of yours, such as mine.txt, nor a template of ours; did you mean",
        ),
        ("gone.txt", "options.words: cannot read the template {folder}/gone.txt: No such file or directory"),
        ("bad.txt", "options.words: cannot read the template {folder}/bad.txt: it is not UTF-8"),
        ("", "options.words is '': neither a path of yours"),
        ("few.txt", "options.words (few.txt) has no {{n}}; its placeholders are {{answer}}, {{n}}, {{prompt}}"),
        (
            "{{prompt}} {{n}} {{m}}",
            "options.words (the text) has {{m}}, which nothing fills in; its placeholders are {{answer}}, {{n}}",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(value: str, message: str, tmp_path: Path):
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe{prompt}")
    (tmp_path / "few.txt").write_text("{prompt}")
    with pytest.raises(CardError) as error:
        read(tmp_path, words=value.replace("{{", "{").replace("}}", "}"))
    assert str(error.value).startswith("sampler 'x': " + message.format(folder=tmp_path))
    assert "\n" not in str(error.value)


def test_filling_looks_at_the_template_alone():
    assert filled_in(" {a}{{a}} {b}\n", {"a": "{b}", "b": "{{a}}", "c": 1}) == "{b}{a} {{a}}"
    assert filled_in('{"text": {a}, {B} {} {1}}', {"a": 2}) == '{"text": 2, {B} {} {1}}'


def test_entries_are_lines_with_words():
    assert entries("# who\n a cook \n\na poet\n#no\n") == ("a cook", "a poet")


def test_a_setting_of_a_card_of_ours_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("{prompt} {n}")
    card = load_sampler_card("verbalized", {"options.template": "mine.txt"})
    assert card.options.template == "{prompt} {n}\n"  # type: ignore[attr-defined]


def test_the_card_of_a_spec_has_the_words_of_the_run():
    options = {"template": "{prompt} in {n} ways\n"}
    card = build_sampler_card({"name": "v", "description": "", "kind": "verbalized", "options": options}, "spec", "run")
    assert card.options.template == "{prompt} in {n} ways\n"  # type: ignore[attr-defined]


# the folder ----------------------------------------------------------------------------------------------------------


def test_every_template_of_the_folder_is_used_and_told():
    used = set()
    for name in TABLES["sampler"]:
        used |= {f.default for f in fields(sampler_kind(name).options) if "template" in f.metadata}
    for name in TABLES["synthesis"]:
        kind: CardKind[object, object] = kind_of(CardKind, "synthesis", name)
        used |= {f.default for f in fields(kind.options) if "template" in f.metadata}
    used.add("oss-instruct-tests")  # named in docs/how-to/synthesize.md: the same question with tests
    for name in card_names("baselines"):
        words = (cards_folder("baselines") / f"{name}.toml").read_text()
        used |= {one for one in template_names() if f'"{one}"' in words}
    used |= {"same-answer", "answer-quality"}  # of tasks without a right answer: tasks/open_ended
    assert used == set(template_names())
    told = (cards_folder("templates") / "README.md").read_text()
    for name in template_names():
        assert f"`{name}`" in told
