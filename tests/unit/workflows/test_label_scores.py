"""How far drafts were from labels: over all segments that both speak about, matched by meaning."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import LIVER, SPLEEN
from conftest import oblique_geometry

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.compute import Drafted, DraftOrder, VolumePlace
from annotate_server.domain.errors import Cancelled, NotMadeFor
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.scoring import MadeDraft, Scored, ScoreOrder, WantedDraft
from annotate_server.domain.stored import VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.imaging.wire import pack, unpack
from annotate_server.stores.blobs import BlobFolder
from annotate_server.workflows.label_scores import LabelScorer
from annotate_server.workflows.layers import keep_layer

GRID = oblique_geometry((8, 16, 14))
PLACE = VolumePlace(StoredVolume("c0.nii", Format.NIFTI, (Path("c0.nii"),), PatientKey("", "c0")))


def boxed(*, first: int = 2, last: int = 5, index: int = 1, shift: int = 0) -> np.ndarray:
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[first:last, 4 + shift : 10 + shift, 3:9] = index
    return voxels


@dataclass
class Bed:
    """A scorer over a folder, whose drafts are what the test says."""

    folder: Path
    drafts: dict[str, Labelmap | Exception] = field(default_factory=dict)
    asked: list[DraftOrder] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blobs = BlobFolder(self.folder)

    def draft(self, order: DraftOrder, control: Control) -> Drafted:
        self.asked.append(order)
        found = self.drafts[order.model]
        if isinstance(found, Exception):
            raise found
        layer = keep_layer(self.blobs, found)
        return Drafted(order.model, order.version or "", layer, VolumeFacts("d", GRID, Modality.CT, "HU"))

    def score(
        self,
        label: tuple[Labelmap, ...],
        made: Labelmap | None = None,
        wanted: tuple[WantedDraft, ...] = (),
        *,
        is_partial: bool = False,
    ) -> Scored:
        drafts = (MadeDraft("abdomen", "v1", keep_layer(self.blobs, made)),) if made else ()
        layers = tuple(keep_layer(self.blobs, layer) for layer in label)
        order = ScoreOrder(layers, PLACE, is_partial, drafts, wanted)
        crossed = unpack(pack(order))
        function = LabelScorer(self.blobs, self.draft).functions()["score"]
        answer = unpack(pack(function(crossed, Control())))
        assert isinstance(answer, Scored)
        return answer


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_a_label_that_is_the_draft_is_untouched_and_nothing_is_left_to_draw(bed: Bed) -> None:
    (score,) = bed.score((Labelmap(boxed(), GRID, (LIVER,)),), Labelmap(boxed(), GRID, (LIVER,))).scores
    assert (score.is_untouched, score.dice, score.apl_mm, score.relative_apl) == (True, 1.0, 0.0, 0.0)
    assert (score.model, score.version) == ("abdomen", "v1")


def test_figures_are_over_all_segments_together_and_by_name(bed: Bed) -> None:
    draft = np.where(boxed(first=5, last=7, index=2) != 0, 2, boxed())
    label = draft.copy()
    label[draft == 2] = 0
    label[5:7, 6:12, 3:9] = 2
    (score,) = bed.score(
        (Labelmap(label, GRID, (LIVER, SPLEEN)),), Labelmap(draft.astype(np.uint8), GRID, (LIVER, SPLEEN))
    ).scores
    assert score.segments["Liver"].dice == 1.0
    assert 0.3 < score.segments["Spleen"].dice < 0.9
    both = (draft != 0) & (draft == label)
    assert score.dice == pytest.approx(2 * both.sum() / ((draft != 0).sum() + (label != 0).sum()))
    assert score.apl_mm == pytest.approx(score.segments["Spleen"].apl_mm)
    assert score.segments["Spleen"].relative_apl > (score.relative_apl or 0) > 0
    assert not score.is_untouched


def test_segments_are_matched_by_name_and_what_only_a_person_knows_is_left_out(bed: Bed) -> None:
    label = np.where(boxed(first=6, last=7, index=9) != 0, 9, boxed(index=4)).astype(np.uint8)
    theirs = (Segment(4, "liver", (1, 1, 1)), Segment(9, "Cyst", (2, 2, 2)))
    (score,) = bed.score((Labelmap(label, GRID, theirs),), Labelmap(boxed(), GRID, (LIVER,))).scores
    assert list(score.segments) == ["Liver"]
    assert score.dice == 1.0
    assert not score.is_untouched


def test_of_a_partial_label_only_its_slices_count(bed: Bed) -> None:
    label = Labelmap(boxed(first=3, last=4), GRID, (LIVER,))
    draft = Labelmap(boxed(first=1, last=7), GRID, (LIVER,))
    (whole,) = bed.score((label,), draft).scores
    (partial,) = bed.score((label,), draft, is_partial=True).scores
    assert whole.dice is not None
    assert whole.dice < 0.5
    assert (partial.dice, partial.is_untouched) == (1.0, True)


def test_the_layers_of_overlapping_segments_are_each_compared(bed: Bed) -> None:
    layers = Labelmap(boxed(), GRID, (LIVER,)), Labelmap(boxed(index=2), GRID, (SPLEEN,))
    (score,) = bed.score(layers, Labelmap(boxed(), GRID, (LIVER, SPLEEN))).scores
    assert score.segments["Liver"].dice == 1.0
    assert score.segments["Spleen"].dice == 0.0


def test_who_has_not_drafted_drafts_now_and_who_cannot_is_said(bed: Bed) -> None:
    bed.drafts = {"ours": Labelmap(boxed(shift=1), GRID, (LIVER,)), "other": NotMadeFor("its modality is MR")}
    wanted = (WantedDraft("ours", "v7"), WantedDraft("other", "v1"))
    scored = bed.score((Labelmap(boxed(), GRID, (LIVER,)),), wanted=wanted)
    assert [(s.model, s.version) for s in scored.scores] == [("ours", "v7")]
    assert [(o.model, o.version) for o in bed.asked] == [("ours", "v7"), ("other", "v1")]
    assert len(scored.drafted) == 1
    assert "its modality is MR" in scored.notes[0]


def test_somebody_who_cancels_is_heard(bed: Bed) -> None:
    bed.drafts = {"ours": Cancelled("stopped")}
    with pytest.raises(Cancelled):
        bed.score((Labelmap(boxed(), GRID, (LIVER,)),), wanted=(WantedDraft("ours", "v7"),))


def test_an_empty_label_of_an_empty_draft_agrees_and_has_no_contour(bed: Bed) -> None:
    nothing = Labelmap(np.zeros(GRID.shape, np.uint8), GRID, (LIVER,))
    (score,) = bed.score((nothing,), nothing).scores
    assert (score.dice, score.apl_mm, score.relative_apl) == (1.0, 0.0, None)
