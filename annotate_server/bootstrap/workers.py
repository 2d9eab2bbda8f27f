"""What a worker process can do: put together in the process itself, from the settings of the server."""

from collections.abc import Callable, Mapping

from annotate_server.bootstrap.ports import wire
from annotate_server.domain.ports import Control
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.settings import Settings
from annotate_server.stores.volume_cache import FolderVolumeCache
from annotate_server.workflows.answer import Answerer, OpenVolumes


def functions(settings: str) -> Mapping[str, Callable[[object, Control], object]]:
    """Return what the worker can be asked for, by name; `settings` is the JSON of `Settings`."""
    ports = wire(Settings.model_validate_json(settings))
    reader = IsolatedReader(Isolated(ports.limits()))  # ends with this process
    cache = FolderVolumeCache(ports.settings.workspace / "volumes", ports.settings.volume_cache_bytes)
    return Answerer(ports.predictor(), OpenVolumes(reader, cache), ports.blobs).functions()
