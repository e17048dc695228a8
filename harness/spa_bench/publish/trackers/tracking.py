"""`--log` and `spa-bench log`: trackers by name, which are told of a run's progress and of its results."""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from spa_bench.cards.registry import is_ours
from spa_bench.errors import UsageError
from spa_bench.publish.trackers.base import State, tracker_kind
from spa_bench.publish.trackers.child import LATER_SECONDS, Child
from spa_bench.publish.trackers.content import state_of
from spa_bench.runs.folder import RunFolder
from spa_bench.support import lock
from spa_bench.support.console import Reporter

_EVERY_SECONDS = 10.0  # the least time between two messages of a stage


def names_of(given: Sequence[str]) -> list[str]:
    """The trackers that `--log` names, each once. Raises UsageError for an unknown one, or one whose package is missing."""
    names = list(dict.fromkeys(name.strip() for part in given for name in part.split(",") if name.strip()))
    if given and not names:
        raise UsageError("--log names no tracker; wandb, mlflow or trackio")
    for name in names:
        package = tracker_kind(name).package
        if package and not _is_there(package):
            how = f"pip install 'spa-bench[{name}]'" if is_ours("tracker", name) else f"pip install {package}"
            raise UsageError(f"--log {name} needs the package {package}, which is not installed: {how}")
    return names


def _is_there(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a plain folder of that name, such as wandb's, has no origin


class Tracking:
    """Tells the trackers `names` of one run after another; without names it does nothing. `tell` gets lines for the user.

    As a context manager it reports a run that an exception ended as `stopped` or `failed`.
    """

    def __init__(self, names: Sequence[str], tell: Callable[[str], None], *, samples: bool = False):
        self._names, self._tell, self._samples = names, tell, samples
        self._children: list[Child] = []

    def reporter(self) -> Reporter:
        """A reporter for a run that also tells the trackers."""
        return TrackedReporter(self) if self._names else Reporter()

    def begin(self, folder: RunFolder) -> None:
        """The run in `folder` begins or resumes."""
        begun = (_child(name, folder, self._tell, samples=self._samples) for name in self._names)
        self._children = [child for child in begun if child is not None]

    def progress(self, stage: str, done: int, total: int, seconds: float) -> None:
        """`done` of `total` steps of a stage are done."""
        for child in self._children:
            child.progress(stage, done, total, seconds)

    def finish(self, state: State) -> None:
        """The run has ended in `state`; each tracker delays the caller by at most a minute."""
        children, self._children = self._children, []
        try:
            while children:
                children[0].finish(state)
                children.pop(0)
        finally:
            for child in children:  # the user interrupted a second time
                child.close()

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._children:
            self.finish("failed" if kind is not None and issubclass(kind, Exception) else "stopped")


class TrackedReporter(Reporter):
    """A Reporter that also tells `tracking` the progress of stages now and then."""

    def __init__(self, tracking: Tracking):
        super().__init__()
        self._tracking = tracking

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """See Reporter.stage."""
        began = said = time.monotonic()

        with super().stage(name) as show:

            def report(done: int, total: int) -> None:
                nonlocal said
                show(done, total)
                now = time.monotonic()
                if now - said >= _EVERY_SECONDS or done == total:
                    said = now
                    self._tracking.progress(name, done, total, now - began)

            yield report


def _child(
    name: str, folder: RunFolder, tell: Callable[[str], None], *, samples: bool, patience: float | None = None
) -> Child | None:
    """The tracker of that name for a run; None, and a line, where the system has no room for its process."""
    try:
        return Child(name, folder.path, tell, samples=samples, patience=patience)
    except OSError as error:
        tell(
            f"{name}: its process cannot be started ({error.strerror or error}); the run is not touched by that, and can be "
            f"logged later: spa-bench log {shlex.quote(str(folder.path))} --to {name}"
        )
        return None


def log_runs(folders: Sequence[RunFolder], names: Sequence[str], tell: Callable[[str], None], *, samples: bool) -> list[Path]:
    """Log existing runs; returns the folders of the runs that a tracker did not accept, or that are still being made."""
    missed = []
    for folder in folders:
        if lock.state(folder.path) == "held":  # a tracker would show it as stopped
            tell(f"{folder.path}: a process works on it; log it when that has ended")
            missed.append(folder.path)
            continue
        children = [_child(name, folder, tell, samples=samples, patience=LATER_SECONDS) for name in names]
        taken = [child is not None and child.finish(state_of(folder.path)) for child in children]
        if not all(taken):
            missed.append(folder.path)
    return missed
