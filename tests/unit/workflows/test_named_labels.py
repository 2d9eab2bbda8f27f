"""Segments of a file that comes in become the project's by name."""

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.labelmap import TISSUE, CodedConcept, Labelmap, Segment
from annotate_server.imaging.unnamed_segments import unnamed_segment
from annotate_server.workflows.named_labels import named_segments, under_names

SPLEEN = Segment(3, "Spleen", (1, 2, 3), CodedConcept("78961009", "SCT", "Spleen"))
LIVER = Segment(7, "Liver", (4, 5, 6), CodedConcept("10200004", "SCT", "Liver"))
GREY = (9, 9, 9)


def test_a_name_says_more_than_the_value_and_the_code_that_a_program_gives_everything() -> None:
    theirs = (Segment(1, " liver", GREY, TISSUE), Segment(2, "SPLEEN", GREY, TISSUE))
    assert under_names((SPLEEN, LIVER), theirs) == ((1, LIVER), (2, SPLEEN))


def test_a_code_finds_what_has_another_name() -> None:
    assert under_names((SPLEEN, LIVER), (Segment(1, "Milz", GREY, SPLEEN.kind),)) == ((1, SPLEEN),)


def test_what_the_project_does_not_have_is_added_and_takes_nobodys_place() -> None:
    theirs = (Segment(3, "Cyst", GREY), Segment(7, "Spleen", GREY), Segment(1, "spleen ", GREY))
    found = dict(under_names((SPLEEN, LIVER), theirs))
    assert found[7] == SPLEEN
    assert {found[3].name, found[1].name} == {"Cyst", "spleen "}
    indices = [segment.index for segment in found.values()]
    assert len(set(indices)) == 3
    assert LIVER.index not in indices


@pytest.mark.parametrize("count", [1, 104])
def test_without_a_project_every_name_is_kept(count: int) -> None:
    theirs = tuple(Segment(n, f"Part {count - n}", GREY) for n in range(1, count + 1))
    found = under_names((), theirs)
    assert [segment.name for _, segment in found] == [segment.name for segment in theirs]
    assert len({segment.index for _, segment in found}) == count


def test_only_a_file_without_names_is_named() -> None:
    geometry = oblique_geometry((2, 3, 4))
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[0, 1, 2] = 2
    plain = Labelmap(voxels, geometry, (unnamed_segment(2),))
    asked: list[list[int]] = []

    def naming(values: object) -> list[tuple[int, str]]:
        asked.append(list(values))  # type: ignore[call-overload]
        return [(1, "Spleen"), (2, "Liver")]

    assert [(s.index, s.name) for s in named_segments(plain, naming)] == [(1, "Spleen"), (2, "Liver")]
    assert asked == [[2]]
    assert named_segments(Labelmap(voxels, geometry, (LIVER, Segment(2, "Cyst", GREY))), naming)[1].name == "Cyst"
    assert len(asked) == 1
