from annotate_server.domain.case_changes import CaseChanges


def test_what_changed_since_is_told_once_each_newest_last() -> None:
    changed = CaseChanges()
    changed.note(["a", "b", "c"])
    seen = changed.count
    assert changed.since(seen) == ()
    changed.note(["b"])
    changed.note(iter(["d", "b"]))
    assert changed.since(seen) == ("d", "b")
    assert changed.since(0) == ("a", "c", "d", "b")
    assert changed.count > seen


def test_a_case_that_changes_again_is_remembered_in_one_place_only() -> None:
    changed = CaseChanges()
    for _ in range(1000):
        changed.note(["a"])
    assert (changed.count, changed.since(0), len(changed._newest)) == (1000, ("a",), 1)
