"""Weights & Biases: its variables apply, such as `WANDB_MODE`, `WANDB_PROJECT`, `WANDB_ENTITY` and `WANDB_DIR`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from spa_bench.errors import UsageError
from spa_bench.publish.trackers.base import PROJECT, Begun, Ended, TrackerKind

_TAG = 64  # the most characters of a tag


class Wandb:
    """A run of wandb whose id is the spec's hash; metrics keep their names."""

    def __init__(self, run: Begun):
        """Begin or resume the run. Raises UsageError where wandb would ask for a key on the terminal."""
        import wandb

        settings = wandb.Settings(console="off", silent=True, init_timeout=50, x_stats_pid=os.getppid())
        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.api.api_key:
            raise UsageError("not logged in; `wandb login` does that, and with WANDB_MODE=offline it needs no network")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.name,
            group=run.group,
            config={**run.config, "spec_hash": run.tags["spec_hash"], "group_hash": run.tags["group_hash"]},
            tags=[f"{key}:{run.tags[key]}"[:_TAG] for key in ("sampler", "task", "model", "seed")],
            resume="allow",
            settings=settings,
        )
        self.where = str(self._run.url or self._run.dir)

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """Values are logged without a step: the stages have their own counts, and wandb's step may only grow."""
        self._run.log(dict(values))

    def finish(self, ended: Ended) -> None:
        """Metrics go to the summary, files into an artifact of the run's own."""
        import wandb

        self._run.summary.update({**ended.metrics, **ended.times, "state": ended.state})
        files = wandb.Artifact(f"run-{self._run.id}", type="spa-bench-run")
        for path in ended.files:
            files.add_file(str(path))
        self._run.log_artifact(files)
        self._run.finish(exit_code=int(ended.state == "failed"))


KIND = TrackerKind(build=Wandb, package="wandb")
