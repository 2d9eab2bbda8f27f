"""How much faster our engine runs MONAI's networks than MONAI's `sliding_window_inference`, and whether labels agree.

    make bench                                   both networks on the real CT, or on a phantom where that is not here
    make bench ARGS='--planes 96 --repeats 3'    a third of the volume
    make bench ARGS=--quick                      a small phantom: shows that everything runs, times mean little

All runs use the same weights, volume and threads, one after the other in turn; times are medians: compare them within
one table only. The agreement is the part of the voxels of the body that have the label of MONAI in float32.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import nn
from trained_networks import NETWORKS, Example, Recipe, load_example, load_phantom, trained

from annotate_server.backends.devices import processor, usable_cores
from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.precision import Precision

Labels = NDArray[np.generic]


@dataclass(frozen=True)
class Setting:
    """One size of the benchmark."""

    spacing_mm: float
    window: int
    steps: int
    patch: int
    repeats: int
    planes: int


FULL = Setting(spacing_mm=1.5, window=96, steps=300, patch=48, repeats=3, planes=0)
QUICK = Setting(spacing_mm=6.0, window=32, steps=10, patch=32, repeats=1, planes=0)


@dataclass(frozen=True)
class Contestant:
    """One way to get labels: `run` returns them, and how many tiles it computed."""

    name: str
    run: Callable[[], tuple[Labels, int]]


@dataclass
class Figures:
    """What was measured of one contestant; `gain` is the baseline's seconds by its own, of the same run."""

    network: str
    name: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    tiles: int = 0
    agreement: float = 0.0
    gain: float = 0.0
    cpu_gain: float = 0.0


def main() -> None:
    """Train or read the networks, run every contestant in turn, print a table a network."""
    wanted = _arguments()
    setting = QUICK if wanted.quick else FULL
    setting = replace(setting, repeats=wanted.repeats or setting.repeats, planes=wanted.planes)
    torch.set_num_threads(wanted.threads or usable_cores())
    example = load_phantom(setting.spacing_mm, (40, 64, 72)) if wanted.quick else load_example(setting.spacing_mm)
    header = _header(example, setting)
    tell("\n".join(header))
    results = []
    for name in wanted.networks.split(","):
        recipe = Recipe(name, f"{example.name} {setting.spacing_mm} mm", example.classes, setting.steps, setting.patch)
        network = trained(recipe, example, tell)
        figures = compare(name, network, _central(example, setting.planes), setting)
        tell(f"\n{name}\n{table(figures)}")
        results += figures
    if wanted.json:
        content = {"header": header, "setting": asdict(setting), "results": [asdict(row) for row in results]}
        wanted.json.write_text(json.dumps(content, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small phantom and window")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names, separated by commas")
    parser.add_argument("--planes", type=int, default=0, help="only this many planes from the middle of the volume")
    parser.add_argument("--repeats", type=int, default=0, help="how often each contestant runs")
    parser.add_argument("--threads", type=int, default=0, help="for every contestant; 0: one a core")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    return parser.parse_args()


def tell(text: str) -> None:
    """Print for a person, at once."""
    print(text, flush=True)  # noqa: T201  a script for people


def _header(example: Example, setting: Setting) -> list[str]:
    cpu = processor()
    libraries = [f"{name} {version(name)}" for name in ("torch", "monai", "openvino") if find_spec(name)]
    shape = _central(example, setting.planes).values.shape
    return [
        f"processor: {cpu.name}, {cpu.cores} cores, {' '.join(cpu.features) or 'features unknown'}",
        f"bfloat16 in hardware: {'yes' if {'avx512_bf16', 'amx_bf16'} & set(cpu.features) else 'no'}",
        f"threads: {torch.get_num_threads()}; {', '.join(libraries)}",
        f"volume: {example.name}, {shape} voxels of {setting.spacing_mm} mm; "
        f"window {setting.window}, overlap 0.5, Gaussian; repeats {setting.repeats}, in turn, medians",
    ]


def _central(example: Example, planes: int) -> Example:
    """Return the middle of the volume; all of it for 0."""
    depth = len(example.values)
    if not 0 < planes < depth:
        return example
    part = slice((depth - planes) // 2, (depth - planes) // 2 + planes)
    return replace(example, values=example.values[part], truth=example.truth[part], body=example.body[part])


def compare(name: str, network: nn.Module, example: Example, setting: Setting) -> list[Figures]:
    """Run every contestant `repeats` times, each round in the same order, the baseline first."""
    contestants = _contestants(network, example, setting)
    figures = [Figures(name, contestant.name) for contestant in contestants]
    reference: Labels | None = None
    for _ in range(setting.repeats):
        for contestant, row in zip(contestants, figures, strict=True):
            labels = _measured(contestant, row)
            reference = labels if reference is None else reference
            row.agreement = float((labels == reference)[example.body].mean())
    for row in figures:
        row.gain = statistics.median(figures[0].seconds) / statistics.median(row.seconds)
        row.cpu_gain = statistics.median(figures[0].cpu_seconds) / statistics.median(row.cpu_seconds)
    return figures


def _contestants(network: nn.Module, example: Example, setting: Setting) -> list[Contestant]:
    """Return the baseline, then ours with one gain more a line, then what a person may turn on."""
    none = SlidingWindow((setting.window,) * 3, faster_layers=False, only_body=False, keep_pages=False)
    body = replace(none, only_body=True)
    default = SlidingWindow((setting.window,) * 3)
    ours = [
        ("ours: slabs, no count map", none),
        ("+ tiles only for the body", body),
        ("+ faster layers", replace(body, faster_layers=True)),
        ("+ memory kept between layers = default", default),
        ("option: reduced", replace(default, precision=Precision.REDUCED)),
    ]
    if find_spec("openvino") is None:
        tell("OpenVINO is not installed (pip install 'annotate-server[openvino]'): its lines are left out.")
    else:
        ours += [
            ("option: OpenVINO float32", replace(default, precision=Precision.OPENVINO)),
            ("option: OpenVINO reduced", replace(default, precision=Precision.OPENVINO_REDUCED)),
        ]
    return [
        Contestant("MONAI, float32, eager", lambda: _monai(network, example, setting.window, 1)),
        Contestant("MONAI, 4 windows at a time", lambda: _monai(network, example, setting.window, 4)),
        *(Contestant(name, _engine(Engine(network, options), example)) for name, options in ours),
    ]


def _engine(engine: Engine, example: Example) -> Callable[[], tuple[Labels, int]]:
    def run() -> tuple[Labels, int]:
        answer = engine.labels(example.values, example.body)
        return answer.labels, answer.tiles

    return run


def _monai(network: nn.Module, example: Example, window: int, batch: int) -> tuple[Labels, int]:
    """Return the labels as MONAI's users get them."""
    tiles = 0

    def counted(windows: torch.Tensor) -> torch.Tensor:
        nonlocal tiles
        tiles += len(windows)
        values: torch.Tensor = network(windows)
        return values

    volume = torch.from_numpy(example.values)[None, None]
    with torch.inference_mode():
        values = sliding_window_inference(volume, (window,) * 3, batch, counted, overlap=0.5, mode="gaussian")
        if not isinstance(values, torch.Tensor):
            raise TypeError("the network returns more than one tensor")
        return values[0].argmax(0).to(torch.uint8).numpy(), tiles


def _measured(contestant: Contestant, row: Figures) -> Labels:
    """Run a contestant once and note what it took."""
    with PeakMemory() as memory:
        wall, cpu = time.perf_counter(), time.process_time()
        labels, row.tiles = contestant.run()
        row.seconds.append(time.perf_counter() - wall)
        row.cpu_seconds.append(time.process_time() - cpu)
    row.peak_mb = max(row.peak_mb, memory.peak_mb)
    return labels


class PeakMemory:
    """The most memory beyond what was there at the start, looked at every 20 ms; 0 where the system does not say."""

    def __enter__(self) -> "PeakMemory":
        """Begin to look."""
        self.peak_mb, self._done = 0.0, threading.Event()
        self._start_mb = self._resident_mb()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak_mb = max(self.peak_mb, self._resident_mb() - self._start_mb)

    @staticmethod
    def _resident_mb() -> float:
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.is_file() else []
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def table(figures: list[Figures]) -> str:
    """Return a Markdown table."""
    lines = [
        "| | seconds | gain | CPU seconds | gain in CPU | agreement in the body | tiles | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        wall, cpu = statistics.median(row.seconds), statistics.median(row.cpu_seconds)
        times = f"{wall:.1f} | {row.gain:.2f} | {cpu:.1f} | {row.cpu_gain:.2f}"
        lines.append(f"| {row.name} | {times} | {row.agreement:.5f} | {row.tiles} | {row.peak_mb:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
