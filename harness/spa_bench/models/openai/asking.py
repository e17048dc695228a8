"""Requests as bodies of calls: which fields a server takes, and what stands in them.

Every knob that alters text is sent, at its neutral value too: servers have defaults of their own (a top-k of 40, the repetition
penalty of a model's generation_config.json), which would otherwise change draws silently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from spa_bench.errors import ModelError
from spa_bench.models.openai.spending import Usage
from spa_bench.support.text import utf8
from spa_bench.types import Decoding, Messages, Request

Api = Literal["completions", "chat"]
PATHS: dict[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}
SEEDS = 2**31 - 1
_RARE: dict[str, frozenset[str]] = {
    "fields": frozenset(("typical_p", "top_n_sigma", "mirostat_tau")),  # llama.cpp's
    "generation_config": frozenset(("typical_p", "epsilon_cutoff", "eta_cutoff")),
    "none": frozenset(),
}
"""Knobs -> the names of Decoding.rare that can be said so; whether a server does one is looked at before it is used."""
_TEMPLATE = 32  # tokens that a chat template puts around a message at the most, for the most that a prompt can have


def server_seed(seed: int) -> int:
    """The seed that is sent: 1 to 2^31 - 1, which every server takes, from one of 63 bits.

    Two of 1,000 draws from one prompt get the same seed with a probability of 1 in 4,300.
    """
    return 1 + seed % SEEDS


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The fields that a server takes on one of its two paths."""

    api: Api
    limit: str = "max_tokens"  # or max_completion_tokens, which OpenAI's reasoning models want
    # how top_k, min_p and the repetition penalty are said: as fields (vLLM, SGLang, llama.cpp), in a text of JSON
    # (transformers serve), or not at all (OpenAI)
    knobs: Literal["fields", "generation_config", "none"] = "fields"
    seed: bool = True  # whether it takes one
    stops: int | None = None  # the most stop strings that it takes; None: any number

    def text(self, prompt: str | Messages) -> dict[str, object]:
        """The fields that hold the prompt. Raises ModelError for messages where the API takes texts alone."""
        if self.api == "completions":
            if not isinstance(prompt, str):
                raise ModelError("messages need a chat API; set api to auto or chat")
            return {"prompt": prompt}
        turns = (("user", prompt),) if isinstance(prompt, str) else prompt
        turns = turns[:-1] if turns[-1] == ("assistant", "") else turns  # an answer that begins with nothing
        body: dict[str, object] = {"messages": [{"role": role, "content": text} for role, text in turns]}
        return {**body, "continue_final_message": True, "add_generation_prompt": False} if begun(prompt) else body

    def check(self, decoding: Decoding) -> None:
        """Raise ModelError for a knob that the server has not."""
        if self.knobs == "none" and (decoding.top_k or decoding.min_p):
            name = "top_k" if decoding.top_k else "min_p"
            raise ModelError(f"the server takes no {name}; use a sampler of temperature and top_p alone, or a server that does")
        for name in decoding.rare:
            if name not in _RARE[self.knobs]:
                raise ModelError(
                    f"the server takes no {name} as it is asked here; draw with --engine hf, or use a sampler without {name}"
                )

    def decoding(self, decoding: Decoding, seed: int, limit: int) -> dict[str, object]:
        """The fields that say how to draw. Raises ModelError for a knob that the server has not."""
        body: dict[str, object] = {"temperature": decoding.temperature, "top_p": decoding.top_p, self.limit: limit}
        if self.seed:
            body["seed"] = server_seed(seed)
        if stop := list(decoding.stop[: self.stops]):
            body["stop"] = stop
        self.check(decoding)
        rare: dict[str, object] = {name: getattr(decoding, name) for name in decoding.rare}
        if decoding.mirostat_tau:
            rare |= {"mirostat": 2, "mirostat_eta": decoding.mirostat_eta}
        if self.knobs == "fields":
            body |= rare
            body |= {"top_k": decoding.top_k or -1, "min_p": decoding.min_p, "repetition_penalty": 1.0}
        elif self.knobs == "generation_config":
            # top_p 1 and no repetition penalty are what it takes for neutral itself; top_k is not
            said = {"do_sample": decoding.temperature > 0, "top_k": decoding.top_k, "repetition_penalty": 1.0}
            body["generation_config"] = json.dumps(said | ({"min_p": decoding.min_p} if decoding.min_p else {}) | rare)
        return body


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as it is sent: again with another limit, where prompt and answer do not fit the context together."""

    request: Request
    model: str
    dialect: Dialect
    limit: int  # new tokens
    prompt: str | Messages = field(repr=False)

    @property
    def body(self) -> dict[str, object]:
        """The body of the call."""
        d = self.dialect
        said = d.decoding(self.request.decoding, self.request.seed, self.limit)
        return {"model": self.model, **d.text(self.prompt), **said}


def begun(prompt: str | Messages) -> bool:
    """Whether the prompt ends with the beginning of the answer."""
    return not isinstance(prompt, str) and prompt[-1][0] == "assistant" and bool(prompt[-1][1])


def most_tokens(prompt: str | Messages, new: int) -> Usage:
    """The most tokens that a call can take. No tokenizer is at hand, and none makes more tokens of a text than it has bytes."""
    texts = [prompt] if isinstance(prompt, str) else [text for _, text in prompt]
    return Usage(prompt=sum(len(utf8(text).encode()) + _TEMPLATE for text in texts), new=new)
