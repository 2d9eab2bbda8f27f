"""What a volume whose file names no modality can be, by its intensities."""

import numpy as np

from annotate_server.domain.volume import Modality, Volume

_AIR_HU = -200
"""Below this there is air or lung in HU; MR intensities are not negative but for the ripples of a filter."""


def contradicts(volume: Volume, modality: Modality) -> str | None:
    """Return why the voxels cannot be of `modality`, or None where nothing speaks against it.

    CT: the span of tissue in HU is some hundreds, so values within 0 to 1 are none. MR: values far below zero in a
    large part of the volume are HU of air. Only what is certain is said: a doubt is None.
    """
    thinned = volume.voxels[:: max(1, volume.voxels.shape[0] // 64), ::2, ::2].astype(np.float32)
    low, high = float(thinned.min()), float(thinned.max())
    if modality is Modality.MR and low < _AIR_HU and float(np.mean(thinned < _AIR_HU)) > 0.02:
        return f"its values reach down to {low:.0f}, as Hounsfield units of a CT do and MR intensities do not"
    if modality is Modality.CT and high - low <= 10:
        return f"its values run from {low:g} to {high:g} only, which are no Hounsfield units"
    return None
