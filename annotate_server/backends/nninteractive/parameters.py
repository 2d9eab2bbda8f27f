"""What an app says about its network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.geometry import Shape

CHECKPOINT = "checkpoint.pth"
DESCRIPTIONS = ("inference_info.json", "inference_session_class.json")
"""What a release says about its network; the second is the older form."""


@dataclass(frozen=True)
class NnInteractiveParameters:
    """`scribble_thickness` (k, j, i) is in voxels; `solid_boxes` lets a box be more than one slice thick."""

    scribble_thickness: Shape = (2, 2, 2)
    solid_boxes: bool = False


def read_parameters(table: Mapping[str, object], app: str) -> NnInteractiveParameters:
    """Return the parameters of an app; raises InvalidApp that names what is wrong."""
    unknown = set(table) - {"scribble_thickness", "solid_boxes"}
    thickness, solid = table.get("scribble_thickness", [2, 2, 2]), table.get("solid_boxes", False)
    if unknown or not isinstance(solid, bool) or not _is_thickness(thickness):
        raise InvalidApp(
            "its parameters are scribble_thickness (three whole numbers from 1 to 20) and solid_boxes (true or false)",
            source=app,
        )
    k, j, i = cast("list[int]", thickness)
    return NnInteractiveParameters((k, j, i), solid)


def _is_thickness(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 20 for n in value)
    )
