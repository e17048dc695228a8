"""The command line: `spa-bench COMMAND`. Each command is a typed function in its own file, imported when it is called."""

from __future__ import annotations

import errno
import re
import shlex
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from spa_bench.cli.commands import COMMANDS, EXAMPLES, FAMILIES
from spa_bench.cli.completion import INSTALL, WHAT, installer
from spa_bench.cli.mistakes import sentence
from spa_bench.errors import SpaBenchError
from spa_bench.support.interrupt import patiently
from spa_bench.support.version import __version__

_LONGEST_MESSAGE = 3000  # characters: a message that quotes what a file holds may quote all of it
_WIDTH = 76  # characters of a line of examples, so that a terminal of 80 need not break it
_WORD = re.compile(r"(?:'[^']*'|[^\s'])+")  # of a shell: spaces within quotes are part of it
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_NAMED = _FULL | {errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}
"""Errors of the system in which nothing but what the user named can be at fault."""


def build() -> App:
    """The application with all commands. Modules that compute are imported only when their command is called."""
    # the last value of a repeated option counts; there are no options --no-x
    parameter = Parameter(negative=(), allow_repeating=True, show_default=_shown)
    app = App(
        name="spa-bench",
        help="Which way of sampling gives answers that are both good and different?",
        version=f"spa-bench {__version__}",
        default_parameter=parameter,
        help_format="plaintext",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    for name, (place, group, what) in COMMANDS.items():
        app.command(f"spa_bench.cli.{place}", name=name, help=what, group=group, help_epilogue=_examples(name))
    for first, (group, what, _, seconds) in FAMILIES.items():
        every = _examples(*(f"{first} {name}" for name in seconds))
        family = App(name=first, help=what, group=group, default_parameter=parameter, help_epilogue=every)
        for name, (place, what) in seconds.items():
            family.command(f"spa_bench.cli.{place}", name=name, help=what, help_epilogue=_examples(f"{first} {name}"))
        app.command(family)
    app.command(installer(app), name=INSTALL, help=WHAT, help_epilogue=_examples(INSTALL))
    return app


def _shown(value: object) -> str | None:
    """The text for a default in help; None where help shows none."""
    return None if value is None or value is False or value == () else str(value)


def _examples(*names: str) -> str:
    """The examples of commands, broken so that what is copied from a terminal of 80 columns can be pasted into a shell."""
    return "\n".join(["Examples:", *(_broken(example) for name in names for example in EXAMPLES[name])])


def _broken(example: str) -> str:
    """An example in lines of `_WIDTH`, each but the last with a backslash at its end; an option stays with its value."""
    pieces: list[str] = []
    for word in _WORD.findall(example):
        if pieces and re.fullmatch(r"--?[\w-]+", pieces[-1]) and not word.startswith("-"):
            pieces[-1] += f" {word}"
        else:
            pieces.append(word)
    lines = [f"  {pieces[0]}"]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) + len("  \\") <= _WIDTH:
            lines[-1] += f" {piece}"
        else:
            lines[-1] += " \\"
            lines.append(f"      {piece}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code: 0 done, 2 an error that the user can correct (one line on stderr), 130 interrupted.

    `doctor` returns 1 where the main job cannot run, and `check` where runs are worse than their baseline.
    """
    from spa_bench.support.cache import settle
    from spa_bench.support.console import error_line, handler_line, speakable
    from spa_bench.support.memory import is_out_of_memory
    from spa_bench.support.text import without_middle
    from spa_bench.support.threads import still_threads

    still_threads()
    speakable()
    words = list(sys.argv[1:] if argv is None else argv)
    app = build()
    if words == [] or (len(words) == 1 and words[0] in FAMILIES):
        what = FAMILIES[words[0]][2] if words else "COMMAND"
        error_line(f"the following arguments are required: {what}; see {' '.join(['spa-bench', *words])} --help")
        return 2
    try:
        command, given, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        if said := settle():
            error_line(said)
        with patiently(handler_line):
            return command(*given.args, **given.kwargs) or 0
    except CycloptsError as error:
        error_line(sentence(error, words))
        return 2
    except SpaBenchError as error:
        error_line(without_middle(str(error), _LONGEST_MESSAGE))
        return 2
    except KeyboardInterrupt:
        error_line(f"interrupted; nothing that was done is lost, resume with: {shlex.join(['spa-bench', *words])}")
        return 130
    except OSError as error:
        if error.errno not in _NAMED | {errno.ENOMEM}:
            raise
        error_line(_unwritten(error) if error.errno in _NAMED else _out_of_memory(error))
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        error_line(_out_of_memory(error))
        return 2


def _unwritten(error: OSError) -> str:
    more = "; make room or use another folder, and run it again" if error.errno in _FULL else ""
    return f"{error.filename or 'the disk'}: {error.strerror}{more}"


def _out_of_memory(error: BaseException) -> str:
    from spa_bench.support.text import one_line

    said = one_line(error, 200)
    return (
        f"out of memory{said and f' ({said})'}; use a smaller --batch-size, a --dtype of fewer bits or a smaller model, and "
        "run it again: what was done is kept"
    )


def entry() -> None:
    """The console script. An unexpected error gives exit code 70, so that our own fault does not look like a red check."""
    from spa_bench.support.console import keep_exit_code

    keep_exit_code()
    try:
        sys.exit(main())
    except Exception as error:
        import traceback

        from spa_bench.cli.fault import report

        file = report(error, sys.argv[1:])
        traceback.print_exc()
        more = f"please report it with the file {file}" if file else "please report it with the lines above"
        print(f"spa-bench: this is a fault of spa-bench; {more}", file=sys.stderr)
        sys.exit(70)


if __name__ == "__main__":
    entry()
