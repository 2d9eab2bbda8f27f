"""Weights as files and between versions: interpolation, and outputs for segments that a network did not have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from annotate_server.domain.labelmap import Segment
from annotate_server.imaging.whole_file import whole_file

State = Mapping[str, Tensor]
_UNLIKELY = -4.0
"""Where a new output's logit begins."""


def save(state: State, path: Path) -> Path:
    """Write weights as safetensors, whole or not at all; return the path."""
    with whole_file(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, temporary)
    return path


def between(old: State, new: State, share: float) -> dict[str, Tensor]:
    """Return the weights that lie `share` of the way from old to new; what only the new ones have is taken from them.

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    return {
        name: torch.lerp(old[name].to(value.dtype), value, share)
        if name in old and value.is_floating_point() and old[name].shape == value.shape
        else value
        for name, value in new.items()
    }


@dataclass(frozen=True)
class Outputs:
    """Where the outputs of a network come from: for each class, background first, the old network's, None for new."""

    old: tuple[int | None, ...]

    @classmethod
    def of(cls, before: Sequence[Segment], after: Sequence[Segment]) -> "Outputs":
        """Match segments by name."""
        places = {segment.name: place for place, segment in enumerate(before, start=1)}
        return cls((0, *(places.get(segment.name) for segment in after)))

    @property
    def are_the_same(self) -> bool:
        """Say whether there is nothing new and everything is where it was."""
        return self.old == tuple(range(len(self.old)))

    def begun(self, head: Tensor, random: torch.Generator) -> Tensor:
        """Return a head's weights (or biases) with these outputs; the old ones' are copied.

        A new output hardly looks at anything, and is unlikely: the answers stay what they were until it has learned.
        """
        if head.ndim == 1:
            new = torch.full((), _UNLIKELY, dtype=head.dtype)
            return torch.stack([new if place is None else head[place] for place in self.old])
        rows = [
            torch.randn(head.shape[1:], generator=random) * 0.01 if place is None else head[place] for place in self.old
        ]
        return torch.stack([row.to(head.dtype) for row in rows])

    def all_begun(self, weights: State, is_head: Callable[[str], bool], random: torch.Generator) -> dict[str, Tensor]:
        """Return a network's weights with every head's outputs begun."""
        return {name: self.begun(value, random) if is_head(name) else value for name, value in weights.items()}

    def all_aligned(self, old: State, new: State, is_head: Callable[[str], bool]) -> dict[str, Tensor]:
        """Return old weights with the outputs of every head in the order of the new one, which gives what they lack."""
        return {
            name: self._aligned(value, new[name]) if is_head(name) and name in new else value
            for name, value in old.items()
        }

    def _aligned(self, old: Tensor, new: Tensor) -> Tensor:
        return torch.stack([new[n] if place is None else old[place] for n, place in enumerate(self.old)])
