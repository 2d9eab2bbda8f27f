from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from annotate_server.domain.timing import counted_parts, part


def test_a_part_that_happens_twice_is_counted_together() -> None:
    with counted_parts() as parts:
        for _ in range(2):
            with part("blob"):
                pass
        first = parts["blob"]
        with part("blob"):
            sum(range(1000))
    assert set(parts) == {"blob"}
    assert parts["blob"] > first > 0


def test_a_thread_that_takes_the_context_along_counts_too() -> None:
    with counted_parts() as parts, ThreadPoolExecutor(1) as threads:
        threads.submit(copy_context().run, _timed, "worker").result()
    assert set(parts) == {"worker"}


def test_nothing_is_counted_where_nobody_counts_and_no_count_sees_another() -> None:
    with counted_parts() as outer:
        with counted_parts() as inner:
            _timed("inner")
        _timed("outer")
    _timed("nobody")
    assert (set(outer), set(inner)) == ({"outer"}, {"inner"})


def _timed(name: str) -> None:
    with part(name):
        pass
