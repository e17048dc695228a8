"""Templates turn instructions into text: the model's chat template, Alpaca's or none.

alpaca  the text that Alpaca was trained on and a line end behind it, an input under its own heading; earlier turns follow
        one another under the same headings, and a system text takes the place of the sentence at the top
chat    the turns through the template of the model's tokenizer, an input under the instruction; the answer begins where the
        template lets the model begin and ends with what the template puts behind an answer
plain   the turns one after another, an empty line between them and a newline at the end
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.errors import ModelError
from spa_bench.models.base import ChatTrainable, PairModel
from spa_bench.spa.data.shapes import Instruction, Row, Turns
from spa_bench.types import Example

_ALPACA = "Below is an instruction that describes a task{given}. Write a response that appropriately completes the request."
_GIVEN = ", paired with an input that provides further context"


@dataclass(frozen=True)
class Template:
    """Turns a row into a pair."""

    name: str  # chat, alpaca or plain
    model: ChatTrainable | None = None  # chat: the model whose template is used
    pairs: bool = False  # chat: whether pairs are put into it too, the prompt as the user's turn

    def takes(self, row: Row) -> bool:
        """Whether the template makes the text of `row`; other rows are pairs, which stay as they are."""
        return self.pairs or isinstance(row, Instruction)

    def __call__(self, row: Row) -> Example:
        """The pair of a row. Raises ModelError when the chat template refuses the turns."""
        if not isinstance(row, Instruction):
            if not self.pairs:
                return row
            row = Instruction((("user", row.prompt),), row.completion)
        if self.name == "alpaca":
            return Example(_alpaca(row), row.completion)
        turns = _with_given(row)
        if self.model is not None:
            prompt, ending = self.model.as_chat(turns)
            return Example(prompt, row.completion, ending)
        text = "\n\n".join(text for _, text in turns)
        return Example(text if text.endswith("\n") else text + "\n", row.completion)


ALPACA = Template("alpaca")


def template_of(wanted: str, model: PairModel) -> Template:
    """The template for `wanted`, which is auto, chat, alpaca or plain; auto is chat where `model` can, else Alpaca's.

    Raises ModelError for chat with a model that has no chat template.
    """
    if wanted not in {"auto", "chat"}:
        return Template(wanted)
    try:
        if not isinstance(model, ChatTrainable):
            raise ModelError("it takes no messages")
        model.check_chat()
    except ModelError as error:
        if wanted == "auto":
            return ALPACA
        raise ModelError(
            f'data.template is "chat", but model {model.name!r} has no chat template; '
            'choose an instruct model, or data.template = "alpaca" or "plain"'
        ) from error
    return Template("chat", model, pairs=wanted == "chat")


def _alpaca(row: Instruction) -> str:
    systems = [text for role, text in row.turns if role == "system"]
    parts = ["\n\n".join(systems) if systems else _ALPACA.format(given=_GIVEN if row.given else "")]
    headings = {"user": "### Instruction:\n", "assistant": "### Response:\n"}
    parts += [headings[role] + text for role, text in row.turns if role != "system"]
    if row.given:
        parts.append(f"### Input:\n{row.given}")
    return "\n\n".join([*parts, "### Response:\n"])


def _with_given(row: Instruction) -> Turns:
    *before, (role, text) = row.turns
    return (*before, (role, f"{text}\n\n{row.given}" if row.given else text))
