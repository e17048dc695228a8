"""The [options] of a card of kind lm-eval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.support.home import expanded


@dataclass(frozen=True, kw_only=True)
class LmEvalOptions:
    """The task of lm-eval that is run, and its settings. Defaults are lm-eval's own."""

    task: str = ""  # a task, group or tag of lm-eval
    folder: str = ""  # under lm_eval/tasks, where it is defined: saves reading all 14,000 definitions; "": anywhere
    include: str = ""  # a folder of definitions (YAML) of one's own; "mini": the package's
    fewshot: int = -1  # [examples] in the prompt; -1: the task's own number, or none
    subjects: tuple[str, ...] = ()  # of a group: only these tasks, by name or by the end of it ("anatomy" of mmlu_anatomy)
    per_task: int = 0  # [documents] the first of every task, as lm_eval --limit; 0: all
    local: tuple[str, ...] = ()  # folders or files that replace the hub
    filter: str = ""  # of generated answers: the filter whose result decides; "": the task's first
    max_gen_toks: int = 0  # [tokens] of a generated answer; 0: as the task says
    chat: bool = False  # ask through the model's chat template
    system: str = ""  # a system message, before the task's own description
    multiturn: bool = True  # with chat: few-shot examples as turns of their own
    too_long: str = "refuse"  # a prompt that leaves no room for the answer: an error; "cut": cut on the left, as lm-eval does
    bootstrap: int = 100_000  # [resamples] for the standard error of metrics that have no closed form
    hash: str = ""  # of the problems (problems_hash of a run's spec): another hash is an error; "": any

    def placed(self, folder: Path) -> LmEvalOptions:
        """The options with `local` and `include` as whole paths; relative ones are below `folder`."""
        local = tuple(str(folder / expanded(p)) for p in self.local)
        own = self.include not in {"", "mini"}
        return replace(self, local=local, include=str(folder / expanded(self.include)) if own else self.include)

    def places(self) -> dict[str, str | list[str]]:
        """The paths on this machine that the options name; they are not part of a spec."""
        own: dict[str, str | list[str]] = {"include": self.include} if self.include not in {"", "mini"} else {}
        return own | ({"local": list(self.local)} if self.local else {})

    def at(self, places: Mapping[str, str | list[str]], task_file: Path | None) -> LmEvalOptions:
        """With the paths of `places` (see there) or, where the user says where files lie now, with `task_file` for them."""
        if task_file:
            places = {"include": str(task_file)} if "include" in places else {"local": [str(task_file)]}
        include, local = places.get("include", self.include), places.get("local", [])
        assert isinstance(include, str)
        assert isinstance(local, list)
        return replace(self, include=include, local=tuple(local))

    def __post_init__(self) -> None:
        if not self.task:
            raise ValueError("task is missing; it is the name of a task or group of lm-eval")
        if self.fewshot < -1:
            raise ValueError(f"fewshot is {self.fewshot}; it is a number of examples, or -1 for the task's own")
        for name, number in (("per_task", self.per_task), ("max_gen_toks", self.max_gen_toks), ("bootstrap", self.bootstrap)):
            if number < 0:
                raise ValueError(f"{name} is {number}; it must not be negative")
        if self.too_long not in {"refuse", "cut"}:
            raise ValueError(f"too_long is {self.too_long!r}; choose 'refuse' or 'cut'")
        if self.system and not self.chat:
            raise ValueError(f"system is {self.system!r}, but without chat = true there is no system message")
