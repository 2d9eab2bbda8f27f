"""Robots that prompt a model as a person would, with the truth in hand: how promptable models are measured.

The click robot is that of the CVPR 2025 interactive segmentation challenge (its public evaluation script): the largest
26-connected part of what is wrong, and in it the point furthest from the part's border. The lasso robot draws round
the truth on its largest slice of each orientation. Both always do the same in the same situation.
"""

import re
import time
from dataclasses import dataclass
from itertools import pairwise

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from annotate_server.domain.errors import InvalidLabelmap, InvalidPrompt
from annotate_server.domain.geometry import Geometry, Vector
from annotate_server.domain.labelmap import Labelmap, Segment, labelmap_dtype
from annotate_server.domain.model import Prediction, Situation
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Volume

Occupied = NDArray[np.bool_]

_TIE_SEED = 42
"""The challenge's script draws one of several equally deep points with numpy's legacy generator of this seed."""

_LASSO_NORMALS = (2, 1, 0)
"""The LPS axis that each lasso's plane is perpendicular to: axial (S), coronal (P), sagittal (L)."""

_PLAN = re.compile(r"(?:lasso:(?P<lassos>\d+))?(?P<plus>\+)?(?:clicks:(?P<clicks>\d+))?")


@dataclass(frozen=True, slots=True)
class Plan:
    """How many prompts of which kind a robot gives: lassos first, then clicks."""

    lassos: int = 0
    clicks: int = 0

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Return the plan of a text as `clicks:10`, `lasso:3` or `lasso:3+clicks:5`; InvalidPrompt for another."""
        match = _PLAN.fullmatch(text.strip())
        lassos, clicks = (int(match[name] or 0) if match else 0 for name in ("lassos", "clicks"))
        joined = match is not None and bool(match["plus"]) == bool(match["lassos"] and match["clicks"])
        if not joined or lassos + clicks == 0:
            raise InvalidPrompt(
                f"{text!r} is no plan for a robot", remedy="Write `clicks:10`, `lasso:3` or `lasso:3+clicks:5`."
            )
        if lassos > len(_LASSO_NORMALS):
            raise InvalidPrompt(
                f"{text!r} asks for {lassos} lassos", remedy="There are three: axial, coronal and sagittal."
            )
        return cls(lassos, clicks)

    @property
    def length(self) -> int:
        """Return the number of interactions."""
        return self.lassos + self.clicks


@dataclass(frozen=True)
class Trace:
    """What became of one structure: the Dice coefficient after each interaction, and how long each took.

    `dice` has an entry for every interaction of the plan: when the truth was reached early, the rest repeat the last.
    `milliseconds` and `prompts` have one for every interaction that was really made. `final` is the draft at the end.
    """

    dice: tuple[float, ...]
    milliseconds: tuple[float, ...]
    prompts: tuple[Prompt, ...] = ()
    final: Labelmap | None = None

    @property
    def worst_drop(self) -> float:
        """Return the largest fall of Dice from one interaction to the next; 0 where it never fell."""
        return max((0.0, *(before - after for before, after in pairwise(self.dice))))


def drive(model: LoadedModel, volume: Volume, truth: Occupied, segment: Segment, plan: Plan) -> Trace:
    """Let a robot carry out a plan on an empty draft of one segment, and return what became of it.

    `truth` is (k, j, i) on the volume's grid. What the model answers is applied as in a session. Raises
    InvalidLabelmap where the truth is empty or lies on another grid, and what the model raises.
    """
    if truth.shape != volume.geometry.shape or not truth.any():
        raise InvalidLabelmap(f"the truth of {segment.name!r} is empty or has another shape than its volume")
    role = volume.modality.value if volume.modality else "volume"
    voxels = np.zeros(truth.shape, labelmap_dtype((segment,)))
    dice: list[float] = []
    milliseconds: list[float] = []
    prompts: list[Prompt] = []
    while len(dice) < plan.length:
        prompt = next_prompt(plan, len(dice), truth, voxels == segment.index, volume.geometry, segment)
        if prompt is None:
            dice.append(dice[-1])
            continue
        prompts.append(prompt)
        draft = Labelmap(voxels, volume.geometry, (segment,))
        started = time.perf_counter()
        answer = model.predict({role: volume}, Situation(draft, segment, prompts=tuple(prompts)), Control())
        milliseconds.append((time.perf_counter() - started) * 1e3)
        voxels = answered(voxels, answer, segment)
        dice.append(overlap(truth, voxels == segment.index))
    return Trace(tuple(dice), tuple(milliseconds), tuple(prompts), Labelmap(voxels, volume.geometry, (segment,)))


def next_prompt(
    plan: Plan, step: int, truth: Occupied, present: Occupied, geometry: Geometry, segment: Segment
) -> Prompt | None:
    """Return the prompt number `step` (from 0) of a plan; None where `present` is the truth already."""
    if np.array_equal(truth, present):
        return None
    if step < plan.lassos:
        return lasso(truth, geometry, _LASSO_NORMALS[step], segment.index)
    return click(truth, present, geometry, segment.index)


def answered(
    voxels: NDArray[np.uint8] | NDArray[np.uint16], answer: Prediction, segment: Segment
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a draft (k, j, i) of one segment with a model's answer to a prompt in it."""
    result = voxels.copy()
    inside = result[answer.box.slices]
    inside[inside == segment.index] = 0
    inside[answer.labels == segment.index] = segment.index
    return result


def overlap(truth: Occupied, present: Occupied) -> float:
    """Return the Dice coefficient 2 |A and B| / (|A| + |B|)."""
    total = int(truth.sum()) + int(present.sum())
    return 2.0 * int((truth & present).sum()) / total if total else 1.0


def click(truth: Occupied, present: Occupied, geometry: Geometry, segment: int) -> Prompt | None:
    """Return the next click of the CVPR 2025 robot, positive where the truth is missed; None if nothing is wrong.

    Distances are counted in voxels, as there.
    """
    wrong = truth != present
    if not wrong.any():
        return None
    parts = cc3d.connected_components(wrong, connectivity=26)
    statistics = cc3d.statistics(parts)
    sizes = np.array(statistics["voxel_counts"], dtype=np.int64)
    sizes[0] = 0
    largest = int(sizes.argmax())
    window = statistics["bounding_boxes"][largest]
    depth = edt.edt(np.pad(parts[window] == largest, 1))[1:-1, 1:-1, 1:-1]
    deepest = np.argwhere(depth == depth.max())
    chosen = deepest[np.random.RandomState(_TIE_SEED).choice(len(deepest))]
    voxel = chosen + [side.start for side in window]
    return Prompt(PromptKind.POINT, _points(voxel[None], geometry), segment, bool(truth[tuple(voxel)]))


def lasso(truth: Occupied, geometry: Geometry, normal: int, segment: int) -> Prompt:
    """Return a lasso round the truth, one voxel outside it, on its largest slice across an LPS axis.

    The slices are the volume's own: those along the array axis that runs nearest to LPS axis `normal` (0 = L, 1 = P,
    2 = S). A lasso is one closed line: it goes round the largest 8-connected part of the slice, holes included.
    """
    axis = int(np.argmax(np.abs(np.array(geometry.direction)[:, normal])))
    rest = tuple(other for other in range(3) if other != axis)
    level = int(truth.sum(axis=rest).argmax())
    parts, _ = ndimage.label(truth.take(level, axis=axis), structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    drawn = ndimage.binary_fill_holes(ndimage.binary_dilation(parts == sizes.argmax()))
    line = max(measure.find_contours(np.pad(drawn.astype(np.float32), 1), 0.5), key=len)[:-1] - 1
    corners = np.insert(line, axis, level, axis=1)
    return Prompt(PromptKind.LASSO, _points(corners, geometry), segment)


def _points(indices: NDArray[np.generic], geometry: Geometry) -> tuple[Vector, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in geometry.world(indices))
