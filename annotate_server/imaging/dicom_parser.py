"""DICOM files looked into, decoded and written where no parser can take the caller down."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.case import StoredVolume
from annotate_server.imaging.dicom_instances import (
    ComposeOrder,
    DescribedInstance,
    FramesOrder,
    PartSlices,
    PictureOrder,
)
from annotate_server.imaging.isolation import Isolated, Outcome, allowance_s


@dataclass(frozen=True)
class IsolatedDicom:
    """Two processes: who waits for a frame does not wait for who opens a long series."""

    describing: Isolated
    decoding: Isolated

    def describe(self, paths: Sequence[Path]) -> Iterator[tuple[Path, DescribedInstance | None]]:
        """Yield each file with what it holds; None for one that cannot be read."""
        outcome: Outcome[Path]
        for outcome in self.describing.each("describe dicom", paths, source=lambda path: path.name):
            yield outcome.item, cast("DescribedInstance | None", outcome.answer)

    def slices(self, stored: StoredVolume) -> PartSlices:
        """Return which frame of which instance is slice k of a volume; raises why it is none."""
        allowed = allowance_s(stored.files)
        answer = self.describing.call("dicom slices", stored, allowance_s=allowed, source=stored.key)
        return cast("PartSlices", answer)

    def decoded(self, path: Path, frames: tuple[int, ...]) -> tuple[NDArray[np.generic], ...]:
        """Return the stored values of frames (from 0) of a file."""
        return cast("tuple[NDArray[np.generic], ...]", self._of_file("decode frames", FramesOrder(path, frames), path))

    def plain(self, path: Path) -> NDArray[np.uint8]:
        """Return a file decompressed, as explicit little endian."""
        return cast("NDArray[np.uint8]", self._of_file("plain dicom", path, path))

    def composed(self, order: ComposeOrder, source: str) -> NDArray[np.uint8]:
        """Return the DICOM file of attributes and voxels."""
        allowed = allowance_s(())
        return cast("NDArray[np.uint8]", self.decoding.call("compose dicom", order, allowance_s=allowed, source=source))

    def picture(self, order: PictureOrder, source: str) -> NDArray[np.uint8]:
        """Return a picture as the bytes of a file."""
        files = () if order.path is None else (order.path,)
        allowed = allowance_s(files)
        return cast("NDArray[np.uint8]", self.decoding.call("picture", order, allowance_s=allowed, source=source))

    def _of_file(self, function: str, argument: object, path: Path) -> object:
        return self.decoding.call(function, argument, allowance_s=allowance_s((path,)), source=path.name)
