"""The [options] of a card of kind open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spa_bench.support.home import expanded
from spa_bench.support.hub import HUB

SHIPPED = "open-mini"  # the prompts that come with the package
_FILES = {"classes": "classes_hash", "scores": "scores_hash"}  # files about answers, and the options with their hashes
EQUIVALENCES = ("exact", "embedding", "judge", "file")
QUALITIES = ("none", "judge", "file")


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """The prompts, what makes two answers equal, and where their quality comes from."""

    prompts: str = ""  # a file of rows with id and prompt (.jsonl), "hub:NAME:SPLIT", or "open-mini": the package's
    continued: str = "{prompt}\n\n"  # what a model continues that is not asked by its chat template
    equivalence: str = "exact"  # when two answers are one: exact text, embedding, judge (a model), file (of classes)
    threshold: float = 0.9  # for embedding: the least cosine of two answers that are one
    embedder: str = ""  # for embedding: the model, as --embedding takes it
    classes: str = ""  # for file: a .jsonl of the class of each answer
    quality: str = "none"  # of single answers: none, judge (a model's number from 1 to 10), file (of such numbers)
    scores: str = ""  # for file: a .jsonl of the score of each answer
    judge: str = ""  # the model that judges, as --model takes it; "" for an engine that takes none
    judge_engine: str = "hf"  # its engine, as --engine takes it
    judge_settings: tuple[str, ...] = ()  # options of its engine, KEY=VALUE as --set takes engine.KEY
    judge_tokens: int = 32  # [tokens] the most of one reply
    same_template: str = "same-answer"  # the question about two answers: a name in templates/, or a .txt
    quality_template: str = "answer-quality"  # the question about the quality of one answer, likewise
    most_unread: float = 0.1  # the largest share of the judge's replies without a verdict, above which nothing is graded
    patience: float = 0.8  # of utility_k: the chance that a user who has read an answer reads the next one
    classes_hash: str = ""  # of the file of classes: another hash is an error; "": any
    scores_hash: str = ""  # of the file of scores, likewise

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not self.prompts:
            raise ValueError(f'prompts is missing; it is a file, hub:NAME:SPLIT, or "{SHIPPED}"')
        if "{prompt}" not in self.continued:
            raise ValueError("continued has no {prompt}, so the model would not see the prompt")
        for name, value, known in (
            ("equivalence", self.equivalence, EQUIVALENCES),
            ("quality", self.quality, QUALITIES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        needs = {
            "embedder": self.equivalence == "embedding",
            "classes": self.equivalence == "file",
            "scores": self.quality == "file",
        }
        for name, needed in needs.items():
            if needed != bool(getattr(self, name)):
                owner = "quality" if name == "scores" else "equivalence"
                said = "is missing" if needed else f"is {getattr(self, name)!r}, and plays no part"
                raise ValueError(f"{name} {said} with {owner} = {getattr(self, owner)!r}")
        if self.asks and not self.judge and self.judge_engine == "hf":
            raise ValueError("judge is missing; it names the model that judges, as --model does")
        if not self.asks and self.judge:
            raise ValueError(f'judge is {self.judge!r}, and nothing is asked of it: give equivalence or quality = "judge"')
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; a cosine lies between -1 and 1")
        if not 0 <= self.most_unread <= 1:
            raise ValueError(f"most_unread is {self.most_unread}; it is a share between 0 and 1")
        if not 0 < self.patience <= 1:
            raise ValueError(f"patience is {self.patience}; it must be over 0 and at most 1")
        if self.judge_tokens < 1:
            raise ValueError(f"judge_tokens is {self.judge_tokens}; it must be at least 1")

    @property
    def asks(self) -> bool:
        """Whether a model judges."""
        return "judge" in (self.equivalence, self.quality)

    @property
    def of_file(self) -> bool:
        """Whether the prompts are a file on this machine."""
        return self.prompts != SHIPPED and not self.prompts.startswith(HUB)

    def placed(self, folder: Path) -> OpenOptions:
        """The options with whole paths; relative ones are below `folder`."""
        return self._at({name: str(folder / expanded(path)) for name, path in self._paths().items()})

    def places(self) -> dict[str, str | list[str]]:
        """The paths on this machine that the options name; they are not part of a spec."""
        return {name: str(Path(path).resolve()) for name, path in self._paths().items()}

    def at(self, places: Mapping[str, str | list[str]], task_file: Path | None) -> OpenOptions:
        """With the paths of `places` (see there); `task_file` is the place of the prompts, or else of the one other file."""
        known = {name: str(path) for name, path in places.items() if name in self._paths()}
        if task_file and self._paths():
            known[next(iter(self._paths()))] = str(task_file)
        return self._at(known)

    def bare(self) -> OpenOptions:
        """The options as a spec has them: files by name alone."""
        return self._at({name: Path(path).name for name, path in self._paths().items()})

    def _at(self, paths: dict[str, Any]) -> OpenOptions:
        return replace(self, **paths)

    def _paths(self) -> dict[str, str]:
        named = {"prompts": self.prompts} if self.of_file else {}
        named |= {name: getattr(self, name) for name in _FILES if getattr(self, name)}
        templates = {name: getattr(self, name) for name in ("same_template", "quality_template")}
        return named | {name: path for name, path in templates.items() if path.endswith(".txt")}
