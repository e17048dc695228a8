"""MLflow: `MLFLOW_TRACKING_URI` names the place of runs, `MLFLOW_EXPERIMENT_NAME` their experiment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from spa_bench.publish.trackers.base import PROJECT, Begun, Ended, TrackerKind
from spa_bench.publish.trackers.names import path, plain

_ID = "spec_hash"  # the tag by which a run is found again: MLflow makes the ids of its runs itself
_STATUS = {"finished": "FINISHED", "generated": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_KEY, _PARAM, _TAG = 250, 6000, 5000  # the most characters that MLflow accepts
_BATCH = 100  # parameters in one call


class Mlflow:
    """A run of MLflow, found by the spec's hash among its tags; `names.plain` makes the names of metrics."""

    def __init__(self, run: Begun):
        """Begin or resume the run. Raises MLflow's own errors."""
        # MLflow retries for minutes where no server answers, so shorter limits are the default; the user may set others
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client: Any = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = self._client.get_experiment_by_name(name)
        experiment = there.experiment_id if there else self._client.create_experiment(name)
        runs = self._client.search_runs([experiment], f"tags.{_ID} = '{run.id}'", max_results=1)
        if runs:
            self._run: str = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {key: value[:_TAG] for key, value in run.tags.items()}
            self._run = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
            params = [Param(plain(key)[:_KEY], str(value)[:_PARAM]) for key, value in run.config.items()]
            for first in range(0, len(params), _BATCH):
                self._client.log_batch(self._run, params=params[first : first + _BATCH])
        self.where = f"run {self._run} of experiment {name!r}, {self._client.tracking_uri}"

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """Every value is logged at its step on the axis of its stage."""
        self._log({path(name): value for name, value in values.items()}, step)

    def finish(self, ended: Ended) -> None:
        """Send metrics, then files, then the status."""
        metrics = {plain(name): value for name, value in ended.metrics.items()}
        self._log(metrics | {path(name): value for name, value in ended.times.items()}, 0)
        for file in ended.files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_tag(self._run, "state", ended.state)
        self._client.set_terminated(self._run, _STATUS[ended.state])

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name[:_KEY], value, now, step) for name, value in values.items()])


KIND = TrackerKind(build=Mlflow, package="mlflow")
