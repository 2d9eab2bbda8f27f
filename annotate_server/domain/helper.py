"""Classical helpers: what a person may ask for that takes no model, as one typed order for every viewer."""

from dataclasses import dataclass
from enum import StrEnum

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Vector


class HelperKind(StrEnum):
    """The helpers; what each reads of an order is said in `HelperOrder`."""

    THRESHOLD = "threshold"
    REGION_GROWING = "region-growing"
    GEODESIC_FILL = "geodesic-fill"
    SMOOTH = "smooth"
    FILL_HOLES = "fill-holes"
    ISLANDS = "islands"
    INTERPOLATE = "interpolate"
    MARGIN = "margin"
    COMBINE = "combine"


class Combination(StrEnum):
    """Boolean operations of the active segment with another one."""

    UNION = "union"
    INTERSECTION = "intersection"
    DIFFERENCE = "difference"
    COPY = "copy"


class IslandRule(StrEnum):
    """Which connected parts of a segment stay."""

    LARGEST = "largest"
    MINIMUM_SIZE = "minimum-size"
    AT_SEED = "at-seed"


@dataclass(frozen=True)
class HelperOrder:
    """A helper and its numbers; the active segment comes beside it.

    threshold: everything from `low` to `high` (unit of the volume), within `within` (an index of a segment) or
    everywhere that no other segment is. region-growing: what is connected to `seed_mm` (LPS mm) within `low` to
    `high`; both None for a range taken from the seed's surroundings. geodesic-fill: from `seed_mm`, up to edges,
    no further than `distance_mm`. smooth: by `distance_mm` (sigma). fill-holes: in 3-D, and slice by slice along the
    slice axis where `by_slice`. islands: by `rule`, with `volume_ml` or `seed_mm`. interpolate: between the slices
    along `axis` (0 = k, 1 = j, 2 = i) on which the segment is drawn. margin: grown by `distance_mm`, shrunk where it is
    negative. combine: `combination` with the segment of index `other`.
    """

    kind: HelperKind
    low: float | None = None
    high: float | None = None
    seed_mm: Vector | None = None
    distance_mm: float | None = None
    volume_ml: float | None = None
    axis: int = 0
    by_slice: bool = False
    rule: IslandRule = IslandRule.LARGEST
    combination: Combination = Combination.UNION
    other: int | None = None
    within: int | None = None

    def __post_init__(self) -> None:
        """Refuse an order that lacks what its kind needs."""
        for name in _NEEDED[self.kind]:
            if getattr(self, name) is None:
                raise InvalidRequest(f"{self.kind} needs {name}")
        if self.axis not in (0, 1, 2):
            raise InvalidRequest("axis is 0 (k), 1 (j) or 2 (i)")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InvalidRequest(f"low ({self.low:g}) lies above high ({self.high:g})")


_NEEDED: dict[HelperKind, tuple[str, ...]] = {
    HelperKind.THRESHOLD: ("low", "high"),
    HelperKind.REGION_GROWING: ("seed_mm",),
    HelperKind.GEODESIC_FILL: ("seed_mm", "distance_mm"),
    HelperKind.SMOOTH: ("distance_mm",),
    HelperKind.FILL_HOLES: (),
    HelperKind.ISLANDS: (),
    HelperKind.INTERPOLATE: (),
    HelperKind.MARGIN: ("distance_mm",),
    HelperKind.COMBINE: ("other",),
}
