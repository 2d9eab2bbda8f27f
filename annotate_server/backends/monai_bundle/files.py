"""The files of a bundle by their names in it, out of a folder or a zip archive."""

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from annotate_server.domain.errors import InvalidApp
from annotate_server.imaging.unpack import UnpackLimits, unpack_tree

METADATA = "configs/metadata.json"
INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_PARTS = ("", "configs", "docs", "models")
_LIMITS = UnpackLimits(members=2_000, total_bytes=8 << 30, ratio=200)
_LARGEST_TEXT_BYTES = 4 << 20
_OWN_CODE = re.compile(r"\bscripts\.\w")


@dataclass(frozen=True)
class BundleFiles:
    """Paths by their names in the bundle, for example `configs/metadata.json`."""

    label: str
    paths: Mapping[str, Path]

    @property
    def inference(self) -> str | None:
        """Return the name of the description of how it predicts; None where there is none."""
        return next((name for name in INFERENCE if name in self.paths), None)

    def text(self, name: str) -> str:
        """Return a text file of the bundle; InvalidApp where it is missing, too large or no text."""
        if name not in self.paths:
            raise InvalidApp(f"the bundle has no {name}", source=self.label, remedy="Give a complete MONAI bundle.")
        path = self.paths[name]
        if path.stat().st_size > _LARGEST_TEXT_BYTES:
            raise InvalidApp(f"{name} is larger than a description can be", source=self.label)
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidApp(f"{name} is no text", source=self.label) from error

    def first_line(self, name: str) -> str:
        """Return the first line of a file that says something; nothing where there is no such file."""
        if name not in self.paths:
            return ""
        with self.paths[name].open("rb") as stream:
            beginning = stream.read(4096).decode("utf-8", errors="replace")
        return next((" ".join(line.split()) for line in beginning.splitlines() if line.strip()), "")[:200]


def looks_like_bundle(source: Path) -> bool:
    """Say whether a folder or a zip archive has the layout of a bundle; only names are read."""
    if source.is_dir():
        return (source / METADATA).is_file() and any((source / name).is_file() for name in INFERENCE)
    try:
        with zipfile.ZipFile(source) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    roots = [name[: -len(METADATA)] for name in names if f"/{name}".endswith(f"/{METADATA}")]
    return any(f"{root}{name}" in names for root in roots for name in INFERENCE)


def brings_code(source: Path) -> bool:
    """Say whether a bundle's description of how it predicts names code of the bundle itself (`scripts.…`)."""
    return any(_OWN_CODE.search(text) is not None for text in _inferences(source))


def _inferences(source: Path) -> Iterator[str]:
    """Yield the beginning of each description of how a bundle predicts, out of a folder or a zip archive."""
    if source.is_dir():
        for name in INFERENCE:
            if (source / name).is_file():
                with (source / name).open("rb") as stream:
                    yield stream.read(_LARGEST_TEXT_BYTES).decode("utf-8", errors="replace")
        return
    try:
        with zipfile.ZipFile(source) as archive:
            ends = tuple(f"/{name}" for name in INFERENCE)
            for name in islice((name for name in archive.namelist() if f"/{name}".endswith(ends)), len(INFERENCE)):
                with archive.open(name) as stream:
                    yield stream.read(_LARGEST_TEXT_BYTES).decode("utf-8", errors="replace")
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError):
        return  # what cannot be unpacked is refused by who unpacks it


def opened(source: Path, scratch: Path) -> BundleFiles:
    """Return the files of a bundle; an archive is unpacked into a new folder of `scratch`.

    Raises what `unpack_tree` raises of an archive that cannot be trusted, InvalidApp for what holds no bundle.
    """
    root = source
    if not source.is_dir():
        folder = scratch / "unpacked"
        folder.mkdir(parents=True)
        unpack_tree(source, folder, _LIMITS)
        root = min(
            (path.parents[1] for path in folder.rglob(METADATA)), key=lambda each: len(each.parts), default=folder
        )
    if not (root / METADATA).is_file():
        raise InvalidApp(
            f"it has no {METADATA}", source=source.name, remedy="Give the folder or the zip archive of a MONAI bundle."
        )
    return BundleFiles(source.name, _files_of(root))


def _files_of(root: Path) -> dict[str, Path]:
    """Return the regular files that can matter; links are left out, as they may lead anywhere."""
    paths = (path for part in _PARTS for path in sorted((root / part).glob("*")))
    return {path.relative_to(root).as_posix(): path for path in paths if path.is_file() and not path.is_symlink()}
