"""What a stored label holds, from the headers of its layers: no voxel is read."""

from annotate_server.domain.annotation import Label
from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.store_ports import Blobs
from annotate_server.domain.stored import StoredLayer
from annotate_server.imaging.layer_file import read_word


def held_segments(blobs: Blobs, label: Label) -> tuple[Segment, ...]:
    """Return the segments of a label that have a voxel; raises StorageFailed where a layer is gone."""
    return tuple(segment for layer in label.layers for segment in held_in(blobs, layer))


def listed_segments(label: Label) -> tuple[Segment, ...]:
    """Return the segments that a label speaks about, whether they have a voxel or not."""
    return tuple(segment for layer in label.layers for segment in layer.segments)


def held_in(blobs: Blobs, layer: StoredLayer) -> tuple[Segment, ...]:
    """Return the segments of a layer whose extent is not empty: an empty one ends before 0.

    Raises StorageFailed where the layer is gone.
    """
    path = blobs.path(layer.blob)
    try:
        extents = [read_word(path, f"Segment{number}_Extent") for number in range(len(layer.segments))]
    except OSError as error:
        raise StorageFailed("a stored label cannot be read", source=layer.blob) from error
    pairs = zip(layer.segments, extents, strict=True)
    return tuple(segment for segment, extent in pairs if extent and int(extent.split()[1]) >= 0)
