"""spa-bench: which way of sampling gives answers that are both good and different?

    import spa_bench as sb

    run = sb.run("spa-influence", "mini-code", n=8)
    run.to_pandas()

Each public name is looked up when it is first used, so that `import spa_bench` is quick and loads neither torch nor pandas.
`__init__.pyi` has the same names for type checkers, and docs/how-to/python.md says how they are used.
"""

from importlib import import_module

from spa_bench.support.version import __version__

_NAMES = {
    "api.run": "load_model run score",
    "api.runs": "Run Runs load",
    "api.shown": "Check Comparison Leaderboard",
    "samplers.base": "Sampler",
    "samplers.mixture": "Mixture",
    "support.seeds": "draw_seed",
    "tasks.base": "Task TaskDefaults",
    "tasks.text": "TextTask",
    "tasks.code": "CodeTask",
    "cards.task": "TaskCard",
    "metrics.metric": "Metric Samples",
    "models.base": "Model",
    "models.own": "FunctionModel ModelDefaults",
    "types": "Completion Decoding Estimate Grade Key Member Problem Prompt Record Request Verdict",
    "errors": "CardError DataError ModelError SandboxError SpaBenchError StoreError UsageError",
}
"""Module below spa_bench -> the public names in it."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> object:
    """The public name, from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module 'spa_bench' has no attribute {name!r}")
    value: object = getattr(import_module(f"spa_bench.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
