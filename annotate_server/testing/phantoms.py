"""The volumes of the demonstration: phantoms of a chest, a torso and a head, with their truth, as files."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from annotate_server.domain.geometry import Geometry
from annotate_server.testing.chest import ChestOptions, Phantom, chest_phantom
from annotate_server.testing.head import head_phantom
from annotate_server.testing.phantom_files import SeriesWords, phantom_uid, write_nifti, write_series

__all__ = [
    "SAMPLE_CASES",
    "ChestOptions",
    "Phantom",
    "SampleCase",
    "SampleManifest",
    "chest_phantom",
    "demo_chest",
    "demo_head",
    "demo_torso",
    "head_phantom",
    "is_intact",
    "make_sample_data",
]

MANIFEST = "manifest.json"
_C, _S = 0.96, 0.28
"""Cosine and sine of 16.3 degrees: a rotation whose numbers are exact decimals."""


@dataclass(frozen=True)
class SampleCase:
    """One volume: `image` (a file, or the folder of a series) and `label` (its truth) below the folder.

    `model` is the demonstration model that is made for it.
    """

    name: str
    image: str
    label: str
    modality: str
    model: str


@dataclass(frozen=True)
class SampleManifest:
    """What was made: the cases, and the SHA-256 (hex) of every file by its path below the folder."""

    cases: tuple[SampleCase, ...]
    files: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """Return it as JSON, the same bytes every time."""
        table = {"cases": [asdict(case) for case in self.cases], "files": dict(self.files)}
        return json.dumps(table, indent=1, sort_keys=True) + "\n"


SAMPLE_CASES = (
    SampleCase("ct_chest", "images/ct_chest", "labels/ct_chest.nii", "CT", "demo_ct"),
    SampleCase("ct_torso", "images/ct_torso.nii", "labels/ct_torso.nii", "CT", "demo_ct"),
    SampleCase("mr_head", "images/mr_head", "labels/mr_head.nii", "MR", "demo_mr"),
)


def make_sample_data(folder: Path) -> SampleManifest:
    """Write the phantoms below `folder` and return what was written; about 7 MB, the same bytes everywhere.

    `images/` holds a CT series and an MR series (DICOM) and another CT (NIfTI), `labels/` the truth of each as NIfTI
    whose values are the indices of the segments of `demo_ct` and `demo_mr`, `manifest.json` the SHA-256 of every file.
    """
    chest, torso, head = demo_chest(), demo_torso(), demo_head()
    write_series(
        folder / "images/ct_chest",
        chest.volume,
        SeriesWords("ct_chest", "Sample^CT", "SAMPLE-CT", "Chest phantom", "CHEST"),
    )
    write_nifti(folder / "images/ct_torso.nii", torso.volume.voxels, torso.volume.geometry)
    write_series(
        folder / "images/mr_head", head.volume, SeriesWords("mr_head", "Sample^MR", "SAMPLE-MR", "T1 phantom", "HEAD")
    )
    for name, phantom in (("ct_chest", chest), ("ct_torso", torso), ("mr_head", head)):
        write_nifti(folder / f"labels/{name}.nii", phantom.truth.voxels, phantom.truth.geometry)
    manifest = SampleManifest(SAMPLE_CASES, _digests(folder))
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return manifest


def is_intact(folder: Path) -> bool:
    """Say whether `folder` holds what `make_sample_data` writes, unchanged; says nothing of an older generator."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = SampleManifest(SAMPLE_CASES, _digests(folder))
    return (folder / MANIFEST).read_text(encoding="utf-8") == manifest.text()


def demo_chest() -> Phantom:
    """Return the chest: axial, 60 slices of 5 mm."""
    return chest_phantom(_axial((60, 128, 128), (5.0, 2.875, 2.875), 35.0, "ct_chest"), ChestOptions(bowel_gas=True))


def demo_torso() -> Phantom:
    """Return another torso: with contrast medium, a nodule and stool, in slices of 4 mm."""
    options = ChestOptions(blood_hu=130.0, nodule=True, stool=True, seed=7)
    return chest_phantom(_axial((72, 112, 128), (4.0, 2.75, 2.75), 40.0, "ct_torso"), options)


def demo_head() -> Phantom:
    """Return the head: doubly oblique, 48 slices of 4 mm."""
    shape, spacing_mm = (48, 112, 96), (4.0, 2.0, 2.0)
    direction = ((_S * _S, -_C * _S, _C), (-_C * _S, _C * _C, _S), (_C, _S, 0.0))
    middle = [
        sum(d[a] * s * (n - 1) / 2 for d, s, n in zip(direction, spacing_mm, shape, strict=True)) for a in range(3)
    ]
    origin = (-middle[0], 5.0 - middle[1], -5.0 - middle[2])
    return head_phantom(Geometry(shape, spacing_mm, direction, origin, phantom_uid("mr_head/frame")))


def _axial(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], middle_z_mm: float, name: str
) -> Geometry:
    """Return an axial grid around x = 0, y = 10 mm."""
    half = [s * (n - 1) / 2 for s, n in zip(spacing_mm, shape, strict=True)]
    direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    return Geometry(
        shape, spacing_mm, direction, (-half[2], 10.0 - half[1], middle_z_mm - half[0]), phantom_uid(f"{name}/frame")
    )


def _digests(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return path and SHA-256 of every file below images and labels, sorted."""
    files = sorted(path for part in ("images", "labels") for path in (folder / part).rglob("*") if path.is_file())
    return tuple((path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)
