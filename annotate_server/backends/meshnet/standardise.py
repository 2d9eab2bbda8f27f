"""From conformed 0 to 255 to a network's input: normalisation and crop, both through the 256 values that there are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.meshnet.parameters import MeshNetParameters, Normalisation
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Box

_LOWER, _UPPER = 0.05, 0.95


@dataclass(frozen=True)
class NetworkInput:
    """`values` is float32 (l, i, a), normalised; `box` is where it was cut out of the conformed volume."""

    values: NDArray[np.float32]
    box: Box


def network_input(conformed: NDArray[np.uint8], parameters: MeshNetParameters) -> NetworkInput:
    """Return the normalised crop of a conformed volume (l, i, a).

    Quantiles are those of all voxels, the air included; the crop is the box of what is brighter than
    `crop_threshold` times the largest normalised value. Raises NotMadeFor where nothing stands out.
    """
    counts = np.bincount(conformed.ravel(), minlength=256)
    table = _table(counts, parameters.normalisation)
    largest = table[np.flatnonzero(counts)[-1]]
    is_bright = table > parameters.crop_threshold * largest
    box = Box.around(is_bright[conformed])
    if box is None:
        raise NotMadeFor("nothing in it stands out from the background")
    pad = parameters.crop_padding_mm
    box = box.grown((pad, pad, pad), (conformed.shape[0], conformed.shape[1], conformed.shape[2]))
    return NetworkInput(table[conformed[box.slices]], box)


def _table(counts: NDArray[np.integer], rule: Normalisation) -> NDArray[np.float32]:
    """Return the normalised value of each of the 256 grey levels."""
    if rule is Normalisation.MIN_MAX:
        present = np.flatnonzero(counts)
        low, high = int(present[0]), int(present[-1])
    else:
        low, high = _level(counts, _LOWER), _level(counts, _UPPER)
    if high <= low:
        raise NotMadeFor("it shows almost nothing but background")
    return ((np.arange(256) - low) / (high - low)).astype(np.float32)


def _level(counts: NDArray[np.integer], share: float) -> int:
    """Return the grey level at a quantile: the element of the sorted voxels that brainchop takes."""
    total = int(counts.sum())
    place = int(total * share) if share < 0.5 else int(np.ceil(total * share)) - 1
    return int(np.searchsorted(np.cumsum(counts), place, side="right"))
