"""JSON and TOML of users that Python refuses in other ways than as a mistake of syntax: one line that names the place."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from doubles import RIGHT
from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError, DataError
from spa_bench.runs.import_samples import read_samples
from spa_bench.runs.job import load_task
from spa_bench.spa.data import read_pairs
from spa_bench.support.user_json import read_json
from spa_bench.tasks.code import CodeTask, read_problems

DEEP, LONG = "[" * 200_000, "1" * 5000
REFUSED = [(DEEP, "nested too deep"), (LONG, "an integer has too many digits"), ("{", "not valid JSON: ")]


def test_what_is_valid_is_read() -> None:
    assert read_json('{"a": [1, 2.5, null]}', "x") == {"a": [1, 2.5, None]}
    assert read_json("1" * 4000, "x") == int("1" * 4000)


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_python_refuses_names_the_place_on_one_line(text: str, why: str) -> None:
    with pytest.raises(DataError) as caught:
        read_json(text, "s.jsonl, line 3")
    assert str(caught.value).startswith("s.jsonl, line 3 is not ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def samples(path: Path, three: Path) -> None:
    task = load_task(load_task_card(str(three)))
    assert isinstance(task, CodeTask)
    read_samples(path, task, cut=False)


READERS: dict[str, Callable[[Path, Path], object]] = {
    "samples": samples,
    "problems": lambda path, _: read_problems(path),
    "pairs": lambda path, _: read_pairs(path),
}
FIRST = {
    "samples": {"task_id": "three/add", "completion": RIGHT["three/add"]},
    "problems": {"task_id": "a", "prompt": "p", "entry_point": "f", "test": "t"},
    "pairs": {"prompt": "a", "completion": "b"},
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_a_row_that_python_refuses_names_file_and_line(reader: str, text: str, why: str, three: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{json.dumps(FIRST[reader])}\n{{"n": {text}}}\n')
    with pytest.raises(DataError) as caught:
        READERS[reader](path, three)
    assert str(caught.value).startswith(f"{path}, line 2 is not ")
    assert why in str(caught.value)


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_a_whole_file_that_python_refuses_is_named(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f"[{text}")
    with pytest.raises(DataError, match=f"^{path} is not "):
        read_pairs(path)


@pytest.mark.parametrize(("text", "why"), [(DEEP, "nested too deep"), (LONG, "Exceeds the limit"), ("=", "at line 1")])
def test_a_card_that_python_refuses_is_named(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(f"members = {text}\n")
    with pytest.raises(CardError, match=rf"^{path} is not valid TOML: .*{why}"):
        load_sampler_card(str(path))


@pytest.mark.parametrize("text", [DEEP, LONG])
def test_a_setting_that_python_refuses_is_a_text(text: str) -> None:
    assert parse_overrides([f"members={text}"]).sampler == {"members": text}
