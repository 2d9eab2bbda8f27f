"""What one series holds: volumes told apart where they must be, and not where they need not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import NotMadeFor, UnreadableFile, UnsupportedInput, UntrustedGeometry
from annotate_server.imaging.dicom_frames import Frame
from annotate_server.imaging.dicom_header import DicomHeader
from annotate_server.imaging.dicom_parts import Part, parts_of

GRID = oblique_geometry((6, 14, 11))
NORMAL, COLUMN, ROW = np.array(GRID.direction)
MR = "1.2.840.10008.5.1.4.1.1.4"


def header(k: int, number: int = 0, **traits: object) -> DicomHeader:
    """Return the header of a file with one slice at place k; `number` tells files at one place apart."""
    frame = Frame(
        position_mm=tuple(GRID.world([[k, 0, 0]])[0]),
        orientation=(*ROW, *COLUMN),
        spacing_mm=GRID.spacing_mm[1:],
        thickness_mm=3.1,
    )
    return DicomHeader(
        path=Path(f"/scan/{number}-{k}.dcm"),
        sop_class=MR,
        sop_instance=f"1.{number}.{k}",
        modality="MR",
        series="1.2.3",
        photometric="MONOCHROME2",
        instance=number * 100 + k,
        rows=14,
        columns=11,
        frames=(replace(frame, **traits),),  # type: ignore[arg-type]
    )


def volume(number: int = 0, trait: Callable[[int], dict[str, object]] = lambda k: {}) -> list[DicomHeader]:
    return [header(k, number, **trait(k)) for k in range(GRID.shape[0])]


def names(parts: tuple[Part, ...]) -> list[str]:
    assert all(part.problem is None for part in parts), [str(part.problem) for part in parts]
    assert all(part.stack is not None and part.stack.geometry.matches(GRID) for part in parts)
    return [part.name for part in parts]


def test_a_plain_series_is_one_volume_without_a_name() -> None:
    assert names(parts_of(volume()[::-1])) == [""]


def test_b_values_are_told_apart_in_their_order() -> None:
    headers = [h for b in (800.0, 0.0, 50.0) for h in volume(int(b), lambda _, b=b: {"b_value": b})]
    assert names(parts_of(headers)) == ["b=0", "b=50", "b=800"]


def test_echoes_are_told_apart() -> None:
    headers = [h for n, te in enumerate((9.8, 4.9)) for h in volume(n, lambda _, te=te: {"echo_ms": te})]
    parts = parts_of(headers)
    assert names(parts) == ["echo 1", "echo 2"]
    assert parts[0].slices[0].frame.echo_ms == 4.9


def test_magnitude_and_phase_are_named_by_the_words_that_differ() -> None:
    types = (("ORIGINAL", "PRIMARY", "M", "ND"), ("ORIGINAL", "PRIMARY", "P", "ND"))
    headers = [h for n, words in enumerate(types) for h in volume(n, lambda _, w=words: {"image_type": w})]
    assert names(parts_of(headers)) == ["M", "P"]


def test_directions_of_one_b_value_are_told_apart_as_well() -> None:
    traits = [
        {"b_value": 0.0},
        {"b_value": 800.0, "gradient": (1.0, 0.0, 0.0)},
        {"b_value": 800.0, "gradient": (0.0, 1.0, 0.0)},
    ]
    headers = [h for n, t in enumerate(traits) for h in volume(n, lambda _, t=t: t)]
    assert names(parts_of(headers)) == ["b=0", "b=800, direction 1", "b=800, direction 2"]


def test_cardiac_phases_are_told_apart_by_their_rank_at_each_place() -> None:
    headers = [h for n in range(3) for h in volume(n, lambda k, n=n: {"trigger_ms": 100.0 * n + 3.0 * k})]
    assert names(parts_of(headers)) == ["phase 1", "phase 2", "phase 3"]


def test_repetitions_are_told_apart_by_time_where_nothing_else_does() -> None:
    headers = [h for n in range(2) for h in volume(n, lambda k, n=n: {"time": f"1200{n}{k}"})]
    assert names(parts_of(headers)) == ["time 1", "time 2"]


def test_an_acquisition_number_that_counts_slices_splits_nothing() -> None:
    assert names(parts_of(volume(0, lambda k: {"acquisition": float(k)}))) == [""]
    assert names(parts_of(volume(0, lambda k: {"image_type": ("ORIGINAL", "PRIMARY", f"T{k}")}))) == [""]


def test_slices_that_nothing_tells_apart_are_refused() -> None:
    (part,) = parts_of(volume(0) + volume(1))
    assert isinstance(part.problem, UntrustedGeometry)
    assert "12 of 12 slices lie at the place of another" in str(part.problem)


def test_an_acquisition_number_that_counts_slices_does_not_hide_duplicates() -> None:
    headers = volume(0, lambda k: {"acquisition": float(k)}) + volume(1, lambda k: {"acquisition": 100.0 + k})
    assert [type(part.problem) for part in parts_of(headers)] == [UntrustedGeometry]


def test_two_files_of_one_instance_are_one_slice() -> None:
    copies = [replace(h, path=Path(f"/scan/copy/{k}.dcm")) for k, h in enumerate(volume())]
    (part,) = parts_of(volume() + copies)
    assert len(part.slices) == 6


def test_orientations_are_split_and_named_by_plane() -> None:
    turned = [
        replace(h, sop_instance=f"9.{k}", frames=(replace(h.frames[0], orientation=(*COLUMN, *NORMAL)),))
        for k, h in enumerate(volume(1))
    ]
    straight = volume()
    parts = parts_of(straight + turned)
    assert [part.name for part in parts] == ["axial", "sagittal"]
    assert parts[0].problem is None
    assert len(parts[0].slices) == len(parts[1].slices) == 6


def test_matrix_sizes_are_split() -> None:
    larger = [replace(h, rows=28, columns=22, instance=h.instance + 50) for h in volume(1)]
    assert [part.name for part in parts_of(volume() + larger)] == ["14x11 at 0.7x1.3 mm", "28x22 at 0.7x1.3 mm"]


def test_frames_of_reference_are_split() -> None:
    other = [replace(h, frame_of_reference="1.9") for h in volume(1)]
    assert len(parts_of([replace(h, frame_of_reference="1.8") for h in volume()] + other)) == 2


def test_a_slice_that_does_not_name_its_frame_of_reference_stays_with_the_others() -> None:
    headers = [replace(h, frame_of_reference="1.8" if k else "") for k, h in enumerate(volume())]
    assert names(parts_of(headers)) == [""]


def test_a_spacing_that_was_rounded_differently_splits_nothing() -> None:
    rounded = [header(k, spacing_mm=(0.7, 1.3) if k % 2 else (0.70004, 1.29996)) for k in range(6)]
    assert names(parts_of(rounded)) == [""]


def test_the_same_images_as_single_and_multi_frame_are_two_volumes() -> None:
    frames = tuple(replace(h.frames[0], number=k) for k, h in enumerate(volume()))
    enhanced = replace(header(0, 9), sop_class="1.2.840.10008.5.1.4.1.1.4.1", frames=frames)
    assert [part.name for part in parts_of([*volume(), enhanced])] == ["single-frame", "multi-frame"]


def test_one_slice_without_a_position_spoils_the_series_and_is_named() -> None:
    headers = volume()
    headers[2] = header(2, position_mm=None)
    (part,) = parts_of(headers)
    assert isinstance(part.problem, UntrustedGeometry)
    assert "ImagePositionPatient" in str(part.problem)


def test_one_damaged_slice_spoils_the_series_and_is_named() -> None:
    headers = volume()
    headers[5] = replace(headers[5], defect="it was cut off")
    (part,) = parts_of(headers)
    assert isinstance(part.problem, UnreadableFile)
    assert "0-5.dcm is damaged: it was cut off" in str(part.problem)


@pytest.mark.parametrize("slope", [float("nan"), float("inf"), 0.0, 1e300])
def test_a_rescale_that_gives_no_intensities_is_refused(slope: float) -> None:
    (part,) = parts_of(volume(0, lambda _: {"slope": slope}))
    assert isinstance(part.problem, UnreadableFile)
    assert "rescale slope" in str(part.problem)


def test_a_localizer_without_a_grid_is_skipped_not_failed() -> None:
    headers = [header(k, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")) for k in (0, 1, 5)]
    (part,) = parts_of(headers)
    assert isinstance(part.problem, NotMadeFor)


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"samples": 3, "photometric": "RGB"}, NotMadeFor, "colour"),
        ({"photometric": "PALETTE COLOR"}, NotMadeFor, "PALETTE COLOR"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.88.33"}, NotMadeFor, "Comprehensive SR"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.66.4"}, NotMadeFor, "Segmentation"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.481.3"}, NotMadeFor, "RT Structure Set"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.11.1"}, NotMadeFor, "Presentation State"),
        ({"sop_class": "", "modality": "SEG"}, NotMadeFor, "SEG"),
        ({"rows": 0, "columns": 0}, UnsupportedInput, "no image"),
        ({"has_lut": True}, UnsupportedInput, "lookup table"),
    ],
)
def test_what_holds_no_volume_says_why(change: dict[str, object], kind: type[Exception], word: str) -> None:
    (part,) = parts_of([replace(h, **change) for h in volume()])  # type: ignore[arg-type]
    assert isinstance(part.problem, kind)
    assert word in str(part.problem)


def test_a_mosaic_is_refused_because_the_places_of_its_slices_are_not_in_it() -> None:
    (part,) = parts_of([header(0, image_type=("ORIGINAL", "PRIMARY", "M", "MOSAIC"))])
    assert "mosaic" in str(part.problem)


def test_a_screenshot_in_a_series_does_not_spoil_its_volume() -> None:
    screenshot = replace(header(0, 9), samples=3, photometric="RGB", sop_class="1.2.840.10008.5.1.4.1.1.7")
    parts = parts_of([*volume(), screenshot])
    assert [part.name for part in parts] == ["", "other 1"]
    assert parts[0].problem is None
    assert isinstance(parts[1].problem, NotMadeFor)


def test_a_picture_without_a_position_is_no_slice() -> None:
    picture = replace(header(0, position_mm=None), sop_class="1.2.840.10008.5.1.4.1.1.7", modality="OT")
    (part,) = parts_of([picture])
    assert isinstance(part.problem, NotMadeFor)
    assert "picture" in str(part.problem)


def test_a_missing_class_of_object_is_made_up_for_by_the_modality() -> None:
    assert names(parts_of([replace(h, sop_class="") for h in volume()])) == [""]
