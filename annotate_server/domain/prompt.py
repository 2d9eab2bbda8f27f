"""Prompts: the hints that a person gives to a model, in LPS millimetres."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from annotate_server.domain.errors import InvalidPrompt
from annotate_server.domain.geometry import Geometry, Vector


class PromptKind(StrEnum):
    """The kinds that a model can declare."""

    POINT = "point"
    BOX = "box"
    SCRIBBLE = "scribble"
    LASSO = "lasso"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One hint: positive (this belongs to the segment) or negative (this does not).

    `points_mm` are LPS mm. A point has one. A box has two opposite corners, along the axes of the volume. A scribble
    is an open line through its points. A lasso is a closed polygon in one plane, any plane; what it encloses counts.
    `segment` is the index of the segment that it speaks about.
    """

    kind: PromptKind
    points_mm: tuple[Vector, ...]
    segment: int = 1
    positive: bool = True

    def __post_init__(self) -> None:
        """Refuse what no person can have drawn."""
        needed = {PromptKind.POINT: 1, PromptKind.BOX: 2, PromptKind.SCRIBBLE: 1, PromptKind.LASSO: 3}[self.kind]
        if len(self.points_mm) < needed or (self.kind in _FIXED and len(self.points_mm) != needed):
            raise InvalidPrompt(f"a {self.kind} needs {needed} points, not {len(self.points_mm)}")
        if not np.isfinite(np.array(self.points_mm, dtype=np.float64)).all():
            raise InvalidPrompt(f"a {self.kind} has a coordinate that is not a finite number")
        if self.segment < 1:
            raise InvalidPrompt(f"a {self.kind} names the segment {self.segment}; segments begin at 1")

    def check_within(self, geometry: Geometry) -> None:
        """Refuse a prompt that touches no voxel of the grid (a stroke may run beyond the border)."""
        if not geometry.contains(self.points_mm).any() and self.kind is not PromptKind.BOX:
            raise InvalidPrompt(f"the {self.kind} lies outside the volume")


_FIXED = (PromptKind.POINT, PromptKind.BOX)
