"""Loose prompts: what a model makes of prompts without a session; nothing of it is kept."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from annotate_server.domain.compute import Compute, DraftPlace, PromptOrder, VolumePlace
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import LabelVoxels, Segment, labelmap_dtype
from annotate_server.domain.prompt import Prompt
from annotate_server.domain.stored import KnownCase, StoredLayer
from annotate_server.workflows.beginning import facts_of
from annotate_server.workflows.layers import fill_from_layer
from annotate_server.workflows.merging import after_prompt
from annotate_server.workflows.records import Records

_NOTHING_LOCKED: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Asked:
    """What is asked about one segment: its prompts, oldest first."""

    segment: Segment
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class LoosePrompts:
    """Answers prompts on a draft that is there for one request."""

    records: Records
    compute: Compute

    def geometry(self, case: KnownCase) -> Geometry:
        """Return the grid of a case; it is read where nobody has done so."""
        return facts_of(case, self.records, self.compute).geometry

    @contextmanager
    def answered(self, case: KnownCase, model: str, asked: Sequence[Asked]) -> Iterator[LabelVoxels]:
        """Give what a model makes of prompts (k, j, i): mapped from a file that is gone after the block.

        The prompts are asked one after the other, as a person gave them: a model remembers its answers, so that only
        the newest one is computed. Raises InvalidPrompt and the model's own errors.
        """
        facts = facts_of(case, self.records, self.compute)
        for each in asked:
            for prompt in each.prompts:
                prompt.check_within(facts.geometry)
        place = VolumePlace(case.case.reference, case.declared, facts.digest)
        segments = tuple(each.segment for each in asked)
        with self._draft(facts.geometry, segments) as (draft, voxels):
            for each in asked:
                for count in range(1, len(each.prompts) + 1):
                    order = PromptOrder(model, place, draft, each.segment, each.prompts[:count])
                    answer = self.compute.prompt(order).prediction
                    before = voxels[answer.box.slices]
                    labels = cast("LabelVoxels", answer.labels.astype(before.dtype))
                    voxels[answer.box.slices] = after_prompt(before, labels, each.segment.index, _NOTHING_LOCKED)
            yield voxels

    @contextmanager
    def layer(self, layer: StoredLayer) -> Iterator[LabelVoxels]:
        """Give the voxels (k, j, i) of a stored layer, mapped from a file that is gone after the block."""
        with self._draft(layer.geometry, layer.segments) as (_, voxels):
            fill_from_layer(self.records.blobs, layer, voxels)
            yield voxels

    @contextmanager
    def _draft(self, geometry: Geometry, segments: tuple[Segment, ...]) -> Iterator[tuple[DraftPlace, LabelVoxels]]:
        """Give an empty draft; its file goes, what is mapped of it stays readable."""
        name = f"loose-{uuid.uuid4().hex}"
        dtype = labelmap_dtype(segments).name
        voxels = self.records.drafts.make(name, geometry.shape, dtype)
        try:
            yield DraftPlace(self.records.drafts.path(name), dtype, segments), voxels
        finally:
            self.records.drafts.remove(name)
