"""Runs programs that a model wrote, away from the user's files, processes and network.

Four sandboxes, strongest first: `bwrap` (namespaces), `docker` (a container; gVisor where it is configured),
`landlock` (no extra program), and `none-i-trust-this-code`. Inside each, the same code forks a child for each program
(inside/zygote.py) and takes its rights away (inside/guard.py). docs/explanation/security.md has the threat model, what each
layer stops, and what is not covered; how programs are judged is in spa_bench.grading.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence

from spa_bench.errors import SandboxError, UsageError
from spa_bench.sandbox.base import Limits, Sandbox
from spa_bench.sandbox.bwrap import Bwrap
from spa_bench.sandbox.docker import Docker
from spa_bench.sandbox.landlock import LandlockSandbox
from spa_bench.sandbox.none import NoSandbox

__all__ = ["NOT_NEEDED", "SANDBOXES", "Limits", "Sandbox", "choose"]

NOT_NEEDED = "not-needed"
"""The word in place of a sandbox's name where answers are not programs and nothing runs."""
SANDBOXES: Mapping[str, Callable[[], Sandbox]] = {
    Bwrap.name: Bwrap,
    Docker.name: Docker,
    LandlockSandbox.name: LandlockSandbox,
    NoSandbox.name: NoSandbox,
}


def choose(name: str | None = None, packages: Sequence[str] = ()) -> Sandbox:
    """The sandbox of that name after a trial; by default the strongest that works here, and never silently no sandbox.

    Raises UsageError for an unknown name, and SandboxError when the sandbox does not work here or lacks one of the
    `packages` that programs may import.
    """
    if name is not None and name not in SANDBOXES:
        near = [known for known in SANDBOXES if name and known.startswith(name)]
        near += difflib.get_close_matches(name, SANDBOXES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(SANDBOXES)}"
        raise UsageError(f"unknown sandbox {name!r}; {hint}")
    reasons = []
    for candidate in SANDBOXES if name is None else [name]:
        if candidate == NoSandbox.name and name is None:
            break
        try:
            sandbox = SANDBOXES[candidate]()
        except SandboxError as error:
            reasons.append(str(error))
            continue
        sandbox.command(Limits(), packages)  # it raises for a package that is not installed
        return sandbox
    raise SandboxError(
        f"no sandbox here can run untrusted code: {'; '.join(reasons)}; install or repair one (apt-get install bubblewrap) "
        f"or, if you trust the code, pass --sandbox {NoSandbox.name}"
    )
