"""What a user's own modules bring: metrics, and the hashes by which a run's spec tells their versions apart.

The hash covers the module's own file. What that file imports is not in it: keep an extension in one file, or raise a
number in it when another one changes.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spa_bench import provenance
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.metrics.suite import ALIASES, AT_SIZES, METRICS, Metric, is_rate


def load_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics behind `package.module:METRIC` names, in order.

    Raises UsageError for what cannot be imported or is no Metric, and for a metric whose name is taken or no name.
    """
    names = tuple(names)
    found = tuple(map(_metric, names))
    taken = {m.name for m in METRICS} | {m.name for m in AT_SIZES} | set(ALIASES)
    for name, metric in zip(names, found, strict=True):
        if not metric.name.strip() or not metric.name.isprintable():
            raise UsageError(f"--metric {name}: its name is {metric.name!r}; it stands in tables and must be printable text")
        if metric.name in taken or is_rate(metric.name):  # those of single members are nowhere listed
            raise UsageError(f"--metric: the name {metric.name!r} is taken by another metric; give yours another one")
        taken.add(metric.name)
    return found


def hashes(names: Iterable[str]) -> dict[str, str]:
    """`package.module:NAME` -> the hash of the module's file."""
    return {name: source_hash(name) for name in names}


def source_hash(name: str) -> str:
    """The hash of the file of the module in `package.module:NAME`. Raises UsageError when there is no such module."""
    file = getattr(_module(name), "__file__", None)
    if file is None:
        raise UsageError(f"{name!r} leads to a module without a file; its source cannot be put into the spec")
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()


def code_of(kind: str) -> dict[str, object]:
    """What made a run: our own code and, for a sampler kind of the user's own, the hash of its module as `sampler`."""
    return provenance.code() | ({"sampler": source_hash(kind)} if ":" in kind else {})


def changed(spec: Mapping[str, Any]) -> list[str]:
    """What in the spec's own `code`, `metrics` and `versions` is otherwise here, by name."""
    found = []
    try:
        if spec.get("code") != code_of(str(spec["sampler"]["kind"])):
            found.append("code")
    except UsageError:  # the user's module is not on the import path here
        found.append("code")
    try:
        if spec.get("metrics", {}) != hashes(spec.get("metrics", {})):
            found.append("metrics")
    except UsageError:
        found.append("metrics")
    return found + ["versions"] * (spec.get("versions") != provenance.versions())


def _metric(name: str) -> Metric:
    attribute = name.partition(":")[2]
    if not attribute:
        raise UsageError(f"--metric takes package.module:METRIC; got {name!r}")
    metric = getattr(_module(name), attribute, None)
    if not isinstance(metric, Metric):
        raise UsageError(f"--metric {name}: {attribute!r} is {metric!r}; it must be a spa_bench.metrics.suite.Metric")
    return metric


def _module(name: str) -> Any:
    module = name.partition(":")[0]
    try:
        return importlib.import_module(module)
    except (ImportError, ValueError, SyntaxError) as error:
        raise UsageError(
            f"{name!r} leads to the module {module!r}, which cannot be imported: {error}; "
            f"is the folder with the module on PYTHONPATH?"
        ) from error


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """What the user's own code raises within the block becomes one line that begins with `what`."""
    try:
        yield
    except SpaBenchError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise UsageError(f"{what} failed: {type(error).__name__}: {error}") from error


def values_of(metric: Metric, samples: Sequence[Any]) -> list[float | None]:
    """`metric` of every problem's Samples.

    Raises UsageError, naming the problem, when it fails, or gives no finite number, or a rate outside [0, 1].
    """
    values: list[float | None] = []
    for one in samples:
        try:
            value = metric.compute(one)
            values.append(None if value is None else float(f"{value:.10g}"))
        except Exception as error:  # the user's code may raise anything
            raise UsageError(
                f"metric {metric.name!r} failed on problem {one.problem}: {type(error).__name__}: {error}"
            ) from error
        if values[-1] is not None and not -float("inf") < values[-1] < float("inf"):
            raise UsageError(f"metric {metric.name!r} is {value} on problem {one.problem}; give None where there is no value")
        if metric.rate and values[-1] is not None and not 0 <= values[-1] <= 1:
            raise UsageError(
                f"metric {metric.name!r} is {value} on problem {one.problem}, but with rate=True it must lie in [0, 1]; "
                "mend that and finish the run with `spa-bench grade`: its samples and verdicts are kept"
            )
    return values
