"""The transformers backend: its answers depend on the request alone, and are those of transformers and PEFT."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.hf import stream
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.support.provenance import hash_folder
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Completion, Decoding, Key, Member, Request
from tiny import random_adapter

PROMPTS = [
    f"def f{i}(nums):\n" + f'    """Return {"the sum of " * (i % 4)}the numbers above {i}."""\n' * (1 + i % 3) for i in range(9)
]
GREEDY = Decoding(max_new_tokens=24)
BASE = [Member("base", None, GREEDY)]
BATCH_SIZES = (4, 7, 64)


@pytest.fixture(scope="module")
def members(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    """The bare base and two random adapters of different ranks."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(tiny_folder))
    generator = torch.Generator().manual_seed(0)
    made = list(BASE)
    for rank in (8, 5):
        folder = tmp_path_factory.mktemp("adapter")
        random_adapter(network, folder, generator, rank=rank, scale=0.3, targets=["q_proj", "v_proj", "down_proj"])
        made.append(Member(f"rank {rank}", folder, GREEDY))
    return made


def reference(folder: Path, member: Member) -> Any:
    """The same network as transformers and PEFT run it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    return network if member.adapter is None else PeftModel.from_pretrained(network, str(member.adapter)).eval()


def request(prompt: str, decoding: Decoding = GREEDY, *, problem: str = "p", member: int = 0, draw: int = 0) -> Request:
    seed = draw_seed(0, "t", problem, member, draw)
    return Request(problem_id=problem, member=member, draw=draw, kind="generate", prompt=prompt, decoding=decoding, seed=seed)


def answers(model: HFModel, requests: Sequence[Request], members: Sequence[Member] = BASE) -> dict[Key, Completion]:
    found = {c.key: c for c in model.generate(requests, members)}
    assert len(found) == len(requests)
    return found


def answer(model: HFModel, prompt: str, decoding: Decoding = GREEDY) -> Completion:
    [only] = answers(model, [request(prompt, decoding)]).values()
    return only


# generation ----------------------------------------------------------------------------------------------------------


def test_greedy_rows_are_those_of_transformers_and_peft(tiny_model: HFModel, tiny_folder: Path, members: list[Member]):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder))
    requests = [request(p, problem=str(i), member=m) for i, p in enumerate(PROMPTS) for m in range(len(members))]
    found = answers(tiny_model, requests, members)
    for m, member in enumerate(members):
        network = reference(tiny_folder, member)
        for i, prompt in enumerate(PROMPTS):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                whole = network.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, pad_token_id=0
                )[0].tolist()
            new = whole[ids.shape[1] :]
            completion = found[str(i), m, 0]
            assert completion.text == tokenizer.decode([t for t in new if t != 0])
            assert completion.tokens == len(new)
            assert completion.finish == ("stop" if new[-1] == 0 else "length")
    assert len({c.text for c in found.values()}) > 20


@pytest.fixture(scope="module")
def mixed() -> list[Request]:
    """Greedy, hot and nucleus rows of three members, of different lengths, with and without stop strings."""
    decodings = [
        Decoding(temperature=0.0, max_new_tokens=20),
        Decoding(temperature=0.8, max_new_tokens=30),
        Decoding(temperature=1.0, top_p=0.95, max_new_tokens=17, stop=("\n", " re")),
    ]
    return [
        request(prompt, decodings[d % 3], problem=str(i), member=m, draw=d)
        for i, prompt in enumerate(PROMPTS[:5])
        for m in range(3)
        for d in range(3 + m)
    ]


@pytest.fixture(scope="module")
def together(tiny_folder: Path, members: list[Member], mixed: list[Request]) -> dict[Key, Completion]:
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=64))
    return answers(model, mixed, members)


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_a_completion_does_not_depend_on_batch_size_order_or_company(
    size: int, tiny_folder: Path, members: list[Member], mixed: list[Request], together: dict[Key, Completion]
):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=size))
    shuffled = random.Random(size).sample(mixed, len(mixed))
    assert answers(model, shuffled, members) == together
    some = shuffled[:11]
    assert answers(model, some, members) == {r.key: together[r.key] for r in some}
    for one in shuffled[:3]:
        assert answers(model, [one], members) == {one.key: together[one.key]}


@pytest.mark.parametrize("member", [0, 1, 2], ids=["base", "rank 8", "rank 5"])
@pytest.mark.parametrize("company", [4, 8, 36])
def test_the_logits_of_a_row_are_bitwise_those_it_has_alone(
    member: int, company: int, tiny_model: HFModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
):
    seen: list[torch.Tensor] = []
    real = stream.next_token
    monkeypatch.setattr(stream, "next_token", lambda logits, *rest: real(seen.append(logits.clone()) or logits, *rest))
    hot = Decoding(temperature=0.8, max_new_tokens=6)
    requests = [request(PROMPTS[5], hot, draw=d) for d in range(company)]
    chosen = [members[member]]
    monkeypatch.setattr(tiny_model.codec, "ends", frozenset())  # no row ends early, so that rows keep their places
    answers(tiny_model, requests, chosen)
    steps = [step[company - 1] for step in seen]
    seen.clear()
    answers(tiny_model, requests[-1:], chosen)
    assert len(seen) == len(steps) == 6
    assert all(torch.equal(alone[0], together) for alone, together in zip(seen, steps, strict=True))


_LONG = [pytest.param(p, marks=pytest.mark.slow) for p in ("01234567890123", "012345678901234")]


@pytest.mark.parametrize("prompt", ["0", *_LONG, "0123456789012345", "x" * 50])
def test_the_logits_of_a_row_are_bitwise_those_it_has_among_longer_prompts(
    prompt: str, tiny_model: HFModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
):
    seen: list[torch.Tensor] = []
    real = stream.next_token
    monkeypatch.setattr(stream, "next_token", lambda logits, *rest: real(seen.append(logits.clone()) or logits, *rest))
    monkeypatch.setattr(tiny_model.codec, "ends", frozenset())
    hot = Decoding(temperature=0.8, max_new_tokens=40)
    mine = request(prompt, hot)
    answers(tiny_model, [mine], members[1:2])
    alone = [step[0] for step in seen]
    pair = (prompt, "    return 12\n")
    [forced] = tiny_model.next_token_logprobs([pair], members[:2])
    for longer in (1, 7, 16, 29, 100, 300):
        seen.clear()
        other = "0" * (len(tiny_model.codec.prompt(prompt)) + longer)
        answers(tiny_model, [mine, *(request(other, hot, problem="other", draw=d) for d in range(4))], members[1:2])
        assert len(seen) == len(alone) == 40
        assert all(torch.equal(step[4], before) for step, before in zip(seen, alone, strict=True)), longer
        *_, again = tiny_model.next_token_logprobs([(other, "12"), (other, pair[1]), pair], members[:2])
        np.testing.assert_array_equal(again, forced)


def test_the_mixed_rows_are_worth_comparing(together: dict[Key, Completion]):
    found = list(together.values())
    assert len({c.text for c in found}) > 0.8 * len(found)
    assert {c.finish for c in found} == {"stop", "length"}
    assert len({c.tokens for c in found}) > 4


def test_draws_with_other_seeds_differ_and_the_same_seed_is_the_same(tiny_model: HFModel):
    hot = Decoding(temperature=1.0, max_new_tokens=12)
    found = answers(tiny_model, [request(PROMPTS[0], hot, draw=d) for d in range(6)])
    assert len({c.text for c in found.values()}) == 6
    assert answers(tiny_model, [request(PROMPTS[0], hot, draw=3)])["p", 0, 3] == found["p", 0, 3]


@pytest.mark.parametrize("place", [1, 5, 9, 14])
def test_a_text_is_cut_exactly_before_its_stop_string(tiny_model: HFModel, place: int):
    whole = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=40))
    stop = whole.text[place : place + 3]
    found = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=40, stop=("never seen", stop)))
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish == "stop"
    assert 0 < found.tokens < whole.tokens


def test_the_first_of_several_stop_strings_counts(tiny_model: HFModel):
    whole = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=40))
    early, late = whole.text[4:7], whole.text[20:24]
    found = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=40, stop=(late, early)))
    assert found.text == whole.text[: min(whole.text.index(early), whole.text.index(late))]


def test_the_tokens_of_a_stopped_text_are_those_needed_to_see_the_stop_string(tiny_model: HFModel):
    whole = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=40))
    for place in range(0, 30, 3):
        stop = whole.text[place : place + 2]
        found = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=40, stop=(stop,)))
        enough = answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=found.tokens))
        assert stop in enough.text
        if found.tokens > 1:
            assert stop not in answer(tiny_model, PROMPTS[4], Decoding(temperature=0.0, max_new_tokens=found.tokens - 1)).text


def test_the_end_token_ends_a_text_and_is_counted_but_not_shown(tiny_model: HFModel):
    hot = Decoding(temperature=1.5, max_new_tokens=200)
    found = answers(tiny_model, [request(PROMPTS[0], hot, draw=d) for d in range(16)]).values()
    ended = [c for c in found if c.finish == "stop"]
    assert ended
    for completion in ended:
        assert "<|endoftext|>" not in completion.text
        assert completion.tokens < 200


# context -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [0, 1, 300])
def test_a_prompt_that_fills_the_context_is_skipped(tiny_model: HFModel, over: int):
    found = answer(tiny_model, "1" * (tiny_model.context + over))  # a digit is a token
    why = f"the prompt leaves no room in the context of {tiny_model.context} tokens"
    assert found == Completion(key=Key("p", 0, 0), text="", tokens=0, finish="skipped", seed=found.seed, failure=why)


@pytest.mark.parametrize("left", [1, 3])
def test_a_prompt_that_nearly_fills_the_context_gets_what_is_left(tiny_model: HFModel, left: int):
    prompt = "1" * (tiny_model.context - left)
    assert len(tiny_model.codec.prompt(prompt)) == tiny_model.context - left
    found = answer(tiny_model, prompt, Decoding(temperature=0.0, max_new_tokens=50))
    assert (found.finish, found.tokens) == ("length", left)


def test_a_skipped_prompt_does_not_disturb_its_company(tiny_model: HFModel):
    requests = [request("1" * 2000, problem="long"), request(PROMPTS[0], problem="short")]
    found = answers(tiny_model, requests)
    assert found["long", 0, 0].finish == "skipped"
    assert found["short", 0, 0].text == answer(tiny_model, PROMPTS[0]).text


def test_an_empty_prompt_is_continued_from_the_end_token(tiny_model: HFModel):
    best = tiny_model.network(torch.tensor([[0]])).logits[0, -1].argmax()  # 0 is the end token
    drawn = answer(tiny_model, "", Decoding(max_new_tokens=3))
    assert (drawn.tokens == 1) == (int(best) == 0)
    [found] = tiny_model.next_token_logprobs([("", "12")], BASE)
    assert found is not None
    assert found.shape == (1, 3, 1024)


def test_no_requests_give_no_completions(tiny_model: HFModel):
    assert list(tiny_model.generate([], BASE)) == []


# teacher forcing -----------------------------------------------------------------------------------------------------

PAIRS = [(PROMPTS[i], "    return [n for n in nums if n > 3]\n"[: 9 + 4 * i]) for i in range(7)]


def test_next_token_logprobs_are_those_of_a_plain_forward_pass(tiny_model: HFModel, tiny_folder: Path, members: list[Member]):
    networks = [reference(tiny_folder, member) for member in members]
    found = list(tiny_model.next_token_logprobs(PAIRS, members))
    assert len(found) == len(PAIRS)
    for (prompt, continuation), logprobs in zip(PAIRS, found, strict=True):
        head, tail = tiny_model.encode_pair(prompt, continuation)
        assert logprobs is not None
        assert logprobs.shape == (len(members), len(tail), 1024)
        for mine, network in zip(logprobs, networks, strict=True):
            with torch.inference_mode():
                logits = network(input_ids=torch.tensor([head + tail])).logits[0]
            expected = torch.log_softmax(logits, -1)[len(head) - 1 : -1]
            np.testing.assert_allclose(mine, expected.numpy(), atol=1e-5, rtol=1e-5)


def test_next_token_probabilities_sum_to_one(tiny_model: HFModel, members: list[Member]):
    for logprobs in tiny_model.next_token_logprobs(PAIRS, members):
        np.testing.assert_allclose(np.exp(logprobs.astype(np.float64)).sum(-1), 1, atol=1e-5)


def test_a_pair_that_does_not_fit_has_no_logprobs_and_the_others_keep_their_places(tiny_model: HFModel):
    long = ("1" * 1020, "12345")
    found = list(tiny_model.next_token_logprobs([PAIRS[0], long, PAIRS[1]], BASE))
    assert found[1] is None
    for pair, logprobs in ((PAIRS[0], found[0]), (PAIRS[1], found[2])):
        [alone] = tiny_model.next_token_logprobs([pair], BASE)
        np.testing.assert_array_equal(logprobs, alone)


def test_a_pair_that_just_fits_has_logprobs(tiny_model: HFModel):
    [found] = tiny_model.next_token_logprobs([("1" * 1020, "123")], BASE)
    assert found is not None
    assert found.shape == (1, 4, 1024)


def test_a_loglikelihood_is_the_sum_over_the_continuation_without_the_end(tiny_model: HFModel, members: list[Member]):
    requests = [
        replace(request(prompt, problem=str(i), member=m), kind="loglikelihood", continuation=continuation, apart=True)
        for i, (prompt, continuation) in enumerate(PAIRS)
        for m in range(3)
    ]
    scored = {r.key: value for r, value, _ in tiny_model.loglikelihood(requests, members)}
    assert scored.keys() == {r.key for r in requests}
    for i, logprobs in enumerate(tiny_model.next_token_logprobs(PAIRS, members)):
        tail = tiny_model.encode_pair(*PAIRS[i])[1][:-1]
        for m in range(3):
            expected = float(logprobs[m][np.arange(len(tail)), tail].astype(np.float64).sum())
            assert scored[str(i), m, 0] == pytest.approx(expected, abs=1e-5)


def test_a_loglikelihood_says_whether_the_continuation_is_the_greedy_one(tiny_model: HFModel):
    first = answer(tiny_model, PROMPTS[0], Decoding(temperature=0.0, max_new_tokens=1)).text
    likely, unlikely = (replace(request(PROMPTS[0], problem=c), continuation=c, apart=True) for c in (first, "zq"))
    flags = {r.problem_id: greedy for r, _, greedy in tiny_model.loglikelihood([likely, unlikely], BASE)}
    assert flags == {first: True, "zq": False}


def test_a_continuation_that_does_not_fit_is_an_error_that_names_the_problem(tiny_model: HFModel):
    long = replace(request("1" * 1020, problem="mmlu/7"), continuation="123456")
    with pytest.raises(UsageError, match=r"problem mmlu/7: 1026 tokens do not fit the context of 1024"):
        list(tiny_model.loglikelihood([long], BASE))


# loading -------------------------------------------------------------------------------------------------------------


def test_numerics_say_device_dtype_and_threads(tiny_model: HFModel):
    found = tiny_model.numerics()
    assert (found["device"], found["dtype"], found["threads"]) == ("cpu", "float32", 1)
    assert found["cpu"]


def test_numerics_say_that_numba_adds_up_a_large_vocabulary(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("numba")
    assert "sums" not in tiny_model.numerics()
    monkeypatch.setattr("spa_bench.models.hf.token_sums._FUSED_FROM", tiny_model.vocabulary)
    assert tiny_model.numerics()["sums"] == "numba"
    assert "sums" not in tiny_model.training_numerics()  # so adapters stay in the stage cache


def test_a_path_has_one_spelling(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.runs.reopen import ModelOptions, load_model

    monkeypatch.chdir(tiny_folder.parent)
    spelled = [load_model(name, ModelOptions(threads=1)).name for name in (tiny_folder.name, f"./{tiny_folder.name}/")]
    assert spelled == [tiny_folder.name] * 2


def test_a_folder_with_the_name_of_a_model_of_ours_is_none_of_ours(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from spa_bench.runs.reopen import ModelOptions, load_model

    (tmp_path / "embedded").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert load_model("./embedded", ModelOptions(threads=1)).describe()["hash"] == hash_folder(tiny_folder)


def test_the_description_hashes_the_weights_and_not_the_place(tiny_model: HFModel, tiny_folder: Path, tmp_path: Path):
    assert tiny_model.describe() == {"name": "tiny", "revision": None, "hash": hash_folder(tiny_folder), "context": 1024}
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "README.md").write_text("not part of the model")
    assert hash_folder(tmp_path) == hash_folder(tiny_folder)
    for name in ("qwen.tiktoken", "vocab.bpe", "bpe.codes"):  # files of tokenizers
        (tmp_path / name).write_text("IQ== 0")
        assert hash_folder(tmp_path) != hash_folder(tiny_folder)
        (tmp_path / name).unlink()
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert hash_folder(tmp_path) != hash_folder(tiny_folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_that_is_not_here_is_an_error_with_a_remedy(tiny_folder: Path):
    with pytest.raises(UsageError, match=r"device 'cuda' was asked for, but torch sees no CUDA device here; use --device cpu"):
        HFModel(str(tiny_folder), HFOptions(device="cuda", threads=1))


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"dtype": "int4"}])
def test_an_unknown_device_or_dtype_names_the_known_ones(tiny_folder: Path, options: dict[str, str]):
    [(key, value)] = options.items()
    with pytest.raises(UsageError, match=rf"unknown {key} '{value}'; use auto, "):
        HFModel(str(tiny_folder), HFOptions(threads=1, **options))  # type: ignore[arg-type]


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def assert_one_line(error: Exception, path: str) -> None:
    assert str(error).startswith(f"cannot load model {path!r}: ")
    assert "\n" not in str(error)


def test_a_model_folder_that_is_missing_is_named():
    with pytest.raises(ModelError, match=r"^no model folder at /nowhere/model$"):
        HFModel("/nowhere/model", HFOptions(device="cpu", threads=1))


@pytest.mark.parametrize("path", ["nobody/no-such-model", "nowhere"])
def test_an_unknown_model_is_an_error_on_one_line(path: str):
    with pytest.raises(ModelError) as error:
        HFModel(path, HFOptions(device="cpu", threads=1))
    assert_one_line(error.value, path)


@pytest.mark.parametrize("lacks", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_an_error_on_one_line(lacks: str, tiny_folder: Path, tmp_path: Path):
    folder = copied(tiny_folder, tmp_path / "model")
    (folder / lacks).unlink()
    with pytest.raises(ModelError) as error:
        HFModel(str(folder), HFOptions(device="cpu", threads=1))
    assert_one_line(error.value, str(folder))


def without_a_layer(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def torn(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))


@pytest.mark.parametrize("damage", [without_a_layer, torn, of_another_width])
def test_damaged_weights_are_an_error_on_one_line(damage: Callable[[Path], None], tiny_folder: Path, tmp_path: Path):
    folder = copied(tiny_folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelError) as error:
        HFModel(str(folder), HFOptions(device="cpu", threads=1))
    assert_one_line(error.value, str(folder))
    assert ("other shapes than config.json says" in str(error.value)) == (damage is of_another_width)


def test_pickled_weights_are_not_read(tiny_folder: Path, tmp_path: Path):
    folder = copied(tiny_folder, tmp_path / "model")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        HFModel(str(folder), HFOptions(device="cpu", threads=1))


def test_code_that_comes_with_a_model_is_not_run_unless_asked(tiny_folder: Path, tmp_path: Path):
    assert HFOptions().trust_remote_code is False
    folder = copied(tiny_folder, tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.MineModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as error:
        HFModel(str(folder), HFOptions(device="cpu", threads=1))
    assert_one_line(error.value, str(folder))
    assert not marker.exists()


def test_lora_layers_can_be_asked_for_twice(tiny_folder: Path):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    assert model.lora_layers("all-linear").keys() > model.lora_layers(["q_proj"]).keys()
    assert model.describe()["hash"] == hash_folder(tiny_folder)


def test_an_adapter_that_was_written_anew_is_read_anew(tiny_folder: Path, members: list[Member], tmp_path: Path):
    model = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1))
    folder = tmp_path / "adapter"
    texts = []
    for member in members[1:]:
        assert member.adapter
        folder.mkdir(exist_ok=True)
        for file in member.adapter.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        moved = [replace(member, adapter=folder)]
        texts.append(answers(model, [request(PROMPTS[0])], moved)["p", 0, 0].text)
        expected = answers(model, [request(PROMPTS[0])], [member])["p", 0, 0].text
        assert texts[-1] == expected
    assert texts[0] != texts[1]
