"""The shapes of sample files, by other tools' formats, in one table: how each is recognised, and how its answers are read.

To add a shape: a function that reads its rows, and an entry in SHAPES.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from spa_bench.errors import DataError
from spa_bench.runs.sample_answers import Found, GivenAnswer, did_you_mean_id, fitting, mapping, names, one_text, problem_called
from spa_bench.runs.sample_files import Content
from spa_bench.tasks.answer_text import parse
from spa_bench.tasks.base import TextsTask
from spa_bench.types import Problem

_SHOWN_KEYS = 8
_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A format of samples."""

    name: str
    looks: str  # what such a file holds, in words
    takes: Callable[[Content], bool]
    read: Callable[[Content, TextsTask], Found]


def shape_of(content: Content) -> Shape:
    """The first shape of SHAPES that takes `content`. Raises DataError that says what was seen and what is read."""
    for shape in SHAPES:
        if shape.takes(content):
            return shape
    known = "; ".join(f"{shape.looks} ({shape.name})" for shape in SHAPES)
    raise DataError(f"{content.name} holds no samples of a known form: it is {_seen(content)}; what is read: {known}")


# evalplus: rows of task_id and a text


def _evalplus_rows(content: Content, task: TextsTask) -> Found:
    known = {p.id: p for p in task.problems}
    return Found([_evalplus_row(place, row, known, task) for place, row in content.rows])


def _evalplus_row(place: str, row: object, known: Mapping[str, Problem], task: TextsTask) -> GivenAnswer:
    if not isinstance(row, dict) or "task_id" not in row:
        raise DataError(f"{place} lacks a task_id")
    name = row["task_id"]
    if not isinstance(name, str):
        what = f"the number {name}" if isinstance(name, int | float) else json.dumps(name)[:40]
        raise DataError(f"{place}: task_id is {what}; the ids of task {task.name} are texts, such as {next(iter(known))!r}")
    if name not in known:
        raise DataError(f"{place}: task {task.name} has no problem {name!r}{did_you_mean_id(name, known)}")
    there = [key for key in ("solution", "completion", "text") if key in row]
    if not there:
        raise DataError(f"{place} has neither completion nor solution")
    key = next((key for key in there if row[key] is not None), there[0])
    text = one_text(row[key], place, key)
    if key == "text":
        return GivenAnswer(place, known[name], text, "chat" if _is_reply(text, task) else _kind_of(text, task))
    return GivenAnswer(place, known[name], text, "solution" if key == "solution" else "completion")


def _kind_of(text: str, task: TextsTask) -> Literal["completion", "solution"]:
    """How a text is meant that does not say it: no program begins with an indented line, so such a text is a completion."""
    return "completion" if not task.runs_code or text.lstrip("\n")[:1] in {" ", "\t"} else "solution"


def _is_reply(text: str, task: TextsTask) -> bool:
    """Whether a text is a chat's reply: it has fenced code, and is no program, which may have a fence in its docstring."""
    fenced = task.runs_code and _FENCE.search(text) is not None and _kind_of(text, task) == "solution"
    return fenced and parse(text) is None


# evalplus: its results, which hold the solutions


def _evalplus_results(content: Content, task: TextsTask) -> Found:
    known = {p.id: p for p in task.problems}
    answers = []
    for name, entries in mapping(_object(content).get("eval")).items():
        place = f"{content.name}, eval[{name!r}]"
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, dict) or "solution" not in entry:
                raise DataError(f"{place} holds verdicts without a solution; give the samples that were evaluated instead")
            answers.append(_evalplus_row(place, {"task_id": name, "solution": entry["solution"]}, known, task))
    return Found(answers, ("the verdicts in the file are not read",))


# bigcode-evaluation-harness: a list of texts for each problem, by its index


def _generations(content: Content, task: TextsTask) -> Found:
    problems = task.problems
    if len(content.rows) > len(problems):
        raise DataError(
            f"{content.name} has lists of texts for {len(content.rows)} problems, and task {task.name} {task.version} has "
            f"{len(problems)}: list i belongs to problem i, so the file is of another task or version"
        )
    answers = []
    for (place, texts), problem in zip(content.rows, problems, strict=False):
        if not isinstance(texts, list):
            raise DataError(f"{place} must be a list of texts, as the entries before it are; got {type(texts).__name__}")
        for text in texts:
            found = one_text(text, place, "a text")
            answers.append(GivenAnswer(place, problem, found, _kind_of(found, task)))
    programs = [a for a in answers if a.problem.entry_point and a.kind == "solution"]
    named = sum(names(a.text, a.problem.entry_point) for a in programs)
    if 2 * named < len(programs):
        raise DataError(
            f"{content.name}: {named} of {len(programs)} programs name the function of their problem, so list i is not of "
            f"problem i of task {task.name}: the order or the task is another"
        )
    return Found(
        answers, (f"list i is of problem i; {named} of {len(programs)} programs name its function",) if programs else ()
    )


# lm-eval: --log_samples


def _lm_eval(content: Content, task: TextsTask) -> Found:
    answers: list[GivenAnswer] = []
    filters = Counter(str(row.get("filter", "none")) for _, row in content.rows if isinstance(row, dict))
    first = next(iter(filters), "none")
    for place, row in content.rows:
        if not isinstance(row, dict) or "resps" not in row:
            raise DataError(f"{place} lacks resps")
        if str(row.get("filter", "none")) != first:
            continue
        problem = _lm_eval_problem(place, row, task)
        raw = _lm_eval_texts(place, row, "resps")
        try:
            filtered = _lm_eval_texts(place, row, "filtered_resps")
        except DataError:
            filtered = raw
        for i, text in enumerate(raw):
            answers.append(_lm_eval_answer(place, problem, text, filtered[i] if len(filtered) == len(raw) else text, task))
    others = [name for name in filters if name != first]
    return Found(answers, (f"the rows of filter {first!r}, not of {', '.join(map(repr, others))}",) if others else ())


def _lm_eval_answer(place: str, problem: Problem, raw: str, filtered: str, task: TextsTask) -> GivenAnswer:
    if filtered.lstrip("\n").startswith(task.question(problem).lstrip("\n")):
        return GivenAnswer(place, problem, filtered, "solution")
    if _is_reply(filtered, task):
        return GivenAnswer(place, problem, filtered, "chat")
    # a filter of a code task takes the program out of a reply; of other tasks it takes the result, which our task does itself
    return GivenAnswer(place, problem, filtered if task.runs_code else raw, "completion")


def _lm_eval_texts(place: str, row: Mapping[str, object], key: str) -> list[str]:
    value = row.get(key)
    inner = value[0] if isinstance(value, list) and len(value) == 1 else None
    texts = [inner] if isinstance(inner, str) else inner
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise DataError(
            f"{place}: {key} is not one list of texts; rows of multiple choice hold log-probabilities, which score cannot take"
        )
    return texts


def _lm_eval_problem(place: str, row: Mapping[str, object], task: TextsTask) -> Problem:
    doc = row.get("doc")
    if isinstance(doc, dict) and "task_id" in doc:
        return problem_called(place, doc["task_id"], [doc, row.get("arguments")], task)
    index = row.get("doc_id")
    if not isinstance(index, int) or not 0 <= index < len(task.problems):
        raise DataError(
            f"{place}: doc has no task_id, and doc_id is {index!r}; task {task.name} has the problems 0 to "
            f"{len(task.problems) - 1}"
        )
    return fitting(place, f"doc_id {index}", task.problems[index], [doc, row.get("arguments")], task)


# Inspect: .json logs, and .eval logs, which are zip archives with a JSON file for each sample


def _inspect(content: Content, task: TextsTask) -> Found:
    rows = content.rows
    if content.form == "object":
        samples = _object(content).get("samples")
        if not isinstance(samples, list) or not samples:
            raise DataError(f"{content.name} is a log of Inspect without samples")
        rows = [(f"{content.name}, samples[{i}]", sample) for i, sample in enumerate(samples)]
    answers, failed = [], 0
    placed = [(place, mapping(sample)) for place, sample in rows]
    for place, sample in sorted(placed, key=lambda one: _epoch(*one)):
        if sample.get("error"):
            failed += 1
            continue
        problem = problem_called(place, sample.get("id"), [sample.get("input")], task)
        answers.append(GivenAnswer(place, problem, _inspect_text(place, sample), "chat"))
    return Found(answers, (f"{failed} samples ended in an error and are left out",) if failed else ())


def _epoch(place: str, sample: Mapping[str, object]) -> int:
    epoch = sample.get("epoch")
    if not isinstance(epoch, int):
        raise DataError(f"{place} is no sample of Inspect: it lacks an epoch")
    return epoch


def _inspect_text(place: str, sample: Mapping[str, object]) -> str:
    """The answer as Inspect's ModelOutput has it: `completion`, or the text of the first choice (older logs)."""
    output = sample.get("output")
    if not isinstance(output, dict):
        raise DataError(f"{place} lacks an output")
    text = output.get("completion")
    if not isinstance(text, str) or not text:
        choices = output.get("choices")
        message = mapping(mapping(choices[0]).get("message")) if isinstance(choices, list) and choices else {}
        content = message.get("content", "")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = "\n".join(str(part.get("text")) for part in map(mapping, parts) if part.get("type") == "text")
    attached = mapping(sample.get("attachments"))
    name = text.removeprefix("attachment://")
    if name != text:
        if not isinstance(attached.get(name), str):
            raise DataError(f"{place}: the answer is {text[:60]!r}, and the sample has no such attachment")
        text = str(attached[name])
    return text


# NoveltyBench: a prompt a row, with all answers to it


def _noveltybench(content: Content, task: TextsTask) -> Found:
    answers, seen = [], set()
    for place, value in content.rows:
        row = mapping(value)
        texts = row.get("generations")
        if not isinstance(texts, list):
            raise DataError(f"{place} lacks generations, the list of the answers to its prompt")
        problem = problem_called(place, row.get("id"), [row], task)
        if problem.id in seen:
            raise DataError(f"{place} repeats the id {problem.id!r}; a row has all answers to its prompt")
        seen.add(problem.id)
        if "prompt" in row and row["prompt"] != problem.prompt:
            raise DataError(f"{place}: {problem.id} is another prompt in task {task.name}, of another version of its data")
        answers += [GivenAnswer(place, problem, one_text(text, place, "a generation"), "chat") for text in texts]
    models = sorted({str(mapping(row)["model"]) for _, row in content.rows if "model" in mapping(row)})
    return Found(answers, (f"of model {', '.join(models)}",) if models else ())


# OpenAI's batches: the replies to requests, which the user named


def _batch(content: Content, task: TextsTask) -> Found:
    answers, failed = [], 0
    for place, value in content.rows:
        choices = mapping(mapping(mapping(value).get("response")).get("body")).get("choices")
        if not isinstance(choices, list) or not choices:
            failed += 1
            continue
        problem = problem_called(place, mapping(value).get("custom_id"), [], task)
        for choice in map(mapping, choices):
            message = mapping(choice.get("message"))
            kind: Literal["completion", "chat"] = "chat" if message else "completion"
            answers.append(
                GivenAnswer(place, problem, one_text(message.get("content", choice.get("text")), place, "text"), kind)
            )
    return Found(answers, (f"{failed} requests have no answer and are left out",) if failed else ())


# an object of texts, by the problem's id


def _by_id(content: Content, task: TextsTask) -> Found:
    known = {p.id: p for p in task.problems}
    given = [(name, text) for name, some in _object(content).items() for text in (some if isinstance(some, list) else [some])]
    rows = [(f"{content.name}, {name!r}", {"task_id": name, "text": text}) for name, text in given]
    return Found([_evalplus_row(place, row, known, task) for place, row in rows])


def _are_texts(content: Content) -> bool:
    """Whether the file is an object of texts and lists of texts alone."""
    found = [text for some in _object(content).values() for text in (some if isinstance(some, list) else [some])]
    return bool(found) and all(isinstance(text, str) for text in found)


def _object(content: Content) -> Mapping[str, object]:
    return mapping(content.rows[0][1]) if content.form == "object" else {}


def _first_has(*keys: str) -> Callable[[Content], bool]:
    return lambda content: bool(content.rows) and any(key in mapping(content.rows[0][1]) for key in keys)


def _seen(content: Content) -> str:
    if content.form == "archive":
        return "a zip archive without samples/*.json"
    first = content.rows[0][1] if content.rows else None
    what = {"lines": "lines of", "array": "an array of", "object": "one object:"}[content.form]
    if isinstance(first, dict):
        keys = ", ".join(list(first)[:_SHOWN_KEYS]) + (", …" if len(first) > _SHOWN_KEYS else "")
        return f"{what} objects with the keys {keys}" if content.form != "object" else f"one object with the keys {keys}"
    return f"{what} {type(first).__name__} values"


SHAPES: tuple[Shape, ...] = (
    Shape(
        name="evalplus' results",
        looks="an object whose eval has lists of entries with a solution",
        takes=lambda content: (
            bool(_object(content).get("eval")) and "samples" not in _object(content) and "plan" not in _object(content)
        ),
        read=_evalplus_results,
    ),
    Shape(
        name="Inspect's log",
        looks="an .eval file, or an object with eval and samples",
        takes=lambda content: (content.form == "archive" and bool(content.rows)) or "eval" in _object(content),
        read=_inspect,
    ),
    Shape(
        name="lm-eval's samples",
        looks="rows of doc_id, doc and resps",
        takes=_first_has("resps"),
        read=_lm_eval,
    ),
    Shape(
        name="NoveltyBench's generations",
        looks="rows of id, prompt and generations",
        takes=lambda content: _first_has("generations")(content) and _first_has("id")(content),
        read=_noveltybench,
    ),
    Shape(
        name="OpenAI's batch output",
        looks="rows of custom_id and response",
        takes=lambda content: _first_has("custom_id")(content) and _first_has("response")(content),
        read=_batch,
    ),
    Shape(
        name="bigcode's generations",
        looks="an array with a list of texts for each problem",
        takes=lambda content: bool(content.rows) and isinstance(content.rows[0][1], list),
        read=_generations,
    ),
    Shape(
        name="evalplus' samples",
        looks="rows of task_id with completion or solution, as lines or in an array",
        takes=_first_has("task_id", "completion", "solution"),
        read=_evalplus_rows,
    ),
    Shape(
        name="texts by id",
        looks="an object with a text, or a list of texts, for each id",
        takes=_are_texts,
        read=_by_id,
    ),
)
"""By precedence: the first that takes a file reads it."""
