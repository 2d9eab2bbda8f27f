"""Frames, stored layers and change records: bytes out, the same values in, and a sentence for anything else."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import InvalidRequest, StorageFailed
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.imaging.change_record import Change, decode_change, encode_change
from annotate_server.imaging.frame import Frame, decode_frame, encode_frame
from annotate_server.imaging.label_reading import LabelmapPlace, read_labelmap_from
from annotate_server.imaging.layer_file import read_layer_into
from annotate_server.imaging.seg_nrrd_writing import segment_boxes, write_seg_nrrd

GRID = oblique_geometry((4, 6, 5))
LIVER = Segment(1, "Léber", (221, 130, 101), CodedConcept("10200004", "SCT", "Liver"))
FAR = Segment(300, "Far", (1, 2, 3), laterality=CodedConcept("7771000", "SCT", "Left"))


def a_frame(dtype: str = "uint8") -> Frame:
    voxels = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    return Frame("case", "session", 7, Box((1, 2, 0), (3, 5, 4)), voxels, GRID.digest(), (LIVER, FAR), ("note",), True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_frame_comes_back_as_it_was(dtype: str) -> None:
    frame = a_frame(dtype)
    back = decode_frame(encode_frame(frame))
    np.testing.assert_array_equal(back.voxels, frame.voxels)
    assert back.voxels.dtype == frame.voxels.dtype
    assert {**vars(back), "voxels": None} == {**vars(frame), "voxels": None}


def test_the_wire_is_as_the_contract_says() -> None:
    content = encode_frame(a_frame("uint16"))
    assert content[:4] == b"ANF1"
    (length,) = struct.unpack("<I", content[4:8])
    header = json.loads(content[8 : 8 + length])
    assert (header["box_kji"], header["shape"], header["dtype"]) == ([[1, 2, 0], [3, 5, 4]], [2, 3, 4], "uint16")
    assert content[8 + length :] == np.arange(24, dtype="<u2").tobytes()


def crafted(**changes: object) -> bytes:
    header = {"revision": 0, "box_kji": [[0, 0, 0], [1, 1, 2]], "dtype": "uint8"} | changes
    text = json.dumps(header).encode()
    return b"ANF1" + struct.pack("<I", len(text)) + text + b"\1\2"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ANF1",
        b"ANF2" + crafted()[4:],
        b"ANF1\xff\xff\xff\xff{}",
        crafted()[:20],
        crafted() + b"\3",
        crafted(dtype="float64"),
        crafted(dtype=["uint8"]),
        crafted(revision="1"),
        crafted(revision=True),
        crafted(box_kji=[[0, 0, 0], [1, 1]]),
        crafted(box_kji=[[0, 0, 2], [1, 1, 0]]),
        crafted(box_kji=[[-1, 0, 0], [0, 1, 2]]),
        crafted(box_kji=[[0, 0, 0], [1, 1, 2.0]]),
        crafted(box_kji=[[0, 0, 0], [2**40, 2**40, 2**40]]),
        crafted(segments=[{"index": 1}]),
        crafted(segments="x"),
        b"ANF1" + struct.pack("<I", 2) + b"[]",
        b"ANF1" + struct.pack("<I", 20_000) + b"[" * 20_000,
    ],
)
def test_what_is_no_frame_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_frame(content)


def test_a_layer_is_a_file_that_other_programs_read_and_comes_back_plane_by_plane(tmp_path: Path) -> None:
    voxels = np.zeros(GRID.shape, np.uint16)
    voxels[1:3, 2:5, 0:2], voxels[3, 0, 4] = 1, 300
    write_seg_nrrd((Labelmap(voxels, GRID, (LIVER, FAR)),), tmp_path / "blob")
    target = np.full(GRID.shape, 9, np.uint16)
    read_layer_into(tmp_path / "blob", target)
    np.testing.assert_array_equal(target, voxels)
    (tmp_path / "blob").rename(tmp_path / "l.seg.nrrd")
    (other,) = read_labelmap_from(LabelmapPlace(tmp_path / "l.seg.nrrd", GRID))
    np.testing.assert_array_equal(other.voxels, voxels)
    assert [s.name for s in other.segments] == ["Léber", "Far"]


@pytest.mark.parametrize("cut", [10, 200, -9])
def test_a_damaged_layer_is_no_labelmap(tmp_path: Path, cut: int) -> None:
    write_seg_nrrd((Labelmap(np.ones(GRID.shape, np.uint8), GRID, (LIVER,)),), tmp_path / "blob")
    content = (tmp_path / "blob").read_bytes()
    (tmp_path / "blob").write_bytes(content[:cut])
    with pytest.raises(StorageFailed, match="damaged"):
        read_layer_into(tmp_path / "blob", np.zeros(GRID.shape, np.uint8))


def test_the_boxes_of_all_segments_are_found_in_one_pass() -> None:
    rng = np.random.default_rng(4)
    voxels = np.where(rng.random((5, 7, 6)) < 0.05, rng.integers(1, 9, (5, 7, 6)), 0).astype(np.uint8)
    found = segment_boxes(voxels)
    assert set(found) == set(np.unique(voxels)) - {0}
    assert all(found[index] == Box.around(voxels == index) for index in found)


def test_a_change_comes_back_as_it_was_and_damage_is_found() -> None:
    before = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    content = encode_change(Change(before, before + 1))
    back = decode_change(content)
    np.testing.assert_array_equal(back.before, before)
    np.testing.assert_array_equal(back.after, before + 1)
    for damaged in (content[:-3], b"XXXX" + content[4:], content[:30], b""):
        with pytest.raises(StorageFailed, match="damaged"):
            decode_change(damaged)
