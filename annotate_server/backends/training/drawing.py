"""Which case the next example is cut from, and where: half new labels, half replay, every site and segment in turn."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from annotate_server.backends.training.cases import ShelvedCase

_CENTRED = 0.5
"""Share of the patches that are centred on a voxel of the drawn segment; nnU-Net takes a third."""


@dataclass(frozen=True)
class Drawn:
    """A case and the voxel (k, j, i) that its patch lies around."""

    case: ShelvedCase
    centre: tuple[float, float, float]


class Drawing:
    """Draws cases; all randomness comes from the generator that is passed in."""

    def __init__(self, cases: Sequence[ShelvedCase], new_share: float, patch: Sequence[int]) -> None:
        """Take `new_share` of the draws from what no version has learned from yet, where there is both."""
        new = [case for case in cases if case.entry.is_new]
        replay = [case for case in cases if not case.entry.is_new]
        self._groups = _Group(new or replay), _Group(replay or new)
        self._new_share = new_share
        self._patch = tuple(patch)

    def draw(self, number: int, random: torch.Generator) -> Drawn:
        """Return the `number`th example of a training."""
        is_new = math.floor((number + 1) * self._new_share) > math.floor(number * self._new_share)
        case, segment = self._groups[0 if is_new else 1].draw(random)
        centre: tuple[float, ...] | None = None
        if segment is not None and float(torch.rand(1, generator=random)) < _CENTRED:
            voxels = case.places[segment]
            centre = tuple(float(n) for n in voxels[_below(len(voxels), random)])
        return Drawn(case, self._within(case, centre, random))

    def _within(
        self, case: ShelvedCase, centre: tuple[float, ...] | None, random: torch.Generator
    ) -> tuple[float, float, float]:
        """Return a centre from which the patch reaches as little beyond the case as it can."""
        found = []
        for axis, (side, patch) in enumerate(zip(case.shape, self._patch, strict=True)):
            low, high = (patch - 1) / 2, side - 1 - (patch - 1) / 2
            if high <= low:
                found.append((side - 1) / 2)
            elif centre is None:
                found.append(low + float(_below(int(high - low) + 1, random)))
            else:
                found.append(min(max(low + round(centre[axis] - low), low), high))
        return found[0], found[1], found[2]


class _Group:
    """Cases by site and by the segments that they show."""

    def __init__(self, cases: Sequence[ShelvedCase]) -> None:
        sites: dict[str, list[ShelvedCase]] = defaultdict(list)
        for case in cases:
            sites[case.entry.site].append(case)
        self._sites = [sites[name] for name in sorted(sites)]
        # The root lies between every site the same (one case would be seen for ever) and every case the same.
        self._weights = torch.tensor([math.sqrt(len(cases)) for cases in self._sites], dtype=torch.float64)
        self._by_segment = [_by_segment(cases) for cases in self._sites]

    def draw(self, random: torch.Generator) -> tuple[ShelvedCase, int | None]:
        """Return a case, and the segment that it was drawn for: None where the site's labels are all empty."""
        site = int(torch.multinomial(self._weights, 1, generator=random))
        segments = self._by_segment[site]
        if not segments:
            return self._sites[site][_below(len(self._sites[site]), random)], None
        names = sorted(segments)
        segment = names[_below(len(names), random)]
        cases = segments[segment]
        return cases[_below(len(cases), random)], segment


def _by_segment(cases: Sequence[ShelvedCase]) -> dict[int, list[ShelvedCase]]:
    found: dict[int, list[ShelvedCase]] = defaultdict(list)
    for case in cases:
        for label in case.places:
            if label > 0:
                found[label].append(case)
    return dict(found)


def _below(count: int, random: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=random))
