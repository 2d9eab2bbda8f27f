"""The datastore of a MONAI Label server as its `LocalDatastore` lays it out on disk, written for tests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import LabelVoxels
from annotate_server.imaging.nifti_writing import write_nifti

SAVED_AT = 1_700_000_000
"""When the first label was saved, in seconds; each one is saved a minute after the one before it."""


@dataclass
class ForeignStore:
    """A folder that fills up; `write_index` writes what `datastore_v2.json` would say."""

    folder: Path
    grid: Geometry
    objects: dict[str, Any] = field(default_factory=dict)
    saved: int = 0

    def volume(self, name: str, seed: int) -> Path:
        """Add a volume of random numbers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(seed).integers(-900, 900, self.grid.shape).astype(np.int16)
        path = self.folder / f"{name}.nii.gz"
        write_nifti(voxels, self.grid, path)
        self.objects[name] = {"image": {"ext": ".nii.gz", "info": {"ts": SAVED_AT, "name": path.name}}, "labels": {}}
        return path

    def label(
        self, name: str, tag: str, voxels: LabelVoxels | bytes | None, info: Mapping[str, Any], ext: str = ".nii.gz"
    ) -> Path:
        """Add a label; its voxels, or the bytes of its file, or None where the caller writes it."""
        path = self.folder / "labels" / tag / f"{name}{ext}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(voxels, bytes):
            path.write_bytes(voxels)
        elif voxels is not None:
            write_nifti(voxels, self.grid, path)
        words = {"ts": SAVED_AT + 60 * self.saved, "name": path.name, **info}
        self.objects[name]["labels"][tag] = {"ext": ext, "info": words}
        self.saved += 1
        return path

    def write_index(self) -> None:
        """Write the index."""
        content = {
            "name": "new-dataset",
            "description": "New Dataset",
            "images_dir": ".",
            "labels_dir": "labels",
            "objects": self.objects,
        }
        (self.folder / "datastore_v2.json").write_text(json.dumps(content, indent=2))
        (self.folder / ".lock").touch()

    def contents(self) -> Mapping[str, bytes]:
        """Return every file with its bytes."""
        return {str(path): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


def named(*names: str, start: int = 1) -> list[dict[str, object]]:
    """Return a `label_info` that counts from `start`."""
    return [{"name": name, "idx": index} for index, name in enumerate(names, start)]


def blocks(grid: Geometry, count: int) -> LabelVoxels:
    """Return a labelmap in which each of the values 1 to `count` has voxels of its own."""
    voxels = np.zeros(grid.shape, np.uint8)
    for value in range(1, count + 1):
        voxels.reshape(-1)[value * 7 : value * 7 + value] = value
    return voxels
