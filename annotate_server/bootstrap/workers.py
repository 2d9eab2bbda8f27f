"""What a worker process can do: put together in the process itself, from the settings of the server."""

from collections.abc import Callable, Mapping

from annotate_server.bootstrap.ports import wire
from annotate_server.domain.ports import Control
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.settings import Settings
from annotate_server.stores.database import join_database
from annotate_server.stores.volume_cache import FolderVolumeCache
from annotate_server.workflows.answer import Answerer, OpenVolumes
from annotate_server.workflows.label_scores import LabelScorer


def functions(settings: str) -> Mapping[str, Callable[[object, Control], object]]:
    """Return what the worker can be asked for, by name; `settings` is the JSON of `Settings`."""
    ports = wire(Settings.model_validate_json(settings), join_database)
    reader = IsolatedReader(Isolated(ports.limits()))  # ends with this process
    cache = FolderVolumeCache(ports.settings.workspace / "volumes", ports.settings.volume_cache_bytes)
    answerer = Answerer(ports.predictor(), OpenVolumes(reader, cache), ports.blobs)
    return {**answerer.functions(), **LabelScorer(ports.blobs, answerer.draft).functions()}
