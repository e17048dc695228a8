"""Answers judged by lm-eval itself: filters, process_results, aggregation, standard errors and the weighting of groups."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from spa_bench.errors import DataError, UsageError
from spa_bench.support.text import one_line
from spa_bench.tasks.lm_eval.asking import Question
from spa_bench.tasks.lm_eval.library import Loaded, quiet, seeded, told

_MOST_SHOWN = 60  # characters of a value in a message
_FAR = -1000.0  # nats by which the other options lie below the chosen one
Response = str | tuple[float, bool]
"""A text, or (log-probability in nats, whether greedy decoding writes it)."""


def chosen(question: Question, choice: int) -> list[list[Response]]:
    """Responses, a list for each option, from which lm-eval takes `choice` as the model's answer."""
    count = len(question.options)
    # options after those that can be chosen are unconditional (acc_mutual_info); equal values have no effect
    return [[(0.0 if i == choice or i >= count else _FAR, i == choice)] for i in range(len(question.instances))]


def written(question: Question, task: Any, text: str) -> list[list[Response]]:
    """Responses for one text; a task with repeats gets the same text each time."""
    return [[text] * (task.get_config("repeats") or 1)]


def judged(
    task: Any, asked: Sequence[tuple[Question, list[list[Response]]]]
) -> dict[str, list[tuple[dict[str, Any], list[Any]]]]:
    """Filter -> (lm-eval's values of a document, its filtered responses) in order, for documents of one task.

    The documents are those of the requests and are not read again, because a task may shuffle choices when it reads.
    """
    instances = [
        [replace(i, resps=list(r), filtered_resps={}) for i, r in zip(q.instances, responses, strict=True)]
        for q, responses in asked
    ]
    name = asked[0][0].task
    with quiet(), seeded():
        task._instances = [i for of in instances for i in of]
        with _named(f"the filters of {name}"):
            task.apply_filters()
        results: dict[str, list[tuple[dict[str, Any], list[Any]]]] = {}
        for filter_name in instances[0][0].filtered_resps:
            results[filter_name] = []
            for (question, _), of in zip(asked, instances, strict=True):
                with _named(f"process_results of {name}, on {question.problem.id}"):
                    if seen := [i.filtered_resps[filter_name] for i in of]:
                        results[filter_name].append((dict(task.process_results(of[0].doc, seen)), seen))
    return results


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Within the block, whatever a task's own functions raise becomes a DataError that says which function of which task."""
    try:
        yield
    except (Exception, SystemExit) as error:  # the tasks' own functions raise anything
        raise DataError(f"lm-eval's scoring fails in {what}: {told(error)}") from error


class Judging:
    """The number of lm-eval that decides whether an answer to a task is right."""

    def __init__(self, task: Any, question: Question, wanted: str):
        self.filter = _filter(task, question.task, wanted) if question.kind == "written" else "none"
        self.metric = _metric(task, question, self.filter)

    def passed(self, values: Mapping[str, Any], problem: str) -> bool:
        """Whether an answer with these values is right. Raises DataError where it is neither right nor wrong."""
        value = values.get(self.metric)
        if not _is_verdict(value):
            raise DataError(f"lm-eval's {self.metric} of an answer to {problem} is {value!r}, neither right (1) nor wrong (0)")
        return bool(value)


def _filter(task: Any, name: str, wanted: str) -> str:
    known = [f.name for f in task._filters]
    if wanted and wanted not in known:
        raise UsageError(f"{name} has no filter {wanted!r}; options.filter can be {' or '.join(map(repr, known))}")
    return wanted or known[0]


def _metric(task: Any, question: Question, name: str) -> str:
    """The metric that decides: acc, exact_match, or the first of the task's that is 0 or 1 for right and wrong answers.

    A metric of which less is better (a share of stereotypes, of insults) calls no answer right.
    """
    if question.kind == "choice":
        trials = [chosen(question, i) for i in range(len(question.options))]
    elif question.kind == "fixed":
        trials = [[[(-1.0, greedy)]] for greedy in (True, False)]
    else:
        texts = (question.gold, f"{question.gold} and more of it", "")
        trials = [written(question, task, text) for text in texts]
    by_filter = judged(task, [(question, trial) for trial in trials])
    values = [v for v, _ in by_filter.get(name) or next(iter(by_filter.values()))]
    names: dict[str, None] = dict.fromkeys(["acc", "exact_match", *task.aggregation(), *values[0]])
    of_faults = {metric for metric, more in task.higher_is_better().items() if more is False}
    for metric in names:
        if metric not in of_faults and all(_is_verdict(v.get(metric)) for v in values):
            return metric
    raise UsageError(
        f"{question.task} has no metric that calls an answer right or wrong (it has "
        f"{', '.join(_named_fault(m, of_faults) for m in values[0]) or 'none'}), so no sample of it has a verdict"
    )


def _named_fault(metric: str, of_faults: set[str]) -> str:
    return f"{metric}, of which less is better" if metric in of_faults else metric


def _is_verdict(value: Any) -> bool:
    try:
        return value is not None and float(value) in (0.0, 1.0)
    except (TypeError, ValueError):  # f1 and mcc keep a pair of gold and prediction
        return False


@dataclass(frozen=True)
class OwnScores:
    """lm-eval's table of results."""

    table: dict[str, dict[str, Any]]  # {task or group: {"acc,none": value, "acc_stderr,none": value, "sample_len": n}}
    failed: dict[str, str]  # "task,metric,filter", or "task" where all its metrics are missing -> why


def own_scores(
    loaded: Loaded, responses: Mapping[str, Sequence[tuple[Question, list[list[Response]]]]], bootstrap: int
) -> OwnScores:
    """lm-eval's results of `responses` by task.

    lm-eval aggregates groups over their tasks in `responses`, with the group's weights. A value that is no number is None, and
    so is a metric whose own function fails, in its task and in every group above it.
    """
    kept: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, answered in responses.items():
        raw = defaultdict(list)
        try:
            of_filters = judged(loaded.tasks[name], answered)
        except DataError as error:
            failed[name] = str(error)
            continue
        for filter_name, values_of_filter in of_filters.items():
            for values, _ in values_of_filter:
                for metric, value in values.items():
                    raw[metric, filter_name].append(value)
        for metric, filter_name in list(raw):
            if why := _fails(loaded.tasks[name], metric, raw[metric, filter_name]):
                failed[f"{name},{metric},{filter_name}"] = f"{metric} of {name}: its aggregation {why}"
                del raw[metric, filter_name]
        kept[name] = {"task": loaded.tasks[name], "raw_metrics": raw, "logged_samples": []}
    results = _results(kept, loaded, bootstrap, failed)
    table = {name: {k: _plain(v) for k, v in values.items() if "," in k} for name, values in results.items()}
    table = {name: {**row, "sample_len": results[name].get("sample_len")} for name, row in table.items() if row}
    return OwnScores(_without_failed(table, loaded, failed), failed)


def _fails(task: Any, metric: str, values: list[Any]) -> str:
    """What is wrong with the task's aggregation of a metric's `values`; empty where it gives a number."""
    with quiet(), seeded():
        try:
            known = task.aggregation()  # lm-eval takes the mean of a metric that has none
            value = known[metric](list(values)) if metric in known else sum(values) / len(values)
        except (Exception, SystemExit) as error:  # the tasks' own functions raise anything
            return f"fails: {told(error)}"
    return "" if _plain(value) is not None else f"gives {one_line(repr(value), _MOST_SHOWN)}, which is no finite number"


def _results(kept: dict[str, Any], loaded: Loaded, bootstrap: int, failed: dict[str, str]) -> Mapping[str, Any]:
    """lm-eval's own results, without the values and the standard errors that fail, which `failed` then names.

    A function may aggregate all values and still fail on a resample that lacks a class, or when it is called again.
    """
    groups = dict(loaded.groups)
    found, _ = _aggregated(kept, groups, bootstrap)
    if found is not None:
        return found
    for (name, key), why in _failing(kept, 0).items():
        failed[",".join((name, *key))] = f"{key[0]} of {name}: its aggregation fails: {why}"
        del kept[name]["raw_metrics"][key]
    whole, why = _aggregated(kept, groups, 0)
    if whole is None:
        failed["all"] = f"lm-eval's aggregation fails: {why}"
        return {}
    hard = _failing(kept, bootstrap) if bootstrap else {}
    for (name, key), why in hard.items():
        failed[f"{name},{key[0]}_stderr,{key[1]}"] = f"{key[0]} of {name}: its standard error fails: {why}"
    rest = {
        name: {**one, "raw_metrics": {key: v for key, v in one["raw_metrics"].items() if (name, key) not in hard}}
        for name, one in kept.items()
    }
    part, _ = _aggregated(rest, groups, bootstrap)
    return {name: {**row, **_errors((part or {}).get(name, {}))} for name, row in whole.items()}


def _failing(kept: dict[str, Any], draws: int) -> dict[tuple[str, tuple[str, str]], str]:
    """(task, (metric, filter)) -> why, of those that lm-eval cannot aggregate alone."""
    found = {}
    for name, one in kept.items():
        for key, values in one["raw_metrics"].items():
            results, why = _aggregated({name: {**one, "raw_metrics": {key: values}}}, {}, draws)
            if results is None:
                found[name, key] = why
    return found


def _errors(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if "_stderr," in key}


def _aggregated(kept: dict[str, Any], groups: dict[str, Any], draws: int) -> tuple[Mapping[str, Any] | None, str]:
    """(lm-eval's results, or None where a function of a task fails; why)."""
    from lm_eval.evaluator_utils import _process_results

    with quiet(), seeded(), _one_process():
        try:
            return dict(_process_results(kept, groups, draws).metrics), ""
        except (Exception, SystemExit) as error:  # the tasks' own functions raise anything
            return None, told(error)


def _without_failed(table: dict[str, dict[str, Any]], loaded: Loaded, failed: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The table with None where a metric failed: lm-eval would aggregate a group over the tasks that are left."""
    above = {name: {name, *_groups_of(name, loaded)} for name in loaded.tasks}
    for key in failed:
        name, _, metric = key.partition(",")
        for place in above.get(name, set()) & table.keys():
            gone = [k for k in table[place] if "," in k and (not metric or _without_error(k) == metric)]
            table[place] |= dict.fromkeys(gone)
        if metric and name in table:
            table[name][metric] = None
    return table


def _groups_of(name: str, loaded: Loaded) -> set[str]:
    return {group for group, one in loaded.groups.items() if any(t.task_name == name for t in one.get_all_tasks())}


def _without_error(key: str) -> str:
    return key.replace("_stderr,", ",")


@contextmanager
def _one_process() -> Iterator[None]:
    """Within the block, lm-eval resamples in this process: the numbers are equal, and forking a process with torch can hang."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


def _plain(value: Any) -> Any:
    """A number for JSON, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):  # "N/A"
        return None
    return number if math.isfinite(number) else None


def mean_of(tables: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The mean of several tables of results, value by value; None where one table lacks it. A single table stays as it is."""
    if len(tables) == 1:
        return {name: dict(row) for name, row in tables[0].items()}
    keys: dict[str, dict[str, None]] = {}
    for table in tables:
        for name, row in table.items():
            keys.setdefault(name, {}).update(dict.fromkeys(row))
    return {name: {key: _mean([t.get(name, {}).get(key) for t in tables]) for key in row} for name, row in keys.items()}


def _mean(values: Sequence[Any]) -> Any:
    return None if any(v is None for v in values) else sum(values) / len(values)
