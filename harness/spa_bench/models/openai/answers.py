"""A server's reply as the completion of a request."""

from __future__ import annotations

from spa_bench.models.openai.wire import Refused, Reply
from spa_bench.support.text import before_stop, one_line
from spa_bench.types import Completion, Finish, Request

# the words of OpenAI and vLLM first, then those of other servers
_ENDS: dict[str, Finish] = {"stop": "stop", "length": "length"}
_ENDS |= {"eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop", "max_tokens": "length"}


def completion_of(request: Request, reply: Reply, secret: str) -> Completion:
    """The completion up to the first stop string, or why there is none.

    Its tokens are those that the server drew: where it stops late, some of them lie behind the text.
    """
    text, finish, new = reply.text, _ENDS.get(reply.finish), reply.usage.new
    if reply.refusal:
        return failed(request, f"the model refuses: {one_line(reply.refusal, 200)}", spent=new)
    if reply.finish == "content_filter":
        return failed(request, "the server's content filter took the answer", spent=new)
    if text is None:
        return failed(request, f"the server gave {new} tokens and no text ({reply.silence})", spent=new)
    if finish is None:
        return failed(request, f"the server gave the finish_reason {reply.finish!r}, neither stop nor length", spent=new)
    if secret and secret in text:
        return failed(request, "the answer holds the key with which it was asked for, and is not kept", spent=new)
    kept = before_stop(text, request.decoding.stop)
    if kept != text:
        finish = "stop"
    return Completion(key=request.key, text=kept, tokens=new, finish=finish, seed=request.seed)


def failed(request: Request, why: str, spent: int = 0) -> Completion:
    """The completion of a request that has no answer."""
    return Completion(key=request.key, text="", tokens=0, finish="failed", seed=request.seed, failure=why, spent=spent)


def skipped(request: Request, refused: Refused, context: int | None) -> Completion:
    """The completion of a request whose prompt leaves no room for an answer."""
    why = "the prompt leaves no room in the server's context" + (
        f" of {context} tokens" if context else f" ({refused.message})"
    )
    return Completion(key=request.key, text="", tokens=0, finish="skipped", seed=request.seed, failure=why)
