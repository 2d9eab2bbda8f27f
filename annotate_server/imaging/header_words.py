"""Numbers and lists in the text headers of MetaImage and NRRD, none of them believed."""

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UnreadableFile, UntrustedGeometry
from annotate_server.imaging.packed_bytes import EXPORT_AGAIN

MAX_HEADER_BYTES = 4 << 20
"""A `.seg.nrrd` of 1,000 segments has half a megabyte of header."""

LARGEST = 1e9
"""A place in millimetres beyond this is as good as not finite."""


def whole_numbers(key: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a field; raises UnreadableFile that names the field."""
    try:
        return tuple(int(word) for word in text.split())
    except ValueError as error:
        raise UnreadableFile(f"its header has no whole numbers in `{key}`", remedy=EXPORT_AGAIN) from error


def real_numbers(key: str, text: str, count: int) -> NDArray[np.float64]:
    """Return the `count` numbers of a field that speaks about places; raises UntrustedGeometry for anything else."""
    try:
        numbers = np.array([float(word) for word in text.split()], dtype=np.float64)
    except ValueError as error:
        raise UntrustedGeometry(f"its header has no numbers in `{key}`", remedy=EXPORT_AGAIN) from error
    if numbers.size != count:
        raise UntrustedGeometry(f"its header has {numbers.size} numbers in `{key}` instead of {count}")
    if not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > LARGEST:
        raise UntrustedGeometry(f"its header has a number that is not finite in `{key}`", remedy=EXPORT_AGAIN)
    return numbers


def is_true(text: str) -> bool:
    """Say whether a field says yes, as MetaImage writes it."""
    return text.strip().lower() in ("true", "t", "1", "yes")
