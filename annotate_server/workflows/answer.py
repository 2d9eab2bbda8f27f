"""Answer: what a worker does when it is asked, over ports; each function takes one order and a control."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from annotate_server.domain.compute import (
    Answered,
    Drafted,
    DraftOrder,
    DraftPlace,
    HelpOrder,
    PromptOrder,
    VolumePlace,
)
from annotate_server.domain.errors import AnnotateError, InvalidPrompt, StorageFailed, UnreadableFile
from annotate_server.domain.geometry import NOWHERE, Box, Geometry
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, Segment
from annotate_server.domain.model import ModelCard, Prediction, Situation
from annotate_server.domain.ports import Control, VolumeCache, VolumeReader
from annotate_server.domain.prompt import Prompt
from annotate_server.domain.store_ports import Blobs
from annotate_server.domain.stored import VolumeFacts
from annotate_server.domain.volume import Modality, Volume
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.suitability import check_volume, with_modality

log = logging.getLogger(__name__)

MOST_MAPPED = 4
"""Volumes that a worker keeps mapped: pages of those that nobody asks for are the kernel's to take back."""


@dataclass
class OpenVolumes:
    """Volumes by what they are known as, the last few of them kept mapped."""

    reader: VolumeReader
    cache: VolumeCache
    _open: OrderedDict[str, Volume] = field(default_factory=OrderedDict, init=False, repr=False)

    def get(self, place: VolumePlace) -> Volume:
        """Return a volume, from the cache where it was read before.

        Raises the reader's InputError; UnreadableFile where the file no longer holds the voxels that it held.
        """
        volume = self._known(place.digest) if place.digest else None
        if volume is None:
            volume = self._read(place)
        self._open[volume.digest] = volume
        self._open.move_to_end(volume.digest)
        while len(self._open) > MOST_MAPPED:
            self._open.popitem(last=False)
        return volume

    def let_go(self, digest: str) -> None:
        """Keep a volume mapped no longer, which nobody will ask for again soon; the cache has it still."""
        self._open.pop(digest, None)

    def _known(self, digest: str) -> Volume | None:
        return self._open.get(digest) or self.cache.get(digest)

    def _read(self, place: VolumePlace) -> Volume:
        """Return a volume from its files, and put it into the cache."""
        volume = self.reader.read(place.stored)
        if place.digest not in (None, volume.digest):
            raise UnreadableFile(
                "its voxels are no longer those that were there when the case was first opened",
                source=place.stored.key,
                remedy="Put the file back as it was, or add the new one as another case.",
            )
        try:
            self.cache.put(volume)
        except StorageFailed as error:
            log.warning("a volume could not be kept in the cache: %s", error)
            return volume
        return self.cache.get(volume.digest) or volume


@dataclass
class Answerer:
    """Answers orders about volumes and drafts; to be used from one thread, which keeps models and volumes at hand."""

    predictor: Predictor
    volumes: OpenVolumes
    blobs: Blobs

    def functions(self) -> Mapping[str, Callable[[object, Control], object]]:
        """Return what a worker can be asked for, by name."""
        return {
            "facts": lambda order, _: self.facts(cast("VolumePlace", order)),
            "prompt": lambda order, control: self.prompt(cast("PromptOrder", order), control),
            "help": lambda order, control: self.help(cast("HelpOrder", order), control),
            "draft": lambda order, control: self.draft(cast("DraftOrder", order), control),
            "warm_up": lambda models, _: self.warm_up(cast("tuple[str, ...]", models)),
        }

    def warm_up(self, models: Iterable[str]) -> None:
        """Load models, and the helpers, before somebody waits for them; one that cannot be loaded is logged."""
        from annotate_server.workflows import helpers  # noqa: PLC0415  what they need takes a second to load

        helpers.warm_up()
        for name in models:
            try:
                self.predictor.load(name)
            except AnnotateError as error:
                log.warning("%s could not be loaded ahead: %s", name, error)

    def facts(self, place: VolumePlace) -> VolumeFacts:
        """Return what reading a volume tells; it is in the cache then."""
        return facts_of(self.volumes.get(place))

    def prompt(self, order: PromptOrder, control: Control) -> Answered:
        """Answer the newest prompt: where the active segment is now, in the box in which it changed.

        In the prediction `labels` is the active segment's index where it is, else 0; a voxel of another segment is
        never taken. The box is empty where nothing changed. Raises NotMadeFor, InvalidPrompt and the model's errors.
        """
        version, model = self.predictor.load(order.model)
        card = version.app.card
        _check_prompts(card, order.prompts, order.model)
        volume = suited(self.volumes.get(order.volume), card, order.volume.modality)
        check_volume(volume, version.app, order.model)
        draft = mapped_draft(order.draft, volume.geometry)
        situation = Situation(draft, order.active, order.draft.locked, order.prompts)
        prediction = model.predict({str(volume.modality or "volume"): volume}, situation, control)
        return Answered(trimmed(prediction, draft.voxels, order.active), f"{version.model}@{version.id}")

    def help(self, order: HelpOrder, control: Control) -> Answered:
        """Carry out a classical helper; the prediction is the helper's own."""
        from annotate_server.workflows.helpers import carry_out  # noqa: PLC0415  see `warm_up`

        volume = self.volumes.get(order.volume)
        draft = mapped_draft(order.draft, volume.geometry)
        return Answered(carry_out(order.helper, volume, draft, order.active, control, locked=order.draft.locked))

    def draft(self, order: DraftOrder, control: Control) -> Drafted:
        """Draft a whole volume and put the labelmap into the store; raises what `Predictor.draft` raises."""
        version, _ = self.predictor.load(order.model, order.version)
        read = self.volumes.get(order.volume)
        volume = suited(read, version.app.card, order.volume.modality)
        volumes = {str(volume.modality or "volume"): volume}
        result = self.predictor.draft(order.model, volumes, control, version.id if order.version else None)
        version = result.version
        control.check()
        control.report(1.0, "Storing the draft")
        layer = keep_layer(self.blobs, result.labelmap, result.unsure)
        self.volumes.let_go(read.digest)
        return Drafted(version.model, version.id, layer, facts_of(read), result.notes)


def suited(volume: Volume, card: ModelCard, declared: Modality | None) -> Volume:
    """Return a volume with the modality that its file, a person or the model's card says; its digest is kept."""
    return with_modality(volume, card, declared).known_as(volume.digest)


def facts_of(volume: Volume) -> VolumeFacts:
    """Return what is kept of a volume that was read."""
    return VolumeFacts(volume.digest, volume.geometry, volume.modality, volume.unit, volume.acquisition.warnings)


def mapped_draft(place: DraftPlace, geometry: Geometry) -> Labelmap:
    """Return a session's draft on its volume's grid, mapped read-only; nothing of it is read yet.

    Who writes it has checked its voxels. Raises StorageFailed where the file is not there or has another size.
    """
    dtype = np.dtype(place.dtype)
    try:
        if place.path.stat().st_size != math.prod(geometry.shape) * dtype.itemsize:
            raise StorageFailed("the draft has another size than its volume", source=place.path.name)
        voxels = np.memmap(place.path, dtype, "r", shape=geometry.shape).view(np.ndarray)
    except OSError as error:
        raise StorageFailed("the draft cannot be opened", source=place.path.name) from error
    return Labelmap.unscanned(cast("LabelVoxels", voxels), geometry, place.segments)


def trimmed(prediction: Prediction, draft: LabelVoxels, active: Segment) -> Prediction:
    """Return a prediction cut down to the box in which the active segment changes, and to that segment.

    `draft` is the whole draft (k, j, i). Voxels of other segments stay theirs.
    """
    before = draft[prediction.box.slices]
    was = before == active.index
    is_now = (prediction.labels == active.index) & ((before == 0) | was)
    inner = Box.around(was != is_now)
    if inner is None:
        nothing = np.zeros(NOWHERE.shape, draft.dtype)
        return replace(prediction, box=NOWHERE, labels=nothing, segments=(active,), uncertainty=None)
    labels = is_now[inner.slices] * draft.dtype.type(active.index)
    uncertainty = None if prediction.uncertainty is None else prediction.uncertainty[inner.slices]
    box = inner.shifted(prediction.box.start)
    return replace(prediction, box=box, labels=labels, segments=(active,), uncertainty=uncertainty)


def _check_prompts(card: ModelCard, prompts: tuple[Prompt, ...], name: str) -> None:
    """Refuse what the model does not understand."""
    if not prompts:
        raise InvalidPrompt("there is no prompt")
    kind = prompts[-1].kind
    if kind not in card.prompts:
        listing = ", ".join(sorted(card.prompts)) or "none"
        raise InvalidPrompt(f"{name} takes no {kind} (prompts that it takes: {listing})")
