"""The table [synthesize] of a sampler card: how its instruction set is made, where none is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from spa_bench.cards.kinds import NoOptions


@dataclass(frozen=True, kw_only=True)
class SynthesisCard:
    """How pairs are made; without a method, data.examples are taken as they are."""

    method: str = ""  # template, softsrv, oss-instruct, self-instruct, skill-mix, or package.module:build; "": none
    targets: str = "mini"  # pairs of the kind that is wanted: a source as data.examples
    pairs: int = 256  # [pairs] how many are wanted after the filters
    drafts: int = 0  # [drafts] the most that are made for them; 0: 16 for each pair that is wanted
    code: str = "auto"  # what completions that are programs must do: parse, run, pass (their own tests), none; auto: see check
    near: float = 0.8  # [similarity, above 0 to 1] a draft that is this near to an earlier pair is a duplicate (MinHash)
    decontaminate: bool = True  # leave out (and count) pairs that overlap the task's problems
    options: object = field(default_factory=NoOptions)  # an instance of the dataclass that the method declares
