"""What `sliding_window.py` runs: one CT with labels on a 1.5 mm grid, and MONAI networks trained on it for minutes.

The networks are no models of anything: they are trained on the very volume that they are run on, only so that their
class values are as far apart as those of a network in use. An argmax over untrained ones would be a lottery.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import SegResNet, UNet
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from annotate_server.backends.classical.body import find_body
from annotate_server.backends.classical.scan import scan_of
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.volume import Volume
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.labelmap_files import read_labelmap
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.imaging.resampling import Interpolation, resample, smoothed_for
from annotate_server.stores.folder_studies import FolderStudies
from annotate_server.testing.chest import chest_phantom

HERE = Path(__file__).parent
CASE = Path("04_liver_ct_dicom_crlm/CRLM-CT-1006")
WINDOW_HU = (-160.0, 240.0)
CACHE = HERE / ".cache"
NEAREST = Interpolation.NEAREST


@dataclass(frozen=True)
class Example:
    """One CT as networks see it, (k, j, i): `values` 0 to 1, `truth` the classes, `body` where the patient is."""

    name: str
    values: NDArray[np.float32]
    truth: NDArray[np.uint8]
    body: NDArray[np.bool_]

    @property
    def classes(self) -> int:
        """Return how many classes there are, background included."""
        return int(self.truth.max()) + 1


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; every run of the same recipe on the same example starts from the same numbers."""

    network: str
    example: str
    classes: int
    steps: int
    patch: int
    batch: int = 2
    learning_rate: float = 2e-3
    seed: int = 7

    def digest(self) -> str:
        """Return a name for the trained weights."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "UNet": lambda classes: UNet(3, 1, classes, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2),
    "SegResNet": lambda classes: SegResNet(
        3, init_filters=16, in_channels=1, out_channels=classes, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)
    ),
}


def load_example(spacing_mm: float) -> Example:
    """Return the real CT where the test data are, else a phantom of a torso."""
    folder = Path(os.environ.get("ANNOTATE_TEST_DATA", HERE.parent / ".." / "shared" / "data")) / CASE
    if folder.is_dir():
        with Isolated() as isolated:
            stored = next(iter(FolderStudies(folder / "dicom", isolated).scan()))
            volume = IsolatedReader(isolated).read(stored)
            (labels,) = read_labelmap(folder / "pseudo_label_obelisk.nii.gz", volume)
            return _example(folder.name, volume, labels.voxels, spacing_mm)
    return load_phantom(spacing_mm, (170, 275, 275))


def load_phantom(spacing_mm: float, shape: tuple[int, int, int]) -> Example:
    """Return a phantom of a torso whose grid has that shape."""
    extent = [n * spacing_mm for n in shape]
    direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    origin = (-extent[2] / 2, -extent[1] / 2, -extent[0] / 2)
    phantom = chest_phantom(Geometry(shape, (spacing_mm,) * 3, direction, origin))
    return _example("phantom", phantom.volume, phantom.truth.voxels, spacing_mm)


def _example(name: str, volume: Volume, labels: NDArray[np.generic], spacing_mm: float) -> Example:
    source, spacing = volume.geometry, (spacing_mm, spacing_mm, spacing_mm)
    grid, scan = source.resized(spacing), scan_of(volume)
    body = resample(find_body(scan).region.astype(np.uint8), scan.geometry, grid, NEAREST) > 0
    hu = resample(smoothed_for(volume.voxels, source.spacing_mm, spacing), source, grid, outside=-1000.0)
    low, high = WINDOW_HU
    values = ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)
    return Example(name, values, resample(labels, source, grid, NEAREST).astype(np.uint8), body)


def trained(recipe: Recipe, example: Example, tell: Callable[[str], None]) -> nn.Module:
    """Return a network ready to predict; trained here the first time, then read from `benchmarks/.cache`."""
    torch.manual_seed(recipe.seed)
    network = NETWORKS[recipe.network](recipe.classes)
    weights = CACHE / f"{recipe.digest()}.safetensors"
    if weights.is_file():
        network.load_state_dict(load_file(weights))
    else:
        _train(network, recipe, example, tell)
        CACHE.mkdir(exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        save_file(network.state_dict(), weights)
    return network.eval()


def _train(network: nn.Module, recipe: Recipe, example: Example, tell: Callable[[str], None]) -> None:
    """Fit a network to random patches: cross-entropy and soft Dice, AdamW, one cycle."""
    random = np.random.default_rng(recipe.seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=recipe.steps)
    network.train()
    patches = _patches(example, recipe, random)
    for step in range(recipe.steps):
        volume, truth = next(patches)
        loss = _loss(network(volume), truth, recipe.classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 49:
            tell(f"training {recipe.network}: step {step + 1} of {recipe.steps}, loss {float(loss.detach()):.3f}")


def _patches(example: Example, recipe: Recipe, random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of patches around voxels of random classes: (batch, 1, k, j, i) and classes (batch, k, j, i)."""
    flat, shape, side = example.truth.ravel(), example.truth.shape, recipe.patch
    places = [np.flatnonzero(flat == index) for index in range(recipe.classes)]
    places = [found for found in places if found.size]
    while True:
        volumes, truths = [], []
        for _ in range(recipe.batch):
            chosen = places[int(random.integers(0, len(places)))]
            centre = np.unravel_index(int(chosen[random.integers(0, chosen.size)]), shape)
            moved = [int(c) + int(random.integers(-side // 4, side // 4 + 1)) - side // 2 for c in centre]
            first = [min(max(a, 0), n - side) for a, n in zip(moved, shape, strict=True)]
            block = tuple(slice(a, a + side) for a in first)
            volumes.append(torch.from_numpy(example.values[block].copy())[None])
            truths.append(torch.from_numpy(example.truth[block].astype(np.int64)))
        yield torch.stack(volumes), torch.stack(truths)


def _loss(logits: Tensor, truth: Tensor, classes: int) -> Tensor:
    probabilities = logits.softmax(1)
    wanted = functional.one_hot(truth, classes).movedim(-1, 1).float()
    axes = (0, 2, 3, 4)
    overlap = (probabilities * wanted).sum(axes)
    dice = (2 * overlap + 1) / (probabilities.sum(axes) + wanted.sum(axes) + 1)
    return functional.cross_entropy(logits, truth) + 1 - dice.mean()
