"""Prompts as nnInteractive takes them: voxels, flat boxes and little pictures of strokes, all in one grid (k, j, i)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.environments.messages import Json
from annotate_server.domain.geometry import Box, Geometry, Shape
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.imaging.rasterise import box_of, voxels_of

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Interaction:
    """One prompt on a grid: `box` is where it is; `picture` fills the box with 1 where a stroke or outline covers."""

    kind: PromptKind
    positive: bool
    box: Box
    picture: Picture | None = None

    @property
    def words(self) -> dict[str, Json]:
        """Return what crosses to the guest; `digest` tells one picture from another."""
        digest = "" if self.picture is None else hashlib.sha256(np.ascontiguousarray(self.picture).data).hexdigest()
        bounds: list[Json] = [[a, b] for a, b in zip(self.box.start, self.box.stop, strict=True)]
        return {"kind": str(self.kind), "positive": self.positive, "bounds": bounds, "digest": digest}


def interaction_of(prompt: Prompt, geometry: Geometry, thickness: Shape, *, solid_boxes: bool) -> Interaction:
    """Return a prompt on a grid; raises InvalidPrompt for one that lies outside.

    `thickness` is that of a scribble's line, in voxels. A box that is not flat becomes its middle slice across its
    thinnest side, unless the network was trained with solid ones.
    """
    if prompt.kind is PromptKind.BOX:
        box = box_of(prompt, geometry)
        return Interaction(prompt.kind, prompt.positive, box if solid_boxes else flat(box))
    voxels = voxels_of(prompt, geometry)
    if prompt.kind is PromptKind.POINT:
        k, j, i = (int(n) for n in voxels[0])
        return Interaction(prompt.kind, prompt.positive, Box((k, j, i), (k + 1, j + 1, i + 1)))
    if prompt.kind is PromptKind.SCRIBBLE:
        voxels = thickened(voxels, thickness, geometry.shape)
    box, picture = pictured(voxels)
    return Interaction(prompt.kind, prompt.positive, box, picture)


def flat(box: Box) -> Box:
    """Return the middle slice of a box across its thinnest side."""
    axis = int(np.argmin(box.shape))
    middle = (box.start[axis] + box.stop[axis]) // 2
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = middle, middle + 1
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def thickened(voxels: NDArray[np.intp], thickness: Shape, shape: Shape) -> NDArray[np.intp]:
    """Return the voxels (n, 3) of a line drawn thicker; a stroke that lies in one slice stays in it."""
    extent = voxels.max(axis=0) - voxels.min(axis=0)
    is_flat = bool((extent == 0).any())
    steps: Sequence[range] = [
        range(1) if is_flat and extent[axis] == 0 and axis == int(np.argmin(extent)) else range(thickness[axis])
        for axis in range(3)
    ]
    middle = np.array([(len(step) - 1) // 2 for step in steps], dtype=np.intp)
    offsets = np.array(list(product(*steps)), dtype=np.intp) - middle
    drawn: NDArray[np.intp] = np.unique((voxels[:, None, :] + offsets[None]).reshape(-1, 3), axis=0)
    inside: NDArray[np.intp] = drawn[((drawn >= 0) & (drawn < shape)).all(axis=1)]
    return inside


def pictured(voxels: NDArray[np.intp]) -> tuple[Box, Picture]:
    """Return the smallest box of voxels (n, 3) and what they cover of it."""
    start, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    box = Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))
    picture = np.zeros(box.shape, np.uint8)
    picture[tuple((voxels - start).T)] = 1
    return box, picture
