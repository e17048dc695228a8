"""Trackio: runs are stored in the local folder `TRACKIO_DIR`, unless `TRACKIO_SPACE_ID` or `TRACKIO_SERVER_URL` is set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from spa_bench.publish.trackers.base import PROJECT, Begun, Ended, TrackerKind


class Trackio:
    """A run of trackio, found by the folder's name, which ends in the spec's hash; metrics keep their names."""

    def __init__(self, run: Begun):
        """Begin or resume the run. Raises trackio's own errors."""
        import trackio

        self._id, project = run.id, os.environ.get("TRACKIO_PROJECT", PROJECT)
        # trackio has no tags; keys that begin with `_` are reserved for trackio
        config = {**run.config, **{f"tag.{key}": value for key, value in run.tags.items()}}
        self._run: Any = trackio.init(
            project=project, name=run.name, group=run.group, config=config, resume="allow", embed=False
        )
        self.where = f"project {project!r}; see it with: trackio show --project {project}"

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """Values are logged without a step: the stages have their own counts, and a resumed run continues to count."""
        self._run.log(dict(values))

    def finish(self, ended: Ended) -> None:
        """Metrics become the last row, files an artifact of the run's own."""
        import trackio

        self._run.log({**ended.metrics, **ended.times, "state": ended.state})
        files = trackio.Artifact(f"run-{self._id}", type="spa-bench-run")
        for path in ended.files:
            files.add_file(str(path))
        trackio.log_artifact(files)
        trackio.finish()


KIND = TrackerKind(build=Trackio, package="trackio")
