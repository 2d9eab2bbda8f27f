"""The C library of this process, for those who tell its allocator what to keep."""

import ctypes
from functools import cache

_WANTED = ("gnu_get_libc_version", "mallopt", "malloc_trim")


@cache
def glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc: others have no mallopt, or one that does something else."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if all(hasattr(library, name) for name in _WANTED) else None
