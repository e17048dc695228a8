"""What a sampler is trained with: what fits, what repeats, and every error before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, MockModel, sampler_card
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.training import ColumnsCard, DataCard, LoraCard
from spa_bench.errors import DataError, ModelError
from spa_bench.mini.data import MODEL
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.spa.training_data import TrainingData, load_data, read_sources
from spa_bench.types import Example

PAIRS = [Example(f"def f{i}(nums):\n", f"    return sum(nums[{i}:])\n") for i in range(12)]
LONG = {"prompt": "1" * 1020, "completion": "12345"}  # 1,026 tokens: the tokenizer keeps digits apart


def rows(pairs: list[Example]) -> list[dict[str, str]]:
    return [{"prompt": e.prompt, "completion": e.completion} for e in pairs]


def write(path: Path, content: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(path)


def parts(
    examples: str, queries: str = "sample:3", *, members: int = 2, lora: LoraCard | None = None, **data: Any
) -> SamplerCard:
    card = DataCard(examples=examples, queries=queries, **data)
    return sampler_card(members=members, adapters="parts", data=card, lora=lora or LoraCard())


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write(tmp_path / "pairs.jsonl", [*rows(PAIRS), LONG])


# what fits -----------------------------------------------------------------------------------------------------------


def test_pairs_that_do_not_fit_the_context_are_left_out_counted_and_reported(tiny_model: HFModel, file: str):
    card = parts(file, "sample:5")
    found = load_data(card, tiny_model, 0)
    assert (found.examples, len(found.queries), found.skipped, found.longest) == (PAIRS, 5, 1, 1026)
    assert found.describe(card)["skipped_too_long"] == 1
    told = "are longer than the model's context of 1024 tokens and are left out; the longest has 1026 tokens"
    assert found.notes(card) == [f"1 of 13 training pairs {told}"]
    assert TrainingData(examples=PAIRS, queries=[], skipped=0).notes(card) == []


def test_a_shorter_row_of_the_card_leaves_out_more_and_says_that_it_does(tiny_model: HFModel, file: str, tmp_path: Path):
    sizes = sorted(sum(map(len, tiny_model.encode_pair(e.prompt, e.completion))) for e in PAIRS)
    card = parts(file, "sample", lora=LoraCard(length=sizes[0]))
    found = load_data(card, tiny_model, 0)
    assert 0 < len(found.examples) == sizes.count(sizes[0]) < 12
    assert (
        f"are longer than lora.length = {sizes[0]} tokens and are left out; the longest has 1026 tokens" in found.notes(card)[0]
    )
    assert set(found.queries) <= set(found.examples)  # drawn from those that fit
    above = parts(file, "sample", lora=LoraCard(length=5000))
    assert "the model's context of 1024" in load_data(above, tiny_model, 0).notes(above)[0]


def test_what_fits_by_its_bytes_alone_is_not_encoded(tiny_model: HFModel, file: str, monkeypatch: pytest.MonkeyPatch):
    """A set of 75,000 pairs, of which a share is drawn, took minutes at the beginning of each run."""
    encoded: list[str] = []
    encode = HFModel.encode_pair

    def counted(model: HFModel, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        encoded.append(prompt)
        return encode(model, prompt, completion)

    monkeypatch.setattr(HFModel, "encode_pair", counted)
    assert load_data(parts(file), tiny_model, 0).examples == PAIRS
    assert encoded == [LONG["prompt"]]


def test_a_row_of_exactly_the_length_fits(tiny_model: HFModel, tmp_path: Path):
    exact = {"prompt": "1" * 1020, "completion": "123"}
    card = sampler_card(adapters="all", data=DataCard(examples=write(tmp_path / "x.jsonl", [exact])))
    assert load_data(card, tiny_model, 0).skipped == 0


def test_data_of_which_nothing_fits_is_refused(tiny_model: HFModel, tmp_path: Path):
    path = write(tmp_path / "long.jsonl", [LONG])
    message = r"none of the 1 examples in .*long\.jsonl' fits the model's context of 1024 tokens; the shortest has 1026"
    with pytest.raises(DataError, match=message):
        load_data(sampler_card(adapters="all", data=DataCard(examples=path)), tiny_model, 0)


def test_a_query_of_a_file_that_does_not_fit_is_named(tiny_model: HFModel, file: str, tmp_path: Path):
    queries = write(tmp_path / "q.jsonl", [*rows(PAIRS[:3]), {"prompt": "Say  it\n" + "1" * 1020, "completion": "12345"}])
    with pytest.raises(DataError) as caught:
        load_data(parts(file, queries), tiny_model, 0)
    assert str(caught.value).startswith(f"row 4 of the queries {queries!r} ('Say it 1111")
    assert str(caught.value).endswith("tokens, more than the model's context of 1024; shorten it, or use other queries")
    short = LoraCard(length=60)  # of training rows alone: a query is not trained on
    assert len(load_data(parts(file, write(tmp_path / "q.jsonl", rows(PAIRS[:3])), lora=short), tiny_model, 0).queries) == 3


def test_our_queries_are_too_long_for_the_embedded_model(file: str):
    model = HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")
    with pytest.raises(
        DataError, match=r"row 1 of the queries 'text' \('What were the economic impacts .* than the model's context of 256"
    ):
        load_data(parts(file, "text"), model, 0)


# how many ------------------------------------------------------------------------------------------------------------


def test_a_sampler_without_adapters_needs_no_data(tiny_model: HFModel):
    assert load_data(sampler_card(data=DataCard(examples="nowhere.jsonl")), tiny_model, 0) == TrainingData(
        examples=[], queries=[], skipped=0
    )


def test_one_adapter_on_all_data_needs_no_queries(tiny_model: HFModel, file: str):
    card = sampler_card(adapters="all", data=DataCard(examples=file, queries="nowhere.jsonl"))
    assert load_data(card, tiny_model, 0).queries == []


@pytest.mark.parametrize(
    ("queries", "members", "message"),
    [
        ("sample:3", 4, "4 members need at least 4 queries; 3 are drawn by 'sample:3'"),
        ("code", 13, "13 members need at least 13 queries; 12 different ones are in 'code'"),
        ("sample", 14, r"14 parts from 13 examples in '.*pairs\.jsonl': give more, or fewer members"),
    ],
)
def test_too_few_queries_or_examples_are_refused_before_a_model_is_loaded(queries: str, members: int, message: str, file: str):
    with pytest.raises(DataError, match=message):
        read_sources(parts(file, queries, members=members))


def test_the_same_query_twice_is_one_query(file: str, tmp_path: Path):
    queries = write(tmp_path / "q.jsonl", rows([PAIRS[0], PAIRS[0]]))
    with pytest.raises(DataError, match=r"2 members need at least 2 queries; 1 different ones are in '.*q\.jsonl'"):
        read_sources(parts(file, queries))


def test_members_are_counted_against_the_examples_that_fit(tiny_model: HFModel, file: str):
    with pytest.raises(
        DataError, match="13 parts from 12 examples that fit the model's context of 1024 tokens: give more, or fewer"
    ):
        load_data(parts(file, "sample", members=13), tiny_model, 0)


def test_queries_are_counted_against_the_examples_that_fit(tiny_model: HFModel, tmp_path: Path):
    path = write(tmp_path / "x.jsonl", [*rows([PAIRS[0], PAIRS[0]]), LONG])
    with pytest.raises(DataError, match="2 members need at least 2 queries; 1 are drawn by 'sample'"):
        load_data(parts(path, "sample"), tiny_model, 0)


# duplicates ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def repeating(tmp_path: Path) -> str:
    return write(tmp_path / "twice.jsonl", rows([*PAIRS[:4], PAIRS[1], PAIRS[1]]))


def test_duplicates_are_kept_and_counted_unless_the_card_says_otherwise(tiny_model: HFModel, repeating: str, file: str):
    card = parts(repeating, repeating)
    found = load_data(card, tiny_model, 0)
    assert (len(found.examples), found.queries, found.repeated, found.repeated_queries) == (6, PAIRS[:4], 2, 2)
    assert found.describe(card)["repeated"] == 2
    assert found.notes(card) == [
        'training pairs that repeat an earlier one: 2, kept (data.duplicates = "drop" leaves them out)',
        "queries that repeat an earlier one: 2, left out",
    ]


def test_duplicates_can_be_dropped(tiny_model: HFModel, repeating: str):
    card = parts(repeating, repeating, duplicates="drop")
    found = load_data(card, tiny_model, 0)
    assert (found.examples, found.queries, found.repeated) == (PAIRS[:4], PAIRS[:4], 2)
    assert found.notes(card)[0] == "training pairs that repeat an earlier one: 2, left out"
    kept = parts(repeating, repeating)
    assert found.describe(card)["examples_hash"] != load_data(kept, tiny_model, 0).describe(kept)["examples_hash"]


def test_duplicates_can_be_refused(repeating: str, file: str):
    message = (
        r'^row 5 of .*twice\.jsonl repeats row 2 \(2 rows do so\) and data\.duplicates is "refuse": remove them, or use "drop"'
    )
    for card in (parts(repeating, duplicates="refuse"), parts(file, repeating, duplicates="refuse")):
        with pytest.raises(DataError, match=message):
            read_sources(card)
    assert read_sources(parts(file, duplicates="refuse")).repeated == 0


# templates and columns -----------------------------------------------------------------------------------------------


def test_examples_and_queries_go_through_the_same_template(tiny_model: HFModel, tmp_path: Path):
    path = write(tmp_path / "x.jsonl", [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(4)])
    for template, prompt in (("auto", "Below is an instruction"), ("plain", "0 + 1?\n")):
        card = parts(path, "code", template=template)
        found = load_data(card, tiny_model, 0)
        assert found.examples[0].prompt.startswith(prompt)
        assert found.queries[0].prompt.startswith("Below is" if template == "auto" else "Write a Python function")
        assert found.describe(card)["template"] == ("alpaca" if template == "auto" else "plain")
    with pytest.raises(ModelError, match=r'data\.template is "chat", but model \'tiny\' has no chat template'):
        load_data(parts(path, template="chat"), tiny_model, 0)


def test_a_spec_names_no_template_where_all_rows_are_pairs(tiny_model: HFModel, file: str):
    card = parts(file)
    assert load_data(card, tiny_model, 0).describe(card)["template"] is None
    mixed = parts(file, "code")
    assert load_data(mixed, tiny_model, 0).describe(mixed)["template"] == "alpaca"


def test_columns_are_of_the_examples_and_of_queries_that_have_them(tiny_model: HFModel, tmp_path: Path, file: str):
    path = write(tmp_path / "x.jsonl", [{"q": f"{i}?", "text": "no", "a": str(i)} for i in range(4)])
    other = write(tmp_path / "y.jsonl", rows(PAIRS[:2]))
    columns = ColumnsCard(prompt="q", completion="a")
    found = load_data(parts(path, other, columns=columns), tiny_model, 0)
    assert ([e.completion for e in found.examples], found.queries) == (["0", "1", "2", "3"], PAIRS[:2])
    same = load_data(parts(path, path, columns=columns), tiny_model, 0)
    assert same.queries == same.examples
    with pytest.raises(DataError, match=r"y\.jsonl, line 1: no column 'q', which data\.columns\.prompt names"):
        load_data(parts(other, path, columns=columns), tiny_model, 0)


def test_a_model_that_cannot_chat_is_no_error_unless_chat_is_asked_for(file: str):
    assert load_data(parts(file, "code"), MockModel(str), 0).template == "alpaca"


# the command ---------------------------------------------------------------------------------------------------------


def test_columns_and_our_queries_can_be_named_on_the_command_line(run: Call, sandbox: Any, tmp_path: Path):
    data = write(tmp_path / "x.jsonl", [{"question": f"Add {i}.", "note": "", "answer": f"    return {i}"} for i in range(8)])
    settings = [
        "lora.steps=1",
        "lora.warmup=0",
        "lora.rank=2",
        "members=2",
        "attribution.method=random",
        "partition.method=balanced",
    ]
    options = [word for setting in (*settings, "data.columns.prompt=question") for word in ("--set", setting)]
    done = run("--sampler", "spa-influence", "--data", data, "--queries", "code", *options, "--limit", 1, "--n", 2)
    assert done.code == 0, done.err
    [spec] = (tmp_path / "runs").glob("*/spec.json")
    content = json.loads(spec.read_text())
    assert content["data"] | {"queries": "code", "queries_n": 12, "template": "alpaca", "examples_n": 8} == content["data"]
    assert content["sampler"]["data"]["columns"]["prompt"] == "question"


def test_a_bad_row_is_one_line_before_anything_is_done(run: Call, tmp_path: Path):
    data = write(tmp_path / "x.jsonl", [*rows(PAIRS), {"prompt": "a", "completion": " "}])
    error = run("--sampler", "spa-influence", "--data", data).error()
    assert error == (
        f"{data}, line 13: column 'completion' is empty; give it a text or remove the row; 1 of 13 rows cannot be used: mend "
        "them, or leave them out with --set data.unusable=drop"
    )
    assert not (tmp_path / "runs").exists()


def test_what_was_left_out_is_said_once(run: Call, sandbox: Any, file: str):
    settings = ["lora.steps=1", "lora.warmup=0", "lora.rank=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    done = run("--sampler", "single", "--data", file, *options, "--limit", 1, "--n", 1)
    assert done.err.count("1 of 13 training pairs are longer than the model's context of 1024 tokens and are left out") == 1


def test_queries_that_the_sampler_does_not_read_are_said(run: Call, sandbox: Any, file: str):
    settings = ["lora.steps=1", "lora.warmup=0", "lora.rank=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    done = run("--sampler", "single", "--data", file, "--queries", "code", *options, "--limit", 1, "--n", 1)
    assert "--queries code is not read: no scores make the parts of single" in done.err
    assert done.err.count("pairs.jsonl: 13 rows: 13 pairs (prompt, completion)\n") == 1


def test_pairs_that_a_sampler_without_training_does_not_read_are_said(run: Call, sandbox: Any, file: str):
    done = run("--sampler", "base", "--data", file, "--queries", "code", "--limit", 1, "--n", 1)
    assert f"--data {file} is not read: base trains nothing" in done.err
    assert "--queries code is not read: base trains nothing" in done.err
