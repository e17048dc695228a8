"""Options are tokenised, cut and summed as lm-eval does it; members are scored in one pass, to what each alone gives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spa_bench.errors import ModelError, UsageError
from spa_bench.metrics.divergence import divergences
from spa_bench.models.base import OptionScores
from spa_bench.models.hf import option_scores, scorer
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.option_scores import first_tokens
from spa_bench.models.options import OptionEncoder, encoded, groups
from spa_bench.types import Asked, Decoding, Member, Request
from tiny import random_adapter

LETTERS = tuple(" " + c for c in "ABCD")
QUESTION = "Which of these numbers is even?\nA. 1\nB. 4\nC. 7\nD. 9\nAnswer:"
ASKED = [
    Asked("letters", tuple((QUESTION, letter) for letter in LETTERS), 4),
    Asked("long", tuple(("def double(x):\n    return", text) for text in (" x * 2", " 2 * x + 0", " x")), 3),
    Asked("contexts", (("The cup fell since the table", " was wet."), ("The cup fell since the cup itself", " was wet.")), 2),
    Asked("spaces", (("The answer is  ", "yes"), ("The answer is \n", "no"), ("The answer is", "")), 2),
    Asked("nothing", (("", " B"), ("", "return x"), ("", "<|endoftext|>return")), 3),
    Asked("end", (("<|endoftext|>Q: 2", " 3"), ("Q: 2", " 3")), 2),
    *(Asked(f"more/{i}", tuple((f"{QUESTION} {'x ' * 9 * i}", letter) for letter in LETTERS), 4) for i in range(12)),
]
ASKED[3] = replace(ASKED[3], options=ASKED[3].options[:2])
BASE = Member("base", None, Decoding())


@pytest.fixture(scope="module")
def members(tiny_model: HFModel, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    """Two random adapters and the bare base between them."""
    folder, random = tmp_path_factory.mktemp("adapters"), torch.Generator().manual_seed(7)
    made = []
    for m, rank in enumerate((4, 7)):
        adapter = random_adapter(tiny_model.network, folder / str(m), random, rank=rank, scale=0.1)
        made.append(Member(f"m{m}", adapter, Decoding()))
    return [made[0], BASE, made[1]]


def scores(model: HFModel, asked: Sequence[Asked], members: Sequence[Member], **options: Any) -> dict[str, OptionScores]:
    found = {s.problem: s for s in model.option_scores(asked, members, **options)}
    assert found.keys() == {a.problem_id for a in asked} - set(options.get("done", ()))
    return found


def hflm(folder: Path, **options: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(pretrained=str(folder), device="cpu", batch_size=4, dtype="float32", **options)


def theirs(model: Any, asked: Sequence[Asked]) -> dict[str, list[tuple[float, bool]]]:
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, option, 0) for one in asked for option in one.options]
    answers = iter(model.loglikelihood(requests, disable_tqdm=True))
    return {one.problem_id: [next(answers) for _ in one.options] for one in asked}


@pytest.mark.filterwarnings("ignore")
def test_log_probabilities_are_those_of_lm_eval(tiny_folder: Path, tiny_model: HFModel):
    expected = theirs(hflm(tiny_folder), ASKED)
    for problem, found in scores(tiny_model, ASKED, [BASE]).items():
        logprobs = [value for value, _ in expected[problem]]
        np.testing.assert_allclose(found.logprobs[0], logprobs, atol=1e-4)
        assert found.greedy[0].tolist() == [greedy for _, greedy in expected[problem]]
        assert found.logprobs[0].argmax() == np.argmax(logprobs)


@pytest.mark.filterwarnings("ignore")
def test_tokens_are_those_of_lm_eval(tiny_folder: Path, tiny_model: HFModel):
    peer = hflm(tiny_folder)
    pairs = [option for one in ASKED for option in one.options if option[0].strip()]
    mine = OptionEncoder(tiny_model.codec, 1024).pairs(pairs)
    assert [(list(head), list(tail)) for head, tail in mine] == [peer._encode_pair(*pair) for pair in pairs]


@pytest.mark.filterwarnings("ignore")
def test_a_context_is_cut_on_the_left_as_in_lm_eval_where_the_task_says_so(tiny_folder: Path, tiny_model: HFModel):
    words = " ".join(f"w{i}" for i in range(900))
    long = Asked("p/long", tuple((words + QUESTION, letter) for letter in LETTERS), 4)
    with pytest.raises(
        UsageError, match=r"1 of 2 problems do not fit the model's context of 1024 tokens: with option \d, p/long"
    ):
        tiny_model.check_options([ASKED[0], long])
    found = scores(tiny_model, [replace(long, cut=True)], [BASE])["p/long"]
    expected = theirs(hflm(tiny_folder), [long])["p/long"]
    np.testing.assert_allclose(found.logprobs[0], [value for value, _ in expected], atol=1e-4)


def test_context_and_text_may_be_one_token_longer_than_what_is_read(tiny_model: HFModel):
    tokens = OptionEncoder(tiny_model.codec, 1024)
    fits = Asked("p", (("1" * 1023, "23"),), 1)
    assert sum(map(len, tokens.pairs(fits.options)[0])) == 1025
    assert len(tokens.encode([fits])[0].rows[0]) == 1024
    scores(tiny_model, [fits], [BASE])
    with pytest.raises(UsageError, match="p has 1026"):
        tiny_model.check_options([replace(fits, options=(("1" * 1023, "234"),))])


def test_a_text_longer_than_the_context_cannot_be_cut(tiny_model: HFModel):
    with pytest.raises(UsageError, match="context of 1024"):
        tiny_model.check_options([Asked("p", (("1", "2" * 1025),), 1, cut=True)])


def test_an_option_without_a_token_is_an_error_that_names_it(tiny_model: HFModel):
    with pytest.raises(UsageError, match="problem p: option 1 adds no token"):
        tiny_model.check_options([Asked("p", ((QUESTION, " A"), (QUESTION, "")), 2)])


def test_members_together_give_what_each_gives_alone(tiny_model: HFModel, members: list[Member]):
    together = scores(tiny_model, ASKED, members)
    for k, member in enumerate(members):
        for problem, alone in scores(tiny_model, ASKED, [member]).items():
            np.testing.assert_array_equal(together[problem].logprobs[k], alone.logprobs[0])
            np.testing.assert_array_equal(together[problem].greedy[k], alone.greedy[0])
            np.testing.assert_allclose(together[problem].entropy[k], alone.entropy[0], rtol=1e-12)
    a, b = together["letters"].logprobs[0], together["letters"].logprobs[2]
    assert np.abs(a - b).max() > 0.01


def test_neither_batch_size_nor_company_changes_a_score(tiny_folder: Path, tiny_model: HFModel, members: list[Member]):
    small = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, batch_size=5), name="tiny")
    wanted, found = scores(tiny_model, ASKED, members), scores(small, list(reversed(ASKED))[:9], members)
    for problem, one in found.items():
        np.testing.assert_array_equal(one.logprobs, wanted[problem].logprobs)


def test_what_is_done_is_left_out_and_changes_nothing_else(tiny_model: HFModel, members: list[Member]):
    whole = scores(tiny_model, ASKED, members)
    rest = scores(tiny_model, ASKED, members, done={"letters", "more/3", "contexts"})
    for problem, one in rest.items():
        assert all(np.array_equal(getattr(one, f), getattr(whole[problem], f)) for f in ("logprobs", "kl", "js", "entropy"))


def test_first_token_divergences_are_those_of_the_whole_distributions(tiny_model: HFModel, members: list[Member]):
    found = scores(tiny_model, ASKED, members)
    for one in (ASKED[0], ASKED[2]):
        contexts = dict.fromkeys(context for context, _ in one.options)
        logs = [p[:, :1] for p in tiny_model.next_token_logprobs([(c, "x") for c in contexts], members) if p is not None]
        wanted = [divergences(each) for each in logs]
        np.testing.assert_allclose(found[one.problem_id].kl, np.mean([w.kl for w in wanted], 0), atol=1e-6)
        np.testing.assert_allclose(found[one.problem_id].js, np.mean([w.js for w in wanted], 0), atol=1e-6)
        np.testing.assert_allclose(found[one.problem_id].entropy, np.mean([w.entropy for w in wanted], 0), atol=1e-5)


@pytest.mark.parametrize("way", ["usual", "packed"])
def test_divergences_of_a_network_of_16_bits_are_of_a_float32_output_layer_and_options_are_its_own(
    tiny_folder: Path, members: list[Member], way: str, monkeypatch: pytest.MonkeyPatch
):
    half = HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1, dtype="bfloat16"), name="tiny")
    if way == "packed":  # as networks that take no mask read
        reads = half.hf._parts.reads
        monkeypatch.setattr(reads, "way", replace(reads.way, masked=False))
    found = scores(half, ASKED[:4], members)
    for one in (ASKED[0], ASKED[2]):
        contexts = dict.fromkeys(context for context, _ in one.options)
        logs = [p[:, :1] for p in half.next_token_logprobs([(c, "x") for c in contexts], members) if p is not None]
        wanted = np.mean([divergences(each).kl for each in logs], 0)
        np.testing.assert_allclose(found[one.problem_id].kl, wanted, rtol=0.02, atol=1e-6)
    monkeypatch.setattr(half.hf._scorer, "_half", False)
    before = scores(half, ASKED[:4], members)
    for problem, one in found.items():
        np.testing.assert_allclose(one.logprobs, before[problem].logprobs, atol=0.05)
        assert np.abs(one.kl - before[problem].kl).max() > 0


def test_first_token_divergences_of_two_coins_are_the_closed_forms():
    logits = torch.tensor([[[0.75, 0.25], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]]).log()  # (K, C, V)
    kl, js, entropy = first_tokens(logits)
    coin = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(kl[0], [[0, coin], [0.5 * np.log(4 / 3), 0]], atol=1e-7)
    mixture = -(0.625 * np.log(0.625) + 0.375 * np.log(0.375))
    np.testing.assert_allclose(js[0, 0, 1], mixture - (entropy[0, 0] + entropy[0, 1]) / 2, atol=1e-7)
    np.testing.assert_allclose(entropy[:, 1], np.log(2), atol=1e-7)
    assert not kl[1].any()


def test_a_forbidden_token_does_not_make_the_divergence_nan():
    kl, js, entropy = first_tokens(torch.tensor([[[0.0, 1.0, -torch.inf]], [[0.0, 0.0, -torch.inf]]]))
    assert np.isfinite([*kl.ravel(), *js.ravel(), *entropy.ravel()]).all()
    np.testing.assert_allclose(entropy[0, 1], np.log(2))


def test_options_that_read_the_same_tokens_are_one_row():
    one = encoded("p", [([1, 2, 3], [7]), ([1, 2, 3], [8]), ([1, 2], [3, 9]), ([4], [5, 6])], 64)
    assert [row.tolist() for row in one.rows] == [[1, 2, 3], [4, 5]]
    assert [place for place, _ in one.options] == [0, 0, 0, 1]
    assert one.contexts == ((0, 0), (0, 1), (1, 1))


def test_groups_are_longest_first_and_keep_both_limits():
    problems = [encoded(str(n), [([1] * n, [2])], 99) for n in (3, 9, 5, 4, 8)]
    assert [[p.longest for p in g] for g in groups(problems, 2, 100)] == [[9, 8], [5, 4], [3]]
    assert [[p.longest for p in g] for g in groups(problems, 9, 18)] == [[9, 8], [5, 4, 3]]
    assert [[p.longest for p in g] for g in groups(problems, 9, 1)] == [[9], [8], [5], [4], [3]]


@pytest.mark.usefixtures("four_rows")
def test_only_the_logits_that_are_needed_are_made_and_each_text_is_tokenised_once(
    tiny_model: HFModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
):
    kept: list[int] = []
    rows: list[int] = []
    forward = tiny_model.network.forward

    def noted(**arguments: Any) -> Any:
        kept.append(arguments["logits_to_keep"])
        rows.append(len(arguments["input_ids"]))
        return forward(**arguments)

    monkeypatch.setattr(tiny_model.network, "forward", noted)
    texts: list[str] = []
    encode = tiny_model.codec.ids_of
    monkeypatch.setattr(tiny_model.codec, "ids_of", lambda each: texts.extend(each) or encode(each))
    asked = [Asked(f"own/{i}", tuple((f"{QUESTION} {i}", f"{letter}") for letter in "12"), 2) for i in range(8)]
    for _ in range(2):  # two seeds of a run
        scores(tiny_model, asked, members)
    assert (kept, rows) == ([4, 4], [24, 24])  # of 40 places a row
    assert len(texts) == len(set(texts)) == 8 * (1 + 2)  # each context and each whole once; the second seed finds them


def test_memory_that_runs_out_halves_the_rows_and_changes_nothing(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    expected = scores(tiny_model, ASKED, [BASE])
    forward, sizes = tiny_model.network.forward, []

    def refusing(**arguments: Any) -> Any:
        sizes.append(len(arguments["input_ids"]))
        if len(arguments["input_ids"]) > 6:
            raise RuntimeError("out of memory")
        return forward(**arguments)

    monkeypatch.setattr(tiny_model.network, "forward", refusing)
    found = scores(tiny_model, ASKED, [BASE])
    assert max(sizes) > 6
    for problem, one in found.items():
        np.testing.assert_array_equal(one.logprobs, expected[problem].logprobs)


def test_a_row_that_does_not_fit_in_memory_alone_is_an_error_that_names_its_problem(
    tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch
):
    def refusing(**arguments: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny_model.network, "forward", refusing)
    with pytest.raises(ModelError, match=r"problem letters: out of memory with \d+ tokens for 1 members"):
        scores(tiny_model, ASKED[:1], [BASE])


def test_logits_that_are_not_finite_are_an_error(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    forward = tiny_model.network.forward

    def broken(**arguments: Any) -> Any:
        out = forward(**arguments)
        out.logits = out.logits * torch.nan
        return out

    monkeypatch.setattr(tiny_model.network, "forward", broken)
    with pytest.raises(ModelError, match="problem letters: the model's logits are not finite"):
        scores(tiny_model, ASKED[:1], [BASE])


@pytest.mark.usefixtures("four_rows")
def test_logits_take_no_more_room_than_is_set_aside(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    forward = tiny_model.network.forward
    monkeypatch.setattr(tiny_model.network, "forward", lambda **a: sizes.append(len(a["input_ids"])) or forward(**a))
    monkeypatch.setattr(option_scores, "_LOGIT_BYTES", 4 * 4 * 6 * 1024)
    scores(tiny_model, ASKED[6:], [BASE])
    assert set(sizes) == {6}


def test_a_pass_holds_no_more_tokens_than_the_budget(tiny_model: HFModel, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    forward = tiny_model.network.forward
    monkeypatch.setattr(tiny_model.network, "forward", lambda **a: sizes.append(a["input_ids"].numel()) or forward(**a))
    monkeypatch.setattr(scorer, "_TOKENS", {"cpu": 500})
    scores(tiny_model, ASKED[6:], [BASE])
    assert len(sizes) > 2
    assert max(sizes) < 500 + 16 * 12  # rows begin at multiples of 16 columns


def test_a_loglikelihood_is_tokenised_with_its_prompt_unless_it_is_the_model_s_own_text(tiny_model: HFModel):
    context, text = ASKED[1].options[0]
    request = Request(
        problem_id="p", member=0, draw=0, kind="loglikelihood", prompt=context, decoding=Decoding(), seed=0, continuation=text
    )
    [(_, joined, _)] = tiny_model.loglikelihood([request], [BASE])
    assert joined == scores(tiny_model, ASKED[1:2], [BASE])["long"].logprobs[0, 0]
    merging = replace(request, prompt="def f(x):\n", continuation="    return x")
    [(_, joined, _)] = tiny_model.loglikelihood([merging], [BASE])
    [(_, apart, _)] = tiny_model.loglikelihood([replace(merging, apart=True)], [BASE])
    assert joined != apart
