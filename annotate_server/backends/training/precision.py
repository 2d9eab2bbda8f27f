"""What a training computes in."""

import torch

from annotate_server.backends.devices import processor
from annotate_server.domain.recipe import Precision

_DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16, Precision.FP32: torch.float32}


def chosen_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return what products are computed in; weights, their updates and the loss are float32 in any case.

    `AUTO` takes bfloat16 where the device computes with it (it has the range of float32), float16 with scaled losses on
    older cards, and float32 elsewhere.
    """
    if precision is not Precision.AUTO:
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    has_bfloat16 = not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor().features)
    return torch.bfloat16 if device.type == "cpu" and has_bfloat16 else torch.float32
