"""A grid as JSON: one spelling for the store and the API."""

from collections.abc import Mapping
from typing import Any

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Geometry, Vector


def geometry_as_json(geometry: Geometry) -> Mapping[str, object]:
    """Return a grid as JSON values; every number comes back exactly. Axes run (k, j, i), positions are LPS mm."""
    return {
        "shape": list(geometry.shape),
        "spacing_mm": list(geometry.spacing_mm),
        "direction": [list(axis) for axis in geometry.direction],
        "origin_mm": list(geometry.origin_mm),
        "frame_of_reference": geometry.frame_of_reference,
    }


def geometry_of_json(value: Mapping[str, Any]) -> Geometry:
    """Return the grid of JSON values; raises InvalidRequest or UntrustedGeometry."""
    try:
        depth, height, width = (int(side) for side in value["shape"])
        k, j, i = (_vector(axis) for axis in value["direction"])
        frame = value.get("frame_of_reference")
        return Geometry(
            shape=(depth, height, width),
            spacing_mm=_vector(value["spacing_mm"]),
            direction=(k, j, i),
            origin_mm=_vector(value["origin_mm"]),
            frame_of_reference=None if frame is None else str(frame),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"a grid is not valid ({type(error).__name__}: {error})") from error


def _vector(numbers: Any) -> Vector:
    a, b, c = (float(number) for number in numbers)
    return a, b, c
