"""The embedding model: the mean of the hidden states of a text, whatever else is embedded with it."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from doubles import SANDBOX, Call
from spa_bench.errors import ModelError
from spa_bench.models.embed import HFEmbedder
from spa_bench.models.hf.loading import load_network

TEXTS = ["return a + b", "x", "", "def f(x):\n    return x\n" * 20]


@pytest.fixture(scope="module")
def embedder(tiny_folder: Path) -> HFEmbedder:
    return HFEmbedder(str(tiny_folder), device="cpu", name="tiny")


def test_a_vector_is_the_mean_of_the_last_hidden_states(embedder: HFEmbedder, tiny_folder: Path):
    from transformers import AutoModel, AutoTokenizer

    network, tokenizer = AutoModel.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder)
    for text, found in zip(TEXTS[:2], embedder.embed(TEXTS[:2]), strict=True):
        with torch.inference_mode():
            states = network(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, states[0].mean(0).numpy(), rtol=1e-5, atol=1e-6)


def test_a_vector_does_not_depend_on_the_texts_around_it(embedder: HFEmbedder):
    forward = list(embedder.embed(TEXTS))
    backward = list(embedder.embed(TEXTS[::-1]))[::-1]
    alone = [next(embedder.embed([text])) for text in TEXTS]
    for a, b, c in zip(forward, backward, alone, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    assert len({row.tobytes() for row in forward}) == len(TEXTS)


def test_what_is_behind_the_limit_of_tokens_is_not_seen(embedder: HFEmbedder):
    assert embedder.limit == 1024
    long = "x = 1\n" * 2000
    one, other = embedder.embed([long, long + "y = 2\n"])
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(("kind", "limit"), [("Bert", 40), ("Roberta", 38)])
def test_encoders_are_embedded_up_to_their_last_position_and_need_no_pooler(
    kind: str, limit: int, tiny_folder: Path, tmp_path: Path
):
    import transformers
    from safetensors.torch import load_file, save_file

    size = json.loads((tiny_folder / "config.json").read_text())["vocab_size"]
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=size, max_position_embeddings=40, pad_token_id=1, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, f"{kind}Model")(config).save_pretrained(str(tmp_path))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    weights = {k: v for k, v in load_file(tmp_path / "model.safetensors").items() if "pooler" not in k}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    embedder = HFEmbedder(str(tmp_path), device="cpu")
    assert embedder.limit == limit
    one, other, short = embedder.embed(["x = 1\n" * 50, "x = 1\n" * 60, "x = 1\n"])
    assert one.tobytes() == other.tobytes() != short.tobytes()


def test_an_answer_of_nothing_has_an_embedding(embedder: HFEmbedder):
    nothing, line_end = embedder.embed(["", "\n"])
    assert nothing.tobytes() == line_end.tobytes()
    assert nothing.any()


def test_it_says_what_it_is(embedder: HFEmbedder):
    said = embedder.describe()
    assert (said["name"], said["tokens"]) == ("tiny", 1024)
    assert len(str(said["hash"])) == 32
    assert embedder.numerics()["device"] == "cpu"


def test_other_weights_have_another_hash(embedder: HFEmbedder, tiny_folder: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert HFEmbedder(str(folder), device="cpu").describe()["hash"] != embedder.describe()["hash"]


def test_a_model_that_is_not_there_or_lacks_weights_is_one_line(tiny_folder: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    with pytest.raises(ModelError, match="no model folder at /nowhere"):
        HFEmbedder("/nowhere")
    folder = shutil.copytree(tiny_folder, tmp_path / "less")
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"it lacks 'norm\.weight' \(1 weights missing\)"):
        HFEmbedder(str(folder))
    weights["model.layers.1.self_attn.q_proj.lora_A.default.weight"] = torch.zeros(2, 4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="it holds an adapter that was not merged"):
        HFEmbedder(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load the embedding model"):
        HFEmbedder(str(folder))


def test_pickled_weights_are_not_loaded(tiny_folder: Path, tmp_path: Path):
    from safetensors.torch import load_file

    folder = shutil.copytree(tiny_folder, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="give a folder or a hub name with safetensors weights"):
        HFEmbedder(str(folder))


def test_an_embedding_that_is_not_finite_is_one_line(tiny_folder: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="that 'broken' gives of 'x' is zero or not finite"):
        list(HFEmbedder(str(folder), device="cpu", name="broken").embed(["x"]))


# the option ----------------------------------------------------------------------------------------------------------


def test_a_run_with_an_embedding_has_the_kernel_and_can_be_graded_verified_and_repeated_elsewhere(
    run: Call, call: Call, tiny_folder: Path, tmp_path: Path
):
    done = run("--n", 2, "--embedding", tiny_folder, "--json")
    assert done.code == 0, done.err
    assert 1 <= json.loads(done.out)[0]["metrics"]["vendi[embedding,q=1]"]["value"] <= 2
    assert "embeddings: " in done.err
    [path] = (tmp_path / "runs").iterdir()
    spec = json.loads((path / "spec.json").read_text())
    assert spec["embedding"]["name"] == str(tiny_folder)
    assert call("verify", path).out.startswith(f"{path}: whole")
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    (path / "embeddings.npy").unlink()
    before = (path / "metrics.json").read_bytes()
    assert call("grade", path, "--embedding", moved, "--sandbox", SANDBOX).code == 0
    assert (path / "metrics.json").read_bytes() == before
    again = call("rerun", path, "--sandbox", SANDBOX, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["same"]


def test_another_embedding_model_than_the_runs_is_refused(run: Call, call: Call, tiny_folder: Path, tmp_path: Path):
    assert run("--n", 1, "--embedding", tiny_folder).code == 0
    [path] = (tmp_path / "runs").iterdir()
    (path / "embeddings.npy").unlink()
    error = call("grade", path, "--embedding", "embedded", "--sandbox", SANDBOX).error()
    assert error.startswith("embedded is another embedding model (hash ")


def test_a_run_without_embeddings_takes_none_later(run: Call, call: Call, tiny_folder: Path, tmp_path: Path):
    assert run("--n", 1).code == 0
    [path] = (tmp_path / "runs").iterdir()
    error = call("grade", path, "--embedding", tiny_folder, "--sandbox", SANDBOX).error()
    assert error.startswith(f"{path} was made without --embedding")


def test_scored_samples_can_be_embedded_by_the_embedded_model(call: Call, three: Path, tmp_path: Path):
    asked = [(f"three/{name}", f"    return {i}\n") for name in ("add", "double", "last") for i in (1, 2)]
    rows = [{"task_id": problem, "completion": text} for problem, text in asked]
    samples = tmp_path / "s.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--task", three, "--samples", samples, "--sandbox", SANDBOX, "--out", tmp_path / "runs"]
    done = call("score", *common, "--embedding", "embedded", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["metrics"]["vendi[embedding,q=1]"]["value"] > 1
    [path] = (tmp_path / "runs").iterdir()
    assert json.loads((path / "embeddings.json").read_text())["rows"] == 2


def test_two_models_that_two_threads_load_leave_torch_as_it_was(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Transformers sets torch's dtype, which all threads share, and puts back the one that it found."""
    first_ended = threading.Event()

    def load(_: object, *, dtype: torch.dtype, **__: object) -> None:
        found = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        if threading.current_thread() is second:
            first_ended.wait(10)
        else:
            second.start()
            second.join(0.3)
        torch.set_default_dtype(found)
        first_ended.set()
        raise RuntimeError("that is enough")

    def embed() -> None:
        with pytest.raises(ModelError, match="that is enough"):
            HFEmbedder(str(tiny_folder), device="cpu")

    second, dtype = threading.Thread(target=embed), torch.get_default_dtype()
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", load)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
    try:
        with pytest.raises(ModelError, match="that is enough"):
            load_network(str(tiny_folder), torch.bfloat16, revision=None, trust_remote_code=False)
        second.join()
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(dtype)
