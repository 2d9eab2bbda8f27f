"""Training examples: a stored label and its volume as what a network learns from.

**Which segment is which** is decided by code (and side), else by name, never by position. **What a label does not speak
about:** a segment that it does not list may be anywhere in its background (`Example.known` lacks it); a partial label
says nothing about the slices in which it holds no voxel at all (`IGNORED`). What a label holds of segments that the
training set lacks is background. **Where segments overlap** (layers), a network that gives one answer a voxel can learn
only one: the segment with the fewest voxels in the label counts, as a lesion does within its organ.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.compute import VolumePlace
from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.store_ports import Blobs, CaseStore, LabelStore
from annotate_server.domain.training import IGNORED, Example, TrainingEntry, TrainingSet
from annotate_server.domain.volume import Modality, Volume
from annotate_server.workflows.layers import read_layer
from annotate_server.workflows.merging import matched

if TYPE_CHECKING:  # it predicts too: who only asks which segment is which does without
    from annotate_server.workflows.answer import OpenVolumes


@dataclass(frozen=True)
class StoredExamples:
    """Opens the labels of a training set, of whatever part: who trains guards which of them are opened."""

    cases: CaseStore
    labels: LabelStore
    blobs: Blobs
    volumes: "OpenVolumes"

    def open(self, entry: TrainingEntry, training_set: TrainingSet) -> Example:
        """Return an example; raises NotFound, StorageFailed and the errors of reading its volume."""
        label, case = self.labels.get(entry.label_id), self.cases.get(entry.case_id)
        read = self.volumes.get(VolumePlace.of(case))
        volume = _declared(read, case.declared)
        layers = tuple(read_layer(self.blobs, layer) for layer in label.layers)
        return example(entry, training_set, volume, layers)


def example(entry: TrainingEntry, training_set: TrainingSet, volume: Volume, layers: Sequence[Labelmap]) -> Example:
    """Return what the layers of a label say on their volume, in the training set's indices.

    Raises StorageFailed where a layer is on another grid than the volume.
    """
    if not all(layer.geometry.matches(volume.geometry) for layer in layers):
        raise StorageFailed("the label lies on another grid than its volume", source=entry.label_id)
    tables = tuple(corresponding(training_set.segments, layer.segments) for layer in layers)
    target = combined(layers, tables)
    if entry.is_partial:
        target[~_spoken_of(layers)] = IGNORED
    known = corresponding(training_set.segments, entry.segments)
    return Example(entry, volume, target, frozenset(known.values()))


def corresponding(ours: tuple[Segment, ...], theirs: Iterable[Segment]) -> Mapping[int, int]:
    """Return which of our segments each of theirs is, by index; those of which we have none are left out."""
    indices, _ = matched(ours, theirs)
    known = {segment.index for segment in ours}
    return {their: our for their, our in indices.items() if our in known}


def combined(layers: Sequence[Labelmap], tables: Sequence[Mapping[int, int]]) -> NDArray[np.int16]:
    """Return the layers of a label as one grid (k, j, i) of our indices; of overlapping segments the smaller counts.

    `tables` say for each layer which of its indices is which of ours. Ties go to our lower index.
    """
    grids = [_translated(layer, table) for layer, table in zip(layers, tables, strict=True)]
    if len(grids) == 1:
        return grids[0]
    most = max((our for table in tables for our in table.values()), default=0)
    voxels = np.sum([np.bincount(grid.reshape(-1), minlength=most + 1) for grid in grids], axis=0)
    target = np.zeros_like(grids[0])
    for our in sorted(range(1, most + 1), key=lambda index: (-voxels[index], -index)):
        for grid in grids:
            target[grid == our] = our
    return target


def _translated(layer: Labelmap, table: Mapping[int, int]) -> NDArray[np.int16]:
    """Return a layer's voxels in our indices; 0 where it holds what we have no segment for."""
    lookup = np.zeros(int(np.iinfo(layer.voxels.dtype).max) + 1, np.int16)
    for their, our in table.items():
        lookup[their] = our
    translated: NDArray[np.int16] = lookup[layer.voxels]
    return translated


def _spoken_of(layers: Sequence[Labelmap]) -> NDArray[np.bool_]:
    """Say for each slice k whether a label holds anything in it, of whatever segment."""
    found = np.zeros(layers[0].voxels.shape[0], np.bool_)
    for layer in layers:
        found |= layer.voxels.any(axis=(1, 2))
    return found


def _declared(volume: Volume, declared: Modality | None) -> Volume:
    """Return a volume with the modality that a person named where its file names none; its digest is kept."""
    if volume.modality is not None or declared is None:
        return volume
    unit = "HU" if declared is Modality.CT else volume.unit
    return replace(volume, modality=declared, unit=unit).known_as(volume.digest)
