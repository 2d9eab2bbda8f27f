"""What is asked of a task: the words that MONAI Label's clients send, made of prompts in LPS millimetres."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.environments.messages import Json
from annotate_server.backends.monailabel_app.tasks import BACKGROUND, MonaiLabelAppParameters, TaskKind
from annotate_server.domain.errors import InvalidPrompt, NotMadeFor
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import Situation
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Volume
from annotate_server.imaging.nifti_writing import write_nifti
from annotate_server.imaging.rasterise import voxels_of

Request = Mapping[str, Json]
_AROUND, _STRUCTURE = 1, 2
"""Values of the two scribbles in the labelmap that a task gets; `label_info` tells it."""


def request_of(
    parameters: MonaiLabelAppParameters, volume: Volume, situation: Situation, folder: Path, device: str
) -> Request:
    """Write the volume into `folder`, and return what to ask of the task about it.

    Raises NotMadeFor where the task answers prompts and there is none, InvalidPrompt for one that it cannot use.
    """
    asked = _asked(parameters, volume.geometry, situation, folder)
    path = folder / "volume.nii"
    write_nifti(storable(volume.voxels), volume.geometry, path)
    return {
        "model": parameters.task,
        "image": str(path),
        "device": device,
        "result_extension": ".nrrd",
        "result_dtype": "uint16",
        "result_compress": False,
        **asked,
    }


def _asked(parameters: MonaiLabelAppParameters, geometry: Geometry, situation: Situation, folder: Path) -> Request:
    """Return what the kind of a task wants to know beside the volume."""
    if parameters.kind is TaskKind.SEGMENTATION:
        return {}
    if parameters.kind is TaskKind.DEEPEDIT:
        return _deepedit(parameters, geometry, situation)
    if situation.asks_for_draft:
        raise NotMadeFor("it answers prompts and drafts nothing by itself", remedy="Give it a prompt.")
    prompts = about_active(situation)
    if parameters.kind is TaskKind.SCRIBBLES:
        return _scribbles(prompts, geometry, folder)
    return _deepgrow(prompts, geometry, parameters.dimension)


def about_active(situation: Situation) -> tuple[Prompt, ...]:
    """Return the prompts about the active segment; raises InvalidPrompt where there is none."""
    active = active_segment(situation)
    prompts = tuple(prompt for prompt in situation.prompts if prompt.segment == active.index)
    if not prompts:
        raise InvalidPrompt(f"no prompt is about the active segment {active.name!r}")
    return prompts


def active_segment(situation: Situation) -> Segment:
    """Return the active segment; raises InvalidPrompt where there is none."""
    if situation.active is None:
        raise InvalidPrompt("no segment is active: the prompt is about nothing")
    return situation.active


def _deepedit(parameters: MonaiLabelAppParameters, geometry: Geometry, situation: Situation) -> Request:
    """Return the clicks by label; what a structure is not is background to this network."""
    clicks: dict[str, list[Json]] = {label.name: [] for label in parameters.labels}
    clicks[BACKGROUND] = []
    for prompt in situation.prompts:
        if not 1 <= prompt.segment <= len(parameters.labels):
            raise InvalidPrompt(
                f"the {prompt.kind} is about the segment {prompt.segment}, which this model does not know"
            )
        name = parameters.labels[prompt.segment - 1].name if prompt.positive else BACKGROUND
        clicks[name].append(_click(prompt, geometry))
    return clicks


def _deepgrow(prompts: Sequence[Prompt], geometry: Geometry, dimension: int) -> Request:
    """Return the clicks on the structure and beside it; those of the newest one's slice for a network of slices."""
    positive: list[Json] = []
    negative: list[Json] = []
    newest = _click(prompts[-1], geometry)[2]
    for prompt in prompts:
        click = _click(prompt, geometry)
        if dimension != 2 or click[2] == newest:
            (positive if prompt.positive else negative).append(click)
    if not positive:
        raise InvalidPrompt("this model needs a click on the structure first", remedy="Click on the structure.")
    words: dict[str, Json] = {"foreground": positive, "background": negative}
    return {**words, "slice": newest} if dimension == 2 else words


def slice_of(situation: Situation, geometry: Geometry) -> int:
    """Return the slice (k) of the newest prompt about the active segment."""
    return _click(about_active(situation)[-1], geometry)[2]


def _scribbles(prompts: Sequence[Prompt], geometry: Geometry, folder: Path) -> Request:
    """Write the scribbles as a labelmap, and return where it is and what its values mean."""
    drawn = np.zeros(geometry.shape, np.uint8)
    for prompt in prompts:
        if prompt.kind is not PromptKind.SCRIBBLE:
            raise InvalidPrompt(f"this model takes scribbles, not a {prompt.kind}")
        drawn[tuple(voxels_of(prompt, geometry).T)] = _STRUCTURE if prompt.positive else _AROUND
    if not (drawn == _STRUCTURE).any() or not (drawn == _AROUND).any():
        raise InvalidPrompt(
            "this model compares two scribbles, one on the structure and one on what surrounds it",
            remedy="Draw the other one too.",
        )
    path = folder / "scribbles.nii"
    write_nifti(drawn, geometry, path)
    listed: list[Json] = [
        {"name": "background_scribbles", "id": _AROUND},
        {"name": "foreground_scribbles", "id": _STRUCTURE},
    ]
    return {"label": str(path), "label_info": listed}


def _click(prompt: Prompt, geometry: Geometry) -> list[int]:
    """Return the voxel (i, j, k) of a point."""
    if prompt.kind is not PromptKind.POINT:
        raise InvalidPrompt(f"this model takes clicks, not a {prompt.kind}")
    prompt.check_within(geometry)
    k, j, i = (int(n) for n in np.floor(geometry.index(prompt.points_mm)[0] + 0.5))
    return [i, j, k]


def storable(voxels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return voxels in a type of NIfTI that every reader takes."""
    if voxels.dtype.kind == "f":
        return voxels.astype(np.float32, copy=False)
    for dtype in (np.uint8, np.int16, np.int32):
        if np.can_cast(voxels.dtype, dtype, "safe"):
            return voxels.astype(dtype, copy=False)
    return voxels.astype(np.float32)
