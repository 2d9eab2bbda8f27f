"""Labelmaps into the store and back: one `.seg.nrrd` a layer, named by its SHA-256."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, labelmap_dtype
from annotate_server.domain.store_ports import Blobs
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.layer_file import read_layer_into, read_word
from annotate_server.imaging.seg_nrrd_writing import write_seg_nrrd

_UNSURE = "AnnotateServer_UnsureBySlice"


def keep_layer(
    blobs: Blobs, labelmap: Labelmap, unsure: Sequence[float] = (), words: Mapping[str, str] | None = None
) -> StoredLayer:
    """Return a labelmap as it is kept; it is on the disk when this returns.

    `unsure` says for each slice how unsure the model was that drew it (`imaging.unsureness`); it lies in the header,
    and so do further `words`.
    """
    doubts = {_UNSURE: json.dumps(list(unsure), separators=(",", ":"))} if unsure else {}
    with blobs.adding() as blob:
        write_seg_nrrd((labelmap,), blob.path, {**doubts, **(words or {})})
    return StoredLayer(blob.sha256, labelmap.geometry, labelmap.segments)


def read_layer(blobs: Blobs, layer: StoredLayer) -> Labelmap:
    """Return a stored layer; raises StorageFailed where its blob is gone or damaged."""
    voxels: LabelVoxels = np.empty(layer.geometry.shape, labelmap_dtype(layer.segments))
    fill_from_layer(blobs, layer, voxels)
    return Labelmap(voxels, layer.geometry, layer.segments)


def unsure_of(blobs: Blobs, layer: StoredLayer) -> tuple[float, ...]:
    """Return for each slice how unsure the model was that drew a layer; empty where that is not known."""
    text = read_word(blobs.path(layer.blob), _UNSURE)
    found = tuple(float(each) for each in json.loads(text)) if text else ()
    return found if len(found) == layer.geometry.shape[0] else ()


def fill_from_layer(blobs: Blobs, layer: StoredLayer, voxels: LabelVoxels) -> None:
    """Write a stored layer into `voxels` (k, j, i) of its shape, plane by plane."""
    if voxels.shape != layer.geometry.shape:
        raise StorageFailed(f"a stored labelmap has the shape {layer.geometry.shape}, not {voxels.shape}")
    read_layer_into(blobs.path(layer.blob), voxels)
