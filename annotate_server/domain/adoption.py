"""Taking a model over that was made elsewhere: an nnU-Net results folder, a MONAI bundle, a MONAI Label app."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality


@dataclass(frozen=True)
class AdoptionOrder:
    """What a person asked for.

    `source` is a folder or an archive. `name` is what the model is to be called, None for what the source suggests.
    `modalities` are for a source that says none. `trusted` is the SHA-256 (hex) of a source whose own code may run.
    """

    source: Path
    name: str | None = None
    modalities: tuple[Modality, ...] = ()
    trusted: str | None = None


@dataclass(frozen=True)
class AdoptedApp:
    """An app to be: `table` has the form of `app.toml` without its weights, `files` go beside it by their names."""

    name: str
    table: Mapping[str, object]
    files: Mapping[str, Path]


@runtime_checkable
class Adopting(Protocol):
    """A backend that can make apps out of what other software wrote."""

    def recognises(self, source: Path) -> bool:
        """Say whether this is something that the backend runs; looks at names and headers, never at weights."""
        ...

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        """Return the apps of a source; converted files are written into `scratch`.

        Raises InvalidApp or WeightsInvalid with what is wrong, BackendUnavailable with what to install.
        """
        ...
