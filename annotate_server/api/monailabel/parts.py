"""Multipart bodies as they come: fields in memory, files into a folder under names of ours."""

import urllib.parse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from annotate_server.api.bodies import check_length, whole
from annotate_server.api.services import Limits, Services
from annotate_server.api.uploads import check_space, part_folder, poured
from annotate_server.domain.errors import InvalidRequest, TooLarge

_MOST_FIELDS, _MOST_FILES, _MOST_HEADER = 50, 20, 4096
_MOST_FIELD_BYTES = 1 << 20


@dataclass
class Form:
    """What a body brought: fields by name, and files by the name of their field, in folders of their own."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)


@asynccontextmanager
async def received_form(request: Request, services: Services, most_files: int = _MOST_FILES) -> AsyncIterator[Form]:
    """Give the form in a body; its files are gone after the block, unless their folder was renamed."""
    limits: Limits = request.app.state.options.limits
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        yield _plain(kind, await whole(request, limits.json_bytes, limits))
        return
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise InvalidRequest("the multipart body names no boundary")
    declared = request.headers.get("content-length")
    check_length(declared, limits.upload_bytes)
    check_space(services.uploads, int(declared or 0))
    async with part_folder(services.uploads) as folder:
        parts = _Parts(folder, most_files)
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # a TypedDict of these names
        try:
            await poured(request, parser.write, limits)
            parser.finalize()
        except MultipartParseError as error:
            raise InvalidRequest("the multipart body is not valid") from error
        finally:
            parts.close()
        if not parts.is_complete:
            raise InvalidRequest("the multipart body ends early")
        yield parts.form


def _plain(kind: bytes, content: bytes) -> Form:
    """Return the fields of a body that is no multipart: what some clients send where they have no file."""
    text = content.decode("utf-8", "replace")
    if kind == b"application/x-www-form-urlencoded":
        return Form(dict(urllib.parse.parse_qsl(text, max_num_fields=_MOST_FIELDS)))
    return Form({"params": text} if text.strip() else {})


@dataclass
class _Parts:
    """Takes the parts of a body in; called by the parser, in a thread."""

    folder: Path
    most_files: int
    form: Form = field(default_factory=Form)
    is_complete: bool = False
    _header: list[bytearray] = field(default_factory=lambda: [bytearray(), bytearray()])
    _disposition: bytes = b""
    _name: str = ""
    _text: bytearray | None = None
    _file: BinaryIO | None = None

    def callbacks(self) -> Mapping[str, object]:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._take(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._take(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": lambda data, start, end: self._put(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._header, self._name, self._text = [bytearray(), bytearray()], "", None
        self._disposition = b""

    def _take(self, which: int, content: bytes) -> None:
        self._header[which] += content
        if len(self._header[which]) > _MOST_HEADER:
            raise InvalidRequest("a header of a part is too long")

    def _end_header(self) -> None:
        name, value = (bytes(each) for each in self._header)
        if name.strip().lower() == b"content-disposition":
            self._disposition = value
        self._header = [bytearray(), bytearray()]

    def _open(self) -> None:
        """Begin a field or a file; a client's file name says nothing here: files are known by their content."""
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")[:100]
        count = sum(map(len, self.form.files.values()))
        if count >= self.most_files or len(self.form.fields) >= _MOST_FIELDS:
            raise InvalidRequest("the body has too many parts")
        if b"filename" not in options:
            self._text = bytearray()
            return
        folder = self.folder / f".part-{count}"
        folder.mkdir()
        self.form.files.setdefault(self._name, []).append(folder / "body")
        self._file = (folder / "body").open("xb")

    def _put(self, content: bytes) -> None:
        if self._file is not None:
            self._file.write(content)
        elif self._text is not None:
            self._text += content
            if len(self._text) > _MOST_FIELD_BYTES:
                raise TooLarge(f"a field is larger than the limit of {_MOST_FIELD_BYTES} bytes")

    def _end(self) -> None:
        self.close()
        if self._text is not None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
            self._text = None

    def _complete(self) -> None:
        self.is_complete = True
