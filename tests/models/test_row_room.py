"""As many rows are decoded together as the free memory holds, unless a number was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3_5TextConfig

from spa_bench.errors import ModelError
from spa_bench.models.hf import placed
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.products import least_rows
from spa_bench.models.hf.row_room import RowRoom
from spa_bench.types import Decoding, Member, Request

CPU = torch.device("cpu")
COLUMN = 2 * 2 * 4 * 16 * 4  # bytes: keys and values of two layers, four heads of 16 numbers, float32
LOGITS = 4 * 6  # bytes a token of the vocabulary


def room(model: HFModel, *, asked: int | None = None, vocabulary: int = 1000) -> RowRoom:
    return RowRoom(model.network, vocabulary=vocabulary, device=CPU, asked=asked)


def free(monkeypatch: pytest.MonkeyPatch, bytes_: float) -> None:
    monkeypatch.setattr(placed, "free_bytes", lambda device: int(bytes_))


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_rows_are_those_whose_keys_values_and_logits_fit(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch, rows: int):
    need = 100 * COLUMN * 2.3 + LOGITS * 1000
    free(monkeypatch, (rows + 0.5) * need / 0.5)
    assert room(tiny_model).rows(100) == rows
    assert room(tiny_model).rows(10) > rows


def test_there_are_never_more_than_pay(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 1e15)
    assert room(tiny_model).rows(100) == 128


def test_a_number_that_was_asked_for_is_taken(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 1)
    assert room(tiny_model, asked=300).rows(100) == 300


def test_a_network_without_a_cache_counts_its_logits_alone(monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 5.5 * LOGITS * 1000 / 0.5)
    assert RowRoom(torch.nn.Linear(2, 2), vocabulary=1000, device=CPU, asked=None).rows(100) == 5


def test_a_network_with_linear_attention_counts_the_states_of_its_layers_and_the_keys_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
):
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    config = Qwen3_5TextConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, **heads,
    )  # fmt: skip
    network = AutoModelForCausalLM.from_config(config).eval()
    states = 3 * 4 * (4 * 8 * 8 + (2 * 8 + 2 * 8 + 4 * 8) * 4)  # three layers: heads' matrices, and a convolution of four
    column = 2 * 1 * 16 * 4  # one layer with keys and values
    need = 100 * column * 2.3 + states + LOGITS * 1000
    for rows in (3, 20):
        free(monkeypatch, (rows + 0.5) * need / 0.5)
        assert RowRoom(network, vocabulary=1000, device=CPU, asked=None).rows(100) == rows


class Full(torch.nn.Linear):
    """A network for which there is no memory."""

    def forward(self, **_: object) -> torch.Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_memory_that_ends_is_not_taken_for_a_network_without_a_cache():
    with pytest.raises(ModelError, match="out of memory with a row of 16 tokens; use a smaller dtype or model"):
        RowRoom(Full(2, 2), vocabulary=1000, device=CPU, asked=None).rows(100)


def test_few_rows_give_the_same_answers_and_their_number_is_told(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    least = least_rows(CPU)
    requests = [
        Request(
            problem_id=f"p/{i}",
            member=0,
            draw=0,
            kind="generate",
            prompt=f"def f{i}(x):\n",
            decoding=Decoding(temperature=0.7, max_new_tokens=6),
            seed=i,
        )
        for i in range(3 * least)
    ]

    def drawn() -> tuple[list[str], int]:
        model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
        texts = {c.key.problem: c.text for c in model.generate(requests, [Member("base", None, Decoding())])}
        return [texts[r.problem_id] for r in requests], model.batches().together

    many, together = drawn()
    assert together == 3 * least
    free(monkeypatch, 0)
    few, together = drawn()
    assert together == least
    assert few == many
