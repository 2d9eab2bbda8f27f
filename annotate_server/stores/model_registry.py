"""The models of a workspace: apps, and which of their weights are installed."""

from collections.abc import Iterator
from pathlib import Path

from annotate_server.domain.errors import DownloadFailed, InvalidApp, WeightsInvalid, WeightsMissing
from annotate_server.domain.model import App, ModelVersion, WeightFile
from annotate_server.domain.ports import Control
from annotate_server.imaging.whole_file import digest_of
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.folder_apps import FolderApps

_MAX_FILES_LOOKED_AT = 20_000


class FolderModelRegistry:
    """Fulfils `ports.ModelRegistry` over folders of apps and a folder of blobs."""

    def __init__(self, apps: FolderApps, blobs: BlobFolder, partial: Path) -> None:
        """Read apps from `apps`, keep weights in `blobs`, unfinished downloads in `partial`."""
        self._apps = apps
        self._blobs = blobs
        self._partial = partial

    def names(self) -> tuple[str, ...]:
        """Return the name of every model, sorted."""
        return self._apps.names()

    def app(self, name: str) -> App:
        """Return a model's app; raises UnknownModel or InvalidApp."""
        return self._apps.get(name)

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Return the weights that are not installed."""
        return tuple(weight for weight in app.weights if self._installed(app, weight) is None)

    def champion(self, name: str) -> ModelVersion:
        """Return the version that serves; WeightsMissing says which command installs what it lacks."""
        app = self.app(name)
        if missing := self.missing(app):
            raise WeightsMissing(
                f"{len(missing)} of {len(app.weights)} files of weights are not installed "
                f"({', '.join(weight.name for weight in missing)})",
                source=name,
                remedy=f"Run `annotate models pull {name}`, or `annotate models import {name} --from PATH` "
                "with a file or folder that holds them.",
            )
        files = {weight.name: path for weight in app.weights if (path := self._installed(app, weight))}
        return ModelVersion(app, files)

    def import_from(self, name: str, path: Path) -> ModelVersion:
        """Install a model's weights from a file or from anywhere below a folder; they are found by digest, not name."""
        app = self.app(name)
        for weight in self.missing(app):
            found = next((file for file in _files(path) if _is(file, weight)), None)
            if found is None:
                raise WeightsInvalid(
                    f"no file there has the SHA-256 {weight.sha256[:12]}… of {weight.name}",
                    source=str(path),
                    remedy=f"The published file is at {weight.url}." if weight.url else None,
                )
            self._blobs.add(found, weight.sha256)
        return self.champion(name)

    def pull(self, name: str, mirror: str | None, control: Control) -> ModelVersion:
        """Install a model's weights from their public address, or from `mirror`/<model>/<file>."""
        from annotate_server.stores.download import download  # noqa: PLC0415  loads an HTTP client

        app = self.app(name)
        for weight in self.missing(app):
            url = f"{mirror.rstrip('/')}/{app.name}/{weight.name}" if mirror else weight.url
            if url is None:
                raise DownloadFailed(
                    f"{weight.name} has no public address",
                    source=name,
                    remedy=f"Get it from its authors, then `annotate models import {name} --from PATH`.",
                )
            self._partial.mkdir(parents=True, exist_ok=True)
            partial = self._partial / weight.sha256
            download(url, partial, weight, control)
            self._blobs.add(partial, weight.sha256)
            partial.unlink()
        return self.champion(name)

    def _installed(self, app: App, weight: WeightFile) -> Path | None:
        bundled = app.folder / weight.name
        if weight.bundled and bundled.is_file():
            if bundled.stat().st_size != weight.size_bytes:
                raise InvalidApp(f"{weight.name} has another size than the app says", source=app.name)
            return bundled
        return self._blobs.path(weight.sha256) if self._blobs.has(weight.sha256, weight.size_bytes) else None


def _files(path: Path) -> Iterator[Path]:
    """Yield the file, or every file below the folder."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise WeightsInvalid("there is no such file or folder", source=str(path))
    for count, file in enumerate(sorted(path.rglob("*"))):
        if count >= _MAX_FILES_LOOKED_AT:
            raise WeightsInvalid(
                f"more than {_MAX_FILES_LOOKED_AT} files lie below it", source=str(path), remedy="Name the file itself."
            )
        if file.is_file():
            yield file


def _is(file: Path, weight: WeightFile) -> bool:
    return file.stat().st_size == weight.size_bytes and digest_of(file) == weight.sha256
