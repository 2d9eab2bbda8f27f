"""Named labels: a file whose numbers mean nothing by themselves comes in under a project's segments, by name."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.errors import InputError
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, Segment, labelmap_dtype, present_indices
from annotate_server.domain.person import Person
from annotate_server.domain.project import ReviewPolicy
from annotate_server.domain.store_ports import Blobs
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.unnamed_segments import distinct_colour, unnamed_segment
from annotate_server.workflows.beginning import facts_of
from annotate_server.workflows.label_files import LabelFiles
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.merging import free_index, matched

Naming = Callable[[Sequence[int]], Sequence[tuple[int, str]]]
"""From the values that occur in a file without names to every value that it can hold and its name."""


@dataclass(frozen=True)
class Handed:
    """A file of labels that somebody hands in for a case of a project; `naming` is asked where it names nothing."""

    project_id: str
    case_id: str
    path: Path
    naming: Naming


def import_named(files: LabelFiles, handed: Handed, person: Person) -> Label:
    """Take a file in as a label: append-only, its segments matched to the project's by name, others added.

    Raises InvalidLabelmap where it does not lie on the case's grid, or holds a value that has no name.
    """
    records = files.records
    project, case = records.projects.get(handed.project_id), records.cases.get(handed.case_id)
    geometry = facts_of(case, records, files.compute).geometry
    try:
        found = files.parser.read_labelmap(handed.path, geometry)
    except InputError as error:
        error.source = None  # it lies under a name of ours, which tells nobody anything
        raise
    earlier = records.labels.of_case(project.id, case.id)
    label = Label(
        id=uuid.uuid4().hex,
        project_id=project.id,
        case_id=case.id,
        author=person.name,
        layers=tuple(
            keep_renumbered(
                layer, under_names(project.segments, named_segments(layer, handed.naming)), records.blobs, files.scratch
            )
            for layer in found
        ),
        parent=earlier[-1].id if earlier else None,
        is_author_verified=person.verified,
        made_at=files.clock(),
        state=LabelState.APPROVED if project.review is ReviewPolicy.NONE else LabelState.SUBMITTED,
    )
    records.labels.accept(label, None, person)
    return label


def named_segments(layer: Labelmap, naming: Naming) -> tuple[Segment, ...]:
    """Return the segments of a layer as its file names them, or as `naming` does where it names none."""
    if any(segment.name != unnamed_segment(segment.index).name for segment in layer.segments):
        return layer.segments
    pairs = naming(sorted(present_indices(layer.voxels)))
    return tuple(Segment(value, name, distinct_colour(value)) for value, name in pairs)


def under_names(ours: tuple[Segment, ...], theirs: tuple[Segment, ...]) -> tuple[tuple[int, Segment], ...]:
    """Return for each of their values the segment that it becomes: ours of the same name, whatever it is coded as.

    Programs that know no code of a structure call everything a tissue: a name says more than that. What has no name
    of ours goes by its code, else it is added.
    """
    by_name = {segment.name.strip().casefold(): segment for segment in ours}
    found = {}
    for each in theirs:
        same = by_name.pop(each.name.strip().casefold(), None)
        if same is not None:
            found[each.index] = same
    rest = tuple(each for each in theirs if each.index not in found)
    indices, known = matched(tuple(s for s in ours if s not in found.values()), rest)
    by_index = {segment.index: segment for segment in known}
    taken = [*ours]
    for each in rest:
        segment = by_index[indices[each.index]]
        if segment not in ours:
            segment = replace(segment, index=free_index(taken))
            taken.append(segment)
        found[each.index] = segment
    return tuple((each.index, found[each.index]) for each in theirs)


def keep_renumbered(
    layer: Labelmap,
    pairs: Sequence[tuple[int, Segment]],
    blobs: Blobs,
    scratch: Path,
    words: Mapping[str, str] | None = None,
) -> StoredLayer:
    """Keep a layer, each of its values as the segment that it becomes; `words` go into its header.

    It is written plane by plane, into a file of the folder `scratch`, and never whole in memory.
    """
    segments = tuple(sorted((segment for _, segment in pairs), key=lambda segment: segment.index))
    table = np.zeros(int(np.iinfo(layer.voxels.dtype).max) + 1, labelmap_dtype(segments))
    for value, segment in pairs:
        table[value] = segment.index
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        mapped = np.memmap(Path(folder) / "layer.raw", table.dtype, "w+", shape=layer.geometry.shape)
        for k, plane in enumerate(layer.voxels):
            mapped[k] = table[plane]
        voxels = cast("LabelVoxels", mapped.view(np.ndarray))
        return keep_layer(blobs, Labelmap.unscanned(voxels, layer.geometry, segments), words=words)
