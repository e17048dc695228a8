"""One line for each mistake in a command line: what is wrong, the value seen, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, get_args, get_origin

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError
from cyclopts.exceptions import ConsumeMultipleError, UnknownCommandError, ValidationError

from spa_bench.cli.commands import COMMANDS, FAMILIES

_MEANT = {"gate": "check", "diff": "compare", "eval": "run"}  # what other tools and our own pages call a command
_KINDS = {int: "a whole number", float: "a number"}


def sentence(error: CycloptsError, words: Sequence[str]) -> str:
    """What is wrong with the command line `words`, and the help command that says more."""
    chain = " ".join(["spa-bench", *(error.command_chain or ())])
    unknown = _unknown_options(error, words) if isinstance(error, MissingArgumentError) else ""
    return f"{unknown or _what(error, words)}; see {chain} --help"


def _what(error: CycloptsError, words: Sequence[str]) -> str:
    match error:
        case UnknownCommandError():
            return _unknown_command(error)
        case CoercionError() if error.token is not None and error.target_type is not None and error.msg is None:
            return _wrong_value(error.token.keyword or _name(error), error.token.value, error.target_type)
        case CoercionError() | ValidationError():
            name = (error.token.keyword if isinstance(error, CoercionError) and error.token else None) or _name(error)
            said = str(error.msg or getattr(error, "exception_message", "") or error.__cause__ or error)
            return f"argument {name}: {said}"
        case ConsumeMultipleError() | MissingArgumentError() if error.argument is not None:
            return _missing(error, words)
        case UnknownOptionError():
            return _unknown_option(error)
        case UnusedCliTokensError():
            return f"unrecognized arguments: {' '.join(error.unused_tokens or [])}"
        case _:
            error.verbose = False
            return str(error).rstrip(".")


def _name(error: CycloptsError) -> str:
    """The name of the argument of `error` in messages: its option, or its place."""
    if error.argument is None:
        return "?"
    name = error.argument.name
    return name if name.startswith("-") else (error.argument.parameter.metavar or name.upper())


def _wrong_value(name: str, value: str, kind: object) -> str:
    if get_origin(kind) is Literal:
        return _no_choice(name, value, list(get_args(kind)))
    wanted = _KINDS.get(kind) if isinstance(kind, type) else None
    return f"argument {name}: {value!r} is not {wanted or 'what it takes'}"


def _missing(error: MissingArgumentError, words: Sequence[str]) -> str:
    assert error.argument is not None
    name, given = error.keyword or _name(error), any(token.keyword for token in error.argument.tokens) or error.keyword
    if given or error.tokens_so_far:
        count = error.argument.token_count()[0]
        return f"argument {name}: expected {'one argument' if count < 2 else f'{count} arguments'}"
    others = [] if error.app is None else [a.name for a in error.app.assemble_argument_collection() if a.required]
    given_names = {word.partition("=")[0] for word in words}
    missing = dict.fromkeys([name, *(other for other in others if other.startswith("-") and other not in given_names)])
    return f"the following arguments are required: {', '.join(missing)}"


def _unknown_options(error: MissingArgumentError, words: Sequence[str]) -> str:
    """The likely cause of a missing required option: a word that is no option of this command; empty without such a word."""
    if error.app is None:
        return ""
    collection = error.app.assemble_argument_collection()
    known = [name for argument in collection for name in argument.names if name.startswith("-")]
    slips = [word for word in words if word.startswith("--") and word != "--" and word.partition("=")[0] not in known]
    return _unrecognized(slips[0], known) if slips else ""


def _unknown_option(error: UnknownOptionError) -> str:
    known = [name for argument in error.argument_collection for name in argument.names if name.startswith("--")]
    return _unrecognized(error.token.keyword or error.token.value, known)


def _unrecognized(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.partition("=")[0], known, 1) or [n for n in known if n.startswith(word)][:1]
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unrecognized arguments: {word}{hint}"


def _unknown_command(error: UnknownCommandError) -> str:
    [word, *_] = error.unused_tokens or ["?"]
    if error.command_chain:
        _, _, called, seconds = FAMILIES[error.command_chain[0]]
        return _no_choice(called, word, list(seconds))
    return _no_choice("COMMAND", word, [*COMMANDS, *FAMILIES], _MEANT.get(word))


def _no_choice(name: str, value: str, choices: Sequence[str], meant: str | None = None) -> str:
    near = [meant] if meant else difflib.get_close_matches(value, choices, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"argument {name}: invalid choice: {value!r} (choose from {', '.join(map(repr, choices))}){hint}"
