"""Apps that were made here out of what other software wrote: `<workspace>/apps/<name>/`, there whole or not at all."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from annotate_server.domain.adoption import AdoptedApp
from annotate_server.domain.errors import InvalidApp, StateError
from annotate_server.domain.model import App
from annotate_server.imaging.whole_file import PART_PREFIX, make_folder, refused_by_disk, sync_folder
from annotate_server.stores.folder_apps import read_app

_DESCRIPTION = "app.toml"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class AdoptedApps:
    """Fulfils `workflows.adopting.AppShelf`: `folder` holds the apps, `partial` what is not finished."""

    folder: Path
    partial: Path

    def keep(self, app: AdoptedApp) -> App:
        """Store an app with its files and return it as it is read back.

        Raises InvalidApp where the description is not valid, StateError for a name that is taken, NoSpace,
        StorageFailed.
        """
        target = self.folder / app.name
        with refused_by_disk(target):
            make_folder(self.folder)
            make_folder(self.partial)
            with self._part() as part:
                made = part / app.name
                made.mkdir()
                weights = [_copied(source, made / _plain(name)) for name, source in sorted(app.files.items())]
                _write(made / _DESCRIPTION, _description(app, weights))
                sync_folder(made)
                _check(read_app(made))
                _rename(made, target)
        return read_app(target)

    @contextmanager
    def _part(self) -> Iterator[Path]:
        part = Path(tempfile.mkdtemp(prefix=PART_PREFIX, dir=self.partial))
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _plain(name: str) -> str:
    """Return the name of a file beside the description, which nothing else may have."""
    if Path(name).name != name or name.startswith(".") or name == _DESCRIPTION:
        raise InvalidApp(f"{name!r} is no name of a file of weights")
    return name


def _description(app: AdoptedApp, weights: list[dict[str, object]]) -> bytes:
    """Return the text of `app.toml`."""
    if "weights" in app.table:
        raise InvalidApp("its description names weights already", source=app.name)
    try:
        return tomli_w.dumps({**app.table, "weights": weights} if weights else dict(app.table)).encode()
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidApp(f"its description holds what TOML does not have ({error})", source=app.name) from error


def _copied(source: Path, target: Path) -> dict[str, object]:
    """Copy a file onto the disk and return how the description names it."""
    state = hashlib.sha256()
    with source.open("rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            state.update(chunk)
            writing.write(chunk)
        _settle(writing.fileno())
    size = target.stat().st_size
    return {"name": target.name, "sha256": state.hexdigest(), "size_bytes": size, "bundled": True}


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        _settle(file.fileno())


def _settle(descriptor: int) -> None:
    os.fsync(descriptor)
    os.fchmod(descriptor, 0o644)


def _check(app: App) -> None:
    """Compare every file with what the description says of it."""
    for weight in app.weights:
        path = app.folder / weight.name
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != weight.sha256:
                raise InvalidApp(f"{weight.name} was changed while it was copied", source=app.name, remedy="Try again.")


def _rename(made: Path, target: Path) -> None:
    """Give a finished app its place; a folder that is there, and not empty, stays."""
    if target.exists():
        raise StateError(f"there is an app {target.name} already", remedy="Choose another name with --name.")
    made.rename(target)
    sync_folder(target.parent)
