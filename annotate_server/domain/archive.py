"""A DICOM archive that is reached by DICOMweb: where it is, what is asked of it, and what it answers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from annotate_server.domain.case import StoredVolume


@dataclass(frozen=True)
class ArchiveAddress:
    """Where an archive is: `root` is the URL below which `/studies` lies, without a slash at its end.

    `authorization` is the header that it is asked with. `certificates` is a file (PEM) of whom to trust with TLS, None
    for those that the system trusts. `timeout_s` bounds each wait for its next byte.
    """

    root: str
    authorization: str | None = field(default=None, repr=False)
    certificates: Path | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True)
class ArchiveQuestion:
    """A request to be handed on: `path` below the root, and the query exactly as it came."""

    method: str
    path: str
    query: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: AsyncIterator[bytes] | None = None


@dataclass(frozen=True)
class ArchiveAnswer:
    """What the archive answers; `chunks` are read while they come."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class ArchiveRelay(Protocol):
    """Hands requests on to the archive, and to nobody else."""

    @property
    def root(self) -> str:
        """Return the archive's own address, which its answers may name."""
        ...

    def asked(self, question: ArchiveQuestion) -> AbstractAsyncContextManager[ArchiveAnswer]:
        """Give an answer; raises ArchiveUnreachable, ArchiveTooSlow, or ArchiveRefused for one that leads elsewhere."""
        ...

    async def close(self) -> None:
        """Close the lines to it."""
        ...


class ArchivedFiles(Protocol):
    """The files of volumes that lie in an archive, brought here when they are needed."""

    def has(self, stored: StoredVolume) -> bool:
        """Say whether a volume comes from the archive."""
        ...

    def held(self, stored: StoredVolume) -> AbstractContextManager[None]:
        """Bring the files of a volume here, unless it comes from elsewhere, and keep them for as long as the block.

        Raises ArchiveUnreachable, ArchiveTooSlow, ArchiveRefused and NoSpace.
        """
        ...


class InstanceArchive(Protocol):
    """Takes instances in."""

    def store(self, file: Path) -> None:
        """Send a DICOM file; returns when the archive says that it has it. Raises the errors of `ArchivedFiles`."""
        ...
