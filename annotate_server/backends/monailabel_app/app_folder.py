"""The folder of an app: what of it is taken along, its digest, and how a version of it is laid out again."""

import hashlib
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from annotate_server.backends.monai_bundle.files import brings_code, looks_like_bundle
from annotate_server.domain.errors import InvalidApp, WeightsInvalid
from annotate_server.domain.ports import Control
from annotate_server.imaging.unpack import UnpackLimits, unpack_tree

MAIN = "main.py"
_LEFT_OUT = frozenset({"__pycache__", ".git", "logs", "bin", ".venv", "venv"})
"""Folders that MONAI Label or Python write beside an app, or that hold another system's programs."""
_STEP = 1 << 20
_LIMITS = UnpackLimits(ratio=2000)
"""The archive is one that `packed` made: voxels of zeros may lie in it, which shrink to a thousandth."""


def is_app(source: Path) -> bool:
    """Say whether a folder is laid out as an app of MONAI Label is: a main.py that speaks of it, and `lib`."""
    main = source / MAIN
    if not main.is_file() or main.stat().st_size > _STEP:
        return False
    text = main.read_text(errors="replace")
    return "monailabel" in text and "MONAILabelApp" in text


def can_be_hosted(source: Path) -> bool:
    """Say whether a folder is an app of MONAI Label, or a MONAI bundle that predicts by code of its own."""
    return is_app(source) or (source.is_dir() and looks_like_bundle(source) and brings_code(source))


def taken_in(source: Path, target: Path, control: Control) -> str:
    """Copy an app, or a bundle with a `main.py` of ours beside it, into `target`; return what `copied` returns."""
    if is_app(source):
        return copied(source, target, control)
    digest = copied(source, target / "bundle" / source.resolve().name, control)
    shutil.copyfile(Path(__file__).with_name("bundle_main.py"), target / MAIN)
    return digest


def files_of(folder: Path) -> Mapping[str, Path]:
    """Return the files of an app by their place in it, sorted; raises InvalidApp for links, which may lead anywhere."""
    return dict(sorted(_found(folder, PurePosixPath())))


def _found(folder: Path, place: PurePosixPath) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        if path.is_symlink():
            raise InvalidApp(f"{place / path.name} is a link", remedy="Copy what it leads to into the app's folder.")
        if path.is_dir() and path.name not in _LEFT_OUT:
            yield from _found(path, place / path.name)
        elif path.is_file() and path.suffix != ".pyc":
            yield str(place / path.name), path


def copied(folder: Path, target: Path, control: Control) -> str:
    """Copy an app's files into `target`, and return the SHA-256 (hex) of what was copied.

    It is that of the lines `SHA-256 of the file, two blanks, its place`, sorted by place, as `sha256sum` prints them.
    """
    tree = hashlib.sha256()
    for place, path in files_of(folder).items():
        control.check()
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        state = hashlib.sha256()
        with path.open("rb") as source, (target / place).open("wb") as sink:
            while part := source.read(_STEP):
                state.update(part)
                sink.write(part)
        tree.update(f"{state.hexdigest()}  {place}\n".encode())
    return tree.hexdigest()


def packed(folder: Path, places: Collection[str], archive: Path) -> Path:
    """Pack the files of an app that are named by their places; the same files make the same archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as sink:
        for place in sorted(places):
            entry = zipfile.ZipInfo(place)  # its date is 1980: no time of writing is kept
            entry.compress_type = zipfile.ZIP_DEFLATED
            with (folder / place).open("rb") as source, sink.open(entry, "w", force_zip64=True) as member:
                shutil.copyfileobj(source, member, _STEP)
    return archive


def laid_out(archive: Path, weights: Mapping[str, Path], folder: Path) -> None:
    """Lay an app out in the empty `folder`: what the archive holds, and files of weights at their places.

    Raises WeightsInvalid for a place that leads elsewhere, and what `unpack_tree` raises for a damaged archive.
    """
    unpack_tree(archive, folder, _LIMITS)
    for place, path in weights.items():
        shutil.copyfile(path, _target(folder, place))


def _target(folder: Path, place: str) -> Path:
    pure = PurePosixPath(place)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise WeightsInvalid(f"{place!r} leads out of the app's folder")
    target = folder / pure
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
