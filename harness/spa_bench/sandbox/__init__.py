"""Runs programs that a model wrote, away from the user's files, processes and network.

What it covers: host files (only the interpreter and /usr, read only), network, environment, processes that outlive
their program, time, memory, file sizes, floods of output, and programs that leave before their tests are done.

What it does not cover:

- Cheating from inside. Program and tests share one interpreter, so a program can look up the expected values or the
  nonce of its report by walking frames, answer with objects whose `__eq__` always agrees, or replace builtins that
  the tests use. A pass says that the program was not wrong by accident, not that it could not cheat.
- The installed packages can be read, so solutions that one of them ships can be too.
- Kernel bugs: there is no filter on system calls. bwrap before 0.8 also leaves new user namespaces open.
- What outlives a program in memory: System V shared memory is left for the next program of the same worker.
- Total use of the machine: memory is summed over processes only every few hundredths of a second, and RLIMIT_NPROC does
  not bind root (a watch on the number of processes does, at the same pace).
- `none-i-trust-this-code` limits time, memory and file size of well-meant programs, and nothing else.
"""

import difflib
from collections.abc import Callable, Mapping

from spa_bench.errors import SandboxError, UsageError
from spa_bench.sandbox.base import Limits, Outcome, Program, Sandbox
from spa_bench.sandbox.bwrap import Bwrap
from spa_bench.sandbox.none import NoSandbox

__all__ = ["DEFAULT_SANDBOX", "Limits", "Outcome", "Program", "Sandbox", "choose"]

_SANDBOXES: Mapping[str, Callable[[], Sandbox]] = {Bwrap.name: Bwrap, NoSandbox.name: NoSandbox}


DEFAULT_SANDBOX = Bwrap.name  # the strongest there is


def choose(name: str | None = None) -> Sandbox:
    """The sandbox of that name, tried out; by default bwrap, and never silently none.

    Raises UsageError for a name that is not known and SandboxError when bwrap does not work here.
    """
    if name is not None and name not in _SANDBOXES:
        near = difflib.get_close_matches(name, _SANDBOXES, 1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_SANDBOXES)}"
        raise UsageError(f"unknown sandbox {name!r}; {hint}")
    try:
        return _SANDBOXES[name or Bwrap.name]()
    except SandboxError as error:
        raise SandboxError(
            f"no sandbox here can run untrusted code: {error}; install or repair it (apt-get install bubblewrap) "
            f"or, if you trust the code, pass --sandbox {NoSandbox.name}"
        ) from error
