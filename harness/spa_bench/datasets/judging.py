"""A judge model rates pairs from 1 to 10, with the template of tasks that have no right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spa_bench.datasets.pairs import Item
from spa_bench.models.base import Model, takes_messages
from spa_bench.support.seeds import derive_seed
from spa_bench.tasks.open_ended.asking import QUALITY, fill, rating, read_template
from spa_bench.types import Decoding, Member, Request

TEMPLATE = "answer-quality"
_TOKENS = 256  # of a reply


def rate(
    items: Sequence[Item],
    model: Model,
    *,
    template: str = TEMPLATE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float | None]:
    """The rating of each pair by `model`, greedily drawn; None where its reply holds no verdict, or there is no reply.

    `template` is a name of ours, a file or the text, with {prompt} and {answer}. Raises CardError for one that cannot be used.
    """
    text = read_template(template, QUALITY)
    decoding = Decoding(temperature=0.0, max_new_tokens=_TOKENS)
    chat = takes_messages(model)
    requests = []
    for number, item in enumerate(items):
        asked = fill(text, {"prompt": item.asked, "answer": item.answer})
        requests.append(
            Request(
                problem_id=f"pair {number}",
                member=0,
                draw=0,
                kind="generate",
                prompt="" if chat else f"{asked}\n",
                messages=(("user", asked),) if chat else (),
                decoding=decoding,
                seed=derive_seed("judge", QUALITY, item.asked, item.answer),
            )
        )
    place = {request.key: number for number, request in enumerate(requests)}
    found: list[float | None] = [None] * len(items)
    member = Member(name="judge", adapter=None, decoding=decoding)
    for done, completion in enumerate(model.generate(requests, [member]), 1):
        said = "" if completion.failure else rating(completion.text)
        found[place[completion.key]] = float(said) if said else None
        progress(done, len(items))
    return found
