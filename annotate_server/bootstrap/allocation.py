"""How the C library deals with memory that is given back."""

import ctypes
import sys

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's malloc.h."""
_LARGE_BYTES = 1 << 20


def give_large_blocks_back() -> None:
    """Return every block of 1 MB or more to the system as soon as it is freed; for a process that runs for weeks.

    Unless its limit is set, glibc raises it to the largest block that was freed, up to 32 MB, and keeps what is smaller
    in the arenas of the threads: a labelmap of 16 MB that passed through each of 64 threads is then never given back.
    Elsewhere than with glibc this does nothing.
    """
    if sys.platform.startswith("linux"):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
