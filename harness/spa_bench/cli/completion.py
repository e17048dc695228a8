"""`spa-bench --install-completion`: lets the shell complete commands, options and names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from spa_bench.cli.options import OUTPUT, a_path, option
from spa_bench.errors import UsageError

INSTALL = "--install-completion"
WHAT = "let the shell complete commands, options and names; adds a line to ~/.bashrc or ~/.zshrc unless --output is given"


def installer(app: App) -> Callable[..., None]:
    """The command that installs the completion of `app`."""

    def install(
        *,
        shell: Annotated[
            Literal["bash", "zsh", "fish"] | None, option("whose completion (default: the shell here)", OUTPUT)
        ] = None,
        output: Annotated[
            Path | None,
            a_path(
                "write it there, and edit no other file (default: where the shell looks, and a line in its start file)",
                OUTPUT,
                metavar="FILE",
                name=("--output", "-o"),
            ),
        ] = None,
    ) -> None:
        """Let the shell complete commands, options and names."""
        from cyclopts.completion.detect import ShellDetectionError

        try:
            path = app.install_completion(shell=shell, output=output, add_to_startup=output is None)
        except ShellDetectionError as error:
            raise UsageError("the shell is none of bash, zsh and fish; name one with --shell") from error
        except OSError as error:
            raise UsageError(
                f"cannot write {error.filename or output}: {error.strerror}; name another file with --output"
            ) from error
        edited = " and a line that reads it to the shell's start file" if output is None and shell != "fish" else ""
        print(f"completion written to {path}{edited}; open a new shell" if output is None else f"completion written to {path}")

    return install
