"""Zip archives out of untrusted hands: the only place that unpacks one.

Links and sizes that an archive states are never believed: every member is written as a plain file, and the bytes are
counted as they come. Names are ours, or checked part by part where they mean something.
"""

import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from annotate_server.domain.errors import NoSpace, StorageFailed, TooLarge, UnreadableFile, UnsupportedInput

ZIP_MAGIC = b"PK\x03\x04"
_STEP = 1 << 20
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_BYTES = 20
_DEEPEST = 16
_LONGEST_NAME = 200
_BYTES_A_MEMBER = 4096
"""What the directory of an archive may hold a member: names of up to 64 kB are allowed by the format, not here."""


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may hold: members, bytes altogether, and how many times its own size it may grow to."""

    members: int = 10_000
    total_bytes: int = 8 << 30
    ratio: int = 100


def unpack(archive: Path, target: Path, limits: UnpackLimits) -> tuple[Path, ...]:
    """Write the regular files of a zip into the empty folder `target`, as 00000, 00001 …, and return them.

    Raises UnreadableFile for a damaged archive, UnsupportedInput for links, paths that lead out of it, encryption and
    other methods than store and deflate, TooLarge beyond a limit, NoSpace. What was written before stays: the caller
    removes the folder.
    """
    return _unpacked(archive, limits, lambda number, _: target / f"{number:05}")


def unpack_tree(archive: Path, target: Path, limits: UnpackLimits) -> tuple[Path, ...]:
    """Write the regular files of a zip into the empty folder `target` under the names that they have in it.

    For what is told by its names, such as a model. Raises what `unpack` raises, and UnsupportedInput for names that no
    file here may have and for two members of one name.
    """
    return _unpacked(archive, limits, lambda number, member: _place(target, number, member))


def _unpacked(archive: Path, limits: UnpackLimits, place: Callable[[int, zipfile.ZipInfo], Path]) -> tuple[Path, ...]:
    try:
        with archive.open("rb") as stream:
            _check_directory(stream, archive.stat().st_size, limits)
        with zipfile.ZipFile(archive) as opened:
            members = [_checked(member, number) for number, member in enumerate(opened.infolist())]
            files = [member for member in members if not member.is_dir()]
            budget = min(limits.total_bytes, limits.ratio * archive.stat().st_size)
            if sum(member.file_size for member in files) > budget:
                raise _grows()
            return _written(opened, [(member, place(n, member)) for n, member in enumerate(files)], budget)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError) as error:
        raise UnreadableFile("the zip archive is damaged", remedy="Pack it again.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace("there is no space to unpack the archive") from error
        raise StorageFailed(f"the archive could not be unpacked ({error.strerror or error})") from error


def _place(target: Path, number: int, member: zipfile.ZipInfo) -> Path:
    """Return where a member goes by its own name, in a folder that is made for it."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if len(parts) > _DEEPEST or any(not part.isprintable() or len(part.encode()) > _LONGEST_NAME for part in parts):
        raise UnsupportedInput(f"member {number + 1} of the zip archive has a name that is not used here")
    path = target.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError) as error:
        raise UnsupportedInput(f"member {number + 1} of the zip archive has the name of another") from error
    return path


def _check_directory(stream: BinaryIO, size: int, limits: UnpackLimits) -> None:
    """Refuse a directory of too many members before anything reads it whole."""
    start = max(0, size - 65_557)
    stream.seek(start)
    tail = stream.read(65_557)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise UnreadableFile("the zip archive is cut off", remedy="Pack it again.")
    _, _, _, _, count, directory_bytes, _, _ = _END.unpack_from(tail, at)
    if at >= _LOCATOR_BYTES and tail[at - _LOCATOR_BYTES :].startswith(b"PK\x06\x07"):
        begin = at - _LOCATOR_BYTES - _END64.size
        if begin < 0 or not tail[begin:].startswith(b"PK\x06\x06"):
            raise UnsupportedInput("the zip archive has a directory that is not read here", remedy="Pack it again.")
        *_, count64, directory64, _ = _END64.unpack_from(tail, begin)
        count, directory_bytes = max(count if count != 0xFFFF else 0, count64), directory64
    if count > limits.members or directory_bytes > limits.members * _BYTES_A_MEMBER:
        raise TooLarge(f"the zip archive holds more than {limits.members} files")


def _checked(member: zipfile.ZipInfo, number: int) -> zipfile.ZipInfo:
    """Refuse a member that is no plain file; it is named by its number: names may hold a patient's."""
    mode = member.external_attr >> 16
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    defect = None
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        defect = "a link or device"
    elif ".." in parts or member.filename.startswith(("/", "\\")) or member.filename[1:2] == ":":
        defect = "a path that leads out of it"
    elif member.flag_bits & 0x1:
        defect = "encrypted"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        defect = "packed by a method that is not read here"
    if defect:
        raise UnsupportedInput(f"member {number + 1} of the zip archive is {defect}", remedy="Pack plain files.")
    return member


def _written(opened: zipfile.ZipFile, files: Iterable[tuple[zipfile.ZipInfo, Path]], budget: int) -> tuple[Path, ...]:
    written = []
    for member, path in files:
        with opened.open(member) as source, path.open("wb") as sink:
            while part := source.read(_STEP):
                budget -= len(part)
                if budget < 0:
                    raise _grows()
                sink.write(part)
        written.append(path)
    return tuple(written)


def _grows() -> TooLarge:
    return TooLarge("the zip archive unpacks to more than is allowed", remedy="Upload fewer series at once.")
