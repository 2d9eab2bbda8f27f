"""What the worker that trains can do: a process of its own, with its own share of the processor."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from annotate_server.backends.devices import chosen_device, limit_threads, usable_cores
from annotate_server.bootstrap.ports import Ports, wire
from annotate_server.domain.ports import Control
from annotate_server.domain.training import Trained, TrainOrder
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.imaging.whole_file import digest_of
from annotate_server.settings import Settings
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import FILE_NAME, join_database
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_models import SqliteModels
from annotate_server.stores.volume_cache import FolderVolumeCache
from annotate_server.workflows.answer import OpenVolumes
from annotate_server.workflows.gate_evidence import GateEvidence, read_evidence
from annotate_server.workflows.round_tools import RoundTools
from annotate_server.workflows.train import run_round
from annotate_server.workflows.training_examples import StoredExamples
from annotate_server.workflows.training_set_json import read_training_set

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def functions(settings: str) -> Mapping[str, Callable[[object, Control], object]]:
    """Return what the worker can be asked for, by name; `settings` is the JSON of `Settings`."""
    chosen = Settings.model_validate_json(settings)
    use_threads(chosen.training_threads)
    ports = wire(chosen, join_database)
    return {"train": lambda order, control: train(ports, cast("TrainOrder", order), control)}


def use_threads(threads: int) -> None:
    """Let the numerical libraries of this process use `threads` threads, 0 for half of the cores.

    The other half is left to whoever waits for an answer; the server's own limit does not hold here.
    """
    count = threads or max(1, usable_cores() // 2)
    for name in _THREADS:
        os.environ[name] = str(count)
    limit_threads(count)


@dataclass(frozen=True)
class BlobKeeper:
    """Fulfils `round_tools.Keeper` over the blobs of the workspace."""

    blobs: BlobFolder

    def keep_bytes(self, content: bytes) -> str:
        """Keep bytes and return their SHA-256."""
        return self.blobs.add_bytes(content)

    def keep_file(self, path: Path) -> str:
        """Keep a copy of a file and return its SHA-256."""
        sha256 = digest_of(path) or ""
        self.blobs.add(path, sha256)
        return sha256

    def path(self, sha256: str) -> Path:
        """Return where a blob lies."""
        return self.blobs.path(sha256)


def train(ports: Ports, order: TrainOrder, control: Control) -> Trained:
    """Carry out a training round over the stores of the workspace."""
    database = join_database(ports.settings.workspace / FILE_NAME)
    try:
        models = SqliteModels(database)
        reader = IsolatedReader(Isolated(ports.limits()))  # ends with this process
        cache = FolderVolumeCache(ports.settings.workspace / "volumes", ports.settings.volume_cache_bytes)
        examples = StoredExamples(
            SqliteCases(database), SqliteLabels(database), ports.blobs, OpenVolumes(reader, cache)
        )
        tools = RoundTools(
            registry=ports.registry,
            backends=ports.backends,
            examples=examples,
            keep=BlobKeeper(ports.blobs),
            device=chosen_device(ports.settings.device),
            evaluations=_evaluations(models, order.model),
            champion_evidence=_evidence(ports, models, order),
        )
        return run_round(order, read_training_set(ports.blobs.read(order.training_set)), tools, control)
    finally:
        database.close()


def _evaluations(models: SqliteModels, name: str) -> int:
    """Return how often the gate has decided about a model before."""
    return sum(promotion.evidence is not None for promotion in models.promotions(name))


def _evidence(ports: Ports, models: SqliteModels, order: TrainOrder) -> GateEvidence | None:
    """Return the evidence of the round that the champion came from; None for an app's own version."""
    for promotion in models.promotions(order.model):
        if promotion.version == order.champion and promotion.evidence is not None:
            return read_evidence(ports.blobs.read(promotion.evidence))
    return None
