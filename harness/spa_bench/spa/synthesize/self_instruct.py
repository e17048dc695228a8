"""Self-Instruct (Wang et al. 2022, arXiv 2212.10560): new tasks from some that are shown, then the answer to each.

1. The model is shown `shown` tasks in random order: at most `own` of earlier pairs, the others targets (8, of which 2 are the
   model's own, in the paper), and is asked for `asked` new ones.
2. A task whose ROUGE-L with a target, an earlier pair or an earlier task of the round is `rouge` or more falls (0.7 in the
   paper), and so do those on images and files, as there.
3. The model is asked for the answer to each of the others.

The paper has base models continue the list; instruct models are asked in words here. Its step between, which tells tasks of
classification apart and has their inputs made after their labels, is left out: every task is its own input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spa_bench.cards.templates import filled_in, template_file
from spa_bench.samplers.asking.case import Reply
from spa_bench.samplers.asking.checks import is_share, is_temperature, within
from spa_bench.samplers.asking.reading import items_in
from spa_bench.spa.data.near import Words, words_of
from spa_bench.spa.synthesize.asking import Asking, Writer, check_chat, shown
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting, SynthesisKind
from spa_bench.support.thoughts import without_thoughts
from spa_bench.types import Example

_BEYOND = re.compile(r"\b(images?|pictures?|graphs?|files?|photos?|draw|plot|video|audio|music)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SelfInstructOptions:
    """The options of self-instruct."""

    shown: int = 8  # [tasks] in one prompt
    own: int = 2  # [tasks] of these, at most, that are of earlier pairs
    asked: int = 4  # [tasks] that one reply is to give
    round: int = 8  # [replies] that are asked for together; a stopped synthesis loses at most these and their answers
    rouge: float = 0.7  # [ROUGE-L, above 0 to 1] with a known task, from which on a new one falls
    temperature: float = 0.8  # [0 upward] of the model that writes
    top_p: float = 0.95  # [share, above 0 to 1]
    max_new_tokens: int = 1024  # [tokens] the most of a reply
    system: str = ""  # a system message before each question; "": none
    template: str = template_file("self-instruct", needs="examples", may="n")  # what is asked for new tasks
    answer: str = template_file("self-instruct-answer", needs="instruction", may="examples")  # what is asked for an answer

    def __post_init__(self) -> None:
        is_temperature(self.temperature)
        is_share(top_p=self.top_p, rouge=self.rouge)
        within(1, None, shown=self.shown, asked=self.asked, round=self.round, max_new_tokens=self.max_new_tokens)
        within(0, self.shown - 1, own=self.own)


class SelfInstruct:
    """See Synthesizer."""

    def __init__(self, setting: Setting):
        self._options, self._targets = setting.card.options_as(SelfInstructOptions), setting.targets
        o = self._options
        how = Asking(temperature=o.temperature, top_p=o.top_p, max_new_tokens=o.max_new_tokens, system=o.system)
        self._writer = Writer(setting, how)

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        """See Synthesizer.prepare: there is nothing to do."""
        return Prepared(facts={}, round=self._round)

    def _round(self, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        """See Prepared.round."""
        choices = self._writer.choices("self-instruct", number)
        examples = [shown(self._some(choices, pairs), "Task", "Answer") for _ in range(self._options.round)]
        words = [filled_in(self._options.template, {"examples": text, "n": self._options.asked}) for text in examples]
        replies = self._writer.ask("self-instruct", number, words)
        pool = [words_of(pair.prompt) for pair in (*self._targets, *pairs)]
        drafts, asked = self._tasks(replies, examples, pool)
        answers = self._writer.ask("self-instruct-answer", number, [question for _, question in asked])
        replied = {place: reply for (place, _), reply in zip(asked, answers, strict=True)}
        for place, draft in enumerate(drafts):
            yield _answered(draft, replied[place]) if place in replied else draft

    def _some(self, choices: np.random.Generator, pairs: Sequence[Example]) -> list[Example]:
        """Targets and earlier pairs for one prompt, in random order."""
        own = min(self._options.own, len(pairs))
        from_targets = min(self._options.shown - own, len(self._targets))
        some = [self._targets[i] for i in choices.choice(len(self._targets), from_targets, replace=False)]
        some += [pairs[i] for i in choices.choice(len(pairs), own, replace=False)] if own else []
        return [some[i] for i in choices.permutation(len(some))]

    def _tasks(
        self, replies: Sequence[Reply], examples: Sequence[str], pool: list[Words]
    ) -> tuple[list[Draft], list[tuple[int, str]]]:
        """(a draft for each new task, (place, question) of those that are to be answered); new ones enter `pool`."""
        drafts, asked = list[Draft](), list[tuple[int, str]]()
        for reply, text in zip(replies, examples, strict=True):
            tasks, cut = _tasks_of(reply, self._options.asked)
            if not tasks:
                why = reply.failure or "the reply has no task"
                drafts.append(Draft(text=reply.text, failure=why, tokens=reply.tokens))
            for i, task in enumerate(tasks):
                words, tokens = words_of(task), reply.tokens * (i == 0)  # a reply counts once
                why = "it asks for what a text cannot give" if _BEYOND.search(task) else ""
                if any(rouge_l(words, other) >= self._options.rouge for other in pool):
                    why = f"ROUGE-L with a known task is {self._options.rouge:g} or more"
                if cut and i == len(tasks) - 1:
                    why = "the task was cut at the limit of its reply"
                if not why:
                    pool.append(words)
                    asked.append((len(drafts), filled_in(self._options.answer, {"instruction": task, "examples": text})))
                drafts.append(Draft(text=task, failure=why, tokens=tokens))
        return drafts, asked


def _tasks_of(reply: Reply, most: int) -> tuple[list[str], bool]:
    """(at most `most` tasks of a reply, whether it ended at its limit in the last of them)."""
    if reply.failure:
        return [], False
    found = tasks_in(reply.text, most + reply.cut)
    return found[:most], reply.cut and len(found) <= most


def tasks_in(reply: str, most: int) -> list[str]:
    """At most `most` tasks of a reply: what stands under headings `Task 9`, else the items of a list.

    An answer that the reply gives under a heading of its own is no part of a task.
    """
    head = re.compile(r"[#*_ \t]*(task|answer)[ \t]*#?\d*[*_ \t]*[:.]?[*_ \t]*", re.IGNORECASE)
    found: list[list[str]] = []
    inside = False
    for line in without_thoughts(reply).splitlines():
        match = head.match(line)
        if match and (match.end() == len(line) or match[0].strip()[-1:] in {":", ".", "*"}):
            inside = match[1].lower() == "task"
            if inside:
                found.append([line[match.end() :]])
        elif inside:
            found[-1].append(line)
    tasks = ["\n".join(lines).strip() for lines in found]
    return ([task for task in tasks if task] if found else items_in(reply, most))[:most]


def _answered(draft: Draft, reply: Reply) -> Draft:
    """The draft of a task with the reply to it."""
    text, tokens = f"{draft.text}\n\n{reply.text}", draft.tokens + reply.tokens
    if reply.failure or reply.finish == "length":
        why = reply.failure or "the answer was cut at its limit"
        return Draft(text=text, failure=f"answer: {reply.failure}" if reply.failure else why, tokens=tokens)
    return Draft(text=text, example=Example(draft.text, without_thoughts(reply.text).strip()), tokens=tokens)


def rouge_l(one: Words, other: Words) -> float:
    """ROUGE-L (Lin 2004): the F1 of the longest common subsequence of words, 0 to 1; 0 where a text has no word.

    It is that of rouge-score without stemming, for texts whose words are of ASCII letters and digits.
    """
    if not one or not other:
        return 0.0
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for j, against in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if word == against else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(one) + len(other))


KIND = SynthesisKind(build=SelfInstruct, options=SelfInstructOptions, check_model=check_chat, shape="instruction", targets=2)
