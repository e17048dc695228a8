"""Metrics of the user's own: they are imported by name, checked and computed; a mistake in one is a one-line error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real

from spa_bench.cards import plugins
from spa_bench.errors import UsageError
from spa_bench.metrics.suite import Metric, Samples, is_rate
from spa_bench.metrics.suite import names as names_of_ours
from spa_bench.support.text import did_you_mean


def load_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of `names`, in order: `package.module:METRIC`, or the name of a metric of an installed package.

    Raises UsageError for a name that cannot be imported or is no Metric, and for a Metric whose own name is taken or invalid.
    """
    names = tuple(names)
    metrics = tuple(map(_metric, names))
    taken = names_of_ours()
    for name, metric in zip(names, metrics, strict=True):
        if not metric.name.strip() or not metric.name.isprintable():
            raise UsageError(f"--metric {name}: its name is {metric.name!r}; it stands in tables and must be printable text")
        if metric.name in taken or is_rate(metric.name):  # no list holds the rates of single members
            raise UsageError(f"--metric: the name {metric.name!r} is taken by another metric; give yours another one")
        taken.add(metric.name)
    return metrics


def _metric(name: str) -> Metric:
    module, _, attribute = name.partition(":")
    if attribute:
        metric = getattr(plugins.imported(module, repr(name)), attribute, None)
        said = repr(attribute)
    else:
        plugin = plugins.find("metric", name, taken=names_of_ours())
        if plugin is None:
            raise UsageError(f"--metric takes package.module:METRIC; got {name!r}{_hint(name)}")
        metric, said = plugin.target, f"what {plugin} leads to"
    if not isinstance(metric, Metric):
        raise UsageError(f"--metric {name}: {said} is {metric!r}; it must be a spa_bench.metrics.suite.Metric")
    return metric


def _hint(name: str) -> str:
    if name in names_of_ours() or is_rate(name):
        return ", which every run has without it"
    others = [plugin.name for plugin in plugins.installed("metric")]
    return did_you_mean(name, others) if others else ", and no installed package brings a metric"


def values_of(metric: Metric, samples: Sequence[Samples]) -> list[float | None]:
    """The value of `metric` for every problem's Samples.

    Raises UsageError that names the problem when the metric fails, or gives no finite number or a rate outside [0, 1].
    """
    values: list[float | None] = []
    for one in samples:
        try:
            value: object = metric.compute(one)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise UsageError(
                f"metric {metric.name!r} failed on problem {one.problem}: {type(error).__name__}: {error}"
            ) from error
        if value is not None and not isinstance(value, Real):
            raise UsageError(f"metric {metric.name!r} is {value!r} on problem {one.problem}; it must be a number or None")
        values.append(None if value is None else float(f"{float(value):.10g}"))
        if values[-1] is not None and not -float("inf") < values[-1] < float("inf"):
            raise UsageError(f"metric {metric.name!r} is {value} on problem {one.problem}; give None where there is no value")
        if metric.rate and values[-1] is not None and not 0 <= values[-1] <= 1:
            raise UsageError(
                f"metric {metric.name!r} is {value} on problem {one.problem}, but with rate=True it must lie in [0, 1]; "
                "mend that and finish the run with `spa-bench grade`: its samples and verdicts are kept"
            )
    return values
