"""What imports load, each in a process of its own, where nothing is loaded before."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_package_loads_nothing_heavy():
    script = "import spa_bench, sys; print(sorted({'torch', 'pandas', 'numpy', 'altair', 'matplotlib'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
