"""Label scores: how far drafts of a case were from the label that a person made of it; what a worker does.

A segment counts where both speak about it: what a person added that the model does not know is no fault of its draft.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from annotate_server.domain.compute import Drafted, DraftOrder
from annotate_server.domain.errors import AnnotateError, Cancelled
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.ports import Control
from annotate_server.domain.scoring import DraftScore, MadeDraft, Scored, ScoreOrder
from annotate_server.domain.store_ports import Blobs
from annotate_server.imaging.contours import added_path
from annotate_server.imaging.overlap import StructurePair, agreement, structure_pairs
from annotate_server.workflows.layers import read_layer
from annotate_server.workflows.training_examples import corresponding

log = logging.getLogger(__name__)

Draft = Callable[[DraftOrder, Control], Drafted]


@dataclass(frozen=True)
class LabelScorer:
    """Scores drafts against labels; `draft` is `Answerer.draft`."""

    blobs: Blobs
    draft: Draft

    def functions(self) -> Mapping[str, Callable[[object, Control], object]]:
        """Return what a worker can be asked for, by name."""
        return {"score": lambda order, control: self.score(cast("ScoreOrder", order), control)}

    def score(self, order: ScoreOrder, control: Control) -> Scored:
        """Return how far each draft was from the label; a draft that cannot be made is said in a note."""
        drafted, notes = self._drafted(order, control)
        layers = tuple(read_layer(self.blobs, layer) for layer in order.layers)
        new = tuple(MadeDraft(each.model, each.version, each.layer) for each in drafted)
        scores = []
        for made in (*order.made, *new):
            control.check()
            if made.layer.geometry.matches(layers[0].geometry):
                draft = read_layer(self.blobs, made.layer)
                scores.append(draft_score(made, _spoken_of(draft, layers) if order.is_partial else draft, layers))
            else:
                notes = (*notes, f"The draft by {made.model} lies on another grid than the label.")
        return Scored(tuple(scores), drafted, notes)

    def _drafted(self, order: ScoreOrder, control: Control) -> tuple[tuple[Drafted, ...], tuple[str, ...]]:
        drafted, notes = [], []
        for wanted in order.wanted:
            try:
                drafted.append(self.draft(DraftOrder(wanted.model, order.volume, wanted.version), control))
            except Cancelled:
                raise
            except AnnotateError as error:
                log.info("%s does not draft for a score: %s", wanted.model, error.type, extra={"action": "score"})
                notes.append(f"{wanted.model} drafts nothing here: {error}")
        return tuple(drafted), tuple(notes)


def draft_score(made: MadeDraft, draft: Labelmap, layers: tuple[Labelmap, ...]) -> DraftScore:
    """Return how far a draft was from the layers of a label."""
    works: dict[str, SegmentWork] = {}
    totals = _Totals()
    is_same = True
    for name, pair in _pairs(draft, layers):
        figures = agreement(pair)
        works[name] = SegmentWork(figures.dice, figures.surface_dice_2mm, figures.apl_mm, figures.relative_apl)
        totals.add(pair)
        is_same = is_same and np.array_equal(pair.truth, pair.predicted)
    is_untouched = bool(works) and is_same and not _has_more(draft, layers)
    return DraftScore(made.model, made.version, is_untouched, totals.dice, totals.apl_mm, totals.relative_apl, works)


def _spoken_of(draft: Labelmap, layers: tuple[Labelmap, ...]) -> Labelmap:
    """Return a draft without the slices (k) of which a partial label says nothing."""
    voxels = draft.voxels.copy()
    for k in range(len(voxels)):
        if not any(layer.voxels[k].any() for layer in layers):
            voxels[k] = 0
    return Labelmap.unscanned(voxels, draft.geometry, draft.segments)


@dataclass
class _Totals:
    """Sums over segments."""

    both: int = 0
    either: int = 0
    added_mm: float = 0.0
    contour_mm: float = 0.0
    count: int = 0

    def add(self, pair: StructurePair) -> None:
        """Count a segment."""
        path = added_path(pair.truth, pair.predicted, pair.pixel_mm, tolerance_px=1)
        self.both += 2 * int(np.count_nonzero(pair.truth & pair.predicted))
        self.either += int(np.count_nonzero(pair.truth)) + int(np.count_nonzero(pair.predicted))
        self.added_mm += path.length_mm
        self.contour_mm += float(path.contour_px.sum()) * path.pixel_mm
        self.count += 1

    @property
    def dice(self) -> float | None:
        """Return the Dice of all segments together; 1 where nothing is in either, None where none was compared."""
        if not self.count:
            return None
        return self.both / self.either if self.either else 1.0

    @property
    def apl_mm(self) -> float | None:
        """Return the contour that is to be drawn."""
        return self.added_mm if self.count else None

    @property
    def relative_apl(self) -> float | None:
        """Return its share of the label's whole contour; None where the label has no contour to draw."""
        return self.added_mm / self.contour_mm if self.contour_mm else None


def _pairs(draft: Labelmap, layers: tuple[Labelmap, ...]) -> Iterator[tuple[str, StructurePair]]:
    """Yield the segments that draft and label both speak about, under the draft's name."""
    names = {segment.index: segment.name for segment in draft.segments}
    for layer in layers:
        indices = [(their, our) for their, our in corresponding(draft.segments, layer.segments).items() if our in names]
        for (_, our), pair in zip(indices, structure_pairs(layer, draft, indices), strict=True):
            yield names.pop(our), pair


def _has_more(draft: Labelmap, layers: tuple[Labelmap, ...]) -> bool:
    """Say whether a person drew something that the draft has no segment for."""
    for layer in layers:
        known = set(corresponding(draft.segments, layer.segments))
        if any((layer.voxels == segment.index).any() for segment in layer.segments if segment.index not in known):
            return True
    return False
