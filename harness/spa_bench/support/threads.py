"""How the threads of torch wait for one another."""

from __future__ import annotations

import os


def still_threads() -> None:
    """Let threads that wait for others sleep, if torch is not loaded yet: on a busy machine spinning costs many times more."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
