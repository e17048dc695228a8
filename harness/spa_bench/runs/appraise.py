"""What grading asks of models where answers are neither right nor wrong: a judge's replies, and embeddings.

The judge's replies are kept in the run folder: judgements.jsonl has every question's reply and the verdict that was read in it,
judge.json the model that gave them. A question is asked once, also where grading was stopped and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.reading import parse_overrides
from spa_bench.cards.task import TaskCard
from spa_bench.errors import StoreError, UsageError
from spa_bench.grading import Behaved, Outcome, Program
from spa_bench.models.base import Model, dollars
from spa_bench.runs.engines import HF, Chosen, chosen_engine
from spa_bench.runs.folder import JUDGE, RunFolder
from spa_bench.runs.judge_model import JudgeQuestion, replies
from spa_bench.runs.log import append
from spa_bench.runs.origins import classes_mark
from spa_bench.runs.reopen import ModelOptions, load_embedder, load_unloaded, loaded_with
from spa_bench.runs.timing import JUDGE_SPENT, counted, spent_on
from spa_bench.support.console import Reporter
from spa_bench.support.interrupt import pause_point
from spa_bench.support.text import utf8
from spa_bench.tasks.judgement import Judgement
from spa_bench.tasks.open_ended.asking import JudgeModel, Question
from spa_bench.tasks.open_ended.options import OpenOptions
from spa_bench.types import Record

_AGAIN = "to judge all answers again, remove judge.json, judgements.jsonl, grades.jsonl and behaviours.jsonl"


class Described(Protocol):
    """The part of a model that says what it is."""

    def describe(self) -> dict[str, object]:
        """Its name and hash."""
        ...

    def numerics(self) -> dict[str, object]:
        """Everything that can change the last digits."""
        ...


class RunAppraiser:
    """See spa_bench.tasks.open_ended.asking.Appraiser: it loads a model when one is asked, and `close` frees it.

    It takes the place of a judge of programs, of which there are none.
    """

    def __init__(self, folder: RunFolder, console: Reporter):
        self._folder, self._console = folder, console
        self._judge: Model | None = None
        self._vectors: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def records(self) -> Sequence[Record]:
        """See Appraiser.records."""
        return self._folder.record_log.rows()

    @cached_property
    def _known(self) -> dict[str, Judgement]:
        """The replies that are there, by key."""
        return {row.key: row for row in self._folder.judgement_log.rows()}

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        """There are no programs."""
        raise AssertionError("a task whose answers are no programs asked for a judge")

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        """There are no programs."""
        raise AssertionError("a task whose answers are no programs asked for a judge")

    def judgements(self, questions: Sequence[Question], judge: JudgeModel) -> list[Judgement]:
        """See Appraiser.judgements. Raises StoreError where another judge gave the replies that are there."""
        keys = [_row(one, "", 0).key for one in questions]
        new = [(key, one) for key, one in zip(keys, questions, strict=True) if key not in self._known]
        if new:
            model = self._loaded(judge)
            with self._console.stage("judge") as progress, counted(self._folder, model, JUDGE_SPENT):
                rows = self._asked(model, [one for _, one in new], judge)
                append(self._folder.judgement_log, rows, 0, len(new), progress)
            del self._known  # it is read again, with the new rows
            self._console.note(
                f"judge: {len(new)} replies, {sum(self._known[key].tokens for key, _ in new)} tokens{self._price()}"
            )
        return [self._known[key] for key in keys]

    def vectors(self, texts: Sequence[str], embedder: str) -> list[NDArray[np.float32]]:
        """See Appraiser.vectors."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            model = load_embedder(embedder)
            self._remember("embedder", model)
            problems = list(dict.fromkeys(record.problem for record in self.records))
            if mark := classes_mark(embedder, self._folder.spec["task"], problems):
                self._console.note(mark)
            with self._console.stage("embeddings of answers") as progress:
                for done, (text, vector) in enumerate(zip(new, model.embed(new), strict=True), 1):
                    self._vectors[text] = vector
                    progress(done, len(new))
                    pause_point()
        return [self._vectors[text] for text in texts]

    def close(self) -> None:
        """Free the judge, where one was loaded."""
        if self._judge is not None:
            self._judge.close()
            self._judge = None

    def _price(self) -> str:
        """The price of all replies that were paid for, with those of earlier parts; "" where there is none."""
        cost = spent_on(self._folder, JUDGE_SPENT).cost
        return "" if cost is None else f"; {dollars(cost)} so far"

    def _loaded(self, judge: JudgeModel) -> Model:
        if self._judge is None:
            engine = _engine_of(judge.name, judge.engine, judge.settings)
            # threads are of the whole process: a run that still draws must not get others
            options = ModelOptions(threads=self._folder.spec["numerics"].get("threads"))
            self._judge = loaded_with(engine, judge.name, options, spent_on(self._folder, JUDGE_SPENT))
            self._remember("judge", self._judge)
        return self._judge

    def _remember(self, who: str, model: Described) -> None:
        """Write which model is the judge or the embedder. Raises StoreError where the replies that are there are another's."""
        before, now = self._folder.read_json(JUDGE) or {}, model.describe()
        if who == "judge" and who not in before and self._known:
            where = self._folder.path / JUDGE
            raise StoreError(f"{where} is missing, so nobody knows whose replies judgements.jsonl has; {_AGAIN}")
        if who in before and before[who] != now:
            was, here = (f"{one.get('name')!r} (hash {one.get('hash')})" for one in (before[who], now))
            raise StoreError(f"{self._folder.path / JUDGE}: the {who} was {was}, and is {here} now; {_AGAIN}")
        self._folder.write_json(JUDGE, {**before, who: now, f"{who}_numerics": model.numerics()})

    def _asked(self, model: Model, questions: Sequence[Question], judge: JudgeModel) -> Iterator[Judgement]:
        """The replies of `model`, in any order, greedily drawn. One that it cannot give holds no verdict, and says why."""
        asked = [
            JudgeQuestion(
                problem=one.problem, draw=one.draw, text=utf8(one.text), about=(one.asks, one.problem, one.first, one.second)
            )
            for one in questions
        ]
        for place, reply in replies(model, asked, judge.tokens):
            drawn = reply.tokens if reply.spent is None else reply.spent
            one = _row(questions[place], reply.text, drawn)
            # such as a question that does not fit the context
            yield replace(one, reply=f"no reply: {reply.failure}", said="") if reply.failure else one
            pause_point()


def check_appraisal(card: TaskCard) -> None:
    """Raises a SpaBenchError where the judge or the embedder of a task cannot be had, as far as shows without its weights.

    What a run has drawn is of a spec that names them, so that another one would have to draw again.
    """
    if not isinstance(card.options, OpenOptions):
        return
    options = card.options
    if options.equivalence == "embedding":
        load_embedder(options.embedder)
    if options.asks:
        engine = _engine_of(options.judge, options.judge_engine, options.judge_settings)
        if engine.name == HF:
            load_unloaded(options.judge, ModelOptions())


def _engine_of(name: str, engine: str, settings: Sequence[str]) -> Chosen:
    """The engine of a judge. Raises UsageError for an unknown one, for its settings, and where it needs a model's name."""
    chosen = chosen_engine(engine, parse_overrides([f"engine.{one}" for one in settings]).engine)
    if not name and (said := chosen.needs_model()):
        raise UsageError(f"the judge: {said}; give --set task.options.judge=NAME")
    return chosen


def _row(question: Question, reply: str, tokens: int) -> Judgement:
    return Judgement(
        problem=question.problem,
        asks=question.asks,
        first=question.first,
        second=question.second,
        reply=reply,
        said=question.read(reply),
        tokens=tokens,
    )
