"""Seeds derived by hashing, so that a draw does not depend on n, limit, order or batch."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from `parts`: blake2b over their text, each prefixed by its length."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = str(part).encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return int.from_bytes(digest.digest(), "little") >> 1


def draw_seed(run_seed: int, task: str, problem: str, member: int, draw: int) -> int:
    """The seed of one draw: blake2b(run seed, task, problem, member, draw)."""
    return derive_seed(run_seed, task, problem, member, draw)
