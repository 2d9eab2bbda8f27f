"""Labelled cases on a network's grid, kept in files so that a training needs no memory for those that it is not at."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotate_server.domain.errors import InvalidRequest, NotMadeFor
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.ports import Control
from annotate_server.domain.training import IGNORED, Example, Part, TrainingEntry
from annotate_server.imaging.whole_file import whole_file

_PLACES = 2000
"""Voxels remembered of each class of a case: enough that a patch is hardly ever centred twice in the same place."""


@dataclass(frozen=True)
class GridCase:
    """An example as a network sees it.

    `values` are (channels, k, j, i), normalised; `target` is (k, j, i), int16: 0 for background, n for the nth segment
    of the training set, `IGNORED` where the label says nothing. `known` are the classes that the label speaks about,
    background aside.
    """

    values: NDArray[np.float32]
    target: NDArray[np.int16]
    known: frozenset[int]


@dataclass(frozen=True)
class ShelvedCase:
    """A case whose voxels lie in files: `places` are voxels (n, 3) of each class that is there."""

    entry: TrainingEntry
    known: frozenset[int]
    places: Mapping[int, NDArray[np.int32]]
    values_path: Path
    target_path: Path

    @cached_property
    def values(self) -> NDArray[np.float16]:
        """Return (channels, k, j, i), mapped from the file."""
        found: NDArray[np.float16] = np.load(self.values_path, mmap_mode="r", allow_pickle=False)
        return found

    @cached_property
    def target(self) -> NDArray[np.int16]:
        """Return (k, j, i), mapped from the file."""
        found: NDArray[np.int16] = np.load(self.target_path, mmap_mode="r", allow_pickle=False)
        return found

    @property
    def shape(self) -> Shape:
        """Return the sides of the case on the network's grid."""
        k, j, i = self.target.shape
        return k, j, i


class Preparation(Protocol):
    """How one kind of network wants its examples."""

    def prepare(self, example: Example, classes: Mapping[int, int]) -> Sequence[GridCase]:
        """Return what the network sees of an example; `classes` gives the class of each index of the set.

        Raises NotMadeFor for a volume that it would not predict.
        """
        ...


@dataclass(frozen=True)
class Shelf:
    """Every case that is learned from; `notes` say of which labels nothing is, and why."""

    cases: tuple[ShelvedCase, ...]
    notes: tuple[str, ...] = ()


def shelved(preparation: Preparation, training: TrainingTask, folder: Path, control: Control) -> Shelf:
    """Bring every label that may be learned from to the network's grid, into files of a folder.

    What is there of the same training set stays. Raises InvalidRequest where there is nothing to learn from.
    """
    entries = training.training_set.of(Part.TRAIN)
    if not entries:
        raise InvalidRequest("there is no approved label to learn from", remedy="Approve labels of more patients.")
    classes = {segment.index: place for place, segment in enumerate(training.training_set.segments, start=1)}
    cases: list[ShelvedCase] = []
    notes: list[str] = []
    for done, entry in enumerate(entries):
        control.check()
        control.report(0.1 * done / len(entries), f"preparing case {done + 1} of {len(entries)}")
        stem = _stem(entry, folder / training.training_set.digest[:16])
        if not stem.with_suffix(".json").is_file():
            _prepare(preparation, training.open(entry), classes, stem)
        index = json.loads(stem.with_suffix(".json").read_text())
        cases += [_read(entry, _part(stem, number)) for number in range(index["parts"])]
        if index["reason"]:
            notes.append(f"One label was left out: {index['reason']}.")
    _check_examples(cases, training)
    return Shelf(tuple(cases), tuple(notes))


def _prepare(preparation: Preparation, example: Example, classes: Mapping[int, int], stem: Path) -> None:
    """Write what the network sees of an example, and last how many parts that is."""
    made, reason = 0, ""
    try:
        for case in preparation.prepare(example, classes):
            _write(case, _part(stem, made))
            made += 1
    except NotMadeFor as error:
        reason = error.detail
    with whole_file(stem.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"parts": made, "reason": reason}))


def _part(stem: Path, number: int) -> Path:
    return stem.with_name(f"{stem.name}-{number}")


def shelve(entry: TrainingEntry, case: GridCase, folder: Path) -> ShelvedCase:
    """Write one case into files of a folder."""
    stem = _stem(entry, folder)
    _write(case, stem)
    return _read(entry, stem)


def _stem(entry: TrainingEntry, folder: Path) -> Path:
    return folder / hashlib.sha256(f"{entry.case_id}|{entry.label_id}".encode()).hexdigest()[:24]


def _check_examples(cases: Iterable[ShelvedCase], training: TrainingTask) -> None:
    seen = {label for case in cases for label in case.places}
    absent = [s.name for n, s in enumerate(training.training_set.segments, start=1) if n not in seen]
    if len(absent) == len(training.training_set.segments):
        raise InvalidRequest(f"no label shows any of: {', '.join(absent)}", remedy="Approve labels that show them.")


def _write(case: GridCase, stem: Path) -> None:
    """Write the voxels, and last what says that they are complete."""
    if not np.isfinite(case.values).all():
        raise InvalidRequest("a volume of the training set has voxels that are no finite numbers")
    for suffix, array in ((".values.npy", case.values.astype(np.float16)), (".target.npy", case.target)):
        with whole_file(stem.with_suffix(suffix)) as temporary:
            np.save(temporary, array, allow_pickle=False)
    labels = [int(label) for label in np.unique(case.target) if label != IGNORED]
    places = {str(label): _places(case.target == label).tolist() for label in labels}
    with whole_file(stem.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"known": sorted(case.known), "places": places}))


def _places(where: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return voxels of a class, evenly chosen in the order of the array."""
    flat = np.flatnonzero(where)
    chosen = flat[:: max(1, len(flat) // _PLACES)][:_PLACES]
    return np.stack(np.unravel_index(chosen, where.shape), axis=1).astype(np.int32)


def _read(entry: TrainingEntry, stem: Path) -> ShelvedCase:
    table = json.loads(stem.with_suffix(".json").read_text())
    places = {int(label): np.array(voxels, dtype=np.int32) for label, voxels in table["places"].items()}
    values, target = stem.with_suffix(".values.npy"), stem.with_suffix(".target.npy")
    return ShelvedCase(entry, frozenset(table["known"]), places, values, target)


def relabelled(target: NDArray[np.int16], classes: Mapping[int, int]) -> NDArray[np.int16]:
    """Return an example's target in classes instead of indices; voxels of no segment of the set become `IGNORED`."""
    result = np.full(target.shape, IGNORED, dtype=np.int16)
    for index in np.unique(target):
        if index == 0 or int(index) in classes:
            result[target == index] = classes.get(int(index), 0)
    return result


class Voxels:
    """Gives boxes of cases as tensors of a device; a card keeps whole cases as long as they fit."""

    def __init__(self, device: torch.device) -> None:
        """Keep at most a third of the card's free memory."""
        self._device = device
        self._room = torch.cuda.mem_get_info(device)[0] // 3 if device.type == "cuda" else 0
        self._kept: dict[Path, tuple[Tensor, Tensor]] = {}

    def cut(self, case: ShelvedCase, box: Box) -> tuple[Tensor, Tensor]:
        """Return values (channels, k, j, i), float32, and the target (k, j, i), int16, within a box."""
        if self._device.type == "cpu":
            values = torch.from_numpy(np.array(case.values[(slice(None), *box.slices)], dtype=np.float32))
            return values, torch.from_numpy(np.array(case.target[box.slices]))
        values, target = self._whole(case)
        return values[(slice(None), *box.slices)].float(), target[box.slices]

    def _whole(self, case: ShelvedCase) -> tuple[Tensor, Tensor]:
        if case.values_path in self._kept:
            return self._kept[case.values_path]
        pair = (
            torch.from_numpy(np.array(case.values)).to(self._device),
            torch.from_numpy(np.array(case.target)).to(self._device),
        )
        size = sum(tensor.numel() * tensor.element_size() for tensor in pair)
        if size <= self._room:
            self._room -= size
            self._kept[case.values_path] = pair
        return pair
