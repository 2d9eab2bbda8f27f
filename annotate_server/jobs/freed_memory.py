"""Memory that a worker has freed and that the C library keeps: after a whole draft these are hundreds of megabytes."""

import ctypes
from functools import cache


def give_freed_back() -> None:
    """Hand freed memory back to the system; where there is no glibc this does nothing.

    It is for moments in which nobody waits: whatever computes next has to ask the system for its pages again.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
