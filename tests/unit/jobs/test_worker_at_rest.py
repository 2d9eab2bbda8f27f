"""What a worker does while nobody asks it anything."""

import socket
import threading

import pytest

from annotate_server.imaging.channel import Channel
from annotate_server.jobs import worker
from annotate_server.jobs.freed_memory import give_freed_back


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr(worker, "give_freed_back", lambda: times.append(0.0))
    return times


def test_a_worker_at_rest_gives_freed_memory_back_once_and_one_at_work_does_not(
    given_back: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inbox = worker._Inbox(Channel(ours))
        first, second = worker._Call("one"), worker._Call("two")
        inbox.calls.put(first)
        assert inbox.next_call() is first
        assert not given_back
        monkeypatch.setattr(worker, "_AT_REST_S", 0.01)
        threading.Timer(0.2, lambda: inbox.calls.put(second)).start()
        assert inbox.next_call() is second
        assert len(given_back) == 1


def test_freed_memory_is_given_back_without_harm() -> None:
    kept = bytearray(b"kept")
    give_freed_back()
    assert kept == b"kept"
