"""Outputs for other segments: where a network keeps them, and weights carried from one set of segments to another."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from annotate_server.backends.monai_bundle.network import NetworkPlan, with_steady_randomness
from annotate_server.backends.monai_bundle.weights import State
from annotate_server.domain.labelmap import Segment

_UNLIKELY = -4.0
_FAINT = 0.01
"""How strongly a new output looks at anything, and where its logit begins: old answers stay until it has learned."""
Axes = Mapping[str, tuple[int, ...]]


def output_axes(plan: NetworkPlan) -> Axes:
    """Return which axes of which weights count outputs: those that are longer with one more."""
    outputs = plan.outputs
    before, after = (with_steady_randomness(plan.with_outputs(n), seed=0).state() for n in (outputs, outputs + 1))
    axes = {}
    for name, value in before.items():
        pairs = zip(value.shape, after[name].shape, strict=True)
        changed = tuple(axis for axis, (own, other) in enumerate(pairs) if own != other)
        if changed:
            axes[name] = changed
    return axes


def places_of(before: Sequence[Segment], after: Sequence[Segment]) -> tuple[int | None, ...]:
    """Return for each class, background first, its class before; None for a new one. Segments are known by name."""
    known = {segment.name: place for place, segment in enumerate(before, start=1)}
    return (0, *(known.get(segment.name) for segment in after))


def begun(old: State, fresh: State, axes: Axes, places: Sequence[int | None]) -> State:
    """Return the weights for other segments: the old ones, with `fresh` ones for new outputs made faint."""
    quiet = {
        name: _quiet(value, is_bias=_is_bias(name, fresh)) if name in axes else value for name, value in fresh.items()
    }
    return aligned(old, quiet, axes, places)


def aligned(old: State, new: State, axes: Axes, places: Sequence[int | None]) -> State:
    """Return old weights with their outputs in the order of the new ones, which give what the old ones lack."""
    return {
        name: _carried(old[name], value, axes[name], places) if name in axes else old[name]
        for name, value in new.items()
        if name in old
    }


def _carried(old: Tensor, new: Tensor, axes: Sequence[int], places: Sequence[int | None]) -> Tensor:
    kept = torch.tensor([n for n, place in enumerate(places) if place is not None])
    source = torch.tensor([place for place in places if place is not None])
    taken = old
    for axis in axes:
        taken = taken.index_select(axis, source)
    if len(axes) == 1:
        return new.index_copy(axes[0], kept, taken.to(new.dtype))
    rows = new.index_select(axes[0], kept).index_copy(axes[1], kept, taken.to(new.dtype))
    return new.index_copy(axes[0], kept, rows)


def _quiet(value: Tensor, *, is_bias: bool) -> Tensor:
    if is_bias:
        return torch.full_like(value, _UNLIKELY)
    return value * _FAINT if value.ndim > 1 else value


def _is_bias(name: str, state: State) -> bool:
    """Say whether these are the biases of a convolution, rather than of a normalisation."""
    stem, _, own = name.rpartition(".")
    weight = state.get(f"{stem}.weight")
    return own == "bias" and weight is not None and weight.ndim > 1
