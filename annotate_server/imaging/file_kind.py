"""What a file is, by its first bytes."""

from pathlib import Path
from typing import Literal

from annotate_server.domain.case import Format
from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.packed_bytes import opened

_SUFFIXES = {
    **{".nii": Format.NIFTI, ".nii.gz": Format.NIFTI},
    **{".mha": Format.METAIMAGE, ".mhd": Format.METAIMAGE},
    **{".nrrd": Format.NRRD, ".nhdr": Format.NRRD, ".dcm": Format.DICOM},
}
_NIFTI_MAGIC = (b"n+1\0", b"ni1\0")


def identify(path: Path) -> Format | None:
    """Return what a file is by its first bytes; None for what is no volume.

    Where the bytes say nothing, a name that promises a volume counts: its reader will say what is wrong with it. The
    second file of a pair (.img, .raw) is None: its header stands for both.
    """
    by_name = next((kind for suffix, kind in _SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    try:
        with opened(path) as source:
            head = source.take(540)
            is_packed = source.is_packed
    except UnreadableFile:
        return by_name
    by_content = _of_bytes(head)
    return by_name if by_content is None or (is_packed and by_content is not Format.NIFTI) else by_content


def _of_bytes(head: bytes) -> Format | None:
    """Return the format that the first bytes of a file show."""
    if head.startswith(b"NRRD000"):
        return Format.NRRD
    if head[344:348] in _NIFTI_MAGIC or head[4:8] in (b"n+2\0", b"ni2\0") or _is_analyze(head):
        return Format.NIFTI
    if head[128:132] == b"DICM" or _begins_as_dicom(head):
        return Format.DICOM
    key, equals, _ = head.partition(b"\n")[0].partition(b"=")
    if equals and key.strip() in (b"ObjectType", b"NDims", b"Comment"):
        return Format.METAIMAGE
    return None


def _is_analyze(head: bytes) -> bool:
    """Say whether this is the header of ANALYZE 7.5, NIfTI's ancestor, whose reader says what is wrong with it."""
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    return len(head) >= 348 and any(
        int.from_bytes(head[:4], order) == 348 and 1 <= int.from_bytes(head[40:42], order) <= 7 for order in orders
    )


def _begins_as_dicom(head: bytes) -> bool:
    """Say whether a file without preamble begins with an element of the group 2 or 8, as a data set does."""
    if len(head) < 16 or head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08") or max(head[2:4]) > 0x20:
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return is_explicit or int.from_bytes(head[4:8], "little") < 256
