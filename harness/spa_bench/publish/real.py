"""Base, single and SPA on HumanEval with a real model, in half an hour on two cores, the leaderboard and a page."""

from __future__ import annotations

from pathlib import Path

from spa_bench.publish.series import NOBODY, Listeners, Series, make_series
from spa_bench.runs.options import JudgeOptions, RunOptions
from spa_bench.runs.reopen import ModelOptions
from spa_bench.runs.values import subset_of

TASK = "humaneval"
REFERENCE = "spa-influence"
SAMPLERS = ("base", "single", REFERENCE)
"""What is cheap comes first, so that there is soon something to see."""
SUBSET = 20
SETTINGS = ("data.examples=mini", "data.share=0.25", "lora.steps=8", "task.max_new_tokens=256")
"""What half an hour on two cores bears: problems, share of the embedded pairs, steps an adapter, new tokens.

The pairs are named, so that they are the same on machines with and without the hub.

docs/how-to/real-models.md has the measured seconds behind these numbers.
"""


def make_real(
    out: Path,
    *,
    subset: int | None = SUBSET,
    model: str | None = None,
    settings: tuple[str, ...] = (),
    threads: int | None = None,
    sandbox: str | None = None,
    listeners: Listeners = NOBODY,
) -> Series:
    """Run the samplers, and write the leaderboard and a page about them; a call that was stopped is resumed by the same one.

    `subset` is how many problems are drawn; None means all. `settings` override keys of cards, after SETTINGS. The other
    options are those of a run. Raises as `perform.run`.
    """
    limit, chosen = _settings_of(subset, settings)
    options = RunOptions(
        model=model,
        loading=ModelOptions(threads=threads),
        limit=limit,
        settings=chosen,
        noise_floor=False,
        judge=JudgeOptions(sandbox=sandbox),
        out=out,
    )
    remark = f", with {', '.join(chosen)}"
    return make_series(SAMPLERS, TASK, options, reference=REFERENCE, title="spa-bench real", remark=remark, listeners=listeners)


def _settings_of(subset: int | None, more: tuple[str, ...]) -> tuple[int | None, tuple[str, ...]]:
    """The limit and the settings of the runs. Of one key in SETTINGS and `more`, the last one counts."""
    limit, settings = subset_of(None, subset, SETTINGS)
    return limit, tuple({one.partition("=")[0].strip(): one for one in (*settings, *more)}.values())
