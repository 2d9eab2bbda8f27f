"""Any volume in: its reader, and the same where no parser can take the caller down."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.volume import Volume
from annotate_server.imaging.file_kind import identify
from annotate_server.imaging.isolation import FUNCTIONS, Isolated, allowance_s
from annotate_server.imaging.labelmap_orders import (
    PLAIN,
    Algorithm,
    LabelmapFormat,
    LabelmapPlace,
    LabelmapWriting,
    StoredWriting,
)

__all__ = ["IsolatedReader", "identify", "read_volume"]


def read_volume(stored: StoredVolume) -> Volume:
    """Return the volume of a file or series of any format, in this process.

    Raises an InputError that names the file and the defect.
    """
    module, name = FUNCTIONS[f"read {stored.format}"].split(":")
    reader = cast("Callable[[StoredVolume], Volume]", getattr(import_module(module), name))
    return reader(stored)


@dataclass(frozen=True)
class IsolatedReader:
    """Reads and writes volumes and labelmaps in another process; fulfils `ports.VolumeReader` and `LabelmapReader`.

    Use it from one thread at a time, whichever that is: while one thread reads the next case, another may work on the
    present one. Calls from several threads wait for each other.
    """

    isolated: Isolated

    def read(self, stored: StoredVolume) -> Volume:
        """Return the volume, voxels mapped from scratch; raises an InputError that names the file and the defect."""
        allowed = allowance_s(stored.files)
        answer = self.isolated.call(f"read {stored.format}", stored, allowance_s=allowed, source=stored.key)
        return cast("Volume", answer)

    def read_labelmap(self, path: Path, reference: Volume | Geometry) -> tuple[Labelmap, ...]:
        """Return the labelmaps of a file on the reference's grid (`labelmap_files.read_labelmap`)."""
        geometry = reference.geometry if isinstance(reference, Volume) else reference
        place = LabelmapPlace(path, geometry)
        answer = self.isolated.call("read labelmap", place, allowance_s=allowance_s([path]), source=str(path))
        return cast("tuple[Labelmap, ...]", answer)

    def write_labelmap(
        self,
        labelmap: Labelmap,
        path: Path,
        kind: LabelmapFormat,
        source: StoredVolume | None = None,
        algorithm: Algorithm = PLAIN,
    ) -> None:
        """Write a labelmap (`labelmap_files.write_labelmap`): a DICOM SEG reads the headers of its series again."""
        writing = LabelmapWriting((labelmap,), path, kind, source, algorithm)
        allowed = 10 * allowance_s(source.files if source else ())
        self.isolated.call("write labelmap", writing, allowance_s=allowed, source=str(path))

    def write_stored(self, writing: StoredWriting) -> None:
        """Write layers of the store to a file; their voxels are not loaded in this process."""
        size = sum(path.stat().st_size for path in writing.paths)
        allowed = 10 * allowance_s(writing.source.files if writing.source else ()) + size / 1e5
        self.isolated.call("write stored labels", writing, allowance_s=allowed, source=writing.path.name)
