"""What a judge model replies about answers that are neither right nor wrong: a row of a log of the run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A line of judgements.jsonl: what a judge model replied to one question about answers to one problem."""

    problem: str
    asks: str  # the question: "same", of two answers, or "quality", of one
    first: str  # hash of the answer, 16 hex digits; of two, of the one that came first
    second: str  # hash of the other answer; "" where the question is about one
    reply: str  # what the judge wrote
    said: str  # the verdict in the reply: "yes" or "no", or a number; "": there is none
    tokens: int = 0  # new tokens of the reply, the end token included; 0 in files of earlier versions

    @property
    def key(self) -> str:
        """The question and the answers that it is about."""
        return f"{self.asks} {self.problem} {self.first} {self.second}"
