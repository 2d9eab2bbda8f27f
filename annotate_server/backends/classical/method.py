"""What every classical method is: a function from a volume to structures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume


@dataclass(frozen=True)
class Drawing:
    """What a method found: `labels` (k, j, i) on the volume's grid hold numbers of its structures, from 1."""

    labels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A method and the names of the structures that it draws, in the order of their numbers."""

    structures: tuple[str, ...]
    draw: Callable[[Volume, Control], Drawing]
