"""The settings of each role of a study of methods of synthesis: methods have options of their own.

`synthesize.options.KEY` is of every method that has an option KEY. `METHOD.KEY` and `ROLE.KEY`, such as `sample.options.round`
or `softsrv-mc.options.steps`, are the key of [synthesize] of that method, or of that role, alone. The narrowest one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from spa_bench.cards.kinds import CardKind
from spa_bench.cards.registry import kind_of
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import UsageError
from spa_bench.support.text import did_you_mean

METHOD = "synthesize.method"
_TABLE, _OPTIONS = "synthesize.", "synthesize.options."
_OF_TARGETS = {"synthesize.targets"}  # also of a role without a method, which takes the targets themselves


def settings_of_methods(
    roles: Mapping[str, Mapping[str, object]], settings: Mapping[str, object]
) -> dict[str, dict[str, object]]:
    """Role -> its settings, with keys of its card. `roles` has those that take part, each with the settings that make it.

    Raises UsageError for an option that no method has, and for the key of a method that makes no pairs here.
    """
    methods = {role: str(made.get(METHOD, "")) for role, made in roles.items()}
    options = {method: {field.name for field in fields(_options(method))} for method in set(methods.values()) if method}  # type: ignore[arg-type]
    shared: dict[str, dict[str, object]] = {role: {} for role in roles}
    narrow: dict[str, dict[str, object]] = {role: {} for role in roles}
    narrowest: dict[str, dict[str, object]] = {role: {} for role in roles}
    for key, value in settings.items():
        name, _, rest = key.partition(".")
        if key.startswith(_OPTIONS):
            taken = [role for role, method in methods.items() if method and key.removeprefix(_OPTIONS) in options[method]]
            if not taken:
                known = sorted(set().union(*options.values()))
                near = did_you_mean(key.removeprefix(_OPTIONS), known)
                raise UsageError(f"--set {key}: no method that takes part has this option{near}")
            level = shared
        elif key.startswith(_TABLE):
            taken, level = [role for role, method in methods.items() if method or key in _OF_TARGETS], shared
        elif taken := [role for role, method in methods.items() if method and name in (role, method)]:
            key, level = _TABLE + rest, narrowest if name in roles and name != methods[name] else narrow
        elif name in _known_methods() or name in roles:
            there = ", ".join(dict.fromkeys(method for method in methods.values() if method)) or "none"
            raise UsageError(f"--set {key}: {name} makes no pairs in this study; the methods that take part: {there}")
        else:
            taken, level = list(roles), shared
        for role in taken:
            level[role][key] = value
    return {role: {**shared[role], **narrow[role], **narrowest[role]} for role in roles}


def _options(method: str) -> type[object]:
    kind: CardKind[object, SynthesisCard] = kind_of(CardKind, "synthesis", method)
    return kind.options


def _known_methods() -> set[str]:
    from spa_bench.cards.registry import known

    return set(known("synthesis"))
