"""Several drafts become one answer: what Mixture-of-Agents and its kinds with one model share."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.samplers.asking.case import Case, Question, Reply
from spa_bench.support.thoughts import without_thoughts


def drafts_in(replies: Sequence[Reply]) -> list[str]:
    """The texts of the replies that have one."""
    return [_text(reply) for reply in replies if _text(reply)]


def _text(reply: Reply) -> str:
    return "" if reply.failure else without_thoughts(reply.text).strip()


def why_none(replies: Sequence[Reply]) -> str:
    """Why there is no draft."""
    return next((f"drafts: {reply.failure}" for reply in replies if reply.failure), "drafts: all replies are empty")


def lacking(replies: Sequence[Reply]) -> str:
    """A note where some drafts are missing, or were cut at their limit."""
    there, cut = len(drafts_in(replies)), sum(reply.cut and bool(_text(reply)) for reply in replies)
    notes = [f"{there} of {len(replies)} drafts have a text"] * (there < len(replies))
    notes += [f"{cut} of {len(replies)} drafts were cut at their limit"] * bool(cut)
    return "; ".join(notes)


def aggregated(
    case: Case, template: str, drafts: Sequence[str], *, member: int = 0, temperature: float | None = None
) -> Question:
    """The question that makes one answer of `drafts`."""
    numbered = "\n\n".join(f"Response {i}:\n\n{draft}" for i, draft in enumerate(drafts, 1))
    return case.ask(case.words(template, {"responses": numbered}), member=member, temperature=temperature)
