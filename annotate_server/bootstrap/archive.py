"""A DICOM archive in the place of a folder of studies: its address from the settings, and what its files take."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from annotate_server.domain.archive import ArchiveAddress, ArchivedFiles
from annotate_server.domain.compute import Answered, Compute, DraftOrder, HelpOrder, PromptOrder, VolumePlace
from annotate_server.domain.errors import InvalidSettings
from annotate_server.domain.ports import VolumeCache
from annotate_server.domain.stored import VolumeFacts
from annotate_server.settings import Settings
from annotate_server.stores.dicomweb_line import check_address


def is_address(studies: str) -> bool:
    """Say whether studies are named by a URL, and not by a folder."""
    return studies.lower().startswith(("http://", "https://"))


def archive_address(studies: str, settings: Settings) -> ArchiveAddress:
    """Return where an archive is and how it is asked; raises InvalidSettings."""
    check_address(studies)
    return ArchiveAddress(
        studies.rstrip("/"), _authorization(settings), settings.archive_certificates, settings.archive_timeout_s
    )


def _authorization(settings: Settings) -> str | None:
    user, password, token = settings.archive_user, settings.archive_password, settings.archive_token
    if (user is None) != (password is None):
        raise InvalidSettings("an archive's user takes a password, and a password a user")
    if token is not None and user is not None:
        raise InvalidSettings("an archive is asked with a user or with a token, not with both")
    if token is not None:
        return f"Bearer {token.get_secret_value()}"
    if user is None or password is None:
        return None
    return f"Basic {base64.b64encode(f'{user}:{password.get_secret_value()}'.encode()).decode()}"


@dataclass(frozen=True)
class FetchingCompute:
    """Fulfils `compute.Compute` by another, and brings the files of a volume here before a worker reads them."""

    compute: Compute
    archived: ArchivedFiles
    cache: VolumeCache

    def facts(self, volume: VolumePlace) -> VolumeFacts:
        """Read a volume into the cache and return what it tells."""
        with self._there(volume):
            return self.compute.facts(volume)

    def prompt(self, order: PromptOrder) -> Answered:
        """Answer the newest prompt."""
        with self._there(order.volume):
            return self.compute.prompt(order)

    def help(self, order: HelpOrder) -> Answered:
        """Carry out a helper."""
        with self._there(order.volume):
            return self.compute.help(order)

    def fetched(self, order: DraftOrder) -> DraftOrder:
        """Return an order of a draft whose volume is here; it stays for a while."""
        with self._there(order.volume):
            return order

    def fetch(self, volume: VolumePlace) -> None:
        """Bring the voxels of a volume into the cache of the workspace, unless they are there."""
        if volume.digest is None or self.cache.get(volume.digest) is None:
            self.facts(volume)

    @contextmanager
    def _there(self, volume: VolumePlace) -> Iterator[None]:
        """Have the files here for a block, unless the voxels are in the cache of the workspace."""
        if volume.digest is not None and self.cache.get(volume.digest) is not None:
            yield
        else:
            with self.archived.held(volume.stored):
                yield
