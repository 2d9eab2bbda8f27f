import numpy as np
import pytest

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.workflows.segment_matching import match_segments

SPLEEN, LIVER, AORTA = (Segment(n, name, (1, 2, 3)) for n, name in ((1, "Spleen"), (2, "Liver"), (5, "Aorta")))


def label(geometry: Geometry, *segments: Segment) -> Labelmap:
    return Labelmap(np.zeros(geometry.shape, np.uint8), geometry, segments)


def test_names_decide_where_there_are_names(oblique: Geometry) -> None:
    truth = label(oblique, Segment(1, " liver ", (0, 0, 0)), Segment(2, "Femur", (0, 0, 0)))
    matching = match_segments(truth, (SPLEEN, LIVER))
    assert matching.pairs == ((LIVER, 1),)
    assert matching.ignored == ("Femur",)


def test_indices_decide_where_there_are_no_names(oblique: Geometry) -> None:
    truth = label(oblique, Segment(2, "Segment 2", (0, 0, 0)), Segment(9, "Segment 9", (0, 0, 0)))
    matching = match_segments(truth, (SPLEEN, LIVER, AORTA))
    assert matching.pairs == ((SPLEEN, None), (LIVER, 2), (AORTA, None))
    assert matching.ignored == ("Segment 9",)


def test_a_label_without_any_segment_says_that_everything_is_empty(oblique: Geometry) -> None:
    assert match_segments(label(oblique), (SPLEEN, LIVER)).pairs == ((SPLEEN, None), (LIVER, None))


def test_a_label_of_which_nothing_matches_is_refused_with_both_lists(oblique: Geometry) -> None:
    with pytest.raises(InvalidLabelmap, match=r"'Femur' \(1\).*'Spleen' \(1\)"):
        match_segments(label(oblique, Segment(1, "Femur", (0, 0, 0))), (SPLEEN,))
