"""Labels and predictions as files: written for a download by the process that parses, or read from an upload."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.archive import ArchivedFiles
from annotate_server.domain.case import Format, StoredVolume
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.compute import Compute
from annotate_server.domain.dicom_uids import segmentation_uids
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.person import Person
from annotate_server.domain.project import ReviewPolicy
from annotate_server.domain.stored import StoredLayer, StoredPrediction
from annotate_server.imaging.labelmap_orders import (
    PLAIN,
    Algorithm,
    AlgorithmKind,
    LabelmapFormat,
    StoredWriting,
)
from annotate_server.workflows.beginning import facts_of
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.records import Records

SUFFIX = {LabelmapFormat.NIFTI: ".nii.gz", LabelmapFormat.NRRD: ".seg.nrrd", LabelmapFormat.DICOM_SEG: ".dcm"}


class LabelParser(Protocol):
    """Reads and writes files of labels where a crash does not take the caller down."""

    def read_labelmap(self, path: Path, reference: Geometry) -> tuple[Labelmap, ...]:
        """Return the layers of a file on a grid."""
        ...

    def write_stored(self, writing: StoredWriting) -> None:
        """Write layers of the store to a file."""
        ...


@dataclass(frozen=True)
class LabelFiles:
    """Gives labels and predictions as files, and takes files in as labels; `scratch` is a folder for them meanwhile.

    One of them is always the same DICOM SEG instance. `archive` brings what a SEG refers to.
    """

    records: Records
    compute: Compute
    parser: LabelParser
    scratch: Path
    clock: Clock = now
    archive: ArchivedFiles | None = None

    @contextmanager
    def label_file(self, label_id: str, kind: LabelmapFormat) -> Iterator[Path]:
        """Give a label as a file, which is gone after the block.

        Raises InvalidLabelmap for layers that NIfTI cannot hold, InvalidRequest for a SEG of a case without DICOM.
        """
        label = self.records.labels.get(label_id)
        model = label.model_version or ""
        name, _, version = model.partition("@")
        drawn = AlgorithmKind.SEMIAUTOMATIC if model else AlgorithmKind.MANUAL
        algorithm = Algorithm(name or PLAIN.name, version or PLAIN.version, drawn)
        with self._file(label, label.layers, kind, algorithm) as path:
            yield path

    @contextmanager
    def prediction_file(self, prediction_id: str, kind: LabelmapFormat) -> Iterator[Path]:
        """Give a prediction as a file, which is gone after the block."""
        prediction = self.records.predictions.get(prediction_id)
        algorithm = Algorithm(prediction.model, prediction.version)
        with self._file(prediction, (prediction.layer,), kind, algorithm) as path:
            yield path

    def import_label(self, project_id: str, case_id: str, path: Path, person: Person) -> Label:
        """Take a file of labels in as a label of a case, overlapping segments as layers, under the project's policy.

        Raises InvalidLabelmap where it does not lie on the case's grid, another InputError where it cannot be read.
        """
        project, case = self.records.projects.get(project_id), self.records.cases.get(case_id)
        geometry = facts_of(case, self.records, self.compute).geometry
        layers = self.parser.read_labelmap(path, geometry)
        earlier = self.records.labels.of_case(project_id, case_id)
        label = Label(
            id=uuid.uuid4().hex,
            project_id=project.id,
            case_id=case.id,
            author=person.name,
            layers=tuple(keep_layer(self.records.blobs, layer) for layer in layers),
            parent=earlier[-1].id if earlier else None,
            is_author_verified=person.verified,
            made_at=self.clock(),
            state=LabelState.APPROVED if project.review is ReviewPolicy.NONE else LabelState.SUBMITTED,
        )
        self.records.labels.accept(label, None, person)
        return label

    @contextmanager
    def _file(
        self,
        what: Label | StoredPrediction,
        layers: tuple[StoredLayer, ...],
        kind: LabelmapFormat,
        algorithm: Algorithm,
    ) -> Iterator[Path]:
        blobs, source = self.records.blobs, self._source(what.case_id)
        if kind is LabelmapFormat.DICOM_SEG and source is None:
            raise InvalidRequest(
                "a DICOM SEG refers to a DICOM series, and the case is none", remedy="Ask for nifti or nrrd."
            )
        if kind is LabelmapFormat.NRRD and len(layers) == 1:
            yield blobs.path(layers[0].blob)  # it is kept as just that
            return
        self.scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.scratch) as folder:
            path = Path(folder) / f"{what.case_id}{SUFFIX[kind]}"
            paths = tuple(blobs.path(layer.blob) for layer in layers)
            uids = segmentation_uids(what.id)
            with self._held(source, kind):
                self.parser.write_stored(StoredWriting(paths, layers, path, kind, source, algorithm, uids))
            yield path

    def _held(self, source: StoredVolume | None, kind: LabelmapFormat) -> AbstractContextManager[None]:
        """Keep the files that a SEG refers to for a block."""
        if self.archive is None or source is None or kind is not LabelmapFormat.DICOM_SEG:
            return nullcontext()
        return self.archive.held(source)

    def _source(self, case_id: str) -> StoredVolume | None:
        stored = self.records.cases.get(case_id).case.reference
        return stored if stored.format is Format.DICOM else None
