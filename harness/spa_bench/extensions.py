"""What a user's own modules and installed packages bring: metrics, and the hashes by which a spec tells versions apart.

The hash covers the module's own file. What that file imports is not in it: keep an extension in one file, or raise a
number in it when another one changes. Of an installed package the spec has the version too.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

from spa_bench import plugins, provenance
from spa_bench.errors import SpaBenchError, UsageError
from spa_bench.metrics.suite import ALIASES, AT_SIZES, CHOICE_METRICS, METRICS, Metric, is_rate
from spa_bench.registry import TABLES, did_you_mean, is_ours, load
from spa_bench.types import Completion, Member, Problem


def load_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics behind `package.module:METRIC` names and those of installed packages, in order.

    Raises UsageError for what cannot be imported or is no Metric, and for a metric whose name is taken or no name.
    """
    names = tuple(names)
    found = tuple(map(_metric, names))
    taken = _ours()
    for name, metric in zip(names, found, strict=True):
        if not metric.name.strip() or not metric.name.isprintable():
            raise UsageError(f"--metric {name}: its name is {metric.name!r}; it stands in tables and must be printable text")
        if metric.name in taken or is_rate(metric.name):  # those of single members are nowhere listed
            raise UsageError(f"--metric: the name {metric.name!r} is taken by another metric; give yours another one")
        taken.add(metric.name)
    return found


def hashes(names: Iterable[str]) -> dict[str, str]:
    """`package.module:NAME`, or the name of a metric of an installed package -> the hash of the module's file."""
    return {name: source_hash(name, "metric") for name in names}


def source_hash(name: str, table: str = "") -> str:
    """The hash of the file of the module in `package.module:NAME`, or behind the entry point `name` of `table`.

    Raises UsageError when there is no such module.
    """
    if ":" in name or not table:
        module = plugins.imported(name.partition(":")[0], repr(name))
    else:
        module = plugins.named(table, name).module
    file = getattr(module, "__file__", None)
    if file is None:
        raise UsageError(f"{name!r} leads to a module without a file; its source cannot be put into the spec")
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()


def code_of(sampler: Mapping[str, Any], task: Mapping[str, Any], metrics: Iterable[str] = ()) -> dict[str, object]:
    """What made a run of these parts of a spec: our own code, and what else there was.

    `sampler`, `task` and `problems` are the hashes of the modules of kinds and of a function that are not ours;
    `packages` has the distributions, with their versions, of those and of `metrics` that are entry points.
    """
    used = {"sampler": ("sampler", sampler.get("kind")), "task": ("task", task.get("kind"))}
    if task.get("kind") == "code":
        used["problems"] = ("problems", task.get("problems"))
    found: dict[str, object] = {}
    packages = {}
    for key, (table, kind) in used.items():
        if not kind or kind in TABLES[table] or kind == "samples":  # samples: somebody else drew them
            continue
        found[key] = source_hash(kind, table if table in plugins.GROUPS else "")
        if ":" not in kind:
            packages[key] = plugins.named(table, kind).source
    packages |= {f"metric {name}": plugins.named("metric", name).source for name in metrics if ":" not in name}
    return provenance.code() | found | ({"packages": packages} if packages else {})


def check_packages(spec: Mapping[str, Any], where: str, part: str) -> None:
    """Raises UsageError when the package that brought a `part` of the run (sampler, task, metric) is not installed here."""
    for key, source in spec.get("code", {}).get("packages", {}).items():
        table, _, name = key.partition(" ")
        name = name or str(spec[table]["kind"])
        if table == part and plugins.find(table, name) is None:
            raise UsageError(f"{where} was made with the {table} {name!r} of {source}, which is not installed; install it")


def changed(spec: Mapping[str, Any]) -> list[str]:
    """What in the spec's own `code`, `metrics` and `versions` is otherwise here, by name."""
    found = []
    try:
        if spec.get("code") != code_of(spec["sampler"], spec["task"], spec.get("metrics", {})):
            found.append("code")
    except UsageError:  # the user's module is not on the import path here, or the package not installed
        found.append("code")
    try:
        if spec.get("metrics", {}) != hashes(spec.get("metrics", {})):
            found.append("metrics")
    except UsageError:
        found.append("metrics")
    return found + ["versions"] * (spec.get("versions") != provenance.versions())


def _ours() -> set[str]:
    return {m.name for m in (*METRICS, *CHOICE_METRICS)} | {m.name for m in AT_SIZES} | set(ALIASES)


def _metric(name: str) -> Metric:
    module, _, attribute = name.partition(":")
    if attribute:
        metric = getattr(plugins.imported(module, repr(name)), attribute, None)
        said = repr(attribute)
    else:
        plugin = plugins.find("metric", name, taken=_ours())
        if plugin is None:
            raise UsageError(f"--metric takes package.module:METRIC; got {name!r}{_hint(name)}")
        metric, said = plugin.target, f"what {plugin} leads to"
    if not isinstance(metric, Metric):
        raise UsageError(f"--metric {name}: {said} is {metric!r}; it must be a spa_bench.metrics.suite.Metric")
    return metric


def _hint(name: str) -> str:
    if name in _ours() or is_rate(name):
        return ", which every run has without it"
    others = [plugin.name for plugin in plugins.installed("metric")]
    return did_you_mean(name, others) if others else ", and no installed package brings a metric"


def made(table: str, kind: str, *arguments: Any, needs: Iterable[str]) -> Any:
    """What the code behind `kind` builds of `arguments`.

    Raises UsageError when that of others fails, or builds what lacks one of the attributes `needs`.
    """
    build = load(table, kind)
    if is_ours(table, kind):
        return build(*arguments)
    where = f"{table} kind {kind!r}"
    with guarded(where):
        found = build(*arguments)
        lacking = [name for name in needs if not hasattr(found, name)]
    if lacking:
        raise UsageError(f"{where} built {found!r}, which has no {lacking[0]!r}; docs/add-a-{table}.md has what it needs")
    return found


def checked_problems(problems: Any, where: str) -> tuple[Problem, ...]:
    """Problems that others brought. Raises UsageError unless they are some, and each a Problem with an id of its own."""
    with guarded(where):
        found: tuple[Any, ...] = tuple(problems)
    if not found:
        raise UsageError(f"{where} has no problems")
    seen = set()
    for problem in found:
        if not isinstance(problem, Problem):
            raise UsageError(f"{where}: a problem is {problem!r}; it must be a spa_bench.types.Problem")
        if not problem.id or problem.id in seen:
            raise UsageError(f"{where}: the problem id {problem.id!r} is empty or there twice; each problem has its own")
        seen.add(problem.id)
    return found


def check_own_task(task: Any, kind: str) -> None:
    """Raises UsageError for a task of others whose problems, or whose words for the spec, cannot be used."""
    where = f"task kind {kind!r}"
    checked_problems(task.problems, where)
    with guarded(where):
        said = dict(task.describe())
    if lacking := [key for key in ("name", "kind", "version", "problems_hash") if key not in said]:
        raise UsageError(f"{where}: describe() lacks {lacking[0]!r}, by which a run finds its task again")


def check_sampler(sampler: Any, kind: str, count: int) -> None:
    """Raises UsageError for a sampler of others whose members are not `count` of spa_bench.types.Member."""
    members = sampler.members
    if is_ours("sampler", kind):
        return
    if not isinstance(members, list | tuple) or not all(isinstance(member, Member) for member in members):
        raise UsageError(f"sampler kind {kind!r}: members is {members!r}; it must be a tuple of spa_bench.types.Member")
    if len(members) != count:
        raise UsageError(f"sampler kind {kind!r}: it has {len(members)} members, and its card says members = {count}")


def drawn(kind: str, sample: Callable[[], Iterable[Completion]]) -> Iterator[Completion]:
    """What `sample` of a sampler of that kind gives. Raises UsageError where that of others fails or gives no completions."""
    if is_ours("sampler", kind):
        yield from sample()
        return
    where = f"sampler kind {kind!r}"
    with guarded(where):
        for completion in sample():
            if not isinstance(completion, Completion):
                raise UsageError(f"{where} gave {completion!r}; sample() gives spa_bench.types.Completion, one an answer")
            yield completion


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """What the user's own code raises within the block becomes one line that begins with `what`."""
    try:
        yield
    except SpaBenchError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UsageError(f"{what} failed: {type(error).__name__}: {error}{_line_of(error)}") from error


def _line_of(error: BaseException) -> str:
    """Where it was raised: who wrote the code sees no traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def values_of(metric: Metric, samples: Sequence[Any]) -> list[float | None]:
    """`metric` of every problem's Samples.

    Raises UsageError, naming the problem, when it fails, or gives no finite number, or a rate outside [0, 1].
    """
    values: list[float | None] = []
    for one in samples:
        try:
            value: Any = metric.compute(one)
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
