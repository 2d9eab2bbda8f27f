"""What prompts alone have led to: kept, so that a list of prompts need not be gone through again."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.grid import bounds
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.prompt import Prompt


@dataclass(frozen=True)
class Key:
    """The question: a volume by digest, the other segments by fingerprint, and the prompts, oldest first."""

    volume: str
    others: int
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Packed:
    """A segment, one bit a voxel of the smallest box that holds it."""

    shape: Shape
    box: Box | None
    bits: bytes

    @classmethod
    def of(cls, segment: NDArray[np.bool_]) -> "Packed":
        """Pack the voxels (k, j, i) of a whole volume."""
        k, j, i = segment.shape
        box = bounds(segment)
        bits = np.packbits(segment[box.slices]).tobytes() if box else b""
        return cls((k, j, i), box, bits)

    def put_into(self, segment: NDArray[np.bool_]) -> None:
        """Set the voxels in an array (k, j, i) of the whole volume that holds nothing yet."""
        if self.box:
            count = int(np.prod(self.box.shape))
            bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=count)
            segment[self.box.slices] = bits.reshape(self.box.shape).astype(np.bool_)

    def unpacked(self) -> NDArray[np.bool_]:
        """Return the voxels (k, j, i) of the whole volume."""
        segment = np.zeros(self.shape, np.bool_)
        self.put_into(segment)
        return segment


class Memory:
    """The last answers, oldest forgotten first."""

    def __init__(self, most: int) -> None:
        """Keep at most so many answers."""
        self._most = most
        self._answers: OrderedDict[Key, Packed] = OrderedDict()

    def recall(self, key: Key) -> Packed | None:
        """Return the answer to a question, if it is still known."""
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def keep(self, key: Key, answer: Packed) -> None:
        """Remember an answer."""
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()
