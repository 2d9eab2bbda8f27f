"""What the engine remembers of the last volumes."""

import pytest

from annotate_server.backends.engine.recent import Recent


def test_a_value_is_computed_once() -> None:
    recent: Recent[list[int]] = Recent(2)
    first = recent.get("a", lambda: [1])
    assert recent.get("a", lambda: [2]) is first


def test_what_was_not_asked_for_longest_makes_room() -> None:
    recent: Recent[int] = Recent(2)
    recent.get("a", lambda: 1)
    recent.get("b", lambda: 2)
    recent.get("a", lambda: -1)
    recent.get("c", lambda: 3)
    assert recent.get("a", lambda: -1) == 1
    assert recent.get("b", lambda: 20) == 20


def test_a_failure_is_not_remembered_and_costs_no_other_value() -> None:
    recent: Recent[int] = Recent(1)
    recent.get("a", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        recent.get("b", lambda: 1 // 0)
    assert recent.get("a", lambda: -1) == 1
