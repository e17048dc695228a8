"""Messages become one text by the chat template that comes with a tokenizer."""

from __future__ import annotations

import datetime
from collections.abc import Container, Sequence
from typing import Any

from spa_bench.errors import ModelError
from spa_bench.support.text import one_line

_DAY = datetime.datetime(2024, 7, 26)  # Llama's templates have the same default
# of strftime: all but those that are no text of a day, and those without leading zeros
_CODES = (*"aAbBcCdDeFgGhHIjmMprRSTuUVwWxXyYzZ", *("-" + code for code in "dHIjmMSUWy"))
_ANSWER = "ANSWER-0c7f"  # stands for an answer, to find the template's own text around it
_WITHOUT = "let the task continue prompts (--set task.prompt=completion), or give a model with another template"


class ChatTemplateError(ModelError):
    """What is wrong with a chat template, in `why`; the message adds what helps where a task asks the model."""

    def __init__(self, why: str):
        super().__init__(f"{why}; {_WITHOUT}")
        self.why = why


def check_template(tokenizer: Any, model: str) -> None:
    """Raise ModelError when the tokenizer of `model` has no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"model {model!r} has no chat template, so it cannot be asked in messages; "
            f"choose an instruct model, or a sampler and a task that continue prompts (--set task.prompt=completion)"
        )


def chat_text(tokenizer: Any, model: str, messages: Sequence[tuple[str, str]]) -> str:
    """The text of `messages`, (role, text) each, by the tokenizer's template, up to the beginning of the answer.

    The template writes the special tokens too: encode the text without adding any. Raises ModelError when there is no
    template, when it refuses the messages (some know no system role), fails, or does not write the last message as it is, but
    for white space around it.

    When the last message is the assistant's, the text ends where that message ends, and the answer continues it, as in
    evalplus' make_raw_chat_prompt.
    """
    last = messages[-1][1] if messages else ""
    if not messages or messages[-1][0] != "assistant":
        text = _rendered(tokenizer, model, messages, answered=False)
        if last.strip() not in text:
            raise _unwritten(model, last, altered=_letters(last) in _letters(text))
        return text
    begun = [*messages[:-1], ("assistant", last + _ANSWER)]  # a template strips white space at the end
    whole = _rendered(tokenizer, model, begun, answered=True)
    text, found, _ = whole.partition(_ANSWER)
    if not found or not text.endswith(last.lstrip()):
        raise _unwritten(model, last, altered=_letters(_ANSWER) in _letters(whole))
    return text


def _unwritten(model: str, last: str, *, altered: bool) -> ModelError:
    """The error for a template that does not write the last message as it is."""
    what = f"{'alters' if altered else 'drops'} the last message"
    shown = f" ({last.strip()[-40:]!r})" if last.strip() else ""
    return ChatTemplateError(f"the chat template of model {model!r} does not write messages as they are: it {what}{shown}")


def _letters(text: str) -> str:
    return "".join(text.lower().split())


def chat_ending(tokenizer: Any, model: str) -> str:
    """The text that the tokenizer's template writes behind an answer in the last turn. Raises ModelError as chat_text."""
    whole = _rendered(tokenizer, model, [("user", "Hello"), ("assistant", _ANSWER)], answered=True)
    return whole.rpartition(_ANSWER)[2] if _ANSWER in whole else ""


def up_to_end(ending: Sequence[int], answer: Sequence[int], ends: Container[int]) -> list[int]:
    """The tokens of `answer` up to and with the first end token of its `ending`; empty where `ending` has no token of `ends`.

    `answer` is the encoded answer with the template's ending behind it, `ending` the encoded ending alone. Their last tokens
    agree from the first end token on, because an end token never merges with others; tokens before it may differ, because they
    can merge with the text before them.
    """
    first = next((i for i, token in enumerate(ending) if token in ends), None)
    return [] if first is None else list(answer[: len(answer) - (len(ending) - first - 1)])


def _rendered(tokenizer: Any, model: str, messages: Sequence[tuple[str, str]], *, answered: bool) -> str:
    check_template(tokenizer, model)
    from jinja2 import TemplateError, TemplateSyntaxError

    turns = [{"role": role, "content": text} for role, text in messages]
    try:
        template = _on_one_day(tokenizer.get_chat_template())
        text: str = tokenizer.apply_chat_template(
            turns, chat_template=template, add_generation_prompt=not answered, tokenize=False
        )
    except Exception as error:  # a template is a program, and raises what it likes
        told = one_line(error, 200).rstrip(".")
        if isinstance(error, TemplateSyntaxError):
            wrong = f"has a syntax error: {told}"
        elif type(error) is TemplateError:  # raised by raise_exception, which templates call for that
            wrong = f"refuses the messages: {told}"
        else:
            wrong = f"fails: {type(error).__name__}: {told}"
        raise ChatTemplateError(f"the chat template of model {model!r} {wrong}") from error
    return text


def _on_one_day(template: str) -> str:
    """`template` with a fixed date in place of today's, so that the text does not depend on the day of the run."""
    if "strftime_now" not in template:
        return template
    # the library's own function is a global of the template, which a macro of that name hides
    filled = "".join(f" | replace('%{code}', '{_DAY.strftime('%' + code)}')" for code in _CODES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{filled} }}}}{{%- endmacro -%}}" + template
