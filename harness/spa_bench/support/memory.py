"""How an error says that memory ran out, without the libraries that say so."""

from __future__ import annotations

import re

# torch has a class of its own for CUDA's caching allocator alone; that no primitive could be created is oneDNN's way to say it
_REFUSALS = re.compile(
    "can't allocate memory|not enough memory|out of memory|_STATUS_ALLOC_FAILED|Cannot allocate memory|std::bad_alloc"
    "|could not create a primitive(?! descriptor)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: a MemoryError, torch's own class, or a RuntimeError with such words."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or _REFUSALS.search(str(error)) is not None
    )
