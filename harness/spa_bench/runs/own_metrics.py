"""Metrics of the user's own: they are imported by name, checked and computed; a mistake in one is a one-line error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Protocol, runtime_checkable

from spa_bench.cards import plugins
from spa_bench.cards.guard import check_call
from spa_bench.cards.objects import given_object, is_object
from spa_bench.errors import UsageError
from spa_bench.metrics.suite import Metric, Samples, is_rate
from spa_bench.metrics.suite import names as names_of_ours
from spa_bench.support.text import did_you_mean, one_line

_KEPT = "; samples and verdicts are kept: mend it, and finish the run with `spa-bench grade`"


@runtime_checkable
class _Boxed(Protocol):
    """A number that knows its Python value."""

    def item(self) -> object: ...


def load_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of `names`, in order: `package.module:METRIC`, or the name of a metric of an installed package.

    Raises UsageError for a name that cannot be imported or is no Metric, and for a Metric whose own name is taken or invalid.
    """
    names = tuple(names)
    metrics = tuple(map(_metric, names))
    taken = names_of_ours()
    for name, metric in zip(names, metrics, strict=True):
        _check(name, metric)
        if metric.name in taken or is_rate(metric.name):  # no list holds the rates of single members
            raise UsageError(f"--metric: the name {metric.name!r} is taken by another metric; give yours another one")
        taken.add(metric.name)
    return metrics


def _check(where: str, metric: Metric) -> None:
    """Raises UsageError for a name, an alias or bounds that cannot be used: of these nothing else is seen before the end."""
    name, bounds = metric.name, metric.bounds
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UsageError(f"--metric {where}: its name is {name!r}; it stands in tables and must be printable text")
    for key, said in (("description", metric.description), ("missing", metric.missing)):
        if not isinstance(said, str):
            raise UsageError(f"--metric {where}: its {key} is {said!r}; it must be a text")
    if metric.alias:
        raise UsageError(f"--metric {where}: its alias is {metric.alias!r}; short names are of spa-bench's own metrics alone")
    if bounds is None:
        return
    numbers = bounds if isinstance(bounds, tuple | list) and all(isinstance(one, Real) for one in bounds) else ()
    if len(numbers) != 2 or not float(numbers[0]) < float(numbers[1]):
        raise UsageError(
            f"--metric {where}: its bounds are {bounds!r}; give two numbers, the least and the most, such as (0.0, math.inf)"
        )


def _metric(name: str) -> Metric:
    module, _, attribute = name.partition(":")
    if is_object(name):
        metric, said = given_object("metric", name).target, "what was given"
    elif attribute:
        metric = getattr(plugins.imported(module, repr(name)), attribute, None)
        if metric is None:
            raise UsageError(f"--metric {name}: {module} has no {attribute!r}")
        said = repr(attribute)
    else:
        plugin = plugins.find("metric", name, taken=names_of_ours())
        if plugin is None:
            raise UsageError(f"--metric takes package.module:METRIC; got {name!r}{_hint(name)}")
        metric, said = plugin.target, f"what {plugin} leads to"
    if isinstance(metric, Metric):
        check_call(f"--metric {name}: its compute", metric.compute, ("samples",), "docs/how-to/add-a-metric.md")
    else:
        raise UsageError(f"--metric {name}: {said} is {metric!r}; it must be a spa_bench.metrics.suite.Metric")
    return metric


def _hint(name: str) -> str:
    if name in names_of_ours() or is_rate(name):
        return ", which every run has without it"
    others = [plugin.name for plugin in plugins.installed("metric")]
    return did_you_mean(name, others) if others else ", and no installed package brings a metric"


def values_of(metric: Metric, samples: Sequence[Samples]) -> list[float | None]:
    """The value of `metric` for every problem's Samples; None where it counts right answers and there are none to count.

    Raises UsageError that names the problem when the metric fails, or gives no finite number or a rate outside [0, 1].
    """
    return [None if metric.of_verdicts and not one.judged else _value(metric, one) for one in samples]


def _plain(value: object) -> object:
    """`value`; the Python value of a number in an array, in a tensor or of a type of numpy."""
    return value.item() if isinstance(value, _Boxed) and not isinstance(value, Real) else value


def _value(metric: Metric, one: Samples) -> float | None:
    where = f"metric {metric.name!r}"
    try:
        value: object = _plain(metric.compute(one))
        number = float(f"{float(value):.10g}") if isinstance(value, Real) else None
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        said = one_line(error)
        raise UsageError(f"{where} failed on problem {one.problem}: {type(error).__name__}: {said}{_KEPT}") from error
    if value is not None and number is None:
        raise UsageError(f"{where} is {value!r} on problem {one.problem}; it must be a number or None{_KEPT}")
    if number is not None and not -math.inf < number < math.inf:
        raise UsageError(f"{where} is {number} on problem {one.problem}; give None where there is no value{_KEPT}")
    if metric.rate and number is not None and not 0 <= number <= 1:
        raise UsageError(
            f"{where} is {number} on problem {one.problem}, but with rate=True it must lie in [0, 1]; "
            "mend that and finish the run with `spa-bench grade`: its samples and verdicts are kept"
        )
    if metric.bounds and number is not None and not metric.bounds[0] <= number <= metric.bounds[1]:
        raise UsageError(f"{where} is {number} on problem {one.problem}, outside its bounds {metric.bounds!r}{_KEPT}")
    return number
