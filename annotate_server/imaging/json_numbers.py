"""Numbers that JSON has no word for: what is not finite becomes null."""

import math
from collections.abc import Mapping


def finite_number(value: float) -> float | None:
    """Return a number, or None for an infinite one and for none at all."""
    return value if math.isfinite(value) else None


def finite(value: object) -> object:
    """Return a value of JSON in which every number is finite or None, mappings and lists copied."""
    if isinstance(value, float):
        return finite_number(value)
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
