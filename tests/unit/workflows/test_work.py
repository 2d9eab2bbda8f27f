"""Worklist, review, projects, drafting and ingest over the real stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import LabelState
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.compute import Drafted
from annotate_server.domain.errors import (
    CaseTaken,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotMadeFor,
    StateError,
    UnreadableFile,
    UnsupportedInput,
    UntrustedGeometry,
)
from annotate_server.domain.job import Job, Priority
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.model import App
from annotate_server.domain.person import Person, Role
from annotate_server.domain.ports import StudySource
from annotate_server.domain.project import CaseStatus, ReviewPolicy
from annotate_server.domain.volume import Modality
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.testing.fakes import InMemoryRegistry, threshold_app
from annotate_server.workflows.drafting import Drafting
from annotate_server.workflows.ingest import Ingest
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.projects import Projects
from annotate_server.workflows.review import Reviewing
from annotate_server.workflows.suggest import Worklist

GRID = oblique_geometry((7, 9, 8))
ADMIN = Person("eve", Role.ADMIN)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, GRID).furnished(3)
    yield made
    made.close()


@pytest.fixture
def worklist(bench: Bench) -> Worklist:
    return Worklist(bench.records.projects, bench.records.labels, bench.annotator.open, bench.clock)


def a_labelmap(value: int = 1) -> Labelmap:
    return Labelmap(np.full(GRID.shape, value, np.uint8), GRID, (LIVER,))


def drafting_on(bench: Bench, *apps: App) -> Drafting:
    registry = InMemoryRegistry({app.name: app for app in apps})
    return Drafting(
        bench.records, registry, SqliteQueue(bench.database, bench.clock), bench.annotator, clock=bench.clock
    )


def test_the_next_case_is_the_drafted_one_and_two_people_never_get_the_same(bench: Bench, worklist: Worklist) -> None:
    bench.add_prediction("c1", a_labelmap())
    given = [worklist.next_case("organs", person) for person in (ANN, BOB, ADMIN, Person("kim", Role.ANNOTATOR))]
    assert [session and session.case_id for session in given] == ["c1", "c0", "c2", None]


def test_a_returned_label_comes_first_to_its_author_and_to_nobody_else(bench: Bench, worklist: Worklist) -> None:
    bench.records.projects.change(replace(PROJECT, review=ReviewPolicy.OTHER_PERSON), BOB)
    reviewing = Reviewing(bench.records.labels, bench.clock)
    label = bench.annotator.submit(bench.annotator.open("organs", "c2", ANN).id, ANN)
    assert [each.id for each in reviewing.queue("organs")] == [label.id]
    with pytest.raises(NotAllowed):
        reviewing.review(label.id, ANN, LabelState.APPROVED)
    returned = reviewing.review(label.id, BOB, LabelState.RETURNED, "the dome is missing")
    assert (returned.reviewer, bench.records.labels.get(label.id).comment) == ("bob", "the dome is missing")
    assert reviewing.queue("organs") == ()
    with pytest.raises(StateError, match="already"):
        reviewing.review(label.id, ADMIN, LabelState.APPROVED)
    item = bench.records.projects.item("organs", "c2", bench.clock())
    assert (item.status, item.reason) == (CaseStatus.RETURNED, "the dome is missing")
    mine, theirs = worklist.next_case("organs", ANN), worklist.next_case("organs", ADMIN)
    assert (mine and mine.case_id, mine and mine.parent, theirs and theirs.case_id) == ("c2", label.id, "c0")


def test_nobody_reviews_what_they_submitted(bench: Bench) -> None:
    bench.records.projects.change(replace(PROJECT, review=ReviewPolicy.OTHER_PERSON), BOB)
    label = bench.annotator.submit(bench.annotator.open("organs", "c0", BOB).id, BOB)
    with pytest.raises(StateError, match="their own"):
        Reviewing(bench.records.labels).review(label.id, BOB, LabelState.APPROVED)
    assert Reviewing(bench.records.labels).review(label.id, ADMIN, LabelState.APPROVED).state is LabelState.APPROVED


def test_a_case_that_was_put_aside_is_not_suggested_until_it_is_taken_back(bench: Bench, worklist: Worklist) -> None:
    with pytest.raises(InvalidRequest):
        worklist.put_aside("organs", "c0", " ", ANN)
    item = worklist.put_aside("organs", "c0", "motion artefacts", ANN)
    assert (item.status, item.reason) == (CaseStatus.PUT_ASIDE, "motion artefacts")
    with pytest.raises(StateError, match="motion"):
        bench.annotator.open("organs", "c0", ANN)
    first = worklist.next_case("organs", ANN)
    assert first is not None
    assert first.case_id == "c1"
    with pytest.raises(CaseTaken):
        worklist.put_aside("organs", "c1", "bad", BOB)
    assert worklist.take_back("organs", "c0", ANN).status is CaseStatus.OPEN
    with pytest.raises(StateError):
        worklist.take_back("organs", "c0", ANN)


def test_a_case_that_cannot_be_read_is_passed_over(bench: Bench, worklist: Worklist) -> None:
    read = bench.compute.facts

    def facts(place):  # type: ignore[no-untyped-def]  the fixture's own signature
        if place.stored.key == "c0.nii":
            raise UnreadableFile("damaged")
        return read(place)

    bench.compute.facts = facts  # type: ignore[method-assign]  what one file does
    session = worklist.next_case("organs", ANN)
    assert session is not None
    assert session.case_id == "c1"


def test_every_ready_app_has_a_project_of_its_own_and_only_administrators_make_others(bench: Bench) -> None:
    registry = InMemoryRegistry({"bright": threshold_app(), "organs": threshold_app("organs")})
    projects = Projects(bench.records.projects, registry)
    projects.make_defaults()
    projects.make_defaults()
    assert [project.id for project in projects.all()] == ["bright", "organs"]
    assert projects.get("organs").title == "Organs"
    assert projects.get("bright").modalities == (Modality.CT,)
    with pytest.raises(NotAllowed):
        projects.add(replace(PROJECT, id="new"), ANN)
    projects.add(replace(PROJECT, id="new", apps=("bright",)), ADMIN)
    assert "new" in [project.id for project in projects.all()]


def test_a_draft_is_ordered_once_and_applied_to_the_session_that_waits(bench: Bench) -> None:
    drafting = drafting_on(bench, threshold_app("abdomen"))
    told: list[Job] = []
    drafting.ordered.append(told.append)
    session = bench.annotator.open("organs", "c0", ANN)
    job = drafting.order("c0", "abdomen", ANN, session.id)
    assert drafting.order("c0", "abdomen", ANN, session.id) == job
    assert told == [job]
    assert drafting.order_of(job).volume.digest == "digest of c0.nii"
    facts = bench.records.cases.get("c0").facts
    assert facts is not None
    layer = keep_layer(bench.records.blobs, a_labelmap())
    result = drafting.keep(job, Drafted("abdomen", "v9", layer, facts, ("a note",)))
    assert result["revision"] == "1"
    assert (bench.annotator.frame(session.id, ANN).voxels == 1).all()
    kept = bench.records.predictions.get(result["prediction"])
    assert (kept.model, kept.version, kept.notes) == ("abdomen", "v9", ("a note",))


def test_a_draft_whose_session_has_ended_is_kept_all_the_same(bench: Bench) -> None:
    drafting = drafting_on(bench, threshold_app("abdomen"))
    session = bench.annotator.open("organs", "c0", ANN)
    job = drafting.order("c0", "abdomen", ANN, session.id)
    bench.annotator.leave(session.id, ANN)
    facts = bench.records.cases.get("c0").facts
    assert facts is not None
    result = drafting.keep(job, Drafted("abdomen", "v9", keep_layer(bench.records.blobs, a_labelmap()), facts))
    assert "not_applied" in result
    assert bench.records.predictions.newest("c0", ("abdomen",)) is not None


def test_a_draft_that_makes_no_sense_is_refused_before_it_is_queued(bench: Bench) -> None:
    drafting = drafting_on(bench, threshold_app("mr", Modality.MR))
    with pytest.raises(NotMadeFor, match="CT"):
        drafting.order("c0", "mr", ANN)
    with pytest.raises(NotFound):
        drafting.order("nothing", "mr", ANN)


def test_the_case_that_comes_next_is_drafted_ahead_at_low_priority(bench: Bench) -> None:
    drafting = drafting_on(bench, threshold_app("abdomen"))
    session = bench.annotator.open("organs", "c0", ANN)
    job = drafting.order_ahead(session)
    assert job is not None
    assert (job.order["case"], job.priority) == ("c1", Priority.AHEAD)
    bench.add_prediction("c1", a_labelmap())
    assert drafting.order_ahead(session) is None


@dataclass
class Studies:
    """What a scan finds."""

    found: list[StoredVolume] = field(default_factory=list)

    def scan(self) -> Iterator[StoredVolume]:
        yield from self.found


class Remembered(dict[str, str]):
    """Identities in memory."""

    def digest(self, fingerprint: str) -> str | None:
        return self.get(fingerprint)

    def remember(self, fingerprint: str, digest: str) -> None:
        self[fingerprint] = digest


def a_volume(key: str, folder: Path, **changes: object) -> StoredVolume:
    (folder / key).write_bytes(key.encode())
    return replace(StoredVolume(key, Format.NIFTI, (folder / key,), PatientKey("", key)), **changes)  # type: ignore[arg-type]


def test_a_renamed_file_is_the_same_case_and_a_vanished_one_is_marked(bench: Bench, tmp_path: Path) -> None:
    studies = Studies()

    @contextmanager
    def opened(folder: Path) -> Iterator[StudySource]:
        yield studies

    read: list[str] = []
    facts = bench.compute.facts

    def counted(place):  # type: ignore[no-untyped-def]  the fixture's own signature
        read.append(place.stored.key)
        return replace(facts(place), digest=f"voxels of {place.stored.files[0].read_bytes().decode()}")

    bench.compute.facts = counted  # type: ignore[method-assign]  the digest is that of the content
    ingest = Ingest(bench.records.cases, Remembered(), bench.compute, opened)
    bad = StoredVolume("bad.nii", Format.NIFTI, (), PatientKey("", ""), problem=UnreadableFile("cut").problem())
    scout = a_volume("scout", tmp_path, image_type=("LOCALIZER",))
    studies.found = [a_volume("a.nii", tmp_path), a_volume("b.nii", tmp_path), bad, scout]
    census = ingest.scan(tmp_path)
    assert sorted(census.refused) == ["bad.nii", "scout"]
    assert [(each.name, each.kind) for each in ingest.refused] == [
        ("bad.nii", "unreadable-file"),
        ("scout", "not-made-for"),
    ]
    first, second = (case for case in bench.records.cases.all() if case.id in census.cases)
    assert not first.is_missing
    assert first.facts is not None
    ingest.scan(tmp_path)
    assert read == ["a.nii", "b.nii"]
    (tmp_path / "a.nii").rename(tmp_path / "renamed.nii")
    studies.found = [replace(studies.found[0], key="renamed.nii", files=(tmp_path / "renamed.nii",))]
    ingest.scan(tmp_path)
    assert ingest.refused == ()
    renamed, gone = bench.records.cases.get(first.id), bench.records.cases.get(second.id)
    assert (renamed.case.reference.key, renamed.is_missing, gone.is_missing) == ("renamed.nii", False, True)
    studies.found = []
    with pytest.raises(UnsupportedInput):
        ingest.upload(tmp_path)
    studies.found = [bad]
    with pytest.raises(UnreadableFile, match="cut"):
        ingest.upload(tmp_path)


def test_what_cannot_be_used_says_why_and_names_no_folder_of_a_patient(bench: Bench, tmp_path: Path) -> None:
    gap = UntrustedGeometry("1 slice missing", remedy="Export the series again, complete.").problem()
    named = replace(gap, detail=f"Doe^Jane/1#a: {gap.detail}")  # as a scan of DICOM folders words it
    series = StoredVolume("Doe^Jane/1#a", Format.DICOM, (), PatientKey("", "Doe"), series_uid="1.2.3", problem=named)
    studies = Studies([series, replace(series, description="Abdomen 5 mm", series_uid="1.2.4")])

    @contextmanager
    def opened(folder: Path) -> Iterator[StudySource]:
        yield studies

    ingest = Ingest(bench.records.cases, Remembered(), bench.compute, opened)
    ingest.scan(tmp_path)
    assert [(each.name, each.stored.series_uid) for each in ingest.refused] == [
        ("A DICOM series", "1.2.3"),
        ("Abdomen 5 mm", "1.2.4"),
    ]
    assert {each.reason for each in ingest.refused} == {"1 slice missing. Export the series again, complete."}
