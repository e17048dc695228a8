"""The options of a model on a server. None of them is a secret: a key comes from the environment alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from spa_bench.support.address import host_of

OPENAI = "https://api.openai.com/v1"
APIS = ("auto", "completions", "chat")
UNSEEN = {"in_spec": False}
"""Of an option that changes no text: a run resumes with another value of it."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class OpenAIOptions:
    """How a server is reached, how much is asked of it at once, and what it may cost."""

    base_url: str = ""  # such as http://localhost:8000/v1; "": OPENAI_BASE_URL, or else OpenAI's own
    # the environment variable that holds the key, never a key
    api_key_env: str = field(default="OPENAI_API_KEY", metadata=UNSEEN)
    api: str = "auto"  # auto: chat for messages, completions for texts; completions; chat: a text is the user's only message
    answers_as: tuple[str, ...] = ()  # names of a model that answers may bear beside the one that was asked for
    # tokens of prompt and answer together that the server takes, for one that does not say it; None: as the server says
    context: int | None = None
    concurrency: int = field(default=16, metadata=UNSEEN)  # calls that are under way at once
    timeout: float = field(default=600.0, metadata=UNSEEN)  # seconds for one call, from its sending to the end of its answer
    tries: int = field(default=8, metadata=UNSEEN)  # times that a call is sent until it is given up
    # seconds from a call's first try, after which it is not sent again
    patience: float = field(default=1800.0, metadata=UNSEEN)
    requests_per_minute: int | None = field(default=None, metadata=UNSEEN)  # no minute has more; None: no limit
    # no minute has more tokens of prompts and answers; a call counts with the most that it can take until it is answered
    tokens_per_minute: int | None = field(default=None, metadata=UNSEEN)
    price_in: float | None = field(default=None, metadata=UNSEEN)  # dollars for a million tokens of prompts
    price_out: float | None = field(default=None, metadata=UNSEEN)  # dollars for a million tokens of answers
    # dollars for a million tokens of prompts that the server had cached; None: as price_in
    price_cached: float | None = field(default=None, metadata=UNSEEN)
    max_cost: float | None = field(default=None, metadata=UNSEEN)  # dollars: a call that could exceed it is not sent

    def __post_init__(self) -> None:
        """Raises ValueError, which never repeats a value that may hold a secret."""
        if self.api not in APIS:
            raise ValueError(f"api is {self.api!r}; it must be one of {', '.join(APIS)}")
        if not _VARIABLE.fullmatch(self.api_key_env):
            raise ValueError(
                "api_key_env names an environment variable, such as OPENAI_API_KEY, in which the key stands; what it got is no "
                "such name (and is not repeated here, in case that it is a key)"
            )
        _check_url(self.base_url)
        for name in ("concurrency", "tries"):
            _above(name, getattr(self, name), least=1)
        for name in ("context", "requests_per_minute", "tokens_per_minute"):
            if (value := getattr(self, name)) is not None:
                _above(name, value, least=1)
        for name in ("timeout", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0 seconds")
        for name in ("price_in", "price_out", "price_cached", "max_cost"):
            if (price := getattr(self, name)) is not None and not 0 <= price < float("inf"):
                raise ValueError(f"{name} is {price}; it must be dollars, 0 or more")
        if (self.price_in is None) != (self.price_out is None) or (self.price_cached is not None and self.price_in is None):
            raise ValueError("price_in and price_out go together: give both, in dollars for a million tokens")
        if self.max_cost is not None and self.price_in is None:
            raise ValueError("max_cost needs price_in and price_out, in dollars for a million tokens")

    @property
    def url(self) -> str:
        """Where the server is. Raises ValueError where the environment says so with a secret in it."""
        if self.base_url:
            return self.base_url.rstrip("/")
        stated = os.environ.get("OPENAI_BASE_URL", "")
        _check_url(stated, "OPENAI_BASE_URL")
        return (stated or OPENAI).rstrip("/")


def _above(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")


def _check_url(url: str, name: str = "base_url") -> None:
    """Raises ValueError for an address that is none, or that may hold a secret: it stands in specs and reports."""
    if not url:
        return
    if (host := host_of(url)) is None:
        raise ValueError(f"{name} must be an address such as http://localhost:8000/v1")
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"{name} (of {host}) has a user, a password or a query in it, which could be a key; give the address alone, and "
            "the key in the environment variable that api_key_env names"
        )
