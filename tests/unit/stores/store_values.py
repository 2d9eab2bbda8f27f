"""Nouns with every field filled, for tests of what is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from conftest import oblique_geometry

from annotate_server.domain.annotation import Interaction, InteractionKind, Label, Session
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.errors import Problem
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import CodedConcept, Segment
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.stored import StoredLayer, StoredPrediction
from annotate_server.domain.volume import Modality
from annotate_server.stores.database import Database, open_database
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_projects import SqliteProjects

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
ANNE = Person("Anne Ärztin", Role.ANNOTATOR)
BELA = Person("Béla", Role.REVIEWER, verified=False)
GEOMETRY = oblique_geometry((9, 14, 11))
SPLEEN = Segment(1, "Spleen", (157, 108, 162), CodedConcept("78961009", "SCT", "Spleen"))
KIDNEY = Segment(
    7, "Left kidney", (1, 2, 3), CodedConcept("64033007", "SCT", "Kidney"), laterality=CodedConcept("L", "SCT", "Left")
)
LAYER = StoredLayer("a" * 64, GEOMETRY, (SPLEEN, KIDNEY))


def clock() -> datetime:
    return NOW


def case(number: int = 1, modality: Modality | None = Modality.CT) -> Case:
    patient = PatientKey("hospital", f"P{number}", known=number != 2)
    volume = StoredVolume(
        key=f"study/{number:03}\udcff.nii",
        format=Format.DICOM,
        files=(Path(f"/studies/{number}/a\udcff.dcm"), Path(f"/studies/{number}/b.dcm")),
        patient=patient,
        modality=modality,
        description="Thorax “native”",
        image_type=("ORIGINAL", "PRIMARY"),
        part="b=800",
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        frame_of_reference="1.2.5",
        problem=Problem("unreadable-file", "It is damaged", "cut off") if number == 2 else None,
    )
    return Case(f"case{number}", patient, {"reference": volume, "companion": volume})


def project(name: str = "liver", modalities: tuple[Modality, ...] = ()) -> Project:
    return Project(name, "Liver of “CT”", (SPLEEN, KIDNEY), ("app-a", "app-b"), modalities, ReviewPolicy.OTHER_PERSON)


def session(name: str = "s1", case_id: str = "case1", person: str = ANNE.name, lease_s: float = 120) -> Session:
    return Session(
        id=name,
        project_id="liver",
        case_id=case_id,
        person=person,
        geometry=GEOMETRY,
        start=LAYER,
        segments=(SPLEEN,),
        locked=frozenset({1}),
        parent="label0",
        model_version="app-a@1",
        opened_at=NOW,
        lease_until=NOW + timedelta(seconds=lease_s),
        active_s=1.5,
    )


def interaction(number: int, mark: str = "c") -> Interaction:
    return Interaction(
        number=number,
        kind=InteractionKind.PROMPT,
        box=Box((1, 2, 3), (4, 5, 6)),
        change=mark * 64,
        segments_before=(SPLEEN,),
        segments_after=(SPLEEN, KIDNEY),
        prompt=Prompt(PromptKind.SCRIBBLE, ((0.1, -2.5, 1e-17), (3.0, 4.0, 5.0)), segment=7, positive=False),
        helper="smooth",
        model_version="app-a@1",
        at=NOW,
    )


def label(name: str = "l1", case_id: str = "case1") -> Label:
    return Label(
        id=name,
        project_id="liver",
        case_id=case_id,
        author=ANNE.name,
        layers=(LAYER, StoredLayer("b" * 64, GEOMETRY, (KIDNEY,))),
        parent="label0",
        model_version="app-a@1",
        session_id="s1",
        events=3,
        active_s=12.25,
        is_author_verified=False,
        made_at=NOW,
        is_partial=True,
    )


def prediction(name: str = "p1", case_id: str = "case1", model: str = "app-a") -> StoredPrediction:
    return StoredPrediction(name, case_id, model, "1", LAYER, NOW, ("Two notes.", "“Here.”"))


@contextmanager
def filled_database(folder: Path, cases: int = 3) -> Iterator[Database]:
    database = open_database(folder / "annotate.sqlite")
    SqliteCases(database, clock).put([case(number) for number in range(1, cases + 1)])
    SqliteProjects(database, clock).add(project(), ANNE)
    try:
        yield database
    finally:
        database.close()
