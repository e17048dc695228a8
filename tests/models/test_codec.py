"""Text becomes tokens and comes back unchanged, whatever the tokenizer puts around a text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_bench.errors import ModelError
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.loading import end_tokens
from spa_bench.models.options import OptionEncoder
from tiny_tokenizers import END, EXACT, LOSSY, around, byte_level, fast, sentencepiece, words

MODEL = Path(__file__).resolve().parents[2] / "harness" / "spa_bench" / "mini" / "model"
PROMPT, ANSWER = "# one\n", "def f(x):\n    return x\n"
PIECES = st.sampled_from([PROMPT, ANSWER, "the quick", " ", "    ", "\n\n", "\t", "x = [1, 2]", "你好", "🙂", "()", "\r\n"])
TEXTS = st.lists(st.one_of(PIECES, st.text("ab f(){}:=#019'\"\n\té你🙂\u200b", max_size=6)), max_size=5).map("".join)
SPACED = {"byte-level prefix", "bpe always", "bpe legacy", "unigram always", "unigram legacy"}


@cache
def tokenizer(kind: str, front: bool = False, behind: bool = False) -> Any:
    made = {**EXACT, **LOSSY}[kind]()
    return fast(around(made, front=front, behind=behind) if front or behind else made)


@cache
def codec(kind: str, front: bool = False, behind: bool = False) -> Codec:
    made = tokenizer(kind, front, behind)
    return Codec(made, "tiny", frozenset([END]), len(made))


def decoded(one: Codec, tokens: list[int]) -> str:
    text: str = one.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


# continuations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=40, deadline=None)
@given(prompt=TEXTS, text=TEXTS)
def test_a_continuation_adds_its_text_and_nothing_else(kind: str, prompt: str, text: str):
    one = codec(kind, front=True, behind=True)
    head = one.prompt(prompt + "f(")
    assert decoded(one, [*head, *one.continuation(text)]) == decoded(one, head) + text
    assert one.text(one.continuation(text)) == text


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
def test_a_prompt_comes_back_and_a_space_in_front_is_all_that_a_tokenizer_adds(kind: str, text: str):
    one = codec(kind)
    back = decoded(one, one.prompt(f"#{text}"))
    assert back == f"#{text}" or (kind in {"byte-level prefix", "byte-level prefix whole"} and back == f" #{text}")


@pytest.mark.parametrize("behind", [False, True], ids=["", "behind"])
@pytest.mark.parametrize("front", [False, True], ids=["", "front"])
@pytest.mark.parametrize("kind", EXACT)
def test_a_pair_decodes_to_its_completion_and_ends(kind: str, front: bool, behind: bool):
    one = codec(kind, front, behind)
    head, tail = one.pair(PROMPT, ANSWER)
    assert decoded(one, [*head, *tail]).removeprefix(" ") == PROMPT + ANSWER
    assert tail[-1] == END
    assert END not in (*head, *tail[:-1])
    assert head[0] == 1 if front else 1 not in head


@pytest.mark.parametrize("spaces", range(4))
@pytest.mark.parametrize("kind", EXACT)
def test_a_completion_keeps_the_spaces_that_it_begins_with(kind: str, spaces: int):
    one = codec(kind)
    for text in (" " * spaces + "return x", " " * spaces + "\n", " " * spaces):
        assert one.text(one.continuation(text)) == text


@pytest.mark.parametrize("kind", ["byte-level", "byte-level whole", "bpe never", "unigram never"])
def test_a_tokenizer_that_adds_nothing_encodes_a_continuation_as_it_stands(kind: str):
    one = codec(kind)
    for text in (ANSWER, " x", "\n\n", "    return"):
        assert one.continuation(text) == one.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", sorted(SPACED))
def test_the_tests_have_tokenizers_that_put_a_space_in_front(kind: str):
    one = codec(kind)
    apart = one.tokenizer("def", add_special_tokens=False)["input_ids"]
    assert decoded(one, [*one.prompt(PROMPT), *apart]).endswith("# one\n def")
    assert one.continuation("def") != apart


def test_an_empty_continuation_is_no_token():
    assert codec("bpe legacy").continuation("") == []


@pytest.mark.parametrize("legacy", [None, True, False])
@pytest.mark.parametrize("prefix", [None, True, False])
@pytest.mark.parametrize("name", ["LlamaTokenizer", "CodeLlamaTokenizer", "AutoTokenizer", "GemmaTokenizer"])
def test_the_classes_of_transformers_keep_a_completion_as_it_is(
    name: str, prefix: bool | None, legacy: bool | None, tmp_path: Path
):
    import transformers

    fast(around(sentencepiece(), front=True, behind=False)).save_pretrained(str(tmp_path))
    options = {"legacy": legacy} if legacy is not None else {}
    if prefix is not None:
        options |= {"from_slow": True, "add_prefix_space": prefix}
    made = getattr(transformers, name).from_pretrained(str(tmp_path), **options)
    one = Codec(made, "tiny", frozenset([END]), len(made))
    assert decoded(one, [*one.prompt(PROMPT), *one.continuation(ANSWER)]) == PROMPT + ANSWER
    assert one.text(one.continuation(" x")) == " x"


@pytest.mark.parametrize("kind", LOSSY)
def test_a_tokenizer_that_loses_line_ends_continues_in_its_own_spelling(kind: str):
    one = codec(kind)
    joint = decoded(one, one.ids("f(x) is 1"))
    assert decoded(one, [*one.prompt("f("), *one.continuation("x) is 1")]) == joint


def test_a_tokenizer_written_in_python_is_tried_as_any_other():
    from transformers import ByT5Tokenizer

    made = ByT5Tokenizer()  # it puts an end token behind every text
    one = Codec(made, "bytes", frozenset([1]), len(made))
    assert one.prompt("ab") == made("ab", add_special_tokens=False)["input_ids"]
    assert one.text(one.continuation(" é\n")) == " é\n"


def test_a_tokenizer_whose_texts_cannot_be_continued_is_refused():
    from tokenizers import Regex, normalizers

    made = byte_level()
    made.normalizer = normalizers.Replace(Regex("$"), "!")  # every text ends with a mark of its own
    with pytest.raises(ModelError, match=r"^the tokenizer of model 'tiny' (cannot continue a text|does not give back)"):
        Codec(fast(made), "tiny", frozenset([END]), 400)


def test_a_text_that_no_anchor_can_hold_is_refused_by_its_first_letters(monkeypatch: pytest.MonkeyPatch):
    made = fast(byte_level(prefix=True))
    one = Codec(made, "tiny", frozenset([END]), len(made))
    monkeypatch.setattr(one, "_anchors", [anchor for anchor in one._anchors if anchor.text == "a"])
    assert one.text(one.continuation(" x")) == " x"
    with pytest.raises(ModelError, match="cannot continue a text with 'dd a': its first letters merge"):
        one.continuation("dd a")


# around a text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["byte-level", "bpe legacy", "bpe first"])
def test_tokens_behind_a_text_are_left_out_and_those_in_front_stay(kind: str):
    plain = codec(kind)
    for front, behind in ((True, False), (False, True), (True, True)):
        one = codec(kind, front, behind)
        assert one.prompt(PROMPT) == [1] * front + plain.prompt(PROMPT)
        assert one.prompt(f"<s>{PROMPT}") == [1, *plain.ids(f"<s>{PROMPT}")[1:]]  # a second one is not put in front
        assert one.prompt("") == ([1] if front else [END])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["byte-level", "bpe legacy", "unigram first"])
def test_options_are_those_of_lm_eval_and_an_end_token_behind_them_changes_nothing(kind: str):
    pairs = [("Q: 2+2?\nAnswer:", f" {letter}") for letter in "ABCD"] + [("f(", "x"), ("The end  ", "yes"), ("<s>Q:", " 3")]
    for front in (False, True):
        expected = [_lm_eval_pair(tokenizer(kind, front), *pair) for pair in pairs]
        for behind in (False, True):
            found = OptionEncoder(codec(kind, front, behind), 100).pairs(pairs)
            assert [(list(head), list(tail)) for head, tail in found] == expected
    assert len({str(tail) for _, tail in expected[:4]}) == 4


def _lm_eval_pair(made: Any, context: str, text: str) -> tuple[list[int], list[int]]:
    from lm_eval.models.huggingface import HFLM

    peer = object.__new__(HFLM)
    peer.tokenizer, peer.add_bos_token, peer.backend, peer.custom_prefix_token_id = made, None, "causal", None
    head, tail = peer._encode_pair(context, text)
    return list(head), list(tail)


# what a model lacks --------------------------------------------------------------------------------------------------


def test_a_token_beyond_the_embedding_is_refused_where_a_text_has_it():
    made = fast(byte_level(), extra_special_tokens=["<extra>"])
    rows = len(made) - 1
    one = Codec(made, "tiny", frozenset([END]), rows)
    assert one.prompt("def f") == made("def f")["input_ids"]
    message = f"'<extra>' with the number {rows}, but the model's embedding has {rows} rows"
    for text in (one.prompt, one.continuation, one.ids):
        with pytest.raises(ModelError, match=message):
            text("def f  # <extra>\n")
    with pytest.raises(ModelError, match=message):
        OptionEncoder(one, 100).pairs([("Q:", " <extra>")])


def test_an_end_token_beyond_the_embedding_is_refused_at_once():
    with pytest.raises(ModelError, match=r"'</s>' with the number 2, but the model's embedding has 2 rows"):
        Codec(fast(byte_level()), "tiny", frozenset([END]), 2)


@pytest.mark.parametrize("said", [-1, [2, -1], [2]])
def test_an_end_token_of_minus_one_is_none(said: object):
    network = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=said))
    named = SimpleNamespace(eos_token_id=2, name_or_path="tiny")
    assert end_tokens(named, network) == {2}
    if said == -1:
        with pytest.raises(ModelError, match="has no end-of-text token"):
            end_tokens(SimpleNamespace(eos_token_id=None, name_or_path="tiny"), network)


@pytest.mark.parametrize("said", ["2", [[2]], [2, 1.5], {"a": 2}])
def test_an_end_token_that_is_no_number_is_one_line(said: object):
    network = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=said))
    with pytest.raises(ModelError, match=r"^generation_config.json of 'tiny' has .* in eos_token_id, which is no token's"):
        end_tokens(SimpleNamespace(eos_token_id=2, name_or_path="tiny"), network)


@pytest.mark.parametrize("kind", EXACT)
def test_a_special_token_that_is_a_stop_string_is_an_end_and_no_other_text_is(kind: str):
    made = fast(tokenizer(kind).backend_tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    made.add_tokens(["<think>"])
    one = Codec(made, "tiny", frozenset([END]), len(made))
    turn = made.convert_tokens_to_ids("<|turn|>")
    assert one.ends_by(()) == {END}
    assert one.ends_by(("x", "\n", " ", "<think>", "<|turn|>\n", "你", "<|other|>")) == {END}
    assert one.ends_by(("\n\n", "<|turn|>", "</s>")) == {END, turn}
    assert Codec(made, "tiny", frozenset([END]), turn).ends_by(("<|turn|>",)) == {END}  # no network can draw it


def test_a_tokenizer_without_a_vocabulary_or_a_decoder_is_refused():
    from tokenizers import Tokenizer, models

    with pytest.raises(ModelError, match="has no token for plain text; its files are broken"):
        Codec(fast(Tokenizer(models.BPE())), "tiny", frozenset([0]), 10)
    made = byte_level()
    made.decoder = None
    with pytest.raises(ModelError, match="does not give back the text that it encodes: 'a b' comes back as 'a Ġb'"):
        Codec(fast(made), "tiny", frozenset([END]), 400)


@pytest.mark.parametrize("kind", [*EXACT, *LOSSY])
def test_a_tokenizer_that_does_not_keep_texts_is_said(kind: str):
    said = codec(kind).note
    assert bool(said) == (kind in LOSSY)
    assert not said or said.startswith(
        r"tokenizer: it does not keep texts as they are: 'def f(x):\n    return x + 1\n' comes back as"
    )


def test_a_tokenizer_that_fails_on_a_text_is_named():
    made = words(suffix=False)
    from tokenizers import models

    made.model = models.WordPiece({"a": 0, "b": 1, "</s>": 2}, unk_token="[UNK]")
    with pytest.raises(ModelError, match=r"^the tokenizer of model 'tiny' cannot encode a text: .*UNK"):
        Codec(fast(made), "tiny", frozenset([END]), 10)


@pytest.mark.parametrize("kind", ["byte-level", "unigram never", "wordpiece"])
def test_white_space_is_as_the_tokens_spell_it_whatever_the_config_says(kind: str):
    made = fast(
        {**EXACT, **LOSSY}[kind](),
        clean_up_tokenization_spaces=True,
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output=True,
    )
    one, plain = Codec(made, "tiny", frozenset([END]), len(made)), codec(kind)
    for text in ("return ' .'.join(x)", "a , b", "x ?", "do n't", " ' s"):
        assert one.text(one.continuation(text)) == plain.text(plain.continuation(text))
        assert kind == "wordpiece" or one.text(one.continuation(text)) == text


@pytest.mark.parametrize("setting", [True, False, None])
def test_a_model_folder_cannot_ask_for_text_that_its_tokens_do_not_spell(setting: bool | None, tmp_path: Path):
    from transformers import AutoTokenizer

    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((MODEL / name).read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("clean_up_tokenization_spaces")
    added = {} if setting is None else {"clean_up_tokenization_spaces": setting}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | added))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    one = Codec(tokenizer, "mini", frozenset([tokenizer.eos_token_id]), len(tokenizer))
    for text in ("    return ' .'.join(xs)\n", "    return ' , '.join(xs)\n", "    return ' ?' in xs or \"do n't\" \n"):
        tokens = one.continuation(text)
        tail = one.tail()
        for token in tokens:
            tail.push(token)
        assert one.text(tokens) == tail.text == text
        assert one.last_text(tokens, len(text)).endswith(text)
