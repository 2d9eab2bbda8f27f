"""Memory that a worker has freed and that the C library keeps: after a whole draft these are hundreds of megabytes."""

from annotate_server.imaging.c_library import glibc


def give_freed_back() -> None:
    """Hand freed memory back to the system; where there is no glibc this does nothing.

    It is for moments in which nobody waits: whatever computes next has to ask the system for its pages again.
    """
    library = glibc()
    if library is not None:
        library.malloc_trim(0)
