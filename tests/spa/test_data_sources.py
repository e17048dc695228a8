"""Rows from Parquet files and from the hub, without a network."""

from __future__ import annotations

import bz2
import json
import lzma
import struct
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from doubles import sampler_card
from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError
from spa_bench.spa.data import hubs_of, load_examples, load_queries
from spa_bench.spa.data.sources import read_rows
from spa_bench.types import Example

ROWS = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(4)]
PAIRS = [Example(f"p{i}", f"c{i}") for i in range(4)]
TALK = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def test_parquet_is_read_as_the_same_rows_in_json_lines_would_be(tmp_path: Path):
    rows = [{"conversations": TALK, "instruction": None, "output": None}, {"instruction": "Add.", "output": "3"}]
    parquet, lines = tmp_path / "x.parquet", tmp_path / "x.jsonl"
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), parquet)
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_examples(str(parquet))
    assert [e.completion for e in found] == ["Hello", "3"]
    assert found == load_examples(str(lines))


def test_an_ending_in_capitals_is_that_ending_and_parquet_is_not_gzipped(tmp_path: Path):
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.PARQUET")
    (tmp_path / "x.CSV").write_text("prompt,completion\n" + "".join(f"p{i},c{i}\n" for i in range(4)))
    (tmp_path / "x.JSON").write_text(json.dumps(ROWS))
    for name in ("x.PARQUET", "x.CSV", "x.JSON"):
        assert load_examples(str(tmp_path / name)) == PAIRS


def test_a_date_in_the_tools_of_a_row_is_a_text(tmp_path: Path):
    rows = [{"instruction": "Q", "output": "A", "tools": [{"name": "f", "since": date(2024, 7, 26)}]}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    [found] = load_examples(str(tmp_path / "x.parquet"))
    assert '{"name": "f", "since": "2024-07-26"}' in found.prompt


def test_a_file_that_is_no_parquet_and_one_that_is_nowhere_are_named(tmp_path: Path):
    (tmp_path / "x.parquet").write_text("{}")
    with pytest.raises(DataError, match=r"cannot read the examples in .*x\.parquet: .*[Pp]arquet"):
        load_examples(str(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match=r"cannot read the examples in .*y\.parquet: No such file or directory$"):
        load_examples(str(tmp_path / "y.parquet"))


def test_a_parquet_file_that_python_cannot_hold_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.parquet"
    row = {"prompt": ["p"], "completion": ["c"]}
    pyarrow.parquet.write_table(pa.table({**row, "at": pa.array([1 << 62], pa.timestamp("us"))}), path)
    with pytest.raises(DataError, match=r"cannot read the examples in .*: a date that Python cannot hold \(date value"):
        load_examples(str(path))
    pyarrow.parquet.write_table(pa.table([pa.array(["a"])] * 2, names=["output", "output"]), path)
    with pytest.raises(DataError, match=r"x\.parquet: two columns are named 'output'; rename or remove one$"):
        load_examples(str(path))

    def refuse(*_: object) -> None:
        raise pa.lib.ArrowNotImplementedError("Support for codec 'lzo'\nnot built")

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", refuse)
    pyarrow.parquet.write_table(pa.table(row), path)
    with pytest.raises(DataError, match=r"cannot read the examples in .*x\.parquet: Support for codec 'lzo' not built$"):
        load_examples(str(path))


def test_an_empty_parquet_file_holds_no_examples(tmp_path: Path):
    pyarrow.parquet.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet holds no examples"):
        load_examples(str(tmp_path / "x.parquet"))


def test_a_missing_package_is_one_line_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("pyarrow", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"x\.parquet is Parquet, which needs pyarrow: pip install 'spa-bench\[data\]'$"):
        load_examples(str(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match=r"'hub:a/b' needs the package datasets: pip install 'spa-bench\[data\]'$"):
        load_examples("hub:a/b")


WAYS = "hub:NAME, hub:NAME@REVISION, hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT"

# the hub -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The real library on a local folder in place of the hub; what it was asked for."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "test.jsonl").write_text(json.dumps(ROWS[3]) + "\n")
    asked: list[tuple[str, dict[str, Any]]] = []
    real = datasets.load_dataset

    def load_dataset(name: str, config: str | None, **options: Any) -> Any:
        asked.append((name, options | ({"config": config} if config else {})))
        return real(str(folder), config, cache_dir=str(tmp_path / "hub"), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    return asked


def test_the_split_train_is_read_unless_another_is_named(hub: list[tuple[str, dict[str, Any]]]):
    assert load_examples("hub:owner/name") == PAIRS
    assert load_examples("hub:owner/name:train[1:3]") == PAIRS[1:3]
    assert load_queries("hub:owner/name:test", [], 0) == PAIRS[3:]
    assert hub == [
        ("owner/name", {"split": split, "revision": None}) for split in ("train", "train[1:3]", "test")
    ]  # and no code of the set runs


def test_a_revision_of_the_hub_may_be_named(hub: list[tuple[str, dict[str, Any]]]):
    assert load_examples("hub:owner/name@v1.2:test") == PAIRS[3:]
    assert hub[-1] == ("owner/name", {"split": "test", "revision": "v1.2"})


def test_a_configuration_of_the_hub_may_be_named(hub: list[tuple[str, dict[str, Any]]], tmp_path: Path):
    configs = [("main", "test"), ("all", "train")]
    listed = "".join(f"- config_name: {name}\n  data_files: {file}.jsonl\n" for name, file in configs)
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")
    assert load_examples("hub:owner/name:main:train") == PAIRS[3:]
    assert load_examples("hub:owner/name@v1:all:train[:2]") == PAIRS[:2]
    assert hub[-1] == ("owner/name", {"config": "all", "split": "train[:2]", "revision": "v1"})
    with pytest.raises(
        DataError, match=r"^cannot load the split 'train' of 'o/n' from the hub: Config name is missing\..*CONFIG"
    ):
        load_examples("hub:o/n")
    with pytest.raises(DataError, match=r"^cannot load the split 'train' of 'o/n' with the configuration 'no' from the hub: "):
        load_examples("hub:o/n:no:train")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("hub:", "names no data set"),
        ("hub:@main", "names no data set"),
        ("hub:a/b@", "names no revision"),
        ("hub:a/b:", "names no split"),
        ("hub:a/b:main:", "names no split"),
        ("hub:a/b::train", "names no split"),
        ("hub:a/b:main:train:1", "has too many colons"),
    ],
)
def test_a_source_of_the_hub_that_is_spelled_otherwise_is_one_line(source: str, what: str):
    with pytest.raises(DataError) as caught:
        load_examples(source)
    assert str(caught.value) == f"'{source}' {what}; write {WAYS}"


def test_a_bad_row_of_the_hub_is_named(hub: list[tuple[str, dict[str, Any]]], tmp_path: Path):
    for name in ("train", "test"):
        (tmp_path / "set" / f"{name}.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"^hub:owner/name, row 1: no shape that is known; it has the columns text; name"):
        load_examples("hub:owner/name")


def test_a_split_that_is_not_there_is_one_line(hub: list[tuple[str, dict[str, Any]]]):
    with pytest.raises(
        DataError, match=r"cannot load the split 'dev' of 'o/n' from the hub: Unknown split .*\['train', 'test'\]"
    ):
        load_examples("hub:o/n:dev")


def test_splits_that_the_library_cannot_bring_together_are_one_line(hub: list[tuple[str, dict[str, Any]]], tmp_path: Path):
    (tmp_path / "set" / "test.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(
        DataError, match=r"An error occurred while generating the dataset; Couldn't cast.*; check name and split"
    ):
        load_examples("hub:o/n")


def test_a_row_that_the_library_cannot_decode_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def rows(*_: Any, **__: Any) -> Iterator[dict[str, str]]:
        yield ROWS[0]
        raise ImportError("To support decoding images, please install 'Pillow'.")

    monkeypatch.setattr(datasets, "load_dataset", rows)
    with pytest.raises(
        DataError, match=r"^cannot read the rows of 'hub:a/b': To support decoding images, .*'Pillow'\.; download"
    ):
        load_examples("hub:a/b")


def test_a_set_that_cannot_be_reached_is_one_line_that_says_what_to_do():
    with pytest.raises(DataError) as caught:
        load_examples("hub:nobody/nothing")  # HF_HUB_OFFLINE is set for all tests
    message = str(caught.value)
    assert message.startswith("cannot load the split 'train' of 'nobody/nothing' from the hub: Couldn't reach")
    assert "log in (hf auth login) where the data set is gated, or download it and give the file" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [
        datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub.\nVisit the page"),
        datasets.exceptions.DatasetGenerationError("Dataset 'a/b' is broken.\nmore"),
        RuntimeError("Dataset scripts are no longer supported, but found a.py"),
    ],
)
def test_what_the_library_says_comes_first_in_the_line(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        load_examples("hub:a/b")
    assert str(error).splitlines()[0] + "; check name and split" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_here_is_not_taken_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "name").mkdir()
    with pytest.raises(DataError, match=r"'hub:name' means the hub, but there is a 'name' here; give the path of a file in it"):
        load_examples("hub:name")


def test_the_hub_sources_of_a_sampler_are_those_that_it_is_trained_with():
    data = DataCard(examples="hub:a/b", queries="hub:c/d:test")
    assert hubs_of(sampler_card(adapters="none", data=data)) == {}
    assert hubs_of(sampler_card(adapters="all", data=data)) == {"examples": "hub:a/b"}
    assert hubs_of(sampler_card(adapters="parts", data=data)) == {"examples": "hub:a/b", "queries": "hub:c/d:test"}
    assert hubs_of(sampler_card(adapters="parts", data=DataCard(examples="x.json", queries="code"))) == {}


# how files are written -----------------------------------------------------------------------------------------------

LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in ROWS)
FILES: dict[str, bytes] = {
    "list.jsonl": json.dumps(ROWS).encode(),
    "list of several lines.jsonl": json.dumps(ROWS, indent=1).encode(),
    "objects of several lines.jsonl": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "objects of several lines.json": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "within an object.json": json.dumps({"version": "1", "data": ROWS}).encode(),
    "instances.json": json.dumps({"type": "text2text", "instances": ROWS}, indent=1).encode(),
    "utf-16.jsonl": LINES.encode("utf-16"),
    "utf-16.csv": TABLE.encode("utf-16"),
    "utf-16.tsv": TABLE.replace(",", "\t").encode("utf-16"),
    "marks of joined files.jsonl": LINES.replace('{"prompt": "p2"', '\ufeff{"prompt": "p2"').encode("utf-8-sig"),
    "lines.jsonl.xz": lzma.compress(LINES.encode()),
    "lines.JSONL.BZ2": bz2.compress(LINES.encode()),
    "table.csv.xz": lzma.compress(TABLE.encode()),
    "semicolons.csv": TABLE.replace(",", ";").encode(),
    "tabs.csv": TABLE.replace(",", "\t").encode(),
    "named by Excel.csv": f"sep=;\r\n{TABLE.replace(',', ';')}".encode("utf-8-sig"),
    "empty rows.csv": f"{TABLE},\n\n,\n".encode(),
    "spaces in names.csv": TABLE.replace("prompt,completion", "prompt , completion").encode(),
    "capitals.csv": TABLE.replace("prompt,completion", "Prompt,Completion").encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_rows_are_read_however_their_file_is_written(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(FILES[name])
    found = load_examples(str(tmp_path / name))
    assert found == PAIRS


def test_a_file_that_is_packed_by_zstandard_says_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(8))
    monkeypatch.setitem(sys.modules, "backports", None)
    if sys.version_info < (3, 14):
        with pytest.raises(
            DataError, match=r"x\.jsonl\.zst: it is compressed by Zstandard, .* 'spa-bench\[inspect\]', or unpack"
        ):
            load_examples(str(path))


@pytest.mark.parametrize("content", [lzma.compress(LINES.encode())[:-30], b"\xfd7zXZ\x00" + bytes(20), b"BZh9" + bytes(20)])
def test_a_damaged_archive_of_another_kind_is_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"^cannot read the examples in .*x\.jsonl: [^\n]+$"):
        load_examples(str(tmp_path / "x.jsonl"))


def test_another_encoding_and_a_zip_archive_are_named(tmp_path: Path):
    for name, content in (("x.csv", "prompt,completion\né,c\n".encode("cp1252")), ("x.zip", b"PK\x03\x04\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            DataError, match=r": byte 0x[0-9a-f]{2} is no UTF-8 \(.*\); save it as UTF-8, or unpack it and give it the ending"
        ):
            load_examples(str(tmp_path / name))


def test_a_byte_far_within_a_file_and_a_broken_utf_16_are_named_as_they_are(tmp_path: Path):
    for name, content, said in (
        ("far.jsonl", LINES.encode() * 3000 + b"\xe9", "byte 0xe9 is no UTF-8 "),
        ("wide.jsonl", LINES.encode("utf-16") + b"\x00\xd8\x41\x00", "byte 0x0 is no UTF-16 "),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said):
            load_examples(str(tmp_path / name))


def test_a_quote_is_no_delimiter(tmp_path: Path):
    (tmp_path / "x.csv").write_text('sep="\nprompt,completion\na,b\n')
    with pytest.raises(DataError, match=r"x\.csv, line 2: the row has another number of cells"):
        load_examples(str(tmp_path / "x.csv"))


@pytest.mark.parametrize("name", ["examples", "data", "rows"])
def test_a_list_of_texts_in_an_object_is_a_column_of_its_row(name: str, tmp_path: Path):
    (tmp_path / "x.json").write_text(json.dumps({"instruction": "Q", "output": "A", name: ["x", "y"]}))
    assert [row for _, row in read_rows(str(tmp_path / "x.json"))] == [{"instruction": "Q", "output": "A", name: ["x", "y"]}]


def _stream(rows: list[dict[str, str]]) -> bytes:
    table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_a_broken_arrow_file_is_not_read_beyond_its_end(tmp_path: Path):
    whole, offsets = _stream([{"prompt": "p" * 50}] * 9), struct.pack("<3i", 0, 50, 100)
    for number in (1 << 30, -5):
        broken = whole.replace(offsets, struct.pack("<3i", 0, number, 100))
        assert broken != whole
        (tmp_path / "x.arrow").write_bytes(broken)
        with pytest.raises(DataError, match=r"^cannot read the examples in .*x\.arrow: [^\n]+$"):
            read_rows(str(tmp_path / "x.arrow"))
    datasets.Dataset.from_list([{"prompt": "p" * 50}] * 9).save_to_disk(str(tmp_path / "saved"))
    [arrow] = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes().replace(offsets, struct.pack("<3i", 0, 1 << 30, 100)))
    with pytest.raises(DataError, match=r"^cannot read the rows of .*saved: [^\n]+$"):
        read_rows(str(tmp_path / "saved"))


def test_pictures_of_a_saved_folder_are_neither_decoded_nor_fetched(tmp_path: Path):
    link = {"bytes": None, "path": "http://127.0.0.1:9/x.png"}
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    )
    datasets.Dataset.from_list([{"prompt": "Q", "image": link}], features=features).save_to_disk(str(tmp_path / "x"))
    info = tmp_path / "x" / "dataset_info.json"
    content = json.loads(info.read_text())
    content["features"]["image"] = {"_type": "Image"}
    info.write_text(json.dumps(content))
    assert [row for _, row in read_rows(str(tmp_path / "x"))] == [{"prompt": "Q", "image": link}]


def test_two_columns_of_one_name_in_an_arrow_file_are_named(tmp_path: Path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"x\.arrow: two columns are named 'prompt'; rename or remove one$"):
        read_rows(str(tmp_path / "x.arrow"))


def test_parquet_is_known_by_its_content_and_arrow_by_its_name(tmp_path: Path):
    table = pa.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, tmp_path / "x")
    pyarrow.feather.write_feather(table, tmp_path / "x.arrow")
    assert load_examples(str(tmp_path / "x")) == load_examples(str(tmp_path / "x.arrow")) == PAIRS
    (tmp_path / "y.arrow").write_bytes(b"no arrow")
    with pytest.raises(DataError, match=r"^cannot read the examples in .*y\.arrow: [^\n]+$"):
        load_examples(str(tmp_path / "y.arrow"))


def test_a_folder_of_save_to_disk_is_read_and_another_folder_is_named(tmp_path: Path):
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": saved.select([0]), "train": saved}).save_to_disk(str(tmp_path / "two"))
    datasets.DatasetDict({"test": saved}).save_to_disk(str(tmp_path / "three"))
    [arrow] = (tmp_path / "one").glob("*.arrow")
    for path in (tmp_path / "one", tmp_path / "two", tmp_path / "three" / "test", arrow):
        assert load_examples(str(path)) == PAIRS
    with pytest.raises(DataError, match=r"three has no split train; give one of its folders: test$"):
        load_examples(str(tmp_path / "three"))
    with pytest.raises(
        DataError, match=r"is a folder that save_to_disk did not write; give one of its files \(one, three, two\)$"
    ):
        load_examples(str(tmp_path))
