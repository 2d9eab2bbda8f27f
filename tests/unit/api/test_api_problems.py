from collections.abc import Iterator

import pytest

from annotate_server.api.problems import STATUS, body_of, response_of, status_of
from annotate_server.domain.errors import AnnotateError, CaseTaken, TooBusy


def tree(root: type[AnnotateError]) -> Iterator[type[AnnotateError]]:
    yield root
    for below in root.__subclasses__():
        if below.__module__.startswith("annotate_server.domain"):
            yield from tree(below)


@pytest.mark.parametrize("kind", sorted(set(tree(AnnotateError)), key=lambda kind: kind.__name__))
def test_every_error_has_a_row_and_a_body(kind: type[AnnotateError]) -> None:
    assert kind in STATUS
    body = body_of(kind("what is wrong", remedy="Do this"))
    assert 400 <= body.status < 600
    assert "Do this" in body.detail


def test_a_new_error_class_takes_the_status_of_the_one_above_it() -> None:
    class HalfTaken(CaseTaken):
        """Half."""

    assert status_of(HalfTaken("")) == 409


def test_what_can_be_tried_again_says_when_in_header_and_body() -> None:
    response = response_of(body_of(TooBusy("full")), {"type": "http", "path": "/x"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    assert b'"retry_after":2' in bytes(response.body)
    assert response.media_type == "application/problem+json"


def test_a_taken_case_names_person_and_session() -> None:
    error = CaseTaken("anne is at it")
    error.person, error.session = "anne", "s1"
    body = bytes(response_of(body_of(error), {"type": "http", "path": "/x"}).body)
    assert b'"person":"anne"' in body
    assert b'"session":"s1"' in body
