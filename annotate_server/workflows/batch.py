"""Batch: every volume of a source is drafted; one bad case never stops the rest."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from annotate_server.domain.case import StoredVolume, case_id
from annotate_server.domain.errors import AnnotateError, Cancelled, NotMadeFor, PredictionFailed, error_of
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import Control, VolumeReader
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_files import Algorithm, LabelmapFormat, write_labelmap
from annotate_server.imaging.measure import measure_segments
from annotate_server.imaging.overlay import write_overlay
from annotate_server.imaging.whole_file import digest_of, whole_file
from annotate_server.workflows.contact_sheet import write_contact_sheet
from annotate_server.workflows.drafter import Drafter
from annotate_server.workflows.fingerprint import fingerprint_of
from annotate_server.workflows.manifest import (
    ManifestFile,
    ManifestLine,
    Output,
    Status,
    source_of,
)
from annotate_server.workflows.output_names import output_names
from annotate_server.workflows.suitability import check_stored, with_modality

log = logging.getLogger(__name__)

OVERLAYS = "overlays"
SUFFIX = {LabelmapFormat.NIFTI: ".nii.gz", LabelmapFormat.NRRD: ".seg.nrrd", LabelmapFormat.DICOM_SEG: ".dcm"}


@dataclass(frozen=True)
class BatchOrder:
    """What to draft: by which model, into which folder and format.

    `modality` is what a person declares of files that name none. With `resume`, what an earlier run finished with the
    same input and the same model version, and what is still intact, is kept.
    """

    model: str
    out: Path
    format: LabelmapFormat = LabelmapFormat.NIFTI
    resume: bool = False
    modality: Modality | None = None


@dataclass
class BatchTally:
    """How many cases ended how, so far."""

    ok: int = 0
    kept: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def cases_per_hour(self) -> float:
        """Return the rate of the cases drafted in this run."""
        return 3600.0 * self.ok / self.seconds if self.seconds else 0.0


@dataclass
class Batch:
    """One run over a list of volumes; `drafts` does the work and yields a line a case."""

    order: BatchOrder
    drafter: Drafter
    reader: VolumeReader
    tally: BatchTally = field(default_factory=BatchTally)

    def drafts(self, volumes: list[StoredVolume], control: Control) -> Iterator[ManifestLine | None]:
        """Draft every volume; yield its line once everything of it is on the disk, None where it was kept.

        The next volume is read while the present one is drafted. Stopping early (an exception in the caller, or
        `close`) leaves every finished case valid, and the contact sheet up to date.
        """
        self.order.out.mkdir(parents=True, exist_ok=True)
        version = self.drafter.version()
        manifest = ManifestFile(self.order.out)
        earlier = manifest.earlier() if self.order.resume else {}
        names = output_names([stored.key for stored in volumes])
        kept = {
            v.key: earlier[v.key] for v in volumes if v.key in earlier and self._is_done(v, earlier[v.key], version)
        }
        manifest.begin(list(kept.values()))
        self.tally.kept = len(kept)
        started = time.monotonic()
        try:
            yield from (None for _ in kept)
            for stored, volume in self._read_ahead([v for v in volumes if v.key not in kept]):
                line = self._line(stored, volume, names[stored.key], control)
                manifest.append(line)
                self._count(line, time.monotonic() - started)
                yield line
        finally:
            write_contact_sheet(self.order.out, version, list(manifest.earlier().values()))

    def _read_ahead(self, volumes: list[StoredVolume]) -> Iterator[tuple[StoredVolume, Future[Volume]]]:
        """Yield every volume with its voxels to come, or the reason why none will; one is read ahead."""
        app = self.drafter.version().app
        waiting: deque[tuple[StoredVolume, Future[Volume]]] = deque()
        with ThreadPoolExecutor(1, "read-ahead") as pool:
            for stored in volumes:
                waiting.append((stored, self._begun(stored, app, pool)))
                if len(waiting) == 2:
                    yield waiting.popleft()
            yield from waiting

    def _begun(self, stored: StoredVolume, app: App, pool: ThreadPoolExecutor) -> Future[Volume]:
        """Return the voxels to come; a volume that the scan or the card refuses is never read."""
        try:
            if stored.problem is not None:
                raise error_of(stored.problem)
            check_stored(stored, app)
        except AnnotateError as error:
            refused: Future[Volume] = Future()
            refused.set_exception(error)
            return refused
        return pool.submit(self.reader.read, stored)

    def _line(self, stored: StoredVolume, reading: Future[Volume], name: str, control: Control) -> ManifestLine:
        """Draft one volume and return its line, whatever happens to it."""
        began = time.monotonic()
        version = self.drafter.version()
        blank = ManifestLine(
            source=source_of(stored),
            key=stored.key,
            status=Status.OK,
            model=version.model,
            version=version.id,
            fingerprint=fingerprint_of(stored),
        )
        try:
            line = self._drafted(blank, stored, reading.result(), name, control)
        except NotMadeFor as error:
            line = replace(blank, status=Status.SKIPPED, problem=error.problem())
        except Cancelled:
            raise
        except AnnotateError as error:
            line = replace(blank, status=Status.FAILED, problem=error.problem())
        except Exception as error:  # the worker loop: whatever one case does, the rest goes on
            log.exception("%s could not be drafted", stored.key, extra={"action": "draft_failed"})
            failure = PredictionFailed(f"{type(error).__name__}: {error}", source=stored.key)
            line = replace(blank, status=Status.FAILED, problem=failure.problem())
        return replace(line, seconds=time.monotonic() - began)

    def _drafted(
        self, blank: ManifestLine, stored: StoredVolume, volume: Volume, name: str, control: Control
    ) -> ManifestLine:
        """Draft, write and measure one volume."""
        app = self.drafter.version().app
        volume = with_modality(volume, app.card, self.order.modality)
        result = self.drafter.draft(stored, volume, control)
        target = self.order.out / f"{name}{SUFFIX[self.order.format]}"
        picture = self.order.out / OVERLAYS / f"{name}.png"
        write_labelmap(
            result.labelmap, target, self.order.format, stored, Algorithm(result.version.model, result.version.id)
        )
        with whole_file(picture) as temporary:
            write_overlay(volume, result.labelmap, temporary)
        return replace(
            blank,
            case=case_id(stored, volume.digest),
            digest=volume.digest,
            modality=volume.modality,
            geometry=volume.geometry,
            outputs=tuple(self._output(path) for path in (target, picture)),
            segments=measure_segments(result.labelmap, volume),
            notes=(*volume.acquisition.warnings, *result.notes),
        )

    def _output(self, path: Path) -> Output:
        return Output(path.relative_to(self.order.out).as_posix(), digest_of(path) or "")

    def _count(self, line: ManifestLine, seconds: float) -> None:
        self.tally.ok += line.status is Status.OK
        self.tally.skipped += line.status is Status.SKIPPED
        self.tally.failed += line.status is Status.FAILED
        self.tally.seconds = seconds

    def _is_done(self, stored: StoredVolume, line: Mapping[str, Any], version: ModelVersion) -> bool:
        """Say whether an earlier line still holds: same input, same version, every output intact."""
        if line.get("status") not in (Status.OK, Status.SKIPPED):
            return False
        if line.get("version") != version.id or line.get("fingerprint") != fingerprint_of(stored):
            return False
        outputs = line.get("outputs") or []
        suffix = SUFFIX[self.order.format]
        if line["status"] == Status.OK and not any(o["path"].endswith(suffix) for o in outputs):
            return False
        return all(digest_of(self.order.out / o["path"]) == o["sha256"] for o in outputs)
