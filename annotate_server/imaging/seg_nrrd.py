"""`.seg.nrrd` in: 3D Slicer's segmentations, with names, colours, codes and overlapping layers.

After the Slicer developer guide, "Segmentation labelmap file format (.seg.nrrd)".
"""

import re
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from annotate_server.domain.errors import InvalidLabelmap
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, Colour, LabelVoxels, Segment
from annotate_server.imaging.grid_file import GridFile, numbers_of
from annotate_server.imaging.label_grid import FoundLabels, label_voxels, with_unnamed
from annotate_server.imaging.segment_words import concepts_of
from annotate_server.imaging.unnamed_segments import distinct_colour, unused_name

MAX_SEGMENTS = 65535


def is_segmentation(grid: GridFile) -> bool:
    """Say whether an NRRD header is that of a segmentation."""
    return any(key.startswith(("Segmentation_", "Segment0_")) for key in grid.words)


def read_seg_nrrd(grid: GridFile) -> FoundLabels:
    """Return the layers of a segmentation on its own grid, which may be a part of the volume's.

    A file of one voxel holds no segment by the format's rule. Raises InvalidLabelmap or UnreadableFile.
    """
    source = grid.words.get("Segmentation_SourceRepresentation", grid.words.get("Segmentation_MasterRepresentation"))
    if source is not None and source != "Binary labelmap":
        raise InvalidLabelmap(
            f"it stores its segments as `{source[:40]}`", remedy="Save it from Slicer as a binary labelmap."
        )
    numbers = label_voxels(numbers_of(grid, may_be_empty=True))
    stacked = numbers.reshape((*grid.shape, grid.layers))
    layers = tuple(cast("LabelVoxels", np.ascontiguousarray(stacked[..., n])) for n in range(grid.layers))
    segments = _segments(grid.words, len(layers))
    complete = tuple(with_unnamed(*pair) for pair in zip(layers, segments, strict=True))
    return FoundLabels(Geometry.from_affine(grid.affine, grid.shape), layers, complete, is_block=True)


def _segments(words: Mapping[str, str], layers: int) -> tuple[tuple[Segment, ...], ...]:
    """Return the named segments of each layer."""
    found: list[list[Segment]] = [[] for _ in range(layers)]
    for number in range(MAX_SEGMENTS):
        prefix = f"Segment{number}_"
        if f"{prefix}ID" not in words and f"{prefix}Name" not in words:
            break
        # Before Slicer 4.11 each segment had a layer of its own, with the value 1.
        is_old = f"{prefix}LabelValue" not in words
        layer = number if is_old else _number(words, f"{prefix}Layer")
        if not 0 <= layer < layers:
            raise InvalidLabelmap(f"its segment {number} lies in layer {layer} of {layers}")
        value = 1 if is_old else _number(words, f"{prefix}LabelValue")
        found[layer].append(_segment(words, prefix, value, [segment.name for segment in found[layer]]))
    return tuple(tuple(segments) for segments in found)


def _segment(words: Mapping[str, str], prefix: str, index: int, used: Sequence[str]) -> Segment:
    """Return one segment of a header."""
    name = words.get(f"{prefix}Name", "").strip() or words.get(f"{prefix}ID", "").strip() or f"Segment {index}"
    tags = dict(re.findall(r"([^|:]+):([^|]*)", words.get(f"{prefix}Tags", "")))
    category, kind, side = concepts_of(tags.get("TerminologyEntry", ""))
    return Segment(
        index=index,
        name=unused_name(name, used),
        colour=_colour(words.get(f"{prefix}Color", ""), index),
        kind=kind,
        category=category or ANATOMICAL_STRUCTURE,
        laterality=side,
    )


def _colour(text: str, index: int) -> Colour:
    """Return a colour that is written as three numbers from 0 to 1, a distinct one where it is not."""
    try:
        r, g, b = (round(255 * min(1.0, max(0.0, float(part)))) for part in text.split())
    except ValueError:
        return distinct_colour(index)
    return r, g, b


def _number(words: Mapping[str, str], key: str) -> int:
    """Return a whole number of the header."""
    text = words.get(key, "0").strip()
    if not text.isdecimal() or len(text) > 9:
        raise InvalidLabelmap(f"its header has no number in `{key}`")
    return int(text)
