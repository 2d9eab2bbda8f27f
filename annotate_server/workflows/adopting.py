"""Adopt: what other software wrote becomes apps of this workspace."""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from annotate_server.domain.adoption import AdoptedApp, Adopting, AdoptionOrder
from annotate_server.domain.errors import (
    BackendUnavailable,
    InvalidRequest,
    StateError,
    UnreadableFile,
    UnsupportedInput,
)
from annotate_server.domain.model import App
from annotate_server.domain.ports import Backend, Control
from annotate_server.imaging.unpack import ZIP_MAGIC, UnpackLimits, unpack_tree

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LIMITS = UnpackLimits(members=10_000, total_bytes=32 << 30)
_MOST_LOOKED_AT = 200
_DEEPEST = 4
_VOLUMES = (".nii", ".nii.gz", ".dcm", ".nrrd", ".mha", ".mhd")


class Backends(Protocol):
    """The backends of an installation."""

    def names(self) -> tuple[str, ...]:
        """Return the name of every backend, importable or not."""
        ...

    def get(self, name: str) -> Backend:
        """Return a backend; raises BackendUnavailable."""
        ...


class AppShelf(Protocol):
    """Where apps are put that were made here."""

    def keep(self, app: AdoptedApp) -> App:
        """Store an app whole or not at all, and return it as it is read back."""
        ...


@dataclass(frozen=True)
class AdoptionTools:
    """What adopting works with: `taken` returns the names that models have, `scratch` has room for weights."""

    backends: Backends
    shelf: AppShelf
    taken: Callable[[], Iterable[str]]
    scratch: Path


def adopt(order: AdoptionOrder, backend: str | None, tools: AdoptionTools, control: Control) -> tuple[App, ...]:
    """Make apps of a source, by the backend that recognises it or by the one that is named; all of them or none.

    Raises UnreadableFile where there is nothing, UnsupportedInput where no backend takes it, StateError for a name that
    is taken, InvalidRequest for one that cannot be one, and what the backend raises about the source.
    """
    if not order.source.exists():
        raise UnreadableFile("there is no such file or folder", source=str(order.source))
    if order.name is not None:
        _check_names([order.name], tools.taken())
    with _scratch(tools.scratch) as scratch:
        control.report(0.0, "Looking at what it is")
        order, chosen = _chosen(order, backend, tools.backends, scratch)
        work = scratch / "converted"
        work.mkdir()
        found = chosen.adopted(order, work, control)
        _check_names([app.name for app in found], tools.taken())
        control.check()
        control.report(0.95, "Storing it")
        return tuple(tools.shelf.keep(app) for app in found)


def _chosen(
    order: AdoptionOrder, backend: str | None, backends: Backends, scratch: Path
) -> tuple[AdoptionOrder, Adopting]:
    """Return the backend that takes a source over, and the order with the place where that found it.

    An archive that no backend knows as it is is unpacked, and looked at again.
    """
    able, unavailable = _able(backend, backends)
    if found := _recognising(order.source, able):
        return order, found
    if _is_zip(order.source):
        unpacked = scratch / order.source.stem
        unpacked.mkdir()
        unpack_tree(order.source, unpacked, _LIMITS)
        for folder in _only_folders(unpacked):
            if found := _recognising(folder, able):
                return replace(order, source=folder), found
    raise _not_taken(order.source, able, unavailable)


def _able(backend: str | None, backends: Backends) -> tuple[dict[str, Adopting], list[str]]:
    """Return the backends that take models over, by name, and the names of those that cannot be imported."""
    able: dict[str, Adopting] = {}
    unavailable = []
    for name in backends.names() if backend is None else (backend,):
        try:
            found = backends.get(name)
        except BackendUnavailable:
            if backend is not None:
                raise
            unavailable.append(name)
            continue
        if isinstance(found, Adopting):
            able[name] = found
    if backend is not None and not able:
        raise InvalidRequest(f"the backend {backend} takes nothing over that other software wrote")
    return able, unavailable


def _recognising(source: Path, able: dict[str, Adopting]) -> Adopting | None:
    names = [name for name, backend in able.items() if backend.recognises(source)]
    if len(names) > 1:
        raise InvalidRequest(
            f"several backends take it over: {', '.join(names)}", source=source.name, remedy="Name one with --backend."
        )
    return able[names[0]] if names else None


def _not_taken(source: Path, able: dict[str, Adopting], unavailable: list[str]) -> UnsupportedInput:
    """Return the refusal of what no backend recognises, with what could be done instead."""
    if _holds_volumes(source):
        return UnsupportedInput(
            "these are volumes, not a model", source=str(source), remedy="Annotate them: annotate serve --studies."
        )
    below = [path for path in _folders_below(source) if any(each.recognises(path) for each in able.values())]
    if below:
        return UnsupportedInput(
            "it is not a model itself", source=str(source), remedy=f"Name one of: {', '.join(map(str, below[:5]))}."
        )
    also = f" Not asked, because they cannot be imported: {', '.join(unavailable)}." if unavailable else ""
    return UnsupportedInput(
        "it is nothing that a backend here takes over",
        source=str(source),
        remedy=f"Those that take over what other software wrote: {', '.join(able) or 'none'}.{also} "
        "See docs/own-environments.md for what they take.",
    )


def _check_names(names: list[str], taken: Iterable[str]) -> None:
    known = set(taken)
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} is no name of a model", remedy="Choose one with --name: a-z, 0-9 and _, a letter first."
            )
        if name in known:
            raise StateError(f"there is a model {name} already", remedy="Choose another name with --name.")
        known.add(name)


def _is_zip(source: Path) -> bool:
    if not source.is_file():
        return False
    with source.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def _only_folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and, as long as there is nothing beside it, the one in it."""
    for _ in range(_DEEPEST):
        yield folder
        inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        if len(inside) != 1 or not inside[0].is_dir():
            return
        folder = inside[0]


def _folders_below(source: Path) -> list[Path]:
    """Return some of the folders up to two levels below a folder."""
    if not source.is_dir():
        return []
    found = sorted(path for pattern in ("*", "*/*") for path in source.glob(pattern) if path.is_dir())
    return found[:_MOST_LOOKED_AT]


def _holds_volumes(source: Path) -> bool:
    """Say whether the first files of a source are volumes by their names."""
    if source.is_file():
        return source.name.lower().endswith(_VOLUMES)
    first = [path for _, path in zip(range(_MOST_LOOKED_AT), source.iterdir(), strict=False) if path.is_file()]
    return (
        bool(first)
        and all(path.name.lower().endswith((*_VOLUMES, ".json", ".bval", ".bvec")) for path in first)
        and (any(path.name.lower().endswith(_VOLUMES) for path in first))
    )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as made:
        yield Path(made)
