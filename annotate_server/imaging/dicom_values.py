"""Single values of a DICOM dataset as plain types, whatever is or is not in the file."""

import math
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset

from annotate_server.domain.errors import UnreadableFile


def text(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as one line of text; empty where it is not there."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip("\0 \n\r\t")


def plain(word: str) -> str:
    """Return a word of a file so that it can stand in a sentence or a name: files are not trusted with punctuation."""
    return "".join(c for c in word[:32] if c.isalnum() or c in "_-+ ")


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the datasets of a sequence; none where it is not there or is something else."""
    value = dataset.get(keyword)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def words(value: object) -> tuple[str, ...]:
    """Return the words of a multi-valued text."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value.strip(),)
    return tuple(str(word).strip() for word in value) if isinstance(value, Sequence) else ()


def count(dataset: Dataset, keyword: str) -> int:
    """Return a whole number of a dataset; 0 where it is not there. Raises UnreadableFile where it is something else."""
    number = (numbers(keyword, dataset.get(keyword)) or (0.0,))[0]
    if not math.isfinite(number) or number != int(number):
        raise UnreadableFile(f"{keyword} is no whole number")
    return int(number)


def numbers(keyword: str, value: object) -> tuple[float, ...] | None:
    """Return the numbers of an attribute, finite or not; None where it is absent or empty.

    Raises UnreadableFile, with the attribute's name, where it holds something else.
    """
    if value is None or value == "":
        return None
    try:
        values: Sequence[Any] = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        return tuple(float(part) for part in values) or None
    except (ValueError, TypeError, OverflowError) as error:
        raise UnreadableFile(f"{keyword} is no number") from error


def numbers_or_none(value: object) -> tuple[float, ...] | None:
    """Return the numbers of an attribute that nothing depends on; None where it holds something else."""
    try:
        return numbers("", value)
    except UnreadableFile:
        return None


def first_number(value: object) -> float | None:
    """Return the first number of an attribute that nothing depends on, if it is finite."""
    found = numbers_or_none(value)
    return found[0] if found and math.isfinite(found[0]) else None
