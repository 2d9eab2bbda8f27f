"""The `[parameters]` of an app made from a bundle: all that its configuration said, resolved into plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

from annotate_server.backends.monai_bundle.answer import Activation, Answer, LargestPart, Return
from annotate_server.backends.monai_bundle.network import NetworkPlan
from annotate_server.backends.monai_bundle.steps import Step, steps_of, tables_of
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.geometry import Shape
from annotate_server.domain.model import App


class Padding(StrEnum):
    """What lies beyond a volume that is smaller than the window."""

    CONSTANT = "constant"
    REPLICATE = "replicate"
    REFLECT = "reflect"


@dataclass(frozen=True)
class Window:
    """How the network is run over a grid.

    `size` is in the order of the grid's axes, 0 for a whole axis; None runs it once over everything. `uniform` lets
    every voxel of a window count the same. `outside` is the value beyond the volume where the padding is constant.
    """

    size: Shape | None
    overlap: float = 0.25
    uniform: bool = True
    padding: Padding = Padding.CONSTANT
    outside: float = 0.0


@dataclass(frozen=True)
class BundleParameters:
    """A bundle as data: the network, what it sees, how it is run, and what becomes of its answer.

    `reduced_on_card` says that the bundle computes in half precision on a card.
    """

    network: NetworkPlan
    steps: tuple[Step, ...]
    window: Window
    answer: Answer
    reduced_on_card: bool = False

    @classmethod
    def of(cls, app: App) -> "BundleParameters":
        """Return the parameters of an app; InvalidApp names what is wrong."""
        table = dict(app.parameters)
        try:
            network = cast("Mapping[str, object]", table.pop("network"))
            found = cls(
                network=NetworkPlan(str(network["name"]), cast("Mapping[str, object]", network["arguments"])),
                steps=steps_of(table.pop("steps")),
                window=_window(cast("Mapping[str, object]", table.pop("window"))),
                answer=_answer(cast("Mapping[str, object]", table.pop("answer"))),
                reduced_on_card=bool(table.pop("reduced_on_card", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidApp(f"its parameters are not complete: {error}", source=app.name) from error
        except InvalidApp as error:
            error.source = error.source or app.name
            raise
        if table:
            raise InvalidApp(f"its parameters {sorted(table)} are unknown to monai_bundle", source=app.name)
        return found

    def table(self) -> dict[str, object]:
        """Return the parameters in the types that TOML has."""
        answer: dict[str, object] = {
            "activation": str(self.answer.activation),
            "returned": str(self.answer.returned),
            "largest": [{**asdict(part), "labels": list(part.labels)} for part in self.answer.largest],
        }
        if self.answer.threshold is not None:
            answer["threshold"] = self.answer.threshold
        window: dict[str, object] = {**asdict(self.window), "padding": str(self.window.padding)}
        window["size"] = [] if self.window.size is None else list(self.window.size)
        return {
            "reduced_on_card": self.reduced_on_card,
            "network": {"name": self.network.name, "arguments": dict(self.network.arguments)},
            "window": window,
            "answer": answer,
            "steps": tables_of(self.steps),
        }


def _window(table: Mapping[str, object]) -> Window:
    given = dict(table)
    sides = cast("list[int]", given.pop("size"))
    k, j, i = (int(side) for side in sides) if sides else (0, 0, 0)
    window = Window(
        size=(k, j, i) if sides else None,
        overlap=float(cast("float", given.pop("overlap"))),
        uniform=bool(given.pop("uniform")),
        padding=Padding(str(given.pop("padding"))),
        outside=float(cast("float", given.pop("outside"))),
    )
    if given or not 0 <= window.overlap < 1 or (sides and min(k, j, i) < 0):
        raise ValueError(f"{dict(table)} is no window")
    return window


def _answer(table: Mapping[str, object]) -> Answer:
    given = dict(table)
    parts = cast("list[Mapping[str, object]]", given.pop("largest", []))
    threshold = given.pop("threshold", None)
    answer = Answer(
        activation=Activation(str(given.pop("activation"))),
        threshold=None if threshold is None else float(cast("float", threshold)),
        returned=Return(str(given.pop("returned"))),
        largest=tuple(
            LargestPart(tuple(cast("list[int]", part["labels"])), bool(part["together"]), bool(part["on_grid"]))
            for part in parts
        ),
    )
    if given:
        raise ValueError(f"{sorted(given)} are unknown")
    return answer
