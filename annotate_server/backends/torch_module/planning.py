"""Planning a network from labels: grid, patch and size, after the published rules of nnU-Net.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 18 (2021), online methods and supplementary note 2. What is ours, and why, is in docs/planning-a-network.md.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from annotate_server.backends.torch_module.fingerprint import ORIENTATION, Fingerprint, traits
from annotate_server.backends.torch_module.network import Level, Sides
from annotate_server.domain.geometry import Shape, Vector
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Part

_ANISOTROPIC = 3.0
_SMALLEST_FEATURES = 4
_LOW_RESOLUTION = 0.25
_COARSER = 1.03
_MARGIN = 1.25
"""The box of what is labelled is looked at with an eighth of its sides around it on each side."""
_MOST_LEVELS = 6
_LEFT_RIGHT = 2


@dataclass(frozen=True)
class Budget:
    """What a network may cost: floating-point operations of one patch forward, first and largest width."""

    operations: float
    first_width: int
    largest_width: int

    @classmethod
    def of(cls, device: str) -> "Budget":
        """Return that of a processor, or of a card: less than half of what nnU-Net takes."""
        return cls(12e9, 16, 96) if device == "cpu" else cls(400e9, 32, 320)


@dataclass(frozen=True)
class Plan:
    """The grid (k, j, i) in the order `orientation`, the patch in its voxels, and the levels, finest first."""

    spacing_mm: Vector
    patch: Shape
    levels: tuple[Level, ...]
    orientation: str = ORIENTATION

    @property
    def operations(self) -> float:
        """Return the floating-point operations of one patch forward (heads and normalisation left out)."""
        total, voxels = 0.0, float(math.prod(self.patch))
        width_in = 1
        for depth, level in enumerate(self.levels):
            if depth:
                voxels /= math.prod(level.stride)
                total += math.prod(level.stride) * level.width * self.levels[depth - 1].width * voxels
            kernel, width = math.prod(level.kernel), level.width
            total += kernel * (width_in * width + width * width) * voxels
            if depth < len(self.levels) - 1:
                total += kernel * 3 * width * width * voxels
            width_in = width
        return 2 * total


def plan(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """Return the network for cases of a fingerprint: as fine as the cases are, or as the budget allows."""
    spacing = _target_spacing(fingerprint)
    looked_at = _vector(
        min(_MARGIN * box, extent) for box, extent in zip(fingerprint.box_mm, fingerprint.extent_mm, strict=True)
    )
    while True:
        sides = _shape(max(1, round(extent / step)) for extent, step in zip(looked_at, spacing, strict=True))
        whole = _shape(max(1, round(e / step)) for e, step in zip(fingerprint.extent_mm, spacing, strict=True))
        found = _within_budget(spacing, whole, sides, budget)
        if math.prod(found.patch) >= _LOW_RESOLUTION * math.prod(sides):
            return found
        spacing = _coarser(spacing)


def _target_spacing(fingerprint: Fingerprint) -> Vector:
    """Return the median spacing; of an axis that is much coarser than the others the finest tenth's."""
    spacing = list(fingerprint.spacing_mm)
    sides = [extent / step for extent, step in zip(fingerprint.extent_mm, spacing, strict=True)]
    worst = max(range(3), key=lambda axis: spacing[axis])
    others = [axis for axis in range(3) if axis != worst]
    coarsest_other = max(spacing[axis] for axis in others)
    is_coarse = spacing[worst] > _ANISOTROPIC * coarsest_other
    if is_coarse and sides[worst] * _ANISOTROPIC < min(sides[axis] for axis in others):
        spacing[worst] = max(fingerprint.finest_mm[worst], coarsest_other)
    return _vector(spacing)


def _coarser(spacing: Vector) -> Vector:
    """Return a slightly coarser grid: first of the axes that are more than twice as fine as the coarsest."""
    largest = max(spacing)
    fine = [largest / step > 2 for step in spacing]
    return _vector(
        step * _COARSER if is_fine or not any(fine) else step for step, is_fine in zip(spacing, fine, strict=True)
    )


def _within_budget(spacing: Vector, whole: Shape, sides: Shape, budget: Budget) -> Plan:
    """Return the network with the largest patch that the budget allows, of the proportions of what is looked at."""
    patch = [min(side, largest) for side, largest in zip(_isotropic_patch(spacing), whole, strict=True)]
    while True:
        found = _topology(spacing, _shape(patch), budget)
        if found.operations <= budget.operations or max(found.patch) <= 2 * _SMALLEST_FEATURES:
            return found
        steps = [math.prod(level.stride[axis] for level in found.levels[1:]) for axis in range(3)]
        excess = [patch_side / side for patch_side, side in zip(found.patch, sides, strict=True)]
        able = [axis for axis in range(3) if found.patch[axis] > max(steps[axis], _SMALLEST_FEATURES)]
        axis = max(able, key=lambda each: excess[each])
        patch = list(found.patch)
        patch[axis] = max(_SMALLEST_FEATURES, patch[axis] - steps[axis])


def _isotropic_patch(spacing: Vector) -> Shape:
    """Return the patch that reaches equally far along every axis and holds as many voxels as 256 x 256 x 256."""
    scale = (256**3 * math.prod(spacing)) ** (1 / 3)
    return _shape(max(1, round(scale / step)) for step in spacing)


def _topology(spacing: Vector, patch: Shape, budget: Budget) -> Plan:
    """Return the levels for a patch, which grows to a multiple of their steps.

    An axis is halved while it has eight voxels at least and is not yet twice as coarse as the finest that can be
    halved; kernels are flat along an axis that is more than twice as coarse as the finest.
    """
    sizes, steps = [float(side) for side in patch], list(spacing)
    levels = [Level(budget.first_width, _kernel(steps), (1, 1, 1))]
    while len(levels) < _MOST_LEVELS:
        able = [axis for axis in range(3) if sizes[axis] >= 2 * _SMALLEST_FEATURES]
        if not able:
            break
        finest = min(steps[axis] for axis in able)
        stride = _shape(2 if axis in able and steps[axis] / finest < 2 else 1 for axis in range(3))
        steps = [step * factor for step, factor in zip(steps, stride, strict=True)]
        sizes = [float(math.ceil(size / factor)) for size, factor in zip(sizes, stride, strict=True)]
        width = min(budget.largest_width, 2 * levels[-1].width)
        levels.append(Level(width, _kernel(steps), stride))
    total = [math.prod(level.stride[axis] for level in levels) for axis in range(3)]
    rounded = _shape(math.ceil(side / step) * step for side, step in zip(patch, total, strict=True))
    return replace(Plan(spacing, patch, tuple(levels)), patch=rounded)


def _kernel(steps: list[float]) -> Sides:
    finest = min(steps)
    return _shape(1 if step / finest > 2 else 3 for step in steps)


def _shape(values: Iterable[int]) -> Shape:
    k, j, i = values
    return k, j, i


def _vector(values: Iterable[float]) -> Vector:
    k, j, i = values
    return k, j, i


def planned(app: App, training: TrainingTask, control: Control) -> App:
    """Return the app with a network planned from the labels that may be learned from, for the device of `control`.

    Raises InvalidRequest where no label shows a segment.
    """
    training_set = training.training_set
    entries = training_set.of(Part.TRAIN)
    cases = []
    for done, entry in enumerate(entries):
        control.check()
        control.report(done / len(entries), f"looking at case {done + 1} of {len(entries)}")
        cases.append(traits(training.open(entry)))
    fingerprint = Fingerprint.of(cases)
    found = plan(fingerprint, Budget.of(control.device.partition(":")[0]))
    recipe = app.recipe or Recipe()
    has_sides = any(_names_a_side(segment) for segment in training_set.segments)
    return replace(
        app,
        parameters=_parameters(found, fingerprint, len(training_set.segments) + 1),
        card=replace(app.card, segments=training_set.segments, trainable=True),
        recipe=replace(recipe, patch=found.patch, mirror_axes=() if has_sides else (_LEFT_RIGHT,)),
    )


def _parameters(found: Plan, fingerprint: Fingerprint, classes: int) -> dict[str, object]:
    network = {
        "widths": [level.width for level in found.levels],
        "kernels": [list(level.kernel) for level in found.levels],
        "strides": [list(level.stride) for level in found.levels],
        "classes": classes,
        "residual": True,
    }
    parameters: dict[str, object] = {
        "architecture": "unet",
        "network": network,
        "spacing_mm": [round(step, 4) for step in found.spacing_mm],
        "orientation": found.orientation,
        "smallest_grid": list(found.patch),
        "tile": list(found.patch),
        "reduced_precision": True,
    }
    if fingerprint.intensities is not None:
        parameters["intensities"] = asdict(fingerprint.intensities)
    return parameters


def _names_a_side(segment: Segment) -> bool:
    """Say whether a segment lies on one side, so that a mirrored case would be wrong."""
    words = segment.name.lower().split()
    return segment.laterality is not None or "left" in words or "right" in words
