"""Walking through a folder: every file that may be a volume, in a stable order, and nothing outside."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate_server.domain.errors import UnreadableFile

_FOREIGN_SUFFIXES = frozenset(
    {
        *(".txt", ".json", ".jsonl", ".tsv", ".csv", ".md", ".rst", ".html", ".htm", ".xml", ".xsl", ".css", ".js"),
        *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".rtf", ".odt", ".ods", ".log", ".lnk"),
        *(".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".svg", ".ico", ".webp", ".icc", ".mp4", ".avi"),
        *(".mov", ".mpg", ".wav", ".mp3", ".py", ".ipynb", ".m", ".r", ".c", ".cpp", ".h", ".java", ".sh", ".bat"),
        *(".exe", ".dll", ".so", ".jar", ".app", ".ini", ".inf", ".cfg", ".conf", ".toml", ".yml", ".yaml", ".bak"),
        *(".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst", ".npy", ".npz", ".mat", ".h5", ".hdf5"),
        *(".pkl", ".parquet", ".sqlite", ".db", ".raw", ".zraw", ".bval", ".bvec", ".stl", ".vtk", ".vtp", ".ply"),
        *(".obj", ".mrml", ".mrb", ".tfm", ".xfm", ".lta", ".pt", ".pth", ".onnx", ".safetensors", ".ckpt"),
    }
)
"""Names of what is certainly no volume; anything else is looked into."""

_FOREIGN_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


@dataclass(frozen=True, slots=True)
class Signature:
    """What changes when a file does."""

    size_bytes: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below the root; `name` is its path relative to the root, with slashes."""

    name: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class ClosedFolder:
    """A folder that cannot be looked into, and why."""

    name: str
    reason: str


def walk(root: Path) -> Iterator[FoundFile | ClosedFolder]:
    """Yield the files below a folder (or the one file that `root` is), in a stable order.

    Hidden ones and those that are obviously foreign are left out. A symbolic link is followed where it leads to
    something below the root that was not seen yet, so that no file comes twice and no circle is walked. Raises
    UnreadableFile where there is nothing at `root`.
    """
    try:
        if root.is_dir():
            yield from _Walk(os.fspath(root.resolve())).everything()
            return
        yield FoundFile(root.name, _signature(root.stat()))
    except OSError as error:
        raise UnreadableFile(f"it cannot be opened ({error.strerror})", source=str(root)) from error


class _Walk:
    """One walk, and what it has seen."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders: set[tuple[int, int]] = set()
        self._files: set[tuple[int, int]] = set()
        self._links: list[tuple[os.DirEntry[str], str]] = []

    def everything(self) -> Iterator[FoundFile | ClosedFolder]:
        """Yield all that is below the root, links last: what they lead to has its own name by then, if it has one."""
        yield from self._below("")
        while self._links:
            entry, name = self._links.pop(0)
            if self._stays_inside(entry):
                yield from self._entry(entry, name)

    def _below(self, folder: str) -> Iterator[FoundFile | ClosedFolder]:
        """Yield what is in a folder (relative to the root) and below it, and put links aside."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as listing:  # noqa: PTH118  a million times: no Path
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield ClosedFolder(folder, error.strerror or "unknown reason")
            return
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                self._links.append((entry, name))
            else:
                yield from self._entry(entry, name)

    def _entry(self, entry: os.DirEntry[str], name: str) -> Iterator[FoundFile | ClosedFolder]:
        try:
            if entry.is_dir():
                yield from self._folder(entry, name)
            elif entry.is_file() and not _is_foreign(entry.name):
                yield from self._file(entry, name)
        except OSError as error:
            yield ClosedFolder(name, error.strerror or "unknown reason")

    def _folder(self, entry: os.DirEntry[str], name: str) -> Iterator[FoundFile | ClosedFolder]:
        status = entry.stat()
        if entry.name not in _FOREIGN_FOLDERS and _is_new(self._folders, status):
            yield from self._below(name)

    def _file(self, entry: os.DirEntry[str], name: str) -> Iterator[FoundFile]:
        status = entry.stat()
        is_new = _is_new(self._files, status)
        # Two names of one file are two files; a link to a file that was seen is not.
        if is_new or not entry.is_symlink():
            yield FoundFile(name, _signature(status))

    def _stays_inside(self, entry: os.DirEntry[str]) -> bool:
        """Say whether a link leads to something below the root."""
        return os.path.realpath(entry.path).startswith(self._root.rstrip("/") + "/")


def _is_new(seen: set[tuple[int, int]], status: os.stat_result) -> bool:
    """Say whether a file or folder is seen for the first time, and remember it."""
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _is_foreign(name: str) -> bool:
    lower = name.lower()
    if lower.endswith((".nii.gz", ".hdr", ".img", ".img.gz", ".hdr.gz")):
        return False
    return os.path.splitext(lower)[1] in _FOREIGN_SUFFIXES  # noqa: PTH122


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_size, status.st_mtime_ns, status.st_ino)
