"""DICOM files that come as parts of one body (`multipart/related`, PS3.18 8.6.1.2), each written while it comes."""

import os
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from annotate_server.domain.errors import TooLarge, UnreadableFile

DICOM, RELATED = "application/dicom", "multipart/related"
MOST_PARTS = 20_000


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """Return a media type and its parameters, names in lower case."""
    message = Message()
    message["content-type"] = value.replace("\n", " ").replace("\r", " ")
    pairs = message.get_params(failobj=[], unquote=True)
    kind = pairs[0][0].strip().lower() if pairs else ""
    return kind, {name.lower(): str(word).strip() for name, word in pairs[1:]}


class PartFiles:
    """Writes each part into a file of its own in a folder; names are ours. `refused` counts parts of other types."""

    def __init__(self, folder: Path, boundary: str, *, is_synced: bool = False) -> None:
        """Expect parts between these boundaries."""
        self.files: list[Path] = []
        self.refused = 0
        self._folder = folder
        self._is_synced = is_synced
        self._sink: BinaryIO | None = None
        self._header = bytearray()
        self._kind = bytearray()
        self._is_ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_begin": self._header.clear,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": self._value,
                "on_headers_finished": self._open,
                "on_part_data": self._write,
                "on_part_end": self.close,
                "on_end": self._end,
            },
        )

    def write(self, content: bytes) -> None:
        """Take the next bytes of the body; raises UnreadableFile for what is not in parts, TooLarge for too many."""
        try:
            self._parser.write(content)
        except FormParserError as error:
            self.close()
            raise UnreadableFile("the body is not in parts as its Content-Type says") from error

    def finish(self) -> None:
        """Raise UnreadableFile for a body that ended before its last part did."""
        self.close()
        if not self._is_ended:
            raise UnreadableFile("the body ended before its last part did")

    def close(self) -> None:
        """Close the file that is being written, if there is one."""
        if self._sink is not None:
            self._sink.flush()
            if self._is_synced:
                os.fsync(self._sink.fileno())
            self._sink.close()
            self._sink = None

    def _begin(self) -> None:
        self._kind.clear()
        if len(self.files) + self.refused >= MOST_PARTS:
            raise TooLarge(f"the body has more than {MOST_PARTS} parts")

    def _value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-type":
            self._kind.extend(data[start:end])

    def _open(self) -> None:
        kind = parameters(self._kind.decode("latin-1"))[0] if self._kind else DICOM
        if kind != DICOM:
            self.refused += 1
            return
        path = self._folder / f"{len(self.files):06d}.dcm"
        self.files.append(path)
        self._sink = path.open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])

    def _end(self) -> None:
        self._is_ended = True
