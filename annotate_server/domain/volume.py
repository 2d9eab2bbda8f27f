"""A volume: voxels, their grid, and what a scanner said about them."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UnsupportedInput
from annotate_server.domain.geometry import Box, Geometry


class Modality(StrEnum):
    """DICOM's Modality (0008,0060), as far as the product draws on it."""

    CT = "CT"
    MR = "MR"
    PT = "PT"
    OTHER = "OT"

    @classmethod
    def of(cls, text: str) -> "Modality":
        """Return the modality of a DICOM code; OTHER for one that no model here is made for."""
        return cls(text) if text in ("CT", "MR", "PT") else cls.OTHER


@dataclass(frozen=True)
class Acquisition:
    """What the file says about how the volume was taken; nothing about the patient.

    `image_type` is DICOM's (0008,0008), for example ("ORIGINAL", "PRIMARY", "LOCALIZER"). `part` names which volume
    of a split series this is, for example `b=800`. `warnings` are sentences that a person should see beside the
    volume, for example that the qform was not used.
    """

    description: str = ""
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    part: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_localizer(self) -> bool:
        """Say whether this is a scout view."""
        words = {word.upper() for word in self.image_type}
        return not words.isdisjoint({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"})


@dataclass(frozen=True)
class Volume:
    """A regular 3-D grid of intensities.

    `voxels` is (k, j, i), any real dtype, made read-only here; its unit is `unit`: `HU` for CT, `1` for what has no
    unit. `modality` is None where the file does not say (NIfTI). The array is not copied.
    """

    voxels: NDArray[np.generic]
    geometry: Geometry
    modality: Modality | None = None
    unit: str = "1"
    acquisition: Acquisition = field(default_factory=Acquisition)

    def __post_init__(self) -> None:
        """Refuse voxels that do not fit the grid or are no real numbers."""
        if self.voxels.shape != self.geometry.shape:
            raise UnsupportedInput(f"the voxels have the shape {self.voxels.shape}, the grid {self.geometry.shape}")
        if self.voxels.dtype.kind not in "iufb":
            raise UnsupportedInput(f"voxels of the type {self.voxels.dtype} are no intensities")
        self.voxels.flags.writeable = False

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of geometry and voxels: equal for a renamed or recompressed copy."""
        state = hashlib.sha256(self.geometry.digest().encode())
        values = np.ascontiguousarray(self.voxels)
        if values.dtype.kind == "f":
            values = values.astype(np.float32)
        elif np.can_cast(values.dtype, np.int16, "safe"):
            values = values.astype(np.int16)
        else:
            values = values.astype(np.int64)
        state.update(str(values.dtype.str).encode())
        state.update(values.view(np.uint8).data)
        return state.hexdigest()

    def known_as(self, digest: str) -> "Volume":
        """Return the volume itself, taking its digest from who computed it before: it is not computed again."""
        self.__dict__["digest"] = digest
        return self

    def cropped(self, box: Box) -> "Volume":
        """Return the block of the volume; a view, nothing is copied."""
        return Volume(
            self.voxels[box.slices],
            self.geometry.cropped(box),
            self.modality,
            self.unit,
            self.acquisition,
        )
