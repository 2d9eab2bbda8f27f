"""In which numbers, and by which library, a network computes."""

from enum import StrEnum

import torch


class Precision(StrEnum):
    """What a person can choose. Everything but FLOAT32 and OPENVINO changes labels, a few in a thousand."""

    FLOAT32 = "float32"
    REDUCED = "reduced"
    OPENVINO = "openvino"
    OPENVINO_REDUCED = "openvino-reduced"

    @property
    def is_openvino(self) -> bool:
        """Say whether OpenVINO computes."""
        return self in (Precision.OPENVINO, Precision.OPENVINO_REDUCED)


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Return what a network's products are computed in; None for float32 throughout.

    bfloat16 has the range of float32 and three digits; cards before Ampere have float16 only.
    """
    if precision is not Precision.REDUCED:
        return None
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
