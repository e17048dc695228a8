"""Documents of lm-eval's tasks as problems, whose requests lm-eval itself builds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from spa_bench.errors import DataError, SpaBenchError, UsageError
from spa_bench.support.text import one_line
from spa_bench.tasks.lm_eval.library import Loaded, compiled_once, missing_column, quiet, seeded, told
from spa_bench.tasks.lm_eval.options import LmEvalOptions
from spa_bench.types import Asked, Problem

_MAX_GEN_TOKS = 256  # lm-eval's default
_LENGTHS = (
    "max_gen_toks",
    "max_new_tokens",
    "max_tokens",
    "max_completion_tokens",
)  # the first one present counts, as in lm-eval
Template = Callable[[Sequence[Mapping[str, str]]], str]
"""Messages of role and content -> the text before the answer, which the last one begins where it is the assistant's."""


def stops_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The stop strings in lm-eval's generation_kwargs."""
    until = arguments.get("until") or []
    return tuple(s for s in ([until] if isinstance(until, str) else until) if s)


def length_of(arguments: Mapping[str, Any]) -> int:
    """The most tokens of an answer by lm-eval's generation_kwargs."""
    return int(next((arguments[k] for k in _LENGTHS if arguments.get(k) is not None), _MAX_GEN_TOKS))


@dataclass(frozen=True, kw_only=True)
class Question:
    """One document of an lm-eval task, with its requests."""

    task: str  # lm-eval's name of the task
    instances: tuple[Any, ...]  # lm_eval.api.instance.Instance, in the order of the options
    problem: Problem
    kind: Literal["choice", "fixed", "written"]  # fixed: is the one right text what greedy decoding writes?
    options: tuple[str, ...] = ()  # of a choice: the text of each option for a reader
    gold: str = ""  # the right answer, for a reader

    @property
    def stop(self) -> tuple[str, ...]:
        """Of a written answer: the task's stop strings."""
        return stops_of(self.instances[0].args[1])

    @property
    def max_new_tokens(self) -> int:
        """Of a written answer: its most tokens."""
        return length_of(self.instances[0].args[1])

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """(context, text) of each option; of a written answer (prompt, "")."""
        if self.kind == "written":
            return ((self.instances[0].args[0], ""),)
        return tuple((i.args[0], i.args[1]) for i in self.instances)

    def asked(self, *, cut: bool) -> Asked:
        """The options as a request for log-probabilities."""
        return Asked(self.problem.id, self.texts, len(self.options) or 1, cut)


def options_for_readers(asked: Asked) -> tuple[str, ...]:
    """The text of each option; where the contexts of the choices differ, behind the words that not all of them begin with."""
    contexts = [context for context, _ in asked.options[: asked.choices]]
    shared = os.path.commonprefix(contexts)  # noqa: RUF071  # it takes any texts, character by character
    begin = len(shared) if len(set(contexts)) == 1 else max(shared.rfind(" "), shared.rfind("\n")) + 1
    own = [context[begin:] for context in contexts] + [""] * (len(asked.options) - len(contexts))
    return tuple(before + text for before, (_, text) in zip(own, asked.options, strict=True))


def questions(loaded: Loaded, options: LmEvalOptions, template: Template | None = None) -> list[Question]:
    """All documents of all tasks, in lm-eval's order; `template` makes prompts chat texts. Raises UsageError or DataError."""
    documents = []
    with quiet(), seeded(loaded.generators), compiled_once():
        for name, task in loaded.tasks.items():  # all of them first: what is read below may draw from the generators too
            with _named(name, task):
                task.set_fewshot_seed(1234)  # lm-eval's: examples are drawn document by document, and may be drawn again here
                _build(name, task, options, template)
        for name, task in loaded.tasks.items():
            by_doc: dict[int, list[Any]] = {}
            for instance in task.instances:
                by_doc.setdefault(instance.doc_id, []).append(instance)
            with _named(name, task):
                documents += [_question(name, task, sorted(of, key=lambda i: i.idx)) for of in by_doc.values()]
    return documents


@contextlib.contextmanager
def _named(name: str, task: Any) -> Iterator[None]:
    """Within the block, whatever a task's own functions raise becomes a DataError that names the task.

    Where a column is missing, it names the columns that there are.
    """
    try:
        yield
    except SpaBenchError:
        raise
    except (Exception, SystemExit) as error:  # the tasks' own functions raise anything
        columns = list(map(str, next(iter(task.eval_docs), {})))
        if (column := missing_column(error)) is None or column in columns:
            raise DataError(f"lm-eval cannot ask {name}: {told(error)}") from error
        there = ", ".join(columns)
        raise DataError(f"lm-eval cannot ask {name}: it reads {column!r}, which is no column; rows have {there}") from error


def _build(name: str, task: Any, options: LmEvalOptions, template: Template | None) -> None:
    """Let lm-eval build the requests of one task."""
    chat: dict[str, Any] = {}
    if template is not None:

        def render(history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
            return template(history)  # the prompt of generation is left out exactly where the answer is begun

        chat = {
            "apply_chat_template": True,
            "fewshot_as_multiturn": options.multiturn,
            "chat_template": render,
            "system_instruction": options.system or None,
        }
    try:
        task.build_all_requests(limit=options.per_task or None, rank=0, world_size=1, **chat)
    except (AssertionError, ValueError, IndexError) as error:  # lm-eval's samplers and the tasks' own code
        shots = task.get_config("num_fewshot")
        said = one_line(error, 200).removeprefix("Error: ").rstrip(".") or type(error).__name__
        if shots and ("sample" in said.lower() or "example" in said.lower()):
            raise UsageError(
                f"{name} cannot be asked with {shots} examples: {said}; set task.options.fewshot to fewer"
            ) from error
        raise DataError(f"lm-eval cannot ask {name}: {said}") from error


def _question(name: str, task: Any, instances: Sequence[Any]) -> Question:
    """One document. Raises UsageError for a task whose requests are neither a choice nor one text."""
    first, doc = instances[0], instances[0].doc
    place = f"{name}/{first.doc_id}"
    kinds = {i.request_type for i in instances}
    if kinds == {"generate_until"} and len(instances) == 1:
        target = task.doc_to_target(doc)
        gold = target[0] if isinstance(target, list) and target else target
        if task.get_config("doc_to_choice") is not None and isinstance(gold, int):
            gold = task.doc_to_choice(doc)[gold]
        problem = Problem(id=place, prompt=first.args[0], reference=str(gold), tags=(name,))
        return Question(task=name, instances=(first,), problem=problem, kind="written", gold=str(gold))
    if kinds == {"loglikelihood"} and task.OUTPUT_TYPE == "multiple_choice":
        return _choice(name, place, task, instances)
    if kinds == {"loglikelihood"} and len(instances) == 1:
        problem = Problem(id=place, prompt=first.args[0], reference=first.args[1], tags=(name,))
        return Question(task=name, instances=(first,), problem=problem, kind="fixed", gold=first.args[1].strip())
    raise UsageError(f"{name} asks {len(instances)} requests a document ({', '.join(sorted(kinds))}), of a kind of its own")


def _choice(name: str, place: str, task: Any, instances: Sequence[Any]) -> Question:
    doc = instances[0].doc
    options = tuple(str(o) for o in task.doc_to_choice(doc))
    right = _right(task, doc, options)
    context, text = instances[right[0] if right else 0].args[:2]
    problem = Problem(
        id=place, prompt=context, reference=text if right else "", tags=(name,), choices=len(options), right=max(len(right), 1)
    )
    gold = " or ".join(options[i].strip() for i in right)
    return Question(task=name, instances=tuple(instances), problem=problem, kind="choice", options=options, gold=gold)


def _right(task: Any, doc: Any, options: Sequence[str]) -> list[int]:
    """The right options of a document, as lm-eval reads it; none where only its own scoring knows them."""
    said = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else task.doc_to_target(doc)
    right: dict[int, None] = {}  # a document may name one twice
    for one in said if isinstance(said, list) else [said]:
        if isinstance(one, int | np.integer) and 0 <= one < len(options):
            right[int(one)] = None
        elif isinstance(one, str) and one in options:
            right[options.index(one)] = None
    return list(right)


def identity(found: Sequence[Question]) -> Iterator[list[object]]:
    """The identity of each problem: its id, every request, and the right answer."""
    for question in found:
        requests = question.texts if question.kind != "written" else question.instances[0].args
        yield [question.problem.id, question.kind, requests, question.options, question.gold]
