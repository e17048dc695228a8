"""The report of a fault of spa-bench: a text file that a user can read through and attach, without data or secrets.

It holds versions, the platform, the command line, the spec of the run in hand, and the traceback: types, files, lines and
functions. Messages of exceptions and local values are left out, because they can hold texts of the user.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from spa_bench.support.version import __version__

_LIBRARIES = (
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "safetensors",
    "cyclopts",
    "rich",
    "vllm",
    "openai",
    "ray",
)
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|authorization", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|hf|ghp|gho|xox[abp]|pk|rk)[-_][A-Za-z0-9_-]{8,}|(?<=://)[^/\s@]+@")
_LEAST = 6  # characters of a value of the environment that is looked for: shorter ones are in ordinary words
_PACKAGES = ("site-packages", "dist-packages", "spa_bench", f"python{sys.version_info[0]}.{sys.version_info[1]}")


def report(error: BaseException, words: Sequence[str]) -> Path | None:
    """The file with the report of `error`, which the command line `words` met; None where no place can be written.

    It lies beside the run in hand, else in the current folder, else in the folder of temporary files. Never raises.
    """
    try:
        run = _run_in_hand(error)
        content = _text(error, words, run[1] if run else None).encode("utf-8", "backslashreplace")
    except Exception:  # the report of a fault must not hide the fault
        return None
    name = f"spa-bench-fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for place in (*([run[0].parent] if run else []), Path(), Path(tempfile.gettempdir())):
        try:
            with (place / name).open("xb") as stream:
                stream.write(content)
            return place / name
        except OSError:
            continue
    return None


def _text(error: BaseException, words: Sequence[str], spec: object) -> str:
    parts = [
        "A fault of spa-bench. This file holds no answers, no prompts and no keys; read it through before you send it.",
        "\n".join(f"{name} {version}" for name, version in _versions()),
        f"command: spa-bench {shlex.join(_without_secrets(words))}",
        *([] if spec is None else [f"spec of the run:\n{json.dumps(_plain(spec), indent=1)}"]),
        "\n".join(_trace(error)),
    ]
    return _clean("\n\n".join(parts)) + "\n"


def _versions() -> Iterator[tuple[str, str]]:
    yield "spa-bench", __version__
    yield "Python", platform.python_version()
    yield "platform", platform.platform()
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _without_secrets(words: Sequence[str]) -> Iterator[str]:
    """The words of a command line; what follows the name of a secret is `***`."""
    hide = False
    for word in words:
        name, equals, value = word.rpartition("=")
        if hide and not word.startswith("--"):
            yield "***"
        elif equals and _SECRET_NAME.search(name):
            yield f"{name}=***" if value else word
        else:
            yield word
        hide = word.startswith("-") and not equals and bool(_SECRET_NAME.search(word))


def _plain(spec: object) -> object:
    """`spec` without values of keys that name secrets, and without long texts, which may be the user's."""
    if isinstance(spec, dict):
        return {k: "***" if _SECRET_NAME.search(str(k)) and isinstance(v, str) and v else _plain(v) for k, v in spec.items()}
    if isinstance(spec, list):
        return [_plain(value) for value in spec]
    return f"(a text of {len(spec)} characters)" if isinstance(spec, str) and len(spec) > 200 else spec


def _trace(error: BaseException) -> Iterator[str]:
    """The traceback with the errors behind `error`, outermost first; lines of source of packages alone."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None:
        yield from _trace(behind)
        yield "which led to:"
    yield "Traceback (most recent call last):"
    for frame in traceback.extract_tb(error.__traceback__):
        known = any(part in _PACKAGES for part in Path(frame.filename).parts)
        yield f'  File "{frame.filename if known else Path(frame.filename).name}", line {frame.lineno}, in {frame.name}'
        if known and frame.line:
            yield f"    {frame.line}"
    yield f"{type(error).__module__}.{type(error).__qualname__} (its message is left out: it may hold your data)"


def _clean(text: str) -> str:
    """`text` without values of secrets in the environment, and with `~` for the home folder."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _LEAST:
            text = text.replace(value, "***")
    text = _SECRET.sub("***", text)
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def _run_in_hand(error: BaseException) -> tuple[Path, object] | None:
    """(folder, spec) of the run on which the code worked where `error` was raised; None where it worked on none."""
    module = sys.modules.get("spa_bench.runs.folder")
    if module is None:
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            if isinstance(value, module.RunFolder):
                return value.path, value.spec
    return None
