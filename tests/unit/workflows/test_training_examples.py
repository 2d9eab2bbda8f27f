"""A stored label as what a network learns from: segments by meaning, silence as IGNORED or unknown."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.domain.training import IGNORED, Part, TrainingEntry, TrainingSet
from annotate_server.domain.volume import Volume
from annotate_server.workflows.training_examples import example
from annotate_server.workflows.training_set_json import read_training_set

GRID = oblique_geometry((5, 7, 6))
LIVER = Segment(1, "Liver", (221, 130, 101), CodedConcept("10200004", "SCT", "Liver"))
SPLEEN = Segment(2, "Spleen", (157, 108, 162))
TUMOUR = Segment(3, "Tumour", (144, 238, 144), laterality=CodedConcept("7771000", "SCT", "Left"))
VOLUME = Volume(np.zeros(GRID.shape, np.int16), GRID)


def a_set(*segments: Segment) -> TrainingSet:
    entry = TrainingEntry("c0", "l0", "patient", Part.TRAIN, segments, site="CT", is_new=True)
    return TrainingSet("organs", segments, (entry, replace(entry, label_id="l1", part=Part.GATE, is_partial=True)))


def voxels(**boxes: int) -> np.ndarray:
    made = np.zeros(GRID.shape, np.uint8)
    for plane, value in boxes.items():
        made[int(plane[1:]), 2:5, 1:4] = value
    return made


def target(training_set: TrainingSet, *layers: Labelmap, at: int = 0) -> np.ndarray:
    return example(training_set.entries[at], training_set, VOLUME, layers).target


def test_the_digest_of_a_set_is_that_of_its_bytes_and_it_comes_back_equal() -> None:
    training_set = a_set(LIVER, SPLEEN, TUMOUR)
    content = training_set.content
    assert hashlib.sha256(content).hexdigest() == training_set.digest
    assert read_training_set(content) == training_set
    assert read_training_set(content).content == content


@pytest.mark.parametrize("damage", ["entries", "segments"])
def test_a_set_that_was_cut_short_is_refused(damage: str) -> None:
    table = json.loads(a_set(LIVER).content)
    del table[damage]
    with pytest.raises(StorageFailed, match="training set"):
        read_training_set(json.dumps(table).encode())


def test_segments_are_matched_by_code_then_by_name_and_never_by_position() -> None:
    theirs = (Segment(1, "Spleen", (1, 2, 3)), Segment(2, "Hepar", (4, 5, 6), LIVER.kind))
    label = Labelmap(voxels(k1=1, k2=2), GRID, theirs)
    found = target(a_set(LIVER, SPLEEN), label)
    assert (found[1, 2:5, 1:4] == SPLEEN.index).all()
    assert (found[2, 2:5, 1:4] == LIVER.index).all()
    assert found.dtype == np.int16


def test_a_segment_that_the_set_lacks_is_background_and_one_that_the_label_lacks_is_unknown() -> None:
    training_set = a_set(LIVER, SPLEEN)
    entry = replace(training_set.entries[0], segments=(LIVER,))
    label = Labelmap(voxels(k1=1, k3=9), GRID, (LIVER, Segment(9, "Kidney", (1, 1, 1))))
    made = example(entry, training_set, VOLUME, (label,))
    assert set(np.unique(made.target)) == {0, LIVER.index}
    assert made.known == {LIVER.index}


def test_a_partial_label_says_nothing_about_slices_in_which_it_holds_nothing() -> None:
    training_set = a_set(LIVER, SPLEEN)
    label = Labelmap(voxels(k1=1, k3=2), GRID, (LIVER, SPLEEN))
    found = target(training_set, label, at=1)
    assert (found[[0, 2, 4]] == IGNORED).all()
    assert not (found[[1, 3]] == IGNORED).any()
    assert (found[1] == 0).any()
    assert not (target(training_set, label, at=0) == IGNORED).any()


def test_of_overlapping_segments_the_smaller_one_counts_whatever_the_order_of_layers() -> None:
    whole, inside = voxels(k1=1, k2=1), np.zeros(GRID.shape, np.uint8)
    inside[1, 3, 2] = 3
    layers = Labelmap(whole, GRID, (LIVER,)), Labelmap(inside, GRID, (TUMOUR,))
    training_set = a_set(LIVER, SPLEEN, TUMOUR)
    for order in (layers, layers[::-1]):
        found = target(training_set, *order)
        assert found[1, 3, 2] == TUMOUR.index
        assert np.count_nonzero(found == LIVER.index) == np.count_nonzero(whole) - 1


def test_a_label_on_another_grid_than_its_volume_is_refused() -> None:
    other = oblique_geometry((5, 7, 7))
    label = Labelmap(np.zeros(other.shape, np.uint8), other, (LIVER,))
    with pytest.raises(StorageFailed, match="another grid"):
        target(a_set(LIVER), label)
