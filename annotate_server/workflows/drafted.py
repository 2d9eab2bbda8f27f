"""Drafted: what a model made of a session's case, as it was before anybody corrected it. Read only, for a look back."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from annotate_server.domain.annotation import Interaction, InteractionKind, Session
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.labelmap import LabelVoxels, Segment, labelmap_dtype
from annotate_server.domain.stored import StoredPrediction
from annotate_server.imaging.frame import Frame
from annotate_server.imaging.seg_nrrd_writing import segment_boxes
from annotate_server.workflows.layers import read_layer, unsure_of
from annotate_server.workflows.merging import matched
from annotate_server.workflows.records import Records


@dataclass(frozen=True)
class Drafted:
    """The stored prediction that a session's draft came from.

    `segments` are its own with the indices that they have in the session, `indices` leads from its indices to those.
    `unsure` is how unsure the model was in each slice k, 0 to 1; empty where it does not say.
    """

    prediction: StoredPrediction
    segments: tuple[Segment, ...]
    indices: Mapping[int, int]
    unsure: tuple[float, ...] = ()


def drafted_by(session: Session) -> str | None:
    """Return the version (`model@version`) of the last whole draft in force, else of what the session began with."""
    last = _last_draft(session)
    return session.model_version if last is None else last.model_version


def drafted(session: Session, records: Records) -> Drafted | None:
    """Return what a model drafted of a session's case; None where none did, or a newer draft of it took its place."""
    model, _, version = (drafted_by(session) or "").partition("@")
    prediction = records.predictions.newest(session.case_id, (model,)) if model else None
    if prediction is None or prediction.version != version:
        return None
    if not prediction.layer.geometry.matches(session.geometry):
        return None
    theirs = prediction.layer.segments
    indices, segments = matched(_segments_when_drafted(session), theirs)
    ours = {segment.index: segment for segment in segments}
    unsure = unsure_of(records.blobs, prediction.layer)
    return Drafted(prediction, tuple(ours[indices[each.index]] for each in theirs), indices, unsure)


def drafted_frame(session: Session, records: Records) -> Frame | None:
    """Return the smallest box of a model's draft that holds all of it, in the session's indices; None as `drafted`."""
    found = drafted(session, records)
    if found is None:
        return None
    voxels = read_layer(records.blobs, found.prediction.layer).voxels
    box = _occupied(voxels)
    table = np.zeros(int(np.iinfo(voxels.dtype).max) + 1, labelmap_dtype(found.segments))
    for theirs, ours in found.indices.items():
        table[theirs] = ours
    return Frame(
        case_id=session.case_id,
        session_id=session.id,
        revision=session.revision,
        box=box,
        voxels=table[voxels[box.slices]],
        geometry=session.geometry.digest(),
        segments=found.segments,
        notes=found.prediction.notes,
    )


def _occupied(voxels: LabelVoxels) -> Box:
    whole = NOWHERE
    for box in segment_boxes(voxels).values():
        whole = box.union(whole) if not whole.is_empty else box
    return whole


def _last_draft(session: Session) -> Interaction | None:
    in_force = session.interactions[: session.applied]
    return next((each for each in reversed(in_force) if each.kind is InteractionKind.MODEL), None)


def _segments_when_drafted(session: Session) -> tuple[Segment, ...]:
    """Return the session's segments as they were with the draft: what was renamed since is still the same segment."""
    last, segments = _last_draft(session), session.segments
    for each in reversed(session.interactions[: session.applied]):
        if each is last:
            break
        if each.segments_before is not None:
            segments = each.segments_before
    return segments
