"""Probes: the inputs on which programs of one problem are compared by what they do.

Where tests are data, the probes are the first inputs of the first suite. Where tests are code, they are the arguments of the
first distinct calls that the tests make to the reference solution, recorded in the sandbox (behave.py). Both are kept in the
cache beside the reference's behaviour, in the files of suites.py. A problem whose reference does not pass has no probes; that
is not cached, and each run tries again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from spa_bench.grading.base import Calls, Check
from spa_bench.grading.suites import FrameFile, SuiteFiles, write_frames
from spa_bench.sandbox.inside import wire

PROBES = 16  # for each problem; more probes tell more programs apart, and each costs every program a call


def probes_key(tests: Check | Calls, entry_point: str, suite_key: str) -> str:
    """The name of the files of a problem's probes; `suite_key` is that of the first suite where tests are data."""
    parts = ["probes 2", PROBES, entry_point, platform.python_version()]
    parts += [suite_key] if isinstance(tests, Calls) else [tests.source, tests.helpers]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def known(folder: Path, key: str) -> int:
    """The number of a problem's probes in the cache; 0 where they are missing or incomplete."""
    return SuiteFiles(folder, key).count(lambda path: len(FrameFile(path))) or 0


def write_inputs(folder: Path, key: str, tests: Calls) -> None:
    """Write the inputs of a problem whose tests are data, as (arguments, names and values)."""
    inputs: Sequence[Sequence[object]] = tests.suites[0].inputs() if tests.suites else ()
    frames = [wire.encode((list(arguments), {})) for arguments in islice(inputs, PROBES)]
    write_frames(SuiteFiles(folder, key).inputs, frames)


def settings(tests: Check | Calls) -> dict[str, Any]:
    """The settings of the tests that jobs on a problem's probes contain."""
    if isinstance(tests, Check):
        return {"together": True, "oracle": "equal", "atol": 0.0}
    first = tests.suites[0] if tests.suites else None
    return {"together": False, "oracle": first.oracle if first else "equal", "atol": first.atol if first else 0.0}


def measuring(tests: Check | Calls) -> dict[str, Any]:
    """The settings that the job that finds a problem's probes has beside `settings`."""
    if isinstance(tests, Calls):
        return {"source": tests.reference}
    return {"source": tests.helpers, "tests": tests.source, "helpers": tests.helpers, "noted": PROBES}
