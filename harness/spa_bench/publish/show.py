"""Samples of a run as text: a list of problems, or one problem's answers side by side."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from spa_bench.compare.leaderboard.choices import CHOICE_COLUMNS, chance_note
from spa_bench.errors import UsageError
from spa_bench.metrics.choices import best
from spa_bench.runs.folder import SANITISERS, RunFolder, from_elsewhere, problem_count
from spa_bench.runs.measure import own_means
from spa_bench.runs.origins import embedding_mark
from spa_bench.runs.partial import covered
from spa_bench.support.text import did_you_mean
from spa_bench.tasks.base import Options, Task
from spa_bench.types import Choices, Grade, Key, Record, Verdict

_REASONS = 3  # reasons of a kind that the line which ends a run names; the file that it names has all
_MARKS = {  # a grade's mark -> its meaning, in the line that ends a run
    "one process": "judged in one process with the tests, which a program could cheat",
    "no text": "without a text",
    "no verdict": "about which a reply of the judge holds no verdict (judgements.jsonl)",
    "unproxied": "refused: values cannot cross between program and tests (docs/explanation/security.md)",
}


def show(folder: RunFolder, task: Task, problem: str | None) -> str:
    """The text that `spa-bench show` prints. Raises UsageError for a problem that the run does not have.

    Where samples or verdicts are missing, the last line says how to resume the run.
    """
    records = sorted(folder.records().values(), key=lambda r: (r.member, r.draw))
    grades = folder.grades()
    ids = [p.id for p in task.problems if any(r.problem == p.id for r in records)]
    if problem is None:
        rows = [[i, *_counts([r for r in records if r.problem == i], grades)] for i in ids]
        listed = [tabulate(rows, ["problem", "samples", "passed", "different texts", "verdicts"])] if rows else []
        listed += [f"\n{table}"] if (table := choices_table([folder])) else []
        return "\n".join([*listed, *_unfinished(folder, task, records, grades)])
    if problem not in ids:
        if problem in {p.id for p in task.problems[: folder.spec["limit"]]}:
            for how in _unfinished(folder, task, records, grades):
                raise UsageError(f"there is no sample of {problem!r} yet: {how}")
            raise UsageError(f"there is no sample of {problem!r}: the run is of {len(ids)} of {len(task.problems)} problems")
        raise UsageError(
            f"the run has no problem {problem!r}{did_you_mean(problem, ids)}"
            if len(ids) < 9
            else f"the run has no problem {problem!r}; it has {ids[0]} to {ids[-1]}"
        )
    mine = [r for r in records if r.problem == problem]
    prompt = next(p.prompt for p in task.problems if p.id == problem)
    choice_options = next((a for a in task.options(folder.spec["limit"]) if a.problem_id == problem), None)
    chosen = next((c for c in folder.choice_log.rows() if c.problem == problem), None)
    options = f"\n{_options(choice_options, chosen)}\n" if choice_options and chosen else ""
    text = _safe(prompt) + "\n" + options + side_by_side(mine, grades)
    return "\n\n".join([text, *_unfinished(folder, task, records, grades)])


def _options(asked: Options, chosen: Choices) -> str:
    """A line for each option: its text, and each member's log-probability for it, with a star where the member chooses it."""
    taken = best(np.array(chosen.logprobs)[:, : asked.choices])
    rows = []
    for number, text in enumerate(asked.texts):
        each = [f"{row[number]:.3f}{'*' * (taken[k] == number)}" for k, row in enumerate(chosen.logprobs)]
        rows.append([number, _safe(text), *each])
    head = ["option", "text", *(f"member {k}" for k in range(len(chosen.logprobs)))]
    return tabulate(rows, head, disable_numparse=True, preserve_whitespace=True)


def _unfinished(folder: RunFolder, task: Task, records: Sequence[Record], grades: Mapping[Key, Grade]) -> list[str]:
    """A line if samples are missing, as after a killed run or in a truncated file, and a line if verdicts are missing."""
    spec, lines = folder.spec, []
    each = Counter(r.problem for r in records)
    problems = covered(spec, task.problems, each)
    few = sum(each[p.id] < (spec["n"] or 1) for p in problems) + problem_count(spec) - len(problems)
    if few:
        command = "score" if from_elsewhere(spec) else "run"
        wanted = f" of {problem_count(spec) * spec['n']}" if spec["n"] else ""
        lines.append(
            f"unfinished: {len(records)}{wanted} samples are there, {few} problems lack some; "
            f"the same `spa-bench {command}` again, with --out {shlex.quote(str(folder.path))}, resumes it"
        )
    if left := sum(r.key not in grades for r in records):
        lines.append(f"{left} samples are not graded; grade them with: spa-bench grade {shlex.quote(str(folder.path))}")
    return lines


def ending(folder: RunFolder) -> str:
    """The end of a graded run in one line: counts of verdicts, and of samples by what went wrong."""
    content = folder.metrics()
    verdicts = ", ".join(f"{count} {name}" for name, count in content["verdicts"].items())
    odd = [f"{content['counts']['truncated']} cut by the length limit"] if content["counts"]["truncated"] else []
    notes = content.get("notes", {})
    unable = sum(content["finish"].get(kind, 0) for kind in ("skipped", "failed")) - content["counts"]["failed"]
    unable -= sum(notes.values())  # they say the cause, but not in runs of before
    odd += [f"{unable} with a choice but no text behind it"] if unable > 0 else []
    odd += _reasons("without an answer", ": ", content["failures"])
    odd += _reasons("with an answer", ", but ", notes)
    odd += _reasons("refused", ": ", _refusals(folder, content), file="grades.jsonl")
    odd += [f"{content['counts']['invalid']} that are no program"] if content["counts"]["invalid"] else []
    odd += [f"{count} {_MARKS[mark]}" for mark, count in content["marks"].items()]
    if compared := folder.read_json(SANITISERS):
        odd.append(_sanitisers(compared))
    odd += [mark] if (mark := embedding_mark(folder.spec.get("embedding", {}))) else []
    name = f"{folder.spec['sampler']['name']}, seed {folder.spec['seed']}"
    return f"{name}: {verdicts}{'; ' + '; '.join(odd) if odd else ''}  ({folder.path})"


def nothing_judged(folder: RunFolder) -> bool:
    """Whether every answer of a graded run was refused: then its metrics say nothing of the sampler."""
    return set(folder.metrics()["verdicts"]) == {Verdict.REFUSED}


def _reasons(what: str, link: str, counts: Mapping[str, int], file: str = "metrics.json") -> list[str]:
    """The most frequent reasons, each with its number of answers, and how many answers have others, where these are several."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    rest = [count for _, count in ordered[_REASONS:]]
    more = [f"{sum(rest)} {what} for {len(rest)} more reasons ({file})"] if len(rest) > 1 else []
    return [f"{count} {what}{link}{why}" for why, count in ordered[: _REASONS if more else None]] + more


def _refusals(folder: RunFolder, content: Mapping[str, Any]) -> Counter[str]:
    """The answers by reason that are there and were refused without a mark."""
    if content["verdicts"].get(Verdict.REFUSED, 0) <= sum(content["failures"].values()):
        return Counter()
    refused = (g for g in folder.grade_log.each() if g.verdict is Verdict.REFUSED and not g.mark)
    return Counter(g.message for g in refused if g.message not in content["failures"])


def _sanitisers(content: Mapping[str, Any]) -> str:
    """What sanitisers.json holds, in words."""
    compared = (
        f"{content['compared']} answers"
        if content["compared"] == content["answers"]
        else (f"the first {content['compared']} of {content['answers']} answers")
    )
    mine, theirs = (content["pass@1"][name] for name in ("program", "evalplus"))
    values = f": pass@1 {mine:.4f} with the default one, {theirs:.4f} with evalplus'" if content["compared"] else ""
    return f"evalplus' sanitiser gives another program for {content['differ']} of {compared}{values}"


def choices_table(folders: Sequence[RunFolder]) -> str:
    """The multiple-choice results of graded runs, one line for each run, and the scores of the library behind the task.

    All columns are means over the problems with choices, so that they can be compared with guessing on the same problems.
    The text is empty where no problem is multiple choice and no library has scores.
    """
    contents = [(folder, folder.read_json("metrics.json") or {}) for folder in folders]
    with_choices = [(f, c) for f, c in contents if "agreement[choices]" in c.get("estimates", {})]
    rows = [[_label(f), *_of_choices(c)] for f, c in with_choices]
    parts = [tabulate(rows, ["sampler", "problems", *CHOICE_COLUMNS], disable_numparse=True)] if rows else []
    made = [(_label(f), f.spec, c["estimates"].get("distinct[choices]", {}).get("value")) for f, c in with_choices]
    if note := chance_note(made):
        parts.append(note)
    for folder, content in contents:
        if "own_scores" in content:
            parts.append(f"{_label(folder)}, by {content['own_scores']['harness']}'s own scoring:\n{own_table(content)}")
    return "\n\n".join(parts)


def _of_choices(content: Mapping[str, Any]) -> list[str]:
    """How many problems have choices, and the mean of each column over them."""
    estimates: Mapping[str, Mapping[str, Any]] = content["estimates"]
    means = [estimates[name]["value"] if name in estimates else None for name in CHOICE_COLUMNS.values()]
    return [str(estimates["any_of_n[chance]"]["n"]), *("-" if mean is None else f"{mean:.4g}" for mean in means)]


def own_table(content: Mapping[str, Any]) -> str:
    """The scores of the library behind the task, from metrics.json: a line for each task and metric, with mean and members."""
    members = content["own_scores"]["members"]
    rows = []
    for name, mean in own_means(content["own_scores"]).items():
        task, metric = name.removeprefix("own[").removesuffix("]").split(",", 1)
        each = [f"{scores[task][metric]:.4f}" for scores in members] if len(members) > 1 else []
        rows.append([task, metric, f"{mean:.4f}", *each])
    head = ["task", "metric", "mean" if len(members) > 1 else "value"]
    table = tabulate(rows, [*head, *(f"member {k}" for k in range(len(members)) if len(members) > 1)], disable_numparse=True)
    return "\n".join([table, *failed_lines(content["own_scores"])])


def failed_lines(own_scores: Mapping[str, Any]) -> list[str]:
    """A line for each score of the library that is missing because a function of the task failed."""
    return [f"no value: {why}" for why in dict.fromkeys(own_scores.get("failed", {}).values())]


def _label(folder: RunFolder) -> str:
    return f"{folder.spec['sampler']['name']}, seed {folder.spec['seed']}"


def side_by_side(records: Sequence[Record], grades: dict[Key, Grade], width: int | None = None) -> str:
    """Answers in as many columns as fit; member, verdict and message are above each answer."""
    width = width or shutil.get_terminal_size((120, 40)).columns
    per_row = max(1, min(len(records), width // 44))
    cell = max(30, width // per_row - 3)
    blocks = []
    for start in range(0, len(records), per_row):
        part = records[start : start + per_row]
        heads, bodies = [], []
        for r in part:
            grade = grades.get(r.key)
            verdict = "not graded" if grade is None else str(grade.verdict)
            chose = "" if r.choice is None else f", option {r.choice}"
            heads.append(f"member {r.member}, draw {r.draw}{chose}: {verdict}")
            lines = _within(r.graded, cell)
            for text in _details(grade) if grade else ():
                lines += ["", *textwrap.wrap(_safe(text), cell)]
            if r.reply:
                lines += ["", "in the reply:", *_within(r.reply, cell)]
            bodies.append(lines)
        height = max(map(len, bodies))
        rows = [heads, ["-" * len(h) for h in heads], *[[b[i] if i < len(b) else "" for b in bodies] for i in range(height)]]
        blocks.append("\n".join(" | ".join(c.ljust(cell) for c in row).rstrip() for row in rows))
    return "\n\n".join(blocks)


def _within(text: str, width: int) -> list[str]:
    """The lines of `text`, none of them longer than `width`."""
    return [w for line in _safe(text).split("\n") for w in (textwrap.wrap(line, width, drop_whitespace=False) or [""])]


def _details(grade: Grade) -> list[str]:
    """Why the answer failed, the first call that failed, and what is unusual about the verdict."""
    where = f"{grade.suite} tests, " if grade.suite else ""
    texts = [grade.message, f"{where}first failing call: ({grade.call})" if grade.call else "", grade.mark]
    return [text for text in texts if text]


def _counts(records: Sequence[Record], grades: dict[Key, Grade]) -> tuple[int, int | str, int, str]:
    verdicts = [str(grades[r.key].verdict) if r.key in grades else "not graded" for r in records]
    summary = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts)))
    passed = "-" if str(Verdict.UNJUDGED) in verdicts else verdicts.count("passed")  # neither right nor wrong
    return len(records), passed, len({r.graded.strip() for r in records}), summary


def _safe(text: str) -> str:
    """`text` without control characters: a model's answer must not drive the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else " " * 4 if c == "\t" else "\ufffd" for c in text)
