"""The sandboxes for a user who is not root; skipped where there is no interpreter that such a user can run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # that of the tests may lie where only root can read
NOBODY = 65534
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
from spa_bench.grading import Check, Grader, Program
from spa_bench.sandbox import choose
tests = "def check(candidate):\\n    assert candidate(1) == 2\\n"
right = "def f(x):\\n    return x + 1\\n"
threads = "import threading, time\\nfor _ in range(200): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\\n"
pool = "from multiprocessing.dummy import Pool\\ndef f(x):\\n    with Pool(2) as pool: return pool.map(abs, [x + 1])[0]\\n"
sources = [right, "def f(x):\\n    return x\\n", "import os\\nos.fork()\\n" + right, "open('/etc/passwd')\\n", threads + right]
sources += ["import os\\nos.utime('/dev/full')\\n" + right, pool]
with tempfile.TemporaryDirectory() as cache:
    grader = Grader(sandbox=choose(sys.argv[1]), cache=Path(cache), workers=1, packages=())  # that interpreter may have none
    found = dict(grader.run([Program(source=source, entry_point="f", tests=Check(tests)) for source in sources]))
print(json.dumps([[found[i].verdict, found[i].message] for i in range(len(sources))]))
"""


@pytest.mark.parametrize("sandbox", ["bwrap", "landlock"])
def test_an_ordinary_user_has_the_same_sandbox(sandbox: str, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests ran as an ordinary user")
    command = [PYTHON, "-c", SCRIPT, sandbox]
    environment = {"PYTHONPATH": str(ROOT / "harness"), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        version = subprocess.run([PYTHON, "-c", "import sys, enum; enum.StrEnum"], user=NOBODY, group=NOBODY, env=environment)
    except OSError as error:
        pytest.skip(f"no interpreter for an ordinary user: {error}")
    if (
        version.returncode
        or not os.access(ROOT, os.R_OK)
        or any(p.stat().st_mode & 0o005 != 0o005 for p in (ROOT, *ROOT.parents))
    ):
        pytest.skip(f"{PYTHON} is too old, or {ROOT} cannot be read by an ordinary user")
    done = subprocess.run(
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "does not work here" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    passed, wrong, fork, file, threads, now, pool = json.loads(done.stdout)
    assert (passed[0], wrong[0]) == ("passed", "wrong")
    assert fork == ["raised", "PermissionError: [Errno 1] Operation not permitted"]
    assert file[0] == "raised"
    assert threads == ["raised", "RuntimeError: can't start new thread"]
    # anyone who may write to a device may set its times to now
    assert now == ["raised", "PermissionError: [Errno 1] Operation not permitted"]
    assert pool[0] == ("passed" if sandbox == "bwrap" else "raised")
