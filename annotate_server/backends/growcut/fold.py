"""The segment after a list of prompts, one prompt at a time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.begin import begun
from annotate_server.backends.growcut.correct import corrected
from annotate_server.backends.growcut.define import defined
from annotate_server.backends.growcut.grid import bounds
from annotate_server.backends.growcut.stroke import Scene, is_outline, stroke_voxels
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.prompt import Prompt, PromptKind

Segment = NDArray[np.bool_]
"""The voxels (k, j, i) of the whole volume that belong to the active segment."""


def after(scene: Scene, prompts: Sequence[Prompt], present: Segment, *, own: bool) -> Box:
    """Make of `present`, the segment that the last of `prompts` found, the segment after it; return where it changed.

    `own` says that `present` is what the earlier prompts alone have led to: then a new outline describes the
    structure anew, together with all others. Otherwise there is work in it that no prompt knows of (a network's draft,
    a brush), and every prompt only corrects its surroundings. Nothing outside the returned box is changed.
    """
    newest = prompts[-1]
    if is_outline(newest) and (own or not present.any()):
        return _described(scene, prompts, present)
    if not newest.positive and newest.kind in (PromptKind.BOX, PromptKind.LASSO):
        return _erased(scene, newest, present)
    if present.any():
        return _pasted(present, corrected(scene, present, prompts[:-1], newest))
    if not newest.positive:
        return NOWHERE
    return _pasted(present, begun(scene, stroke_voxels(newest, scene.geometry)))


def _described(scene: Scene, prompts: Sequence[Prompt], present: Segment) -> Box:
    """Replace the segment by what all outlines describe; strokes that it disobeys correct it, oldest first."""
    changed = bounds(present) or NOWHERE
    present[changed.slices] = False
    changed = both(changed, _pasted(present, defined(scene, prompts)))
    for number, prompt in enumerate(prompts):
        if is_outline(prompt):
            continue
        stroke = stroke_voxels(prompt, scene.geometry)
        if (present[tuple(stroke.T)] != prompt.positive).any():
            changed = both(changed, after(scene, (*prompts[:number], prompt), present, own=False))
    return changed


def _erased(scene: Scene, prompt: Prompt, present: Segment) -> Box:
    """Take away what a negative box or lasso encloses, exactly: whoever draws an area means the area."""
    stroke = stroke_voxels(prompt, scene.geometry)
    present[tuple(stroke.T)] = False
    if not len(stroke):
        return NOWHERE
    (k, j, i), (l, m, n) = stroke.min(axis=0), stroke.max(axis=0) + 1
    return Box((int(k), int(j), int(i)), (int(l), int(m), int(n)))


def _pasted(present: Segment, piece: tuple[Box, Segment]) -> Box:
    box, values = piece
    present[box.slices] = values
    return box


def both(one: Box, other: Box) -> Box:
    """Return the smallest box that holds two, of which either may be empty."""
    if one.is_empty or other.is_empty:
        return other if one.is_empty else one
    return one.union(other)
