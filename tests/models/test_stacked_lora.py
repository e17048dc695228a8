"""Stacked adapters against the same folders in PEFT."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from spa_bench.errors import ModelError
from spa_bench.models.hf.adapters import AdapterFiles
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.stacked_lora import Adapter, attach, read_adapter, stack, target_modules, use_factors, write_adapter
from spa_bench.types import Decoding, Member, Request

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROWS = 4


def bare(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def network(tiny_folder: Path) -> Any:
    return bare(tiny_folder)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, 1000, (ROWS, 23), generator=torch.Generator().manual_seed(3))


def random_adapter(network: Any, seed: int, *, rank: int = 4, alpha: float = 8.0, targets: Any = "all-linear") -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for path in target_modules(network, targets):
        layer = network.get_submodule(path)
        layer = getattr(layer, "base", layer)
        low = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
        factors[path] = (low, 0.2 * torch.randn(layer.out_features, rank, generator=generator))
    return Adapter(factors, rank, alpha)


@torch.inference_mode()
def stacked_logits(network: Any, adapters: Sequence[Adapter | None], ids: torch.Tensor) -> torch.Tensor:
    """(K, rows, T, V)"""
    layers = attach(network, target_modules(network))
    down, up = stack(adapters, layers, dtype=torch.float32)
    with use_factors(layers, down, up):
        logits: torch.Tensor = network(ids.repeat(len(adapters), 1)).logits
    return logits.view(len(adapters), len(ids), *logits.shape[1:])


@torch.inference_mode()
def peft_logits(base: Path, adapter: Path, ids: torch.Tensor) -> torch.Tensor:
    from peft import PeftModel

    logits: torch.Tensor = PeftModel.from_pretrained(bare(base), str(adapter)).eval()(input_ids=ids).logits
    return logits


def written(network: Any, folder: Path, **options: Any) -> Path:
    write_adapter(random_adapter(network, **options), folder, base_model="tiny")
    return folder


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_each_member_of_a_stack_is_its_adapter_alone_in_peft(
    tiny_folder: Path, network: Any, ids: torch.Tensor, tmp_path: Path
):
    folders = [written(network, tmp_path / str(s), seed=s) for s in range(3)]
    together = stacked_logits(network, [read_adapter(f) for f in folders], ids)
    base = stacked_logits(network, [None], ids)[0]
    for logits, folder in zip(together, folders, strict=True):
        torch.testing.assert_close(logits, peft_logits(tiny_folder, folder, ids), atol=1e-5, rtol=1e-5)
        assert (logits - base).abs().max() > 0.1  # the adapters do something


def test_ranks_and_targets_may_differ_between_members(tiny_folder: Path, network: Any, ids: torch.Tensor, tmp_path: Path):
    folders = [
        written(network, tmp_path / "a", seed=1, rank=2, alpha=3.0),
        written(network, tmp_path / "b", seed=2, rank=7, alpha=16.0, targets=["q_proj", "down_proj"]),
    ]
    assert sorted(json.loads((folders[1] / "adapter_config.json").read_text())["target_modules"]) == ["down_proj", "q_proj"]
    together = stacked_logits(network, [read_adapter(f) for f in folders], ids)
    for logits, folder in zip(together, folders, strict=True):
        torch.testing.assert_close(logits, peft_logits(tiny_folder, folder, ids), atol=1e-5, rtol=1e-5)


def test_rank_stabilised_adapters_are_scaled_as_in_peft(tiny_folder: Path, network: Any, ids: torch.Tensor, tmp_path: Path):
    folder = written(network, tmp_path / "a", seed=1, rank=4, alpha=6.0)
    edit_config(folder, use_rslora=True)
    assert read_adapter(folder).scale == pytest.approx(6 / 2)
    [logits] = stacked_logits(network, [read_adapter(folder)], ids)
    torch.testing.assert_close(logits, peft_logits(tiny_folder, folder, ids), atol=1e-5, rtol=1e-5)


def test_an_adapter_that_peft_wrote_is_read(tiny_folder: Path, network: Any, ids: torch.Tensor, tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, target_modules=["v_proj", "up_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(bare(tiny_folder), config).eval()
    model.save_pretrained(str(tmp_path / "peft"))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
    [logits] = stacked_logits(network, [read_adapter(tmp_path / "peft")], ids)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_an_adapter_comes_back_from_disk_bit_for_bit(network: Any, tmp_path: Path):
    adapter = random_adapter(network, 1, rank=3, alpha=7.0)
    write_adapter(adapter, tmp_path / "a", base_model="tiny")
    again = read_adapter(tmp_path / "a")
    assert (again.rank, again.alpha, again.scale) == (3, 7.0, 7 / 3)
    assert again.factors.keys() == adapter.factors.keys()
    for path, (low, high) in adapter.factors.items():
        assert torch.equal(again.factors[path][0], low)
        assert torch.equal(again.factors[path][1], high)


def test_writing_an_adapter_twice_gives_the_same_bytes(network: Any, tmp_path: Path):
    adapter = random_adapter(network, 1)
    for name in "ab":
        write_adapter(adapter, tmp_path / name, base_model="tiny")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_member_without_an_adapter_is_the_bare_base_bit_for_bit(tiny_folder: Path, network: Any, ids: torch.Tensor):
    with torch.inference_mode():
        expected = bare(tiny_folder)(input_ids=ids).logits
    logits = stacked_logits(network, [random_adapter(network, 1), None, random_adapter(network, 2)], ids)
    assert torch.equal(logits[1], expected)


def test_after_the_block_the_base_is_bare_again(tiny_folder: Path, network: Any, ids: torch.Tensor):
    layers = attach(network, target_modules(network))
    down, up = stack([random_adapter(network, 1)], layers, dtype=torch.float32)
    with pytest.raises(ValueError, match="stop"), use_factors(layers, down, up):
        raise ValueError("stop")
    with torch.inference_mode():
        assert torch.equal(network(ids).logits, bare(tiny_folder)(input_ids=ids).logits)


def test_layers_are_wrapped_once(tiny_folder: Path):
    network = bare(tiny_folder)
    first = attach(network, target_modules(network))
    again = attach(network, target_modules(network))
    assert first == again
    assert len(first) == 2 * len(PROJECTIONS)


# targets -------------------------------------------------------------------------------------------------------------


def test_all_linear_is_every_linear_layer_but_the_output(network: Any):
    parts = [f"mlp.{p}" if p in {"gate_proj", "up_proj", "down_proj"} else f"self_attn.{p}" for p in PROJECTIONS]
    assert target_modules(network) == [f"model.layers.{i}.{part}" for i in (0, 1) for part in parts]


def test_targets_by_name_come_in_model_order(network: Any):
    assert target_modules(network, ["v_proj", "q_proj"]) == [
        f"model.layers.{i}.self_attn.{p}" for i in (0, 1) for p in ("q_proj", "v_proj")
    ]
    assert target_modules(network, "q_proj") == [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)]


@pytest.mark.parametrize("targets", ["c_attn", ["q_proj", "c_attn"]])
def test_an_unknown_target_lists_what_there_is(network: Any, targets: Any):
    with pytest.raises(ModelError) as error:
        target_modules(network, targets)
    assert "['c_attn']" in str(error.value)
    assert all(name in str(error.value) for name in PROJECTIONS)


def test_a_target_that_is_no_linear_layer_is_refused(network: Any):
    with pytest.raises(ModelError, match=r"'embed_tokens'.*no linear layers"):
        target_modules(network, ["embed_tokens"])


def test_a_network_without_linear_layers_says_what_it_has():
    network = torch.nn.Sequential(torch.nn.Embedding(3, 2), torch.nn.LayerNorm(2))
    with pytest.raises(ModelError, match=r"no nn\.Linear layer to adapt in Sequential .*Embedding, LayerNorm"):
        target_modules(network)


# adapters that do not fit --------------------------------------------------------------------------------------------


def draw(model: HFModel, adapter: Path) -> None:
    request = Request(
        problem_id="p", member=0, draw=0, kind="generate", prompt="def f():\n", decoding=Decoding(max_new_tokens=2), seed=0
    )
    list(model.generate([request], [Member("m", adapter, request.decoding)]))


def test_an_adapter_of_a_deeper_model_is_refused(network: Any, tiny_model: HFModel, tmp_path: Path):
    adapter = random_adapter(network, 1)
    factors = {p.replace("layers.1", "layers.9"): f for p, f in adapter.factors.items()}
    write_adapter(Adapter(factors, adapter.rank, adapter.alpha), tmp_path / "a", base_model="other")
    with pytest.raises(ModelError, match=r"'model\.layers\.9\..*' ?, which is no linear layer .*another model\?"):
        draw(tiny_model, tmp_path / "a")


def test_an_adapter_of_a_wider_model_is_refused(tiny_model: HFModel, tmp_path: Path):
    factors = {"model.layers.0.self_attn.q_proj": (torch.zeros(2, 128), torch.zeros(128, 2))}
    write_adapter(Adapter(factors, 2, 4.0), tmp_path / "a", base_model="other")
    with pytest.raises(ModelError, match=r"differ in shape at model\.layers\.0\.self_attn\.q_proj"):
        draw(tiny_model, tmp_path / "a")


def test_stacking_an_adapter_over_layers_it_does_not_know_is_refused(network: Any):
    layers = attach(network, target_modules(network, ["q_proj"]))
    with pytest.raises(ModelError, match="which this model does not have"):
        stack([random_adapter(network, 1)], layers, dtype=torch.float32)


def test_a_folder_without_an_adapter_is_named(tiny_model: HFModel, tmp_path: Path):
    with pytest.raises(ModelError, match=r"no PEFT adapter in .*empty"):
        draw(tiny_model, tmp_path / "empty")


def test_pickled_weights_are_not_read(network: Any, tmp_path: Path):
    folder = written(network, tmp_path / "a", seed=1)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors are needed"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "not plain LoRA"),
    ],
)
def test_what_is_no_plain_lora_is_refused(network: Any, tmp_path: Path, change: dict[str, object], named: str):
    folder = written(network, tmp_path / "a", seed=1)
    edit_config(folder, **change)
    with pytest.raises(ModelError, match=named):
        read_adapter(folder)


def test_adapters_that_were_read_are_kept_in_so_many_bytes(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folders = [written(network, tmp_path / str(s), seed=s) for s in range(3)]
    reads: list[Path] = []

    def counted(folder: Path) -> Adapter:
        reads.append(folder)
        return read_adapter(folder)

    monkeypatch.setattr("spa_bench.models.hf.adapters.stacked_lora.read_adapter", counted)
    one = sum(4 * f.numel() for pair in read_adapter(folders[0]).factors.values() for f in pair)
    files = AdapterFiles(2 * one)
    for place in (0, 1, 0, 2, 0, 1):  # 2 drives out 1, which was used before 0; then 1 drives out 2
        files.read(folders[place], 1)
        assert files.size <= 2 * one
    assert [folders.index(folder) for folder in reads] == [0, 1, 2, 1]
    assert files.size == 2 * one
    files.read(folders[1], 2)  # written again
    assert len(reads) == 5
    small = AdapterFiles(one - 1)
    assert small.read(folders[0], 1).rank == 4
    assert small.size == 0
    files.forget()
    assert files.size == 0
