"""A whole annotation bench over real stores in a temporary folder, with workers that answer at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.compute import Answered, HelpOrder, PromptOrder, VolumePlace
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import Project
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.stored import StoredPrediction, VolumeFacts
from annotate_server.domain.volume import Modality
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import Database, open_database
from annotate_server.stores.draft_files import DraftFiles
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions
from annotate_server.workflows.annotate import Annotator
from annotate_server.workflows.journal import Journal
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.reception import Reception
from annotate_server.workflows.records import Records

ANN, BOB = Person("ann", Role.ANNOTATOR), Person("bob", Role.REVIEWER)
LIVER, SPLEEN = Segment(1, "Liver", (221, 130, 101)), Segment(2, "Spleen", (157, 108, 162))
PROJECT = Project("organs", "Organs", (LIVER, SPLEEN), ("abdomen",), (Modality.CT,))


@dataclass
class Clock:
    """A time that only moves when it is told to."""

    moment: datetime = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class CubeCompute:
    """Answers every prompt by a cube around its last point, and reads every volume as one grid."""

    geometry: Geometry
    prompts: list[PromptOrder] = field(default_factory=list)
    helps: list[HelpOrder] = field(default_factory=list)
    answer: Callable[[PromptOrder], Prediction] | None = None
    failure: Exception | None = None

    def facts(self, volume: VolumePlace) -> VolumeFacts:
        return VolumeFacts(f"digest of {volume.stored.key}", self.geometry, Modality.CT, "HU")

    def prompt(self, order: PromptOrder) -> Answered:
        self.prompts.append(order)
        if self.failure is not None:
            raise self.failure
        found = self.answer(order) if self.answer is not None else self._cube(order.active, order.prompts[-1])
        return Answered(found, "cube@1")

    def help(self, order: HelpOrder) -> Answered:
        self.helps.append(order)
        box = Box((0, 0, 0), (2, 2, 2))
        return Answered(Prediction(box, np.full((2, 2, 2), order.active.index, np.uint8), (order.active,)))

    def _cube(self, active: Segment, prompt: Prompt) -> Prediction:
        at = np.rint(self.geometry.index(prompt.points_mm)[-1]).astype(int)
        k, j, i = (int(x) for x in np.maximum(at - 1, 0))
        stop = tuple(min(a + 3, n) for a, n in zip((k, j, i), self.geometry.shape, strict=True))
        box = Box((k, j, i), (stop[0], stop[1], stop[2]))
        return Prediction(box, np.full(box.shape, active.index, np.uint8), (active,))


@dataclass
class Bench:
    """Everything that annotation needs, over one folder; `again` opens the same folder as after a restart."""

    folder: Path
    geometry: Geometry
    clock: Clock = field(default_factory=Clock)
    compute: CubeCompute = field(init=False)
    records: Records = field(init=False)
    database: Database = field(init=False)
    annotator: Annotator = field(init=False)

    def __post_init__(self) -> None:
        self.compute = CubeCompute(self.geometry)
        self.database = open_database(self.folder / "annotate.sqlite")
        self.records = Records(
            cases=SqliteCases(self.database, self.clock),
            projects=SqliteProjects(self.database, self.clock),
            sessions=SqliteSessions(self.database, self.clock),
            labels=SqliteLabels(self.database),
            predictions=SqlitePredictions(self.database),
            blobs=BlobFolder(self.folder / "blobs"),
            drafts=DraftFiles(self.folder / "drafts"),
        )
        reception = Reception(self.records, lease_s=120.0, clock=self.clock)
        journal = Journal(self.records, reception, snapshot_every=5, clock=self.clock)
        self.annotator = Annotator(self.records, self.compute, reception, journal)

    def furnished(self, cases: int = 1) -> "Bench":
        """Add the project and cases c0, c1 …"""
        self.records.projects.add(PROJECT, BOB)
        for number in range(cases):
            self.add_case(f"c{number}")
        return self

    def add_case(self, identity: str, modality: Modality | None = Modality.CT) -> None:
        stored = StoredVolume(
            f"{identity}.nii", Format.NIFTI, (self.folder / identity,), PatientKey("", identity), modality
        )
        self.records.cases.put([Case(identity, stored.patient, {str(modality or "volume"): stored})])
        self.clock.forward(0.001)

    def add_prediction(self, case_id: str, labelmap: Labelmap, identity: str = "p1") -> StoredPrediction:
        layer = keep_layer(self.records.blobs, labelmap)
        made = StoredPrediction(identity, case_id, "abdomen", "v1", layer, self.clock(), ("one note",))
        self.records.predictions.add(made)
        return made

    def again(self) -> "Bench":
        """Return the bench after a restart."""
        self.close()
        return Bench(self.folder, self.geometry, self.clock)

    def close(self) -> None:
        self.annotator.journal.close()
        self.database.close()

    def point(self, k: int, j: int, i: int, segment: Segment = LIVER) -> Prompt:
        x, y, z = (float(value) for value in self.geometry.world([[k, j, i]])[0])
        return Prompt(PromptKind.POINT, ((x, y, z),), segment.index)
