import numpy as np
import pytest
import torch

from spa_bench.models.hf.sampling import RowDecoding, choose, uniforms
from spa_bench.types import Decoding

VOCABULARY = 6
LOGITS = torch.tensor([1.0, 3.0, 0.0, 2.0, -1.0, 2.5])  # most likely first: 1, 5, 3, 0, 2, 4
ROWS = 40_000


def frequencies(decoding: Decoding) -> np.ndarray:
    """How often each token is drawn in ROWS rows with seeded uniforms."""
    columns = RowDecoding.of([decoding] * ROWS, VOCABULARY, torch.device("cpu"))
    drawn = choose(LOGITS.expand(ROWS, -1), columns, torch.from_numpy(uniforms(5, ROWS)))
    return np.bincount(drawn.numpy(), minlength=VOCABULARY) / ROWS


def softmax(temperature: float, keep: list[int] | None = None) -> np.ndarray:
    weights = np.exp(LOGITS.double().numpy() / temperature)
    if keep is not None:
        weights[[i for i in range(VOCABULARY) if i not in keep]] = 0
    return weights / weights.sum()


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Within 4.5 standard errors everywhere, and nothing where nothing may be."""
    assert ((found == 0) == (expected == 0)).all(), (found, expected)
    assert (abs(found - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / ROWS)).all(), (found, expected)


def test_temperature_zero_is_the_most_likely_token():
    assert frequencies(Decoding(temperature=0.0))[1] == 1.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax_at_the_temperature(temperature: float):
    assert_close(frequencies(Decoding(temperature=temperature)), softmax(temperature))


def test_top_k_of_one_is_the_most_likely_token_at_any_temperature():
    assert frequencies(Decoding(temperature=5.0, top_k=1))[1] == 1.0


def test_top_k_keeps_the_k_most_likely():
    assert_close(frequencies(Decoding(temperature=1.0, top_k=3)), softmax(1.0, [1, 5, 3]))


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    reached = np.sort(softmax(1.0))[::-1].cumsum()  # .46, .74, .91, .97, ...
    assert_close(frequencies(Decoding(temperature=1.0, top_p=float(reached[1] + 0.01))), softmax(1.0, [1, 5, 3]))
    assert_close(frequencies(Decoding(temperature=1.0, top_p=float(reached[1] - 0.01))), softmax(1.0, [1, 5]))
    assert frequencies(Decoding(temperature=1.0, top_p=1e-6))[1] == 1.0


def test_min_p_keeps_what_is_likely_enough_beside_the_best():
    ratio = softmax(1.0) / softmax(1.0).max()
    assert_close(frequencies(Decoding(temperature=1.0, min_p=float(ratio[3]) - 0.01)), softmax(1.0, [1, 5, 3]))
    assert_close(frequencies(Decoding(temperature=1.0, min_p=float(ratio[3]) + 0.01)), softmax(1.0, [1, 5]))
    assert frequencies(Decoding(temperature=1.0, min_p=1.0))[1] == 1.0


def test_top_k_comes_before_top_p():
    # of the two most likely the best alone has 0.62: top_p counts within what top_k left
    assert frequencies(Decoding(temperature=1.0, top_k=2, top_p=0.6))[1] == 1.0
    assert_close(frequencies(Decoding(temperature=1.0, top_k=2, top_p=0.65)), softmax(1.0, [1, 5]))


def test_frequencies_agree_with_the_warpers_of_transformers():
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    warpers = [TemperatureLogitsWarper(1.7), TopKLogitsWarper(5), TopPLogitsWarper(0.93), MinPLogitsWarper(0.2)]
    warped = LogitsProcessorList(warpers)(torch.zeros(1, 1, dtype=torch.long), LOGITS[None])
    assert_close(
        frequencies(Decoding(temperature=1.7, top_p=0.93, top_k=5, min_p=0.2)), torch.softmax(warped[0].double(), -1).numpy()
    )


def test_rows_of_one_batch_keep_their_own_decodings():
    decodings = [
        Decoding(temperature=0.0),
        Decoding(temperature=1.0),
        Decoding(temperature=1.0, top_k=2),
        Decoding(temperature=1.0, top_p=0.5),
    ]
    columns = RowDecoding.of(decodings, VOCABULARY, torch.device("cpu"))
    uniform = torch.full((4,), 0.999)
    together = choose(LOGITS.expand(4, -1), columns, uniform)
    alone = [choose(LOGITS[None], columns.select(torch.tensor([i])), uniform[i : i + 1]) for i in range(4)]
    assert together.tolist() == [1, 4, 5, 5]
    assert together.tolist() == torch.cat(alone).tolist()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_draw_kept_tokens(uniform: float):
    columns = RowDecoding.of([Decoding(temperature=1.0, top_k=3)], VOCABULARY, torch.device("cpu"))
    [token] = choose(LOGITS[None], columns, torch.tensor([uniform])).tolist()
    assert token == (1 if uniform == 0 else 3)


def test_a_token_that_cannot_be_is_never_drawn():
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    columns = RowDecoding.of([Decoding(temperature=1.0)], 3, torch.device("cpu"))
    drawn = {int(choose(logits, columns, torch.tensor([u]))) for u in np.linspace(0, 1 - 2**-24, 101, dtype=np.float32)}
    assert drawn == {0, 2}


def test_the_first_uniforms_do_not_depend_on_how_many_are_drawn():
    few, many = uniforms(11, 5), uniforms(11, 500)
    assert few.dtype == np.float32
    assert (few == many[:5]).all()
    assert (uniforms(12, 5) != few).all()
    assert ((many >= 0) & (many < 1)).all()
