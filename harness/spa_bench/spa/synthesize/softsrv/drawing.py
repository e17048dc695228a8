"""z for each draft, from those of the targets, and texts drawn behind the soft prompts of these z.

`target`: z of a target, each equally often. `mix`: (1 - u) z_i + u z_j of two different targets, u uniform in [0, 1].
`target+noise`: z of a target, plus `noise` times a standard normal number in each place, where z has a standard deviation of 1.
A draft depends on the seed, the round and its place in it, and on no other draft.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from spa_bench.models.hf.soft_prompt import SoftDraw, SoftPrompts
from spa_bench.spa.synthesize.base import Draft
from spa_bench.spa.synthesize.layout import pair_in
from spa_bench.spa.synthesize.softsrv.encoding import Array
from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.saving import SoftPrompt
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Decoding


def draw_z(z: Array, numbers: Sequence[int], options: SoftSRVOptions, seed: int) -> tuple[Array, str]:
    """(one z (w,) drawn by `seed`, what it was made from, in words that count targets from 1).

    `numbers` are the places of the targets whose z are given, (n, w).
    """
    rng = np.random.default_rng(seed)
    first = int(rng.integers(len(z)))
    if not z.shape[1]:
        return z[first], "soft prompt"
    if options.draw == "mix" and len(z) > 1:
        second = (first + 1 + int(rng.integers(len(z) - 1))) % len(z)
        share = np.float32(rng.random())
        return (1 - share) * z[first] + share * z[second], f"targets {numbers[first] + 1} and {numbers[second] + 1}"
    noise = options.noise if options.draw == "target+noise" else 0.0
    added = rng.standard_normal(z.shape[1], dtype=np.float32) * np.float32(noise)
    return z[first] + added, f"target {numbers[first] + 1}"


def most_tokens(options: SoftSRVOptions, longest: int, context: int) -> int:
    """The most tokens of a draft, where the longest target has `longest`."""
    return min(options.max_new_tokens or math.ceil(1.5 * longest), context - options.length)


def draw_round(
    soft: SoftPrompts, prompt: SoftPrompt, z: Array, numbers: Sequence[int], *, seed: int, limit: int
) -> Iterator[Draft]:
    """The drafts of a round by their place; `seed` is the round's, `limit` the most tokens of each. See draw_z for the rest."""
    options = prompt.options
    seeds = [derive_seed(seed, place) for place in range(options.round)]
    drawn = [draw_z(z, numbers, options, one) for one in seeds]
    if prompt.encoder is None:  # the same prompt for all is read once
        prompts, rows = prompt.prompts(z[:1]), [0] * len(seeds)
    else:
        prompts, rows = prompt.prompts(np.stack([one for one, _ in drawn])), list(range(len(seeds)))
    draws = [SoftDraw(prompt=row, seed=derive_seed(one, "text"), limit=limit) for row, one in zip(rows, seeds, strict=True)]
    decoding = Decoding(temperature=options.temperature, top_p=options.top_p, max_new_tokens=limit)
    texts = dict(soft.draw(prompts, draws, decoding))
    for place, (_, source) in enumerate(drawn):
        text = texts[place]
        pair, failure = pair_in(prompt.layout, text.text, drawn=not text.failure, ended=text.ended)
        yield Draft(text=text.text or text.failure, example=pair, failure=failure, source=source, tokens=text.tokens)
