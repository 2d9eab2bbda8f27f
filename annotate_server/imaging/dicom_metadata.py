"""The volumes of a series whose metadata an archive gave as DICOM JSON (PS3.18 F): judged before a voxel is fetched."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.dicom_describing import part_slices
from annotate_server.imaging.dicom_header import HEADER_TAGS, DicomHeader, as_unreadable, header_of
from annotate_server.imaging.dicom_instances import MetadataPlace, PartSlices
from annotate_server.imaging.dicom_listing import part_with_grid, unnamed_volumes
from annotate_server.imaging.dicom_values import text

_WANTED = frozenset(f"{tag:08X}" for tag in HEADER_TAGS)


def volumes_of_metadata(place: MetadataPlace) -> tuple[StoredVolume, ...]:
    """Return the volumes of a series, without keys; raises UnreadableFile for what is no DICOM JSON."""
    return unnamed_volumes(tuple(_headers(place)))


def slices_of_metadata(place: MetadataPlace) -> PartSlices:
    """Return which frame is slice k of a part; raises the reason why it is none."""
    return part_slices(*part_with_grid(tuple(_headers(place)), place.part))


def instance_file(folder: Path, sop_instance: str) -> Path:
    """Return where an instance lies in a folder: no name is made of what an archive says."""
    return folder / f"{hashlib.sha256(sop_instance.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.dcm"


def _headers(place: MetadataPlace) -> Iterator[DicomHeader]:
    with as_unreadable(place.path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd value; here they are judged
        every = json.loads(place.path.read_bytes())
        if not isinstance(every, list) or not every:
            raise UnreadableFile("the metadata is no list of instances")
        for attributes in every:
            kept = {tag: value for tag, value in dict(attributes).items() if tag.upper() in _WANTED}
            dataset = Dataset.from_json(kept, bulk_data_uri_handler=lambda _: None)
            instance = text(dataset, "SOPInstanceUID")
            yield header_of(dataset, instance_file(place.folder, instance), text(dataset, "SOPClassUID"))
