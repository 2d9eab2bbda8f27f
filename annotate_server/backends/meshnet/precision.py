"""Which numbers the features are kept in, decided by a short trial on this processor."""

import logging
import time

import torch
from torch.nn import functional

from annotate_server.backends.meshnet.parameters import Precision

_LEAST_GAIN = 1.2
_log = logging.getLogger(__name__)


def chosen_dtype(wanted: Precision, width: int, device: str) -> torch.dtype:
    """Return what a network of `width` channels computes in: bfloat16 only where it was asked for and is faster.

    The name of a processor does not tell: with `avx512_bf16` or `amx_bf16` it is about twice as fast, without it is
    emulated and slower. Takes some hundredths of a second.
    """
    if wanted is Precision.FLOAT32:
        return torch.float32
    gain = _seconds(width, device, torch.float32) / _seconds(width, device, torch.bfloat16)
    _log.info("bfloat16 is %.1f times as fast as float32 here", gain, extra={"action": "precision-trial"})
    return torch.bfloat16 if gain >= _LEAST_GAIN else torch.float32


def _seconds(width: int, device: str, dtype: torch.dtype) -> float:
    """Return the seconds of the fastest of three dilated convolutions, after one to warm up."""
    features = torch.zeros((1, width, 24, 48, 64), dtype=dtype, device=device)
    features = features.contiguous(memory_format=torch.channels_last_3d)
    kernel = torch.zeros((width, width, 3, 3, 3), dtype=dtype, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            float(functional.conv3d(features, kernel, padding=2, dilation=2)[0, 0, 0, 0, 0])
            times.append(time.perf_counter() - start)
    return max(min(times[1:]), 1e-9)
