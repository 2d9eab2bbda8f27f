"""The backend `growcut`: any structure, by prompts, without weights."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.fingerprint import fingerprint
from annotate_server.backends.growcut.flood import flood
from annotate_server.backends.growcut.fold import after, both
from annotate_server.backends.growcut.grid import Grid, bounds
from annotate_server.backends.growcut.memory import Key, Memory, Packed
from annotate_server.backends.growcut.parameters import GrowCutParameters, read_parameters
from annotate_server.backends.growcut.relax import relaxed
from annotate_server.backends.growcut.stroke import Scene, is_outline
from annotate_server.domain.errors import InvalidLabelmap, InvalidPrompt, NotMadeFor
from annotate_server.domain.geometry import NOWHERE, Box, Geometry
from annotate_server.domain.labelmap import Segment, labelmap_dtype
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt
from annotate_server.domain.volume import Volume


class GrowCutBackend:
    """Fulfils `ports.Backend` for promptable models without weights."""

    name = "growcut"

    def load(self, version: ModelVersion, device: str) -> "GrowCutModel":
        """Make a version ready; it runs on the CPU whatever the device. Raises InvalidApp.

        The loops are compiled here, or taken from the disk where they were compiled before, so that the first prompt
        does not wait.
        """
        parameters = read_parameters(version.app.parameters, version.app.name)
        _warm_up()
        return GrowCutModel(parameters)


class GrowCutModel:
    """Fulfils `ports.LoadedModel`.

    **What an answer means.** `Prediction.box` is the smallest box that holds every voxel whose membership changes; it
    is empty where nothing changes. In it, `labels` has the active segment's index where the segment is now, and 0
    everywhere else: the caller sets the former, clears voxels that were the active segment's and are 0 now, and leaves
    every other segment alone. Voxels of other segments are background and never taken; the draft is never written to.

    **What an answer depends on.** The volume, the prompts about the active segment (oldest first) and the draft as it
    stands, and nothing else: answers are remembered, and a remembered answer is the one that would be computed. A
    draft that differs from what the earlier prompts alone lead to holds somebody's work (a network's, a brush's): it is
    then only corrected about the newest prompt. The newest prompt's own voxels are always obeyed.
    """

    def __init__(self, parameters: GrowCutParameters) -> None:
        """Start with nothing remembered."""
        self._parameters = parameters
        self._memory = Memory(parameters.remembered)

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Answer the newest prompt about the active segment; the class says how to read the answer.

        Raises NotMadeFor where there is no prompt, InvalidPrompt for one that cannot be used, InvalidLabelmap for a
        draft on another grid.
        """
        volume = next(iter(volumes.values()))
        active, prompts = _question(volume, situation)
        labels = _draft(volume, situation)
        control.check()
        control.report(0.0, "Reading the prompts")
        scene = Scene(volume.voxels, volume.geometry, labels, active.index, self._parameters.working_cells, control)
        key = Key(volume.digest, fingerprint(labels, active.index), prompts)
        result = scene.present(Box.whole(volume.geometry.shape))
        changed = self._answer(scene, key, result)
        control.report(1.0, "Done")
        return _prediction(scene, changed, result, active)

    def close(self) -> None:
        """Forget every answer."""
        self._memory.clear()

    def _answer(self, scene: Scene, key: Key, segment: NDArray[np.bool_]) -> Box:
        """Make of the segment the one after the newest prompt; return the box in which it may have changed.

        The answer is kept where prompts alone have led to it.
        """
        before = Key(key.volume, key.others, key.prompts[:-1])
        own = self._is_own(scene, before, key.prompts[-1], segment)
        if own and (known := self._memory.recall(key)):
            changed = bounds(segment) or NOWHERE
            segment[changed.slices] = False
            known.put_into(segment)
            return both(changed, known.box or NOWHERE)
        changed = _stepped(scene, key, segment, own=own)
        if own:
            self._memory.keep(key, Packed.of(segment))
        return changed

    def _is_own(self, scene: Scene, before: Key, newest: Prompt, present: NDArray[np.bool_]) -> bool:
        """Say whether the segment is what the earlier prompts alone lead to.

        Only an outline is answered differently for it: for every other prompt what is not remembered is not asked.
        """
        if not before.prompts:
            return not present.any()
        if is_outline(newest) and present.any():
            return self._led_to(scene, before) == Packed.of(present)
        known = self._memory.recall(before)
        return known is not None and known == Packed.of(present)

    def _led_to(self, scene: Scene, key: Key) -> Packed:
        """Return what a list of prompts leads to from nothing, one after the other."""
        known = self._memory.recall(key)
        if known is not None:
            return known
        segment = np.zeros(scene.geometry.shape, np.bool_)
        for count in range(1, len(key.prompts) + 1):
            step = Key(key.volume, key.others, key.prompts[:count])
            known = self._memory.recall(step)
            if known:
                segment = known.unpacked()
            else:
                _stepped(scene, step, segment, own=True)
            self._memory.keep(step, Packed.of(segment))
        return Packed.of(segment)


def _stepped(scene: Scene, key: Key, segment: NDArray[np.bool_], *, own: bool) -> Box:
    """Let the newest prompt change the segment, in place, never beyond what is free; return where."""
    changed = after(scene, key.prompts, segment, own=own)
    segment[changed.slices] &= ~scene.others(changed)
    return changed


def _question(volume: Volume, situation: Situation) -> tuple[Segment, tuple[Prompt, ...]]:
    """Return the active segment and the prompts about it, all of which touch the volume."""
    if situation.asks_for_draft:
        raise NotMadeFor("it answers prompts and drafts nothing by itself", remedy="Give it a prompt.")
    if situation.active is None:
        raise InvalidPrompt("no segment is active: the prompt is about nothing")
    prompts = tuple(prompt for prompt in situation.prompts if prompt.segment == situation.active.index)
    if not prompts:
        raise InvalidPrompt(f"no prompt is about the active segment {situation.active.name!r}")
    for prompt in prompts:
        prompt.check_within(volume.geometry)
    return situation.active, prompts


def _draft(volume: Volume, situation: Situation) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
    """Return the labels of the draft as it stands, None where there is none."""
    if situation.draft is None:
        return None
    if not situation.draft.geometry.matches(volume.geometry):
        raise InvalidLabelmap("the draft lies on another grid than its volume")
    return situation.draft.voxels


def _prediction(scene: Scene, changed: Box, result: NDArray[np.bool_], active: Segment) -> Prediction:
    """Return the segment in the smallest box of what really changed within `changed`."""
    inner = bounds(scene.present(changed) != result[changed.slices])
    if inner is None:
        return Prediction(NOWHERE, np.zeros((0, 0, 0), labelmap_dtype((active,))), (active,))
    a, b, c = changed.start
    (k, j, i), (l, m, n) = inner.start, inner.stop
    box = Box((a + k, b + j, c + i), (a + l, b + m, c + n))
    labels = np.zeros(box.shape, labelmap_dtype((active,)))
    labels[result[box.slices]] = active.index
    return Prediction(box, labels, (active,))


def _warm_up() -> None:
    """Run every compiled loop once, on next to nothing."""
    seeds = np.zeros((2, 3, 4), np.uint8)
    seeds[0, 0, 0] = 1
    flood(np.zeros(seeds.shape, np.float32), seeds, (1.0, 1.0, 1.0))
    relaxed(np.zeros(seeds.shape, np.float32), seeds > 0, (1.0, 1.0, 1.0))
    grid = Grid(Box.whole((2, 3, 4)), (1, 2, 2), Geometry.from_affine(np.eye(4), (2, 3, 4)))
    for kind in (np.uint8, np.int16, np.uint16, np.float32):
        grid.mean(seeds.astype(kind))
    for labels in (seeds.copy(), seeds.astype(np.uint16)):
        labels.flags.writeable = False
        fingerprint(labels, 1)
    bounds(seeds > 0)
