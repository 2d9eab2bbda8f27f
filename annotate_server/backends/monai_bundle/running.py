"""A bundle's network run over a grid by our engine: class values of every voxel, a few planes at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from annotate_server.backends.engine.blending import ClassPlanes
from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.precision import Precision
from annotate_server.backends.monai_bundle.answer import Activation, Answer
from annotate_server.backends.monai_bundle.network import BundleNetwork
from annotate_server.backends.monai_bundle.parameters import BundleParameters, Padding
from annotate_server.domain.errors import NotMadeFor, PredictionFailed
from annotate_server.domain.geometry import Shape
from annotate_server.domain.ports import Control

_MOST_VOXELS_AT_ONCE = 16_000_000
"""More than that no network here takes in one piece on the machines that this is made for."""


@dataclass
class Running:
    """A network with the engine for the window that was asked for last; used from one thread."""

    network: BundleNetwork
    parameters: BundleParameters
    device: str
    engine: Engine | None = None
    window: Shape | None = None

    def warm(self) -> None:
        """Make the engine ready, where the window is the same for every volume."""
        size = self.parameters.window.size
        if size is not None and min(size) > 0:
            self._engine(size)

    def planes(self, values: Tensor, control: Control) -> Iterator[ClassPlanes]:
        """Yield what the network says of values (a, b, c): a score a class, background first, the largest decides.

        Scores are probabilities where the bundle makes such. Raises NotMadeFor for a grid that is too large for a
        network that takes it in one piece, PredictionFailed where it does not take it.
        """
        a, b, c = values.shape
        window = self._window_for((a, b, c))
        engine = self._engine(window)
        whole, before = _padded(values, window, self.parameters.window.padding)
        try:
            for slab in engine.class_planes(whole.numpy(), control):
                first, last = max(slab.first - before[0], 0), min(slab.last - before[0], a)
                if first < last:
                    inner = slab.values[
                        :,
                        first + before[0] - slab.first : last + before[0] - slab.first,
                        before[1] : before[1] + b,
                        before[2] : before[2] + c,
                    ]
                    yield ClassPlanes(first, last, scores(inner, self.parameters.answer))
        except RuntimeError as error:
            raise _does_not_take(window, error) from error

    def close(self) -> None:
        """Give the card's memory back."""
        self.engine = None
        self.network.to("cpu")

    def _window_for(self, shape: Shape) -> Shape:
        size = self.parameters.window.size or (0, 0, 0)
        a, b, c = (own or side for own, side in zip(size, shape, strict=True))
        if a * b * c > _MOST_VOXELS_AT_ONCE:
            raise NotMadeFor(
                f"the network takes a volume in one piece, and this one has {shape} voxels on its grid",
                remedy="Crop the volume.",
            )
        return a, b, c

    def _engine(self, window: Shape) -> Engine:
        if self.engine is None or self.window != window:
            own = self.parameters.window
            reduced = self.parameters.reduced_on_card and self.device != "cpu"
            options = SlidingWindow(
                window=window,
                overlap=own.overlap,
                precision=Precision.REDUCED if reduced else Precision.FLOAT32,
                outside=own.outside,
                uniform=own.uniform,
            )
            try:
                self.engine = Engine(self.network, options, device=self.device)
            except RuntimeError as error:
                raise _does_not_take(window, error) from error
            self.window = window
        return self.engine


def scores(values: Tensor, answer: Answer) -> Tensor:
    """Return class values (classes, …) as scores of which the largest decides.

    With a threshold, background is a class that always has that probability.
    """
    match answer.activation:
        case Activation.SOFTMAX:
            values = values.softmax(0)
        case Activation.SIGMOID:
            values = values.sigmoid()
    if answer.threshold is None:
        return values
    return torch.cat([torch.full_like(values[:1], answer.threshold), values])


def _padded(values: Tensor, window: Shape, padding: Padding) -> tuple[Tensor, Shape]:
    """Return values as large as a window at least, and how much lies before them; zeros are left to the engine."""
    values = values.contiguous()
    more = [max(0, side - own) for side, own in zip(window, values.shape, strict=True)]
    if padding is Padding.CONSTANT or not any(more):
        return values, (0, 0, 0)
    a, b, c = (side // 2 for side in more)
    amounts = [n for first, side in zip((c, b, a), reversed(more), strict=True) for n in (first, side - first)]
    try:
        return functional.pad(values[None, None], amounts, mode=str(padding))[0, 0], (a, b, c)
    except RuntimeError as error:
        raise PredictionFailed(f"{tuple(values.shape)} voxels are too few for windows of {window}") from error


def _does_not_take(window: Shape, error: RuntimeError) -> PredictionFailed:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return PredictionFailed(f"the network does not take windows of {window} voxels: {reason}")
