"""The segment after a list of prompts, one prompt at a time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.begin import begun
from annotate_server.backends.growcut.correct import corrected
from annotate_server.backends.growcut.define import defined
from annotate_server.backends.growcut.stroke import Scene, is_outline, stroke_voxels
from annotate_server.domain.geometry import Box
from annotate_server.domain.prompt import Prompt, PromptKind

Segment = NDArray[np.bool_]
"""The voxels (k, j, i) of the whole volume that belong to the active segment."""


def after(scene: Scene, prompts: Sequence[Prompt], present: Segment, *, own: bool) -> Segment:
    """Return the segment after the last of `prompts`, which found the segment `present`; a new array.

    `own` says that `present` is what the earlier prompts alone have led to: then a new outline describes the
    structure anew, together with all others. Otherwise there is work in it that no prompt knows of (a network's draft,
    a brush), and every prompt only corrects its surroundings.
    """
    newest = prompts[-1]
    if is_outline(newest) and (own or not present.any()):
        return _described(scene, prompts)
    if not newest.positive and newest.kind in (PromptKind.BOX, PromptKind.LASSO):
        return _erased(scene, newest, present)
    stroke = stroke_voxels(newest, scene.geometry)
    if present.any():
        return _pasted(present, corrected(scene, present, prompts[:-1], newest))
    if not newest.positive:
        return present.copy()
    return _pasted(present, begun(scene, stroke))


def _described(scene: Scene, prompts: Sequence[Prompt]) -> Segment:
    """Return the structure that all outlines describe; strokes that it disobeys correct it, oldest first."""
    result = _pasted(np.zeros(scene.geometry.shape, np.bool_), defined(scene, prompts))
    for number, prompt in enumerate(prompts):
        if is_outline(prompt):
            continue
        stroke = stroke_voxels(prompt, scene.geometry)
        if (result[tuple(stroke.T)] != prompt.positive).any():
            result = after(scene, (*prompts[:number], prompt), result, own=False)
    return result


def _erased(scene: Scene, prompt: Prompt, present: Segment) -> Segment:
    """Take away what a negative box or lasso encloses, exactly: whoever draws an area means the area."""
    result = present.copy()
    result[tuple(stroke_voxels(prompt, scene.geometry).T)] = False
    return result


def _pasted(present: Segment, piece: tuple[Box, Segment]) -> Segment:
    box, values = piece
    result = present.copy()
    result[box.slices] = values
    return result
