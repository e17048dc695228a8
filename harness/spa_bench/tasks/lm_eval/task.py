"""lm-eval's tasks behind the protocol of spa_bench.tasks.base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from spa_bench.cards.task import TaskCard
from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.sandbox import Limits
from spa_bench.support.home import expanded
from spa_bench.support.text import shortened
from spa_bench.tasks.base import Asking, Judge, Named, Options
from spa_bench.tasks.data_folder import data_folder
from spa_bench.tasks.lm_eval import library
from spa_bench.tasks.lm_eval.asking import Question, Template, identity, options_for_readers, questions
from spa_bench.tasks.lm_eval.local import DataPlace
from spa_bench.tasks.lm_eval.options import LmEvalOptions
from spa_bench.tasks.lm_eval.room import Room, Tokenized
from spa_bench.tasks.lm_eval.scoring import Judging, Response, chosen, judged, mean_of, own_scores, written
from spa_bench.types import Behaviour, Choices, Completion, Grade, Key, Problem, Prompt, Record, Verdict

AFTER = 64  # tokens after a choice, by default
_SHORT = 80  # letters of an answer in a message


@runtime_checkable
class _Chat(Protocol):
    """A model that renders messages by its chat template; see spa_bench.models.base.ChatTrainable."""

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """(text before the answer, or up to the end of an answer that is begun; text that the template puts behind one)."""
        ...


class LmEvalTask:
    """See spa_bench.tasks.base.Task. Problems are documents, `SUBTASK/doc_id`; `found` names their
    source.

    The text that is drawn for a multiple-choice problem follows the model's choice. With `chat` in the options, prompts go
    through each model's own template; verdicts and problems do not depend on it.
    """

    runs_code = False
    packages: tuple[str, ...] = ()

    def __init__(self, card: TaskCard, loaded: library.Loaded):
        self.name, self.version, self.found = card.name, loaded.version, loaded.found
        self.limits = Limits()
        self._card, self._loaded = card, loaded
        self._options = card.options_as(LmEvalOptions)
        self._plain = questions(loaded, self._options)
        self.problems: tuple[Problem, ...] = tuple(q.problem for q in self._plain)
        choices = any(q.kind != "written" for q in self._plain)
        if all(q.kind != "written" for q in self._plain):
            for key, value in (("filter", self._options.filter), ("max_gen_toks", self._options.max_gen_toks)):
                if value:
                    raise UsageError(
                        f"options.{key} is {value!r}, for generated answers, but {self._options.task} asks for choices alone"
                    )
        self._after = (card.max_new_tokens or AFTER) if choices else 0
        self._by_id = {q.problem.id: q for q in self._plain}

    @cached_property
    def _judging(self) -> dict[str, Judging]:
        """lm-eval task -> the number of its scoring that is the verdict."""
        first = {q.task: q for q in reversed(self._plain)}
        return {name: Judging(self._loaded.tasks[name], q, self._options.filter) for name, q in first.items()}

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for one in identity(self._plain):
            digest.update(json.dumps(one, default=str).encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, object]:
        """The card without the places of its files, lm-eval's version, the hash over all requests, and the verdict's rules.

        `scoring` has for each task of lm-eval its version, its examples, and the metric and filter that give the verdict.
        """
        card = {k: v for k, v in asdict(self._card).items() if k not in {"file", "description", "shuffle", "stratify"}}
        options = {k: v for k, v in card["options"].items() if k != "local"}
        options["include"] = Path(options["include"]).name
        scoring = {
            name: {"version": str(task.VERSION), "examples": task.get_config("num_fewshot"), "verdict": self._verdict(name)}
            for name, task in self._loaded.tasks.items()
        }
        card["max_new_tokens"] = self._after or card["max_new_tokens"]
        found = {"problems_hash": self._hash, "problems_n": len(self.problems), "scoring": scoring}
        return {**card, "version": self.version, "options": options, **found}

    def _verdict(self, name: str) -> str:
        judging = self._judging[name]
        return f"{judging.metric},{judging.filter}"

    def asked_by(self, model: Named, limit: int | None) -> Asking:
        """The prompts and options of the first `limit` problems for `model`; see `asked_of`."""
        return self.asked_of(model, {p.id for p in self.problems[:limit]})

    def asked_of(self, model: Named, problems: Container[str]) -> Asking:
        """The prompts and options of `problems` for `model`; a problem with a single option has no choice.

        Text after a choice has the card's length and stop strings. Raises ModelError where the model has no chat template and
        the card wants one, and UsageError where a prompt leaves no room for its answer, or for a length or stop strings in the
        card that have no effect.
        """
        if not self._after and (idle := self._idle()):
            raise UsageError(f"task {self.name!r}: {idle}")
        documents = self._plain
        if self._options.chat:
            if not isinstance(model, _Chat):
                raise ModelError(f"options.chat asks through a chat template, and model {model.name!r} has none here")
            documents = questions(self._loaded, self._options, template_of(model))
        documents = [q for q in documents if q.problem.id in problems]
        cut: Mapping[str, str] = {}  # problem -> prompt that was cut to fit the model's context
        long: frozenset[str] = frozenset()  # problems with an option that does not fit whole
        if isinstance(model, Tokenized):  # a model without a tokenizer here reports what does not fit during generation
            cut, long = Room(model, self._after).checked(documents, cut=self._options.too_long == "cut")
        return Asking(
            tuple(self._prompt(q, cut.get(q.problem.id)) for q in documents),
            tuple(q.asked(cut=q.problem.id in long) for q in documents if q.kind != "written"),
        )

    def _prompt(self, question: Question, cut: str | None) -> Prompt:
        """The prompt of one problem, or its rest where it was cut."""
        problem = question.problem
        if question.kind == "written":
            text = question.texts[0][0] if cut is None else cut
            return Prompt(problem_id=problem.id, text=text, max_new_tokens=question.max_new_tokens, stop=question.stop)
        return Prompt(problem_id=problem.id, text=problem.prompt, max_new_tokens=self._after, stop=self._card.stop)

    def options(self, limit: int | None) -> list[Options]:
        """The texts of the first `limit` problems that have any, without a chat template.

        Where the choices differ in their contexts (WinoGrande), a text begins with what its context has of its own.
        """
        scored = (q.asked(cut=False) for q in self._plain[:limit] if q.kind != "written")
        return [Options(one.problem_id, options_for_readers(one), one.choices) for one in scored]

    def _idle(self) -> str:
        """A sentence on settings that have no effect where all answers are generated, and what to set instead; else empty."""
        if length := self._card.max_new_tokens:
            return (
                f"max_new_tokens is {length}, but that is what follows a choice, and all its answers are generated: set "
                f"task.options.max_gen_toks={length}"
            )
        if self._card.stop:
            return "stop has no effect: lm-eval's own definition of the task says where a generated answer ends"
        return ""

    def record(self, completion: Completion) -> Record:
        """The completion with its text, cut at the stop strings, as the graded text. lm-eval's filters come later."""
        graded, question = completion.text, self._by_id[completion.key.problem]
        stop = question.stop if question.kind == "written" else self._card.stop
        for one in stop:  # in lm-eval's order
            graded = graded.split(one)[0]
        graded = graded if question.kind == "written" else graded.rstrip()
        return Record.of(completion, graded)

    def program(self, record: Record) -> str:
        """The text that is compared: the answer, or the text after the choice."""
        return record.graded

    def score(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Grade]:
        """Verdicts by lm-eval's scoring; `judge` is not used. A missing answer is refused.

        A problem with one option (lm-eval's loglikelihood, as LAMBADA) is right where greedy decoding writes that option by
        `choices`, and refused where `choices` lack it.
        """
        for record, question, values, seen in self._judged(records, choices):
            if seen is None:
                yield Grade(
                    **record.key._asdict(), verdict=Verdict.REFUSED, message=record.failure or "there is no choice to judge"
                )
            elif self._judging[question.task].passed(values, record.problem):
                yield Grade(**record.key._asdict(), verdict=Verdict.PASSED)
            else:
                yield Grade(**record.key._asdict(), verdict=Verdict.WRONG, message=_told(question, record, seen))

    def behave(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Behaviour]:
        """Each record's answer (the option, or the text after lm-eval's filter) as its behaviour; see `score`."""
        for record, question, values, seen in self._judged(records, choices):
            if seen is None:
                yield Behaviour(**record.key._asdict(), digest="", ran=False, right=0, probes=0)
            else:
                answer = record.choice if question.kind == "choice" else seen
                digest = hashlib.blake2b(json.dumps([question.kind, answer], default=str).encode(), digest_size=8).hexdigest()
                right = int(self._judging[question.task].passed(values, record.problem))
                yield Behaviour(**record.key._asdict(), digest=digest, ran=True, right=right, probes=1)

    def _judged(
        self, records: Sequence[Record], choices: Sequence[Choices]
    ) -> Iterator[tuple[Record, Question, dict[str, Any], Any]]:
        """(record, its question, lm-eval's values, the filtered answer or None where there is no answer to judge)."""
        greedy = {c.problem: c.greedy for c in choices}
        by_task: dict[str, list[tuple[Record, Question, list[list[Response]]]]] = {}
        for record in records:
            question = self._by_id[record.problem]
            responses = self._responses(record, question, greedy.get(record.problem))
            if responses is None:
                yield record, question, {}, None
            else:
                by_task.setdefault(question.task, []).append((record, question, responses))
        for name, answered in by_task.items():
            by_filter = judged(self._loaded.tasks[name], [(q, r) for _, q, r in answered])
            judgements = by_filter.get(self._judging[name].filter) or next(iter(by_filter.values()))
            for (record, question, _), (values, seen) in zip(answered, judgements, strict=True):
                yield record, question, values, seen

    def _responses(self, record: Record, question: Question, greedy: list[list[bool]] | None) -> list[list[Response]] | None:
        """The responses of one sample for lm-eval; None where there are none."""
        if record.failure and record.choice is None:
            return None
        if question.kind == "written":
            return written(question, self._loaded.tasks[question.task], record.graded)
        if question.kind == "fixed":
            return None if greedy is None else [[(-1.0, greedy[record.member][0])]]
        return None if record.choice is None else chosen(question, record.choice)

    def own_scores(self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int) -> dict[str, object]:
        """lm-eval's results of each member, from the log-probabilities of `choices` and the texts of `records`.

        {"harness": ..., "members": [{task or group: {"acc,none": ..., "acc_stderr,none": ..., "sample_len": ...}}]}. Each of
        a member's r = n / members answers to a generated task is a run of its own, and the values are means over these runs;
        where the task itself has r repeats, the answers are its repeats. An answer that failed counts as the text that it has,
        mostly none; documents without log-probabilities are left out. Where a function of the task fails, its value is None,
        and `failed` says why: {"task,metric,filter": reason}.
        """
        known = {c.problem: c for c in choices}
        texts = {r.key: r.graded for r in records}
        draws = max(1, n // members)
        tables, failed = [], dict[str, str]()
        for member in range(members):
            runs = [self._member(known, texts, member, draw, draws) for draw in range(draws)]
            scored = [own_scores(self._loaded, run, self._options.bootstrap) for run in _different(runs)]
            tables.append(mean_of([one.table for one in scored]))
            for one in scored:
                failed |= one.failed
        return {"harness": library.harness(), "members": tables, **({"failed": failed} if failed else {})}

    def _member(
        self, choices: Mapping[str, Choices], texts: Mapping[Key, str], member: int, draw: int, draws: int
    ) -> dict[str, list[tuple[Question, list[list[Response]]]]]:
        """The responses of one member's draw for lm-eval, by task."""
        seen: dict[str, list[tuple[Question, list[list[Response]]]]] = {}
        for question in self._plain:
            place = question.problem.id
            if question.kind == "written":
                task = self._loaded.tasks[question.task]
                repeats = draws > 1 and (task.get_config("repeats") or 1) == draws
                keys = [Key(place, member, d) for d in (range(draws) if repeats else [draw])]
                if any(key not in texts for key in keys):
                    continue
                got: list[list[Response]] = [[texts[k] for k in keys]] if repeats else written(question, task, texts[keys[0]])
            elif place in choices:
                row = choices[place]
                got = [[pair] for pair in zip(row.logprobs[member], row.greedy[member], strict=True)]
            else:
                continue
            seen.setdefault(question.task, []).append((question, got))
        return seen


def _different(runs: Sequence[Any]) -> Sequence[Any]:
    """`runs`, or only the first where all are equal, because log-probabilities do not depend on the draw."""
    return runs[:1] if all(run == runs[0] for run in runs) else runs


def _told(question: Question, record: Record, seen: object) -> str:
    """The reason why an answer is wrong, for a reader."""
    if question.kind == "fixed":
        return f"greedy decoding does not write {_short(question.gold)}"
    answer = question.options[record.choice].strip() if record.choice is not None and question.options else _one(seen)
    return f"answered {_short(answer)}, not {_short(question.gold)}"


def _one(seen: object) -> object:
    return seen[0] if isinstance(seen, list) and len(seen) == 1 else seen


def _short(value: object) -> str:
    return shortened(repr(value), _SHORT, "…")


def template_of(model: _Chat) -> Template:
    """The function from lm-eval's messages to text: the model's chat template, as lm-eval's own model applies it."""

    def render(history: Sequence[Mapping[str, str]]) -> str:
        turns = [(m["role"], m["content"]) for m in history]
        try:
            return model.as_chat(turns)[0]
        except ModelError:
            without = [turn for turn in turns if turn[0] != "system"]
            if without == turns:
                raise
            return model.as_chat(without)[0]

    return render


def load(card: TaskCard) -> LmEvalTask:
    """The task of `card`. Raises UsageError, CardError or DataError.

    The card's `version`, where it has one, is that of lm-eval's task, with or without that of lm-eval; another one is an
    error.
    """
    options = card.options_as(LmEvalOptions)
    places = [DataPlace(expanded(p), asked=True) for p in options.local]
    for place in places:
        if not place.path.exists():
            raise DataError(f"options.local names {str(place.path)!r}, and there is no such file or folder")
    if not places and (folder := data_folder()):
        places = [DataPlace(folder, asked=False)]
    task = LmEvalTask(card, library.load(options, tuple(places)))
    if card.version and card.version not in {task.version, task.version.partition(";")[0]}:
        raise UsageError(
            f"task {card.name!r} wants version {card.version!r}, and here it is {task.version!r}; install that lm-eval, or "
            f"change the card's version"
        )
    here = task.describe()["problems_hash"]
    if options.hash and options.hash != here:
        raise DataError(
            f"task {card.name!r} wants problems with the hash {options.hash}, and those here ({task.found}) have {here}: they "
            f"are other problems, or asked otherwise"
        )
    return task
