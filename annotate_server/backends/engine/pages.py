"""Keeping freed memory while a network runs on a CPU, so that each layer does not ask the system for new pages.

The features of one layer are larger than what glibc keeps (32 MB at most): it would hand them back after every layer,
and the system would clear the same pages again for the next, which takes a fifth of a network's time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from annotate_server.imaging.c_library import glibc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of mallopt(3)."""
_USUAL_MAPPINGS, _USUAL_BYTES = 65_536, 32 << 20
"""glibc's own limits, the second being where its dynamic threshold ends once large blocks were freed."""

_lock = threading.Lock()
_users = 0


@contextmanager
def pages_kept() -> Iterator[None]:
    """Keep what is freed within the block, and hand it back at its end; does nothing where there is no glibc."""
    global _users  # noqa: PLW0603  the allocator belongs to the process, and so does its count of users
    library = glibc()
    if library is None:
        yield
        return
    with _lock:
        _users += 1
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                library.mallopt(_MMAP_MAX, _USUAL_MAPPINGS)
                library.mallopt(_MMAP_THRESHOLD, _USUAL_BYTES)
                library.mallopt(_TRIM_THRESHOLD, 2 * _USUAL_BYTES)
                library.malloc_trim(0)
