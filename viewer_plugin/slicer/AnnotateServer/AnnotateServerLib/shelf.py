"""The shelf: volumes between the scene and the server: fetched, recognised, or uploaded with consent."""

from __future__ import annotations

from collections.abc import Callable, Generator

from AnnotateServerLib import client, nrrd, volumes
from AnnotateServerLib.answers import Case
from AnnotateServerLib.places import Grid
from AnnotateServerLib.problem import Problem


class Shelf:
    """Brings volumes from one server, and to it; every method is steps, to be taken in turn.

    `consents(address)` says whether volumes may be sent there; it is asked before anything but a digest is.
    """

    def __init__(self, address: str, upload_bytes: int, consents: Callable[[str], bool]) -> None:
        self._address, self._upload_bytes, self._consents = address, upload_bytes, consents

    def loaded(self, case: Case) -> Generator:
        """Return a new volume of the scene with the voxels of a case."""
        plain = yield client.volume(case.id)
        volume = yield from volumes.shown_in_steps(plain, case.name)
        volumes.remember(volume, self._address, case.id, volumes.grid_of(volume))
        return volume

    def recognised(self, volume: object, modality: str) -> Generator:
        """Return the id of the case that a volume is: noted, by its voxels, by its DICOM series, or uploaded."""
        grid = volumes.grid_of(volume)
        known = volumes.remembered(volume, self._address)
        if known is None:
            known = yield from self._by_voxels(volume)
        if known is None:
            self._check_consent()
            known = yield from self._by_series(volume, grid)
        if known is None:
            known = yield from self._uploaded(volume, modality)
        volumes.remember(volume, self._address, known, grid)
        return known

    def _by_voxels(self, volume: object) -> Generator:
        """Ask by a digest, from which nothing can be told but that it is the same: it needs no consent."""
        digest = yield from volumes.digest_of(volume)
        found = yield client.cases_of_voxels(digest)
        return found[0].id if found else None

    def _by_series(self, volume: object, grid: Grid) -> Generator:
        series = volumes.series_of(volume)
        for case in (yield client.cases_of_series(series)) if series is not None else ():
            if case.grid is None or case.grid.is_same_as(grid):
                return case.id
        return None

    def _check_consent(self) -> None:
        if not self._consents(self._address):
            remedy = "The server does not know its voxels, and it needs your consent to send more."
            raise Problem("Nothing of the volume was sent.", remedy)

    def _uploaded(self, volume: object, modality: str) -> Generator:
        plain = volumes.plain_of(volume)
        if plain.voxels.nbytes > self._upload_bytes:
            raise Problem("The volume is larger than the server takes.", "Ask for a higher limit (upload_bytes).")
        content = yield from nrrd.packed_in_steps(plain)
        cases = yield client.upload(content)
        if cases[0].modality is None:
            yield client.declare_modality(cases[0].id, modality)
        return cases[0].id
