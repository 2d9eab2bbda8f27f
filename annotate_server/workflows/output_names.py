"""Names for output files: readable, unique, and safe whatever the input was called."""

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

_SUFFIXES = re.compile(r"\.(nii\.gz|nii|seg\.nrrd|nrrd|nhdr|mha|mhd|hdr|img|dcm)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")


def output_names(keys: list[str]) -> dict[str, str]:
    """Return for each key of a stored volume the path, without suffix, of its outputs below the output folder.

    Folders are kept, `img/case 1.nii.gz` becomes `img/case-1`. Where two keys would give the same name, each gets a
    piece of its key's digest, so that the same key always has the same name.
    """
    plain = {key: _safe(key) for key in keys}
    taken: dict[str, int] = {}
    for name in plain.values():
        taken[name.casefold()] = taken.get(name.casefold(), 0) + 1
    return {key: name if taken[name.casefold()] == 1 else f"{name}-{_digest(key)}" for key, name in plain.items()}


def _safe(key: str) -> str:
    parts = [_safe_part(part) for part in PurePosixPath(_SUFFIXES.sub("", key)).parts]
    return "/".join(part for part in parts if part) or "volume"


def _safe_part(part: str) -> str:
    """Return one folder or file name without what a file system, a shell or a browser could stumble over."""
    ascii_part = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("-", ascii_part).strip(".-")[:100]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]
