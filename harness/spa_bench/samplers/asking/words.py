"""The words of a question: the problem, as a task gives it, within a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.types import Messages, Prompt


def problem_text(prompt: Prompt) -> str:
    """The problem for a template: the beginning of the program, else the last turn of the user in the task's messages.

    A task that has messages for a program also has an instruction and the beginning of an answer there, which would contradict
    what a sampler asks for. So they are left out. Without messages it is the prompt's text.
    """
    if prompt.program and prompt.text:
        return prompt.text.strip("\n").rstrip()
    asked = [said for role, said in prompt.messages if role == "user"]
    return (asked[-1] if asked else prompt.text).strip()


def conversation(prompt: Prompt, system: str, turns: Sequence[tuple[str, str]]) -> Messages:
    """The whole conversation: the system message, earlier turns of the task's messages, and `turns`.

    Earlier turns are those before the last one of the user, such as solved examples. A system message of the task comes behind
    `system`, in one message, because many chat templates take one alone.
    """
    last = max((i for i, (role, _) in enumerate(prompt.messages) if role == "user"), default=0)
    earlier = prompt.messages[:last]
    told = [text for text in (system, *(said for role, said in earlier if role == "system")) if text]
    head = (("system", "\n\n".join(told)),) if told else ()
    return (*head, *(turn for turn in earlier if turn[0] != "system"), *turns)
