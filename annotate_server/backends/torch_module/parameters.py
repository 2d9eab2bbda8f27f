"""The `[parameters]` of an app of `torch_module`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.geometry import Shape, Vector
from annotate_server.domain.model import App


@dataclass(frozen=True)
class Intensities:
    """How values become a network's input where their unit means something, as in CT: clipped, shifted and scaled."""

    low: float
    high: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class TorchModuleParameters:
    """What `[parameters]` of an app of this backend says.

    `architecture` and `network` go to `network.build`. `orientation` names the order of axes that the network was
    trained in ("SPL": k to superior, j to posterior, i to left), `spacing_mm` its grid. `smallest_grid` is padded to,
    `mirror_axes` are averaged over. `reduced_precision` allows bfloat16 on processors that compute with it, for a
    network whose labels were measured to stay the same. `one_part` keeps the largest connected part of all segments
    together, for a structure that is one piece. A volume of more than `most_voxels` at that spacing is refused.
    `tile` lets a network answer larger volumes window by window; `intensities` are for values with a unit (without
    them, every volume is clipped to its percentiles and standardised by itself).
    """

    architecture: str
    network: Mapping[str, object]
    spacing_mm: Vector
    orientation: str = "SPL"
    smallest_grid: Shape = (1, 1, 1)
    mirror_axes: tuple[int, ...] = ()
    reduced_precision: bool = False
    one_part: bool = False
    most_voxels: int = 4_000_000
    tile: Shape | None = None
    intensities: Intensities | None = None

    @classmethod
    def of(cls, app: App) -> "TorchModuleParameters":
        """Return the parameters of an app; InvalidApp names what is wrong."""
        table = dict(app.parameters)
        try:
            k_mm, j_mm, i_mm = (float(side) for side in cast("list[float]", table.pop("spacing_mm")))
            parameters = cls(
                architecture=str(table.pop("architecture")),
                network=cast("Mapping[str, object]", table.pop("network")),
                spacing_mm=(k_mm, j_mm, i_mm),
                orientation=str(table.pop("orientation", "SPL")),
                smallest_grid=_shape(table.pop("smallest_grid", [1, 1, 1])),
                mirror_axes=tuple(int(axis) for axis in cast("list[int]", table.pop("mirror_axes", []))),
                reduced_precision=bool(table.pop("reduced_precision", False)),
                one_part=bool(table.pop("one_part", False)),
                most_voxels=int(cast("int", table.pop("most_voxels", 4_000_000))),
                tile=_shape(table.pop("tile")) if "tile" in table else None,
                intensities=_intensities(table.pop("intensities")) if "intensities" in table else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidApp(f"its parameters are not complete: {error}", source=app.name) from error
        if table:
            raise InvalidApp(f"its parameters {sorted(table)} are unknown to torch_module", source=app.name)
        return parameters


def _shape(value: object) -> Shape:
    depth, height, width = (int(side) for side in cast("list[int]", value))
    if min(depth, height, width) < 1:
        raise ValueError(f"{[depth, height, width]} is no size")
    return depth, height, width


def _intensities(value: object) -> Intensities:
    table = cast("Mapping[str, float]", value)
    found = Intensities(*(float(table[name]) for name in ("low", "high", "mean", "deviation")))
    if found.deviation <= 0 or found.high <= found.low or len(table) != 4:
        raise ValueError("`intensities` are low, high, mean and deviation")
    return found
