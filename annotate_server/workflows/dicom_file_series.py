"""A DICOM series that is served from its files."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.dicom_uids import derived_uid, is_uid
from annotate_server.domain.errors import NotFound
from annotate_server.imaging.dicom_instances import (
    EXPLICIT_LITTLE_ENDIAN,
    ComposeOrder,
    DescribedInstance,
    FileInstance,
    Look,
    PartSlices,
    PictureOrder,
)
from annotate_server.imaging.wire import Packed, pack, unpack
from annotate_server.workflows.dicom_payload import Payload

_LEVEL = 5


class DicomParser(Protocol):
    """Looks into DICOM files where a crash does not take the caller down."""

    def describe(self, paths: Sequence[Path]) -> Iterator[tuple[Path, DescribedInstance | None]]:
        """Yield each file with what it holds; None for one that cannot be read."""
        ...

    def slices(self, stored: StoredVolume) -> PartSlices:
        """Return which frame of which instance is slice k of a volume."""
        ...

    def decoded(self, path: Path, frames: tuple[int, ...]) -> tuple[NDArray[np.generic], ...]:
        """Return the stored values of frames (from 0) of a file."""
        ...

    def plain(self, path: Path) -> NDArray[np.uint8]:
        """Return a file decompressed, as explicit little endian."""
        ...

    def composed(self, order: ComposeOrder, source: str) -> NDArray[np.uint8]:
        """Return the DICOM file of attributes and voxels."""
        ...

    def picture(self, order: PictureOrder, source: str) -> NDArray[np.uint8]:
        """Return a picture as the bytes of a file."""
        ...


class Descriptions(Protocol):
    """Keeps what was found out, as bytes by key; any of it may be gone at any time."""

    def get(self, key: str) -> bytes | None:
        """Return what was kept."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Keep something."""
        ...


@dataclass(frozen=True)
class FileSeries:
    """A series whose files were described; `packed` are the attributes of its instances, a gzipped JSON list."""

    tag: str
    instances: tuple[FileInstance, ...]
    packed: bytes
    parser: DicomParser

    @property
    def uids(self) -> tuple[str, ...]:
        """Return the instances in order."""
        return tuple(self._by_uid)

    @cached_property
    def _by_uid(self) -> Mapping[str, FileInstance]:
        return {instance.sop_instance: instance for instance in self.instances}

    def metadata(self) -> bytes:
        """Return the attributes of all instances as a gzipped JSON list."""
        return self.packed

    def attributes(self, uid: str) -> Mapping[str, Any]:
        """Return the attributes of an instance."""
        number = self.uids.index(self._instance(uid).sop_instance)
        return cast("Mapping[str, Any]", json.loads(gzip.decompress(self.packed))[number])

    def frame_count(self, uid: str) -> int:
        """Return how many frames an instance has; raises NotFound."""
        return self._instance(uid).frames

    def syntax(self, uid: str) -> str:
        """Return the transfer syntax of an instance's frames as they are stored."""
        return self._instance(uid).syntax

    def file_syntax(self, uid: str) -> str:
        """Return the transfer syntax of an instance's file."""
        return self._instance(uid).file_syntax

    def frames(self, uid: str, numbers: Sequence[int], *, is_as_stored: bool) -> Iterator[Payload]:
        """Yield frames (from 0), as they are stored or as plain little endian."""
        instance = self._instance(uid)
        for number in numbers:
            ranges = instance.places.of(number)
            if ranges and (is_as_stored or instance.syntax == EXPLICIT_LITTLE_ENDIAN):
                yield Payload(instance.syntax, instance=instance, ranges=ranges)
            else:
                plane = self.parser.decoded(instance.path, (number,))[0]
                yield Payload(EXPLICIT_LITTLE_ENDIAN, np.ascontiguousarray(plane).tobytes())

    def file(self, uid: str, *, is_as_stored: bool) -> Payload:
        """Return an instance as a file, as it is stored or as explicit little endian."""
        instance = self._instance(uid)
        if is_as_stored:
            return Payload(instance.file_syntax, instance=instance, ranges=((0, instance.size_bytes),))
        return Payload(EXPLICIT_LITTLE_ENDIAN, self.parser.plain(instance.path).tobytes())

    def picture(self, uid: str, frame: int, look: Look) -> bytes:
        """Return a frame (from 0) as a picture."""
        instance = self._instance(uid)
        return self.parser.picture(PictureOrder(look, instance.path, frame), instance.path.name).tobytes()

    def _instance(self, uid: str) -> FileInstance:
        found = self._by_uid.get(uid)
        if found is None:
            raise NotFound("there is no such instance here")
        return found


def file_series(
    uids: tuple[str, str], files: Sequence[Path], parser: DicomParser, descriptions: Descriptions
) -> FileSeries:
    """Return the series of files, described now or before; `uids` are those of study and series.

    Files that cannot be read any more are left out; raises NotFound where that is all of them.
    """
    tag = files_tag(files)
    kept, packed = (descriptions.get(f"{kind} {tag}") for kind in ("series", "attributes"))
    if kept is not None and packed is not None:
        instances = cast("tuple[FileInstance, ...]", unpack(Packed(kept)))
        return FileSeries(tag, instances, packed, parser)
    described = _named(uids, (found for _, found in parser.describe(files) if found is not None))
    if not described:
        raise NotFound("the files of this series are not there any more or cannot be read")
    instances = tuple(each.instance for each in described)
    text = "[" + ",".join(each.attributes for each in described) + "]"
    packed = gzip.compress(text.encode(), _LEVEL, mtime=0)
    if len(described) == len(files):
        descriptions.put(f"series {tag}", pack(instances).text)
        descriptions.put(f"attributes {tag}", packed)
    return FileSeries(tag, instances, packed, parser)


def files_tag(files: Sequence[Path]) -> str:
    """Return a word for what the file system says of files: another one means that they changed."""
    state = hashlib.sha256()
    for path in files:
        try:
            facts = path.stat()
            size, time = facts.st_size, facts.st_mtime_ns
        except OSError:
            size, time = -1, -1
        state.update(f"{path}|{size}|{time}\n".encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def _named(uids: tuple[str, str], described: Iterable[DescribedInstance]) -> list[DescribedInstance]:
    """Return instances under the identifiers that they are served by, which are nearly always their own; none twice."""
    found: dict[str, DescribedInstance] = {}
    for number, each in enumerate(described):
        own = each.instance.sop_instance
        uid = own if is_uid(own) else derived_uid(*uids, str(number))
        attributes = json.loads(each.attributes)
        attributes["0020000D"], attributes["0020000E"], attributes["00080018"] = (
            {"vr": "UI", "Value": [word]} for word in (*uids, uid)
        )
        instance = FileInstance(**{**vars(each.instance), "sop_instance": uid})
        text = json.dumps(dict(sorted(attributes.items())), separators=(",", ":"))
        found.setdefault(uid, DescribedInstance(instance, text))
    return list(found.values())
