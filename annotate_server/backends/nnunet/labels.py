"""What the outputs of a network mean: labels, of which the largest counts, or regions painted one over the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotate_server.backends.engine.blending import most_likely, unsigned
from annotate_server.backends.nnunet.facts import Fact
from annotate_server.domain.errors import InvalidApp

LabelPlane = NDArray[np.uint8] | NDArray[np.uint16]
_MOST_LABELS = 1024


@dataclass(frozen=True)
class Outputs:
    """The network's outputs: `count` of them; output n is label n, or paints `painted[n]` where it holds.

    `names` are those of the labels other than background, by value.
    """

    count: int
    names: Mapping[int, str]
    painted: tuple[int, ...] = ()

    def labels(self, values: Tensor) -> LabelPlane:
        """Return the labels (j, i) of class values (outputs, j, i); later regions lie over earlier ones."""
        if not self.painted:
            return unsigned(most_likely(values)[0])
        found = torch.zeros(values.shape[1:], dtype=torch.int16, device=values.device)
        for value, label in zip(values, self.painted, strict=True):
            found.masked_fill_(torch.sigmoid(value) > 0.5, label)
        plane: NDArray[np.uint16] = found.cpu().numpy().view(np.uint16)
        return plane


def outputs_of(dataset: Fact) -> Outputs:
    """Return what `dataset.json` says of the outputs; raises InvalidApp."""
    labels = dataset.at("labels")
    members = {name: fact for name, fact in labels.members() if name != "ignore"}
    if members.get("background", Fact(None, "")).value not in (0, "0"):
        raise InvalidApp("its background is not label 0", source=labels.place)
    if len(members) > _MOST_LABELS:
        raise InvalidApp(f"{len(members)} labels are more than can be told apart", source=labels.place)
    regions = {name: _labels(fact) for name, fact in members.items()}
    if any(len(region) > 1 for region in regions.values()):
        return _regions(regions, dataset)
    names = {region[0]: name for name, region in regions.items() if region != (0,)}
    if sorted(names) != list(range(1, len(regions))):
        raise InvalidApp("its labels are not the numbers from 0 on, each once", source=labels.place)
    return Outputs(len(regions), dict(sorted(names.items())))


def _regions(regions: Mapping[str, tuple[int, ...]], dataset: Fact) -> Outputs:
    """Return the outputs of a network whose labels overlap: one a region, in the order of the file."""
    kept = {name: frozenset(region) for name, region in regions.items() if set(region) != {0}}
    order = dataset.at("regions_class_order")
    painted = tuple(each.between(1, 32767) for each in order.each())
    if len(painted) != len(kept) or len(set(painted)) != len(painted):
        raise InvalidApp(f"it does not name one label for each of {len(kept)} regions", source=order.place)
    rows = list(kept.items())
    names = {label: _visible(rows[number:]) for number, label in enumerate(painted)}
    return Outputs(len(kept), names, painted)


def _visible(regions: Sequence[tuple[str, frozenset[int]]]) -> str:
    """Return what is left to see of the first region once the others are painted over it."""
    (name, own), later = regions[0], regions[1:]
    over = [(other, region) for other, region in later if own & region]
    largest = [other for other, region in over if not any(region < larger for _, larger in over)]
    return f"{name} without {' and '.join(largest)}" if largest else name


def _labels(fact: Fact) -> tuple[int, ...]:
    """Return the labels of a region; one for a plain label. Numbers may be written as texts."""
    found = fact.value if isinstance(fact.value, list) else [fact.value]
    if not found or not all(isinstance(n, int | str) and str(n).isdecimal() for n in found):
        raise InvalidApp("it is no label", source=fact.place)
    return tuple(sorted({int(str(n)) for n in found}))
