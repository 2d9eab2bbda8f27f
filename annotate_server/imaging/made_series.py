"""The DICOM series that a volume of another format is shown as: one instance for each slice along k.

Positions, directions and spacings are the grid's own, whatever its handedness: slice k lies where the grid says, its
rows run along i and its columns along j (PS3.3 C.7.6.2). Nothing is resampled or turned.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.dicom_uids import (
    frame_of_reference_uid,
    series_uid,
    slice_uid,
    study_uid,
)
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.stored import KnownCase
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.dicom_instances import EXPLICIT_LITTLE_ENDIAN
from annotate_server.imaging.dicom_scaling import Scaling, decimal_string

Json = dict[str, Any]
_STORAGE = "1.2.840.10008.5.1.4.1.1."
SOP_CLASSES = {
    Modality.CT: f"{_STORAGE}2",
    Modality.MR: f"{_STORAGE}4",
    Modality.PT: f"{_STORAGE}128",
    Modality.OTHER: f"{_STORAGE}7",
}
"""Of what is no CT, MR or PET, secondary capture: the class without a modality of its own."""
_SAMPLED_SLICES = 9
_CT_WINDOW = (40.0, 400.0)


@dataclass(frozen=True)
class MadeSeries:
    """A series over a volume whose voxels are mapped; `window` is centre and width of what is first shown."""

    known: KnownCase
    volume: Volume
    modality: Modality
    scaling: Scaling
    window: tuple[float, float]

    @property
    def geometry(self) -> Geometry:
        """Return the grid."""
        return self.volume.geometry

    @property
    def sop_class(self) -> str:
        """Return the class of the instances."""
        return SOP_CLASSES[self.modality]

    def stored(self, k: int) -> NDArray[np.generic]:
        """Return slice k (rows, columns) as stored numbers, little endian."""
        return np.ascontiguousarray(self.scaling.stored(self.volume.voxels[k]))

    def attributes(self, k: int) -> Json:
        """Return the attributes of slice k as DICOM JSON, without voxels."""
        found = {**_whose(self), **_where(self, k), **_numbers(self)}
        return dict(sorted(found.items()))


def made_series(known: KnownCase, volume: Volume, scaling: Scaling) -> MadeSeries:
    """Return the series that a case is shown as."""
    modality = known.modality or volume.modality or Modality.OTHER
    window = _CT_WINDOW if modality is Modality.CT else _usual_window(volume)
    return MadeSeries(known, volume, modality, scaling, window)


def head_of(known: KnownCase) -> Json:
    """Return what the study and the series of a case say, as DICOM JSON, before a voxel is read."""
    case = known.case
    pseudonym = case.patient.pseudonym()
    return {
        "00080005": _value("CS", "ISO_IR 192"),
        "00080020": _value("DA"),
        "00080030": _value("TM"),
        "00080050": _value("SH"),
        "00080060": _value("CS", str(known.modality or Modality.OTHER)),
        "00080090": _value("PN"),
        "00081030": _value("LO", known.name[:64]),
        "0008103E": _value("LO", (case.reference.description or known.name)[:64]),
        "00100010": _value("PN", {"Alphabetic": pseudonym}),
        "00100020": _value("LO", pseudonym),
        "00100030": _value("DA"),
        "00100040": _value("CS"),
        "0020000D": _value("UI", study_uid(case)),
        "0020000E": _value("UI", series_uid(case)),
        "00200010": _value("SH"),
        "00200011": _value("IS", 1),
    }


def _usual_window(volume: Volume) -> tuple[float, float]:
    """Return a window that shows all but the darkest and brightest percent of some slices."""
    chosen = np.unique(np.linspace(0, len(volume.voxels) - 1, _SAMPLED_SLICES).astype(int))
    some = np.stack([volume.voxels[k, ::2, ::2] for k in chosen])
    low, high = (float(end) for end in np.percentile(some, (1.0, 99.0)))
    if high <= low:
        low, high = float(some.min()), float(some.max())
    return (low + high) / 2, max(high - low, 1.0 if volume.voxels.dtype.kind in "iu" else 1e-6)


def _whose(series: MadeSeries) -> Json:
    """Return patient, study and series; the description says where intensities had to be rounded."""
    found = {**head_of(series.known), "00080060": _value("CS", str(series.modality))}
    if error := series.scaling.largest_error:
        words, note = found["0008103E"]["Value"][0], f"(rounded by at most {error:.1g})"
        found["0008103E"] = _value("LO", f"{words[: 63 - len(note)]} {note}")
    return found


def _where(series: MadeSeries, k: int) -> Json:
    """Return what slice k is and where it lies."""
    grid = series.geometry
    directions = (*grid.direction[2], *grid.direction[1])
    return {
        "00080008": _value("CS", "DERIVED", "PRIMARY"),
        "00080016": _value("UI", series.sop_class),
        "00080018": _value("UI", slice_uid(series.known.case, k)),
        "00080070": _value("LO", "annotate-server"),
        "00083002": _value("UI", EXPLICIT_LITTLE_ENDIAN),
        "00180050": _decimals([grid.spacing_mm[0]]),
        "00180088": _decimals([grid.spacing_mm[0]]),
        "00200013": _value("IS", k + 1),
        "00200032": _decimals(grid.world([[k, 0, 0]])[0]),
        "00200037": _decimals(directions),
        "00200052": _value("UI", grid.frame_of_reference or frame_of_reference_uid(series.known.case)),
        "00201040": _value("LO"),
    }


def _numbers(series: MadeSeries) -> Json:
    """Return how the voxels are stored and shown."""
    grid, scaling = series.geometry, series.scaling
    dtype = np.dtype(scaling.dtype)
    bits = dtype.itemsize * 8
    return {
        "00280002": _value("US", 1),
        "00280004": _value("CS", "MONOCHROME2"),
        "00280010": _value("US", grid.shape[1]),
        "00280011": _value("US", grid.shape[2]),
        "00280030": _decimals(grid.spacing_mm[1:]),
        "00280100": _value("US", bits),
        "00280101": _value("US", bits),
        "00280102": _value("US", bits - 1),
        "00280103": _value("US", int(dtype.kind == "i")),
        "00281050": _decimals([series.window[0]]),
        "00281051": _decimals([series.window[1]]),
        "00281052": _value("DS", float(scaling.intercept)),
        "00281053": _value("DS", float(scaling.slope)),
        "00281054": _value("LO", "HU" if series.modality is Modality.CT else "US"),
    }


def _decimals(numbers: "tuple[float, ...] | list[float] | NDArray[np.float64]") -> Json:
    """Return decimal strings as JSON writes them, rounded as a file would hold them."""
    return _value("DS", *(float(decimal_string(float(number))) for number in numbers))


def _value(vr: str, *values: object) -> Json:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}
