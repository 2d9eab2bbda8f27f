"""Parts, checksums and archives of what is made while it is sent; and names that clients wish for."""

import hashlib
import io
import zipfile

import pytest
from fastapi import HTTPException

from annotate_server.api.monailabel.archive import zipped
from annotate_server.api.monailabel.ranges import Span, asked_span, has_checksum
from annotate_server.api.monailabel.wished import WishedNames
from annotate_server.domain.errors import InvalidRequest

PARTS = (b"NRRD", b"", b"0123456789", b"tail")
WHOLE = b"".join(PARTS)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", b"NRRD"),
        ("bytes=2-6", b"RD012"),
        ("bytes=4-", b"0123456789tail"),
        ("bytes=-4", b"tail"),
        ("bytes=16-900", b"il"),
        ("bytes=-900", WHOLE),
    ],
)
def test_a_range_gives_its_bytes(header: str, expected: bytes) -> None:
    span = asked_span(header, len(WHOLE))
    assert span is not None
    assert b"".join(span.cut(PARTS)) == expected
    assert span.stop - span.start == len(expected)


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b"])
def test_what_is_no_single_range_is_answered_whole(header: str | None) -> None:
    assert asked_span(header, len(WHOLE)) is None


@pytest.mark.parametrize("header", ["bytes=18-", "bytes=900-901", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_length(header: str) -> None:
    with pytest.raises(HTTPException) as caught:
        asked_span(header, len(WHOLE))
    assert caught.value.status_code == 416
    assert caught.value.headers == {"Content-Range": "bytes */18"}


def test_a_range_says_where_it_lies() -> None:
    assert Span(2, 7, 18).header() == "bytes 2-6/18"


def test_a_checksum_is_compared_and_an_unknown_kind_is_refused() -> None:
    right = hashlib.sha256(WHOLE).hexdigest()
    assert has_checksum(PARTS, f"SHA256:{right}")
    assert has_checksum(PARTS, right.upper())
    assert has_checksum(PARTS, f"sha512:{hashlib.sha512(WHOLE).hexdigest()}")
    assert not has_checksum(PARTS, f"SHA256:{right[:-1]}0" if right[-1] != "0" else f"SHA256:{right[:-1]}1")
    with pytest.raises(InvalidRequest, match="another kind"):
        has_checksum(PARTS, "MD5:00")


def test_an_archive_comes_in_pieces_and_can_be_read() -> None:
    pieces = list(zipped([("image/a.nrrd", PARTS), ("metadata.json", (b"{}",)), ("empty", ())]))
    assert sum(bool(piece) for piece in pieces) > 3, "nothing waits until the end"
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["image/a.nrrd", "metadata.json", "empty"]
        assert archive.read("image/a.nrrd") == WHOLE


def test_a_wished_name_means_what_the_same_person_sent_in_last() -> None:
    names = WishedNames()
    names.remember("anne", "CT", "one")
    names.remember("bob", "CT", "two")
    names.remember("anne", "CT", "three")
    names.remember("anne", "", "four")
    assert (names.find("anne", "CT"), names.find("bob", "CT")) == ("three", "two")
    assert names.find("carl", "CT") is None
    assert names.find("anne", "") is None


def test_wished_names_do_not_fill_the_memory() -> None:
    names = WishedNames()
    for number in range(3000):
        names.remember("anne", f"CT {number}", f"case{number}")
    assert names.find("anne", "CT 0") is None
    assert names.find("anne", "CT 2999") == "case2999"
