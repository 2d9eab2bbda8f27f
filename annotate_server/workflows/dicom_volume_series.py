"""A series that is made of a volume of another format while it is asked for."""

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from annotate_server.domain.compute import Compute, VolumePlace
from annotate_server.domain.dicom_uids import slice_uid
from annotate_server.domain.errors import NotFound, TryLater
from annotate_server.domain.ports import VolumeCache
from annotate_server.domain.store_ports import CaseStore
from annotate_server.domain.stored import KnownCase
from annotate_server.domain.volume import Volume
from annotate_server.imaging.dicom_instances import EXPLICIT_LITTLE_ENDIAN, ComposeOrder, Look, PictureOrder
from annotate_server.imaging.dicom_scaling import Scaling, scaling_of
from annotate_server.imaging.made_series import MadeSeries, made_series
from annotate_server.workflows.dicom_file_series import Descriptions, DicomParser
from annotate_server.workflows.dicom_payload import Payload

_LEVEL = 5


@dataclass(frozen=True)
class VolumeSeries:
    """A made series; `tag` changes with the voxels and with what is said of them."""

    made: MadeSeries
    tag: str
    parser: DicomParser

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {slice_uid(self.made.known.case, k): k for k in range(self.made.geometry.shape[0])}

    @property
    def uids(self) -> tuple[str, ...]:
        """Return the instances in the order of k."""
        return tuple(self._numbers)

    def metadata(self) -> bytes:
        """Return the attributes of all instances as a gzipped JSON list."""
        every = [self.made.attributes(k) for k in self._numbers.values()]
        return gzip.compress(json.dumps(every, separators=(",", ":")).encode(), _LEVEL, mtime=0)

    def attributes(self, uid: str) -> Mapping[str, Any]:
        """Return the attributes of an instance."""
        return self.made.attributes(self._k(uid))

    def frame_count(self, uid: str) -> int:
        """Return that an instance has one frame; raises NotFound."""
        self._k(uid)
        return 1

    def syntax(self, uid: str) -> str:
        """Return the transfer syntax of the frames."""
        return EXPLICIT_LITTLE_ENDIAN

    def file_syntax(self, uid: str) -> str:
        """Return the transfer syntax of the files."""
        return EXPLICIT_LITTLE_ENDIAN

    def frames(self, uid: str, numbers: Sequence[int], *, is_as_stored: bool) -> Iterator[Payload]:
        """Yield the one frame."""
        for _ in numbers:
            yield Payload(EXPLICIT_LITTLE_ENDIAN, self.made.stored(self._k(uid)).tobytes())

    def file(self, uid: str, *, is_as_stored: bool) -> Payload:
        """Return an instance as a file."""
        k = self._k(uid)
        order = ComposeOrder(json.dumps(self.made.attributes(k)), self.made.stored(k))
        return Payload(EXPLICIT_LITTLE_ENDIAN, self.parser.composed(order, f"slice {k}").tobytes())

    def picture(self, uid: str, frame: int, look: Look) -> bytes:
        """Return a slice as a picture, in the window of the whole volume unless another is asked for."""
        k = self._k(uid)
        seen = look if look.window else Look(look.columns, look.rows, self.made.window, look.media_type, look.quality)
        order = PictureOrder(seen, intensities=self.made.volume.voxels[k])
        return self.parser.picture(order, f"slice {k}").tobytes()

    def _k(self, uid: str) -> int:
        found = self._numbers.get(uid)
        if found is None:
            raise NotFound("there is no such instance here")
        return found


@dataclass(frozen=True)
class VolumeSource:
    """Where the voxels of cases come from: the cache of the workspace, filled by the workers."""

    cases: CaseStore
    compute: Compute
    cache: VolumeCache
    parser: DicomParser
    descriptions: Descriptions

    def series(self, known: KnownCase) -> VolumeSeries:
        """Return the series of a case; raises NotFound where its file is gone, and the errors of reading it."""
        volume = self.volume(known)
        scaling = self._scaling(volume)
        facts = repr((volume.digest, scaling, known.modality, known.name, known.case.patient.pseudonym()))
        tag = hashlib.sha256(facts.encode("utf-8", "backslashreplace")).hexdigest()
        return VolumeSeries(made_series(known, volume, scaling), tag, self.parser)

    def volume(self, known: KnownCase) -> Volume:
        """Return the volume mapped from the cache; a worker reads it where it is not there."""
        volume = self.cache.get(known.facts.digest) if known.facts is not None else None
        if volume is not None:
            return volume
        if known.is_missing:
            raise NotFound("the case's files are not there any more", source=known.name)
        facts = self.compute.facts(VolumePlace.of(known))
        if known.facts is None:
            self.cases.learn(known.id, facts)
        volume = self.cache.get(facts.digest)
        if volume is None:
            raise TryLater("there is no room for the volume in the cache of the workspace")
        return volume

    def _scaling(self, volume: Volume) -> Scaling:
        """Return how the intensities are stored, found out once for each volume."""
        key = f"scaling 1 {volume.digest}"
        kept = self.descriptions.get(key)
        if kept is not None:
            dtype, slope, intercept, error = json.loads(kept)
            return Scaling(dtype, slope, intercept, error)
        scaling = scaling_of(volume.voxels)
        values = [scaling.dtype, scaling.slope, scaling.intercept, scaling.largest_error]
        self.descriptions.put(key, json.dumps(values).encode())
        return scaling
