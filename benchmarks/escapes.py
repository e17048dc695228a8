"""What hostile programs get away with, in evalplus 0.3.1 and in each sandbox here, as a Markdown table.

    python benchmarks/escapes.py

The programs are harmless: they write to, read from, listen in and start processes in a folder that is removed. Each either
leaves a trace outside or passes tests that it does not solve. This script prints the table in docs/explanation/security.md.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from spa_bench.errors import SandboxError
from spa_bench.grading import Calls, Grader, Program
from spa_bench.sandbox import choose
from spa_bench.types import CallSuite

REFERENCE = "def f(x):\n    return x * 7919 % 104729\n"
INPUTS = [[3], [41]]
SECRET = "5d41402abc4b2a76"
ANSWER = "    return x * 7919 % 104729\n"


def attacks(folder: Path, port: int) -> dict[str, tuple[str, Callable[[bool], bool]]]:
    """Name -> (program, whether it succeeded, given whether it passed). They may use `folder`; `port` listens."""
    new, secret, mark = folder / "new", folder / "secret", folder / "mark"

    def wrote(passed: bool) -> bool:
        found = new.exists()
        new.unlink(missing_ok=True)
        return found

    def deleted(passed: bool) -> bool:
        gone = not mark.exists()
        mark.write_text("x")
        return gone

    def got_through(passed: bool) -> bool:
        return passed

    mark.write_text("x")
    secret.write_text(SECRET)
    if_read = f"    assert {SECRET!r} in text\n" + ANSWER
    fork = "import posix, time\ndef f(x):\n    for _ in range(50):\n        if not posix.fork():\n"
    fork += "            time.sleep(20)\n            posix._exit(0)\n" + ANSWER
    lying = "class Any:\n    def __eq__(self, other): return True\ndef f(x):\n    return Any()\n"
    frames = """import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name in ("expected", "exp"):
            if name in frame.f_locals: values = frame.f_locals[name]
        if "i" in frame.f_locals and "expected" in frame.f_locals:
            return frame.f_locals["expected"][frame.f_locals["i"]]
        frame = frame.f_back
"""
    allclose = "import sys\nclass Odd(float):\n    def __eq__(self, other): return True\ndef f(x):\n    return Odd(0)\n"
    return {
        "write a file, `io.open`": (f"import io\ndef f(x):\n    io.open({str(new)!r}, 'w').close()\n" + ANSWER, wrote),
        "write a file, `os.open`": (f"import os\ndef f(x):\n    os.open({str(new)!r}, os.O_CREAT)\n" + ANSWER, wrote),
        "write a file, `pathlib`": (f"import pathlib\ndef f(x):\n    pathlib.Path({str(new)!r}).touch()\n" + ANSWER, wrote),
        "delete a file, `posix.unlink`": (f"import posix\ndef f(x):\n    posix.unlink({str(mark)!r})\n" + ANSWER, deleted),
        "read a file": (f"import io\ndef f(x):\n    text = io.open({str(secret)!r}).read()\n" + if_read, got_through),
        "read the harness' environment": (
            "import glob, io\ndef f(x):\n    text = ''\n    for path in glob.glob('/proc/*/environ'):\n        try: text += "
            "io.open(path, errors='replace').read()\n        except OSError: pass\n" + if_read,
            got_through,
        ),
        "connect a socket": (
            f"import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', {port}), 2)\n" + ANSWER,
            got_through,
        ),
        "start a shell": (
            "import _posixsubprocess, os, posix, time\ndef f(x):\n"
            f"    posix.posix_spawn('/bin/sh', ['sh', '-c', 'echo > {new}'], {{}})\n    time.sleep(0.3)\n" + ANSWER,
            wrote,
        ),
        "leave 50 processes behind": (fork, left_processes),
        "pass by `__eq__`": (lying, got_through),
        "pass by a subclass of float": (allclose, got_through),
        "pass by reading the expected values in a frame": (frames, got_through),
    }


def left_processes(passed: bool) -> bool:
    """Whether sleeping copies of a grader are left; they are ended."""
    time.sleep(0.2)
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            pid, parent = int(stat.parent.name), int(stat.read_text().rsplit(")", 1)[1].split()[1])
            ours = os.getpgid(pid) == os.getpgid(0) or parent == 1
            recent = time.time() - stat.parent.stat().st_mtime < 30
            if pid != os.getpid() and ours and recent and b"escapes" in (stat.parent / "cmdline").read_bytes():
                found.append(pid)
    for pid in found:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return len(found) >= 10


def by_evalplus(source: str) -> bool:
    """Whether the program passes in evalplus."""
    from evalplus.eval import untrusted_check

    scope: dict[str, Callable[[int], int]] = {}
    exec(REFERENCE, scope)  # ours
    expected = [scope["f"](*arguments) for arguments in INPUTS]
    status, _ = untrusted_check("humaneval", source, INPUTS, "f", expected, 0, [0.1] * len(INPUTS), fast_check=True)
    return bool(status == "pass")


def by_ours(name: str, cache: Path) -> Callable[[str], bool]:
    """The same for a sandbox. Raises SandboxError where it does not work."""
    grader = Grader(sandbox=choose(name), cache=cache, workers=1)
    suite = CallSuite(name="base", inputs=lambda: INPUTS)

    def passes(source: str) -> bool:
        [(_, outcome)] = grader.run([Program(source=source, entry_point="f", tests=Calls((suite,), REFERENCE), problem=name)])
        return outcome.verdict == "passed"

    return passes


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port of this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def main() -> None:
    """Print the table."""
    if os.environ.get("SPA_BENCH_ESCAPES") != SECRET:  # it must be there from the start to be found in /proc
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "SPA_BENCH_ESCAPES": SECRET})
    with tempfile.TemporaryDirectory(prefix="escapes-", dir="/var/tmp") as name, listening() as port:
        folder = Path(name)
        graders: dict[str, Callable[[str], bool]] = {"evalplus 0.3.1": by_evalplus}
        for sandbox in ("bwrap", "landlock", "docker"):
            try:
                graders[sandbox] = by_ours(sandbox, folder)
            except SandboxError as error:
                print(f"left out: {sandbox} ({error})", file=sys.stderr)
        print("| program tries to | " + " | ".join(graders) + " |\n|---|" + "---|" * len(graders))
        for attack, (source, succeeded) in attacks(folder, port).items():
            cells = ["succeeds" if succeeded(passes(source)) else "fails" for passes in graders.values()]
            print(f"| {attack} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
