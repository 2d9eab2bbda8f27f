"""The truth of real hippocampi against itself, moved: figures that are known beforehand or bounded."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.workflows.effort import EffortConstants
from annotate_server.workflows.evaluate import Drafter, EvaluationOptions, Examinee, LabelledCase, evaluate
from annotate_server.workflows.evaluation import Evaluation

pytestmark = pytest.mark.real_data

SEGMENTS = (Segment(1, "Anterior hippocampus", (255, 0, 0)), Segment(2, "Posterior hippocampus", (0, 255, 0)))


def labelled(path: Path) -> LabelledCase:
    image = nibabel.load(path)
    voxels = np.ascontiguousarray(np.asanyarray(image.dataobj).T.astype(np.uint8))
    ijk_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    geometry = Geometry.from_affine(ijk_to_lps[:, [2, 1, 0, 3]], voxels.shape)
    unnamed = tuple(Segment(n, f"Segment {n}", (1, 1, 1)) for n in (1, 2))
    return LabelledCase(path.name, Volume(voxels, geometry), Labelmap(voxels, geometry, unnamed))


def moved_by(k: int, j: int, i: int) -> Drafter:
    return lambda volume: Labelmap(np.roll(volume.voxels, (k, j, i), (0, 1, 2)), volume.geometry, SEGMENTS)


@pytest.fixture(scope="module")
def cases(test_data: Path) -> list[LabelledCase]:
    paths = sorted((test_data / "01_hippocampus_msd" / "dev_pool" / "labels").glob("*.nii.gz"))[:12]
    return [labelled(path) for path in paths]


def evaluated(cases: list[LabelledCase], drafter: Drafter) -> Evaluation:
    options = EvaluationOptions(effort=EffortConstants())
    return evaluate(cases, Examinee(SEGMENTS, drafter), options, Control())


def test_the_truth_itself_is_perfect_and_only_looked_at(cases: list[LabelledCase]) -> None:
    evaluation = evaluated(cases, moved_by(0, 0, 0))
    assert evaluation.mean_dice.low == 1.0
    assert evaluation.effort is not None
    assert evaluation.effort.draft.path_mm == 0.0
    assert 0.02 < evaluation.effort.ratio.mean < 0.15


def test_moved_by_a_voxel_it_is_within_a_pixel_and_a_millimetre(cases: list[LabelledCase]) -> None:
    evaluation = evaluated(cases, moved_by(0, 1, 0))
    for segment in SEGMENTS:
        measures = evaluation.segments[segment.name].measures
        assert 0.75 < measures["dice"].mean < 0.92
        assert measures["surface_dice_1mm"].mean == pytest.approx(1.0)
        assert measures["hd95_mm"].mean == pytest.approx(1.0)
        assert measures["apl_mm"].mean == 0.0
        assert 0.5 < measures["relative_apl_0"].mean < 0.9


def test_the_further_it_is_moved_the_more_is_left_to_draw(cases: list[LabelledCase]) -> None:
    near, far = evaluated(cases, moved_by(0, 2, 0)), evaluated(cases, moved_by(2, 3, 2))
    assert near.effort is not None
    assert far.effort is not None
    assert near.mean_dice.mean > far.mean_dice.high
    assert 0.15 < near.effort.ratio.mean < far.effort.ratio.mean
    for segment in SEGMENTS:
        near_path, far_path = (e.segments[segment.name].measures["relative_apl"] for e in (near, far))
        assert 0.3 < near_path.mean < far_path.low
