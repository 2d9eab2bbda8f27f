"""Which processor or card models run on. Imports torch only when it is asked about a card."""

import os
import platform
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from annotate_server.domain.errors import BackendUnavailable


@dataclass(frozen=True)
class Processor:
    """The CPU: its name, how many cores this process may use, and the instructions that matter to networks."""

    name: str
    cores: int
    features: tuple[str, ...]


_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def processor() -> Processor:
    """Return what the CPU is, as far as the system says."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                break
    return Processor(name, usable_cores(), tuple(f for f in _FEATURES if f in flags))


def usable_cores() -> int:
    """Return how many cores this process may run on, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cards() -> tuple[str, ...]:
    """Return the name of every CUDA device that torch can use; none without torch."""
    if find_spec("torch") is None or not _may_have_card():
        return ()
    import torch  # noqa: PLC0415  a second and 200 MB, for who asks about a card only

    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _may_have_card() -> bool:
    """Say whether asking torch can be worth it: Linux shows a card as a device file (`dxg` under Windows)."""
    return sys.platform != "linux" or any(any(Path("/dev").glob(name)) for name in ("nvidia*", "nvhost*", "dxg", "kfd"))


def chosen_device(setting: str) -> str:
    """Return the device of a setting: `auto` takes the first card, else the CPU; an absent card is refused."""
    if setting == "cpu":
        return "cpu"
    found = cards()
    if setting == "auto":
        return "cuda:0" if found else "cpu"
    index = int(setting.partition(":")[2] or 0)
    if index >= len(found):
        raise BackendUnavailable(
            f"there is no device {setting}: torch finds {len(found)} card(s)",
            remedy="Use --device cpu, or install the CUDA build of torch (docs/decisions).",
        )
    return f"cuda:{index}"


def limit_threads(threads: int) -> None:
    """Let numerical libraries use `threads` threads, 0 for one a core; to be called before they are loaded."""
    count = str(threads or usable_cores())
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(name, count)
    # Waiting threads that spin take the processor from those that work: on a busy machine a step costs three times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
