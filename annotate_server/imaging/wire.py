"""Nouns as JSON and arrays as files without a name: what crosses between a caller and the process that parses.

No pickle: the other side can only name the classes in `SENDABLE`, and their constructors check what they are given.
Sequences arrive as tuples, mappings as dicts, arrays read-only and mapped from their file.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain import (
    annotation,
    case,
    compute,
    errors,
    geometry,
    helper,
    labelmap,
    learning,
    model,
    prompt,
    recipe,
    scoring,
    stored,
    training,
    volume,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Sendable = TypeVar("Sendable")

SENDABLE: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        annotation.LabelState,
        case.Case,
        case.Format,
        case.PatientKey,
        case.StoredVolume,
        compute.Answered,
        compute.DraftOrder,
        compute.DraftPlace,
        compute.Drafted,
        compute.HelpOrder,
        compute.PromptOrder,
        compute.VolumePlace,
        errors.Problem,
        geometry.Box,
        geometry.Geometry,
        helper.Combination,
        helper.HelperKind,
        helper.HelperOrder,
        helper.IslandRule,
        labelmap.CodedConcept,
        labelmap.Labelmap,
        labelmap.Segment,
        learning.SegmentWork,
        model.Prediction,
        model.WeightFile,
        prompt.Prompt,
        prompt.PromptKind,
        recipe.Freezing,
        recipe.Precision,
        recipe.Recipe,
        scoring.DraftScore,
        scoring.MadeDraft,
        scoring.ScoreOrder,
        scoring.Scored,
        scoring.WantedDraft,
        stored.KnownCase,
        stored.StoredLayer,
        stored.StoredPrediction,
        stored.VolumeFacts,
        training.TrainOrder,
        training.Trained,
        training.Verdict,
        volume.Acquisition,
        volume.Modality,
        volume.Volume,
    )
}


def sendable(kind: type[Sendable]) -> type[Sendable]:
    """Allow a frozen dataclass or an enum of another module to cross; use it as a decorator.

    Names must differ: the other side finds a class by its name alone.
    """
    known = SENDABLE.setdefault(kind.__name__, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"{known.__module__} already sends a {kind.__name__}")
    SENDABLE[kind.__name__] = kind
    return kind


@dataclass(frozen=True)
class Packed:
    """A value ready to cross: its JSON text, and the open files of its arrays, in the order of their numbers."""

    text: bytes
    files: tuple[BinaryIO, ...] = ()

    def close(self) -> None:
        """Give the files back; what was mapped from them stays mapped."""
        for file in self.files:
            file.close()


def pack(value: object, scratch: Path | None = None) -> Packed:
    """Return a value as JSON and files; `scratch` is the folder that has room for the arrays.

    Raises TypeError for a class that is not sendable, StorageFailed where the folder is full.
    """
    files: list[BinaryIO] = []
    try:
        encoded = _encode(value, files, scratch)
        return Packed(json.dumps(encoded, separators=(",", ":")).encode(), tuple(files))
    except BaseException:
        for file in files:
            file.close()
        raise


def unpack(packed: Packed) -> object:
    """Return the value and close the files; raises ValueError or TypeError for what no `pack` can have written."""
    try:
        return _decode(json.loads(packed.text), packed.files)
    finally:
        packed.close()


def _encode(value: object, files: list[BinaryIO], scratch: Path | None) -> object:  # noqa: PLR0911  one for each kind
    """Return what `json` can write."""
    kind = type(value).__name__
    if SENDABLE.get(kind) is type(value):
        return {"$": kind, "value": _encode(_parts(value), files, scratch)}
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case Path():
            return {"$": "Path", "value": str(value)}
        case datetime():
            return {"$": "datetime", "value": value.isoformat()}
        case frozenset():
            return {"$": "set", "value": [_encode(item, files, scratch) for item in value]}
        case np.ndarray():
            files.append(_stored(value, scratch))
            return {"$": "array", "value": len(files) - 1}
        case Mapping():
            return {"$": "map", "value": [[_encode(part, files, scratch) for part in pair] for pair in value.items()]}
        case list() | tuple():
            return [_encode(item, files, scratch) for item in value]
    raise TypeError(f"a {kind} does not cross to the process that parses")


def _parts(value: object) -> object:
    """Return what a sendable value is built from: an enum's value, the fields of a dataclass by name."""
    if isinstance(value, Enum):
        return value.value
    return {f.name: getattr(value, f.name) for f in fields(cast("DataclassInstance", value)) if f.init}


def _decode(encoded: object, files: Sequence[BinaryIO]) -> object:
    """Return the value of what `_encode` made."""
    if isinstance(encoded, list):
        return tuple(_decode(item, files) for item in encoded)
    if not isinstance(encoded, dict):
        return encoded
    kind, value = encoded["$"], encoded["value"]
    if kind == "array":
        return mapped(files[value])
    if kind == "map":
        return {_decode(key, files): _decode(part, files) for key, part in value}
    return _built(kind, _decode(value, files))


def _built(kind: str, parts: object) -> object:
    """Return a path, a time, a set or a value of a sendable class."""
    if kind == "Path":
        return Path(str(parts))
    if kind == "datetime":
        return datetime.fromisoformat(str(parts))
    if kind == "set":
        return frozenset(cast("tuple[object, ...]", parts))
    return SENDABLE[kind](**parts) if isinstance(parts, dict) else SENDABLE[kind](parts)


def _stored(array: NDArray[np.generic], scratch: Path | None) -> BinaryIO:
    """Return a file that never has a name, holding the array as .npy: nothing is left behind, whoever dies."""
    file = cast("BinaryIO", tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115  the receiver closes it
    try:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
    except OSError as error:
        file.close()
        raise errors.StorageFailed(
            f"the voxels could not be put down for the next step: {os.strerror(error.errno or 0)}",
            source=str(scratch or tempfile.gettempdir()),
            remedy="Free space there or name another scratch folder.",
        ) from error
    return file


def mapped(file: BinaryIO) -> NDArray[np.generic]:
    """Return the array of an open .npy file, mapped read-only; the file may be closed then.

    Raises ValueError for what `numpy.lib.format.write_array` has not written whole, or not from plain numbers.
    """
    file.seek(0)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not an array that this program wrote")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ValueError("not an array that this program wrote")
    if 0 in shape:
        return np.empty(shape, dtype)
    pages = np.memmap(file, dtype=dtype, mode="r", offset=file.tell(), shape=shape)
    return pages.view(np.ndarray)
