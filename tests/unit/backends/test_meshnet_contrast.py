"""What a series' description says about its contrast."""

import pytest

from annotate_server.backends.meshnet.contrast import check_contrast
from annotate_server.backends.meshnet.parameters import Contrast
from annotate_server.domain.errors import NotMadeFor


@pytest.mark.parametrize(
    "description",
    [
        "",
        "t1_mprage_sag_p2_iso",
        "Sag 3D BRAVO",
        "SAG MPRAGE",
        "T1prereg",
        "AX T1 FLAIR",
        "head",
        "localised",
        "Pre-op",
    ],
)
def test_t1_and_silence_are_taken(description: str) -> None:
    assert check_contrast(description, Contrast.T1, "Brain") == ()


@pytest.mark.parametrize(
    ("description", "word"),
    [
        ("FLAIR_reg", "FLAIR"),
        ("AX T2 TSE", "T2"),
        ("t2w", "T2"),
        ("T2reg", "T2"),
        ("ep2d_DWI", "DWI"),
        ("3D TOF", "TOF"),
    ],
)
def test_another_contrast_is_refused_by_its_word_alone(description: str, word: str) -> None:
    with pytest.raises(NotMadeFor, match=f"says {word} and Brain is made for T1"):
        check_contrast(description, Contrast.T1, "Brain")
    assert check_contrast(description, Contrast.ANY, "Brain") == ()


@pytest.mark.parametrize("description", ["T1post", "AX T1 +C", "t1 post gd", "MPRAGE Gadovist"])
def test_contrast_medium_is_remarked_on(description: str) -> None:
    assert len(check_contrast(description, Contrast.T1, "Brain")) == 1
