"""What is traced: a small program that uses the stores of a workspace and says what they have acknowledged.

python store_program.py WORKSPACE OPERATION [SYNCHRONOUS]
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from annotate_server.domain.annotation import Interaction, InteractionKind, Label, LabelState, Session, SessionState
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.errors import Problem, StorageFailed
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.job import Job, JobKind, JobState
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning import (
    LabelWork,
    LearnedModel,
    PatientPart,
    Promotion,
    PromotionKind,
    VersionRecord,
)
from annotate_server.domain.model import WeightFile
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import CaseStatus, Project, WorkItem
from annotate_server.domain.stored import StoredLayer, StoredPrediction, VolumeFacts
from annotate_server.domain.training import Part
from annotate_server.domain.volume import Modality
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.stores import database as opening
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import Database
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_models import SqliteModels
from annotate_server.stores.sqlite_parts import SqliteParts
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions
from annotate_server.stores.sqlite_users import SqliteUsers
from annotate_server.stores.sqlite_works import SqliteWorks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANNE, BELA = Person("anne", Role.ANNOTATOR), Person("bela", Role.REVIEWER)
GRID = Geometry((3, 4, 5), (2.5, 0.7, 0.7), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), (1.0, 2.0, 3.0))
LIVER = Segment(1, "Liver", (221, 130, 101))
TIMES = 4
_EVENTS = "SELECT session_id, event, revision, change FROM event"


@dataclass(frozen=True)
class Stores:
    database: Database
    blobs: BlobFolder
    cases: SqliteCases
    projects: SqliteProjects
    sessions: SqliteSessions
    labels: SqliteLabels
    predictions: SqlitePredictions
    queue: SqliteQueue
    users: SqliteUsers
    models: SqliteModels
    parts: SqliteParts
    works: SqliteWorks


def opened(workspace: Path) -> Stores:
    database = opening.open_database(workspace / "annotate.sqlite")
    return Stores(
        database,
        BlobFolder(workspace / "blobs"),
        SqliteCases(database),
        SqliteProjects(database),
        SqliteSessions(database, lambda: NOW),
        SqliteLabels(database),
        SqlitePredictions(database),
        SqliteQueue(database),
        SqliteUsers(database),
        SqliteModels(database, lambda: NOW),
        SqliteParts(database),
        SqliteWorks(database, lambda: NOW),
    )


def facts(stores: Stores) -> Iterator[str]:
    """Yield a line for everything that the stores hold and never give up again: read by the stores' own methods."""
    yield from (f"blob {digest}" for digest in stores.blobs.all() if stores.blobs.is_intact(digest))
    for known in stores.cases.all():
        yield from (f"case {known.id}", f"case {known.id} {known.facts}", f"case {known.id} {known.declared}")
    for project in stores.projects.all():
        yield f"project {project}"
        for item in stores.projects.items(project.id, NOW):
            yield f"item {item.case_id} {item.label_id}"
            yield from [f"aside {item.case_id} {item.reason}"] if item.status is CaseStatus.PUT_ASIDE else []
    yield from (f"user {user.name} {user.role}" for user in stores.users.all())
    for job in stores.queue.all():
        yield f"job {job.id} {job.order}"
        yield from [f"job {job.id} {job.state} {job.result} {job.problem}"] if job.has_ended else []
        yield from (f"job {job.id} attempt {n}" for n in range(job.attempts + 1))
        yield from (f"job {job.id} progress {n}" for n in range(int(job.progress * 4) + 1))
    yield from _facts_of_learning(stores)
    yield from _facts_of_rows(stores)


def _facts_of_learning(stores: Stores) -> Iterator[str]:
    for model in stores.models.all():
        yield f"model {model}"
        yield from (f"version {version}" for version in stores.models.versions(model.name))
        yield from (f"promotion {promotion}" for promotion in stores.models.promotions(model.name))
    yield from (f"part {part}" for part in stores.parts.parts("liver").values())
    yield from (f"work {work}" for work in stores.works.of_project("liver"))


def _facts_of_rows(stores: Stores) -> Iterator[str]:
    with stores.database.reading() as connection:
        names = {
            table: [row[0] for row in connection.execute(text(f"SELECT id FROM {table}"))]  # noqa: S608  constants
            for table in ("session", "label", "prediction")
        }
        yield from (f"event {row}" for row in connection.execute(text(_EVENTS)))
        yield from (f"token {row[0]}" for row in connection.execute(text('SELECT token_sha256 FROM "user"')))
        yield from (f"snapshot {tuple(r)}" for r in connection.execute(text("SELECT session_id, blob FROM snapshot")))
    for name in names["session"]:
        session = stores.sessions.get(name)
        yield from (f"revision {name} {revision}" for revision in range(session.revision + 1))
        yield from [f"ended {name} {session.state}"] if session.state is not SessionState.OPEN else []
        yield from (f"lease {name} {n}" for n in range(int(session.active_s) + 1))
    for name in names["label"]:
        label = stores.labels.get(name)
        yield f"label {replace(label, state=LabelState.SUBMITTED, reviewer=None, comment='', reviewed_at=None)}"
        yield from [f"verdict {label}"] if label.state is not LabelState.SUBMITTED else []
    yield from (f"prediction {stores.predictions.get(name)}" for name in names["prediction"])


def case(number: int) -> Case:
    patient = PatientKey("", f"p{number}")
    files = (Path(f"/studies/{number}.nii"),)
    return Case(f"case{number}", patient, {"reference": StoredVolume(f"{number}.nii", Format.NIFTI, files, patient)})


def layer(stores: Stores, content: str) -> StoredLayer:
    return StoredLayer(stores.blobs.add_bytes(content.encode() * 50), GRID, (LIVER,))


def session(number: int) -> Session:
    lease = NOW + timedelta(hours=1)
    return Session(f"s{number}", "liver", f"case{number}", "anne", GRID, opened_at=NOW, lease_until=lease)


def label(stores: Stores, number: int, name: str) -> Label:
    layers = (layer(stores, f"{name}{number} a"), layer(stores, f"{name}{number} b"))
    return Label(f"{name}{number}", "liver", f"case{number}", "anne", layers, session_id=f"s{number}", made_at=NOW)


def event(stores: Stores, current: Session, name: str) -> Session:
    change = stores.blobs.add_bytes(f"change {name} {current.revision}".encode() * 40)
    box = Box((0, 1, 2), (1, 2, 3))
    return current.recorded(Interaction(current.next_number, InteractionKind.EDIT, box, change, at=NOW))


def prepare(stores: Stores) -> None:
    """Give every operation what it works on."""
    stores.cases.put(case(number) for number in range(12))
    stores.projects.add(Project("liver", "Liver", (LIVER,), ("app",)), ANNE)
    for number in range(TIMES):
        stores.sessions.open(session(number), ANNE)
        stores.labels.accept(replace(label(stores, number + 6, "first"), session_id=None), None, ANNE)


def _blobs(stores: Stores) -> Iterator[None]:
    for number in range(3 * TIMES):
        stores.blobs.add_bytes(f"bytes {number}".encode() * 300)
        yield
        with stores.blobs.adding() as added, added.path.open("wb", buffering=0) as file:
            file.write(f"file {number}".encode() * 300)
            file.write(b"end")
        yield


def _cases(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        stores.cases.put([case(20 + number)], is_uploaded=True)
        yield
        stores.cases.learn(f"case{number}", VolumeFacts(f"{number}" * 64, GRID, None, "1"))
        yield
        stores.cases.declare(f"case{number}", Modality.CT, ANNE)
        yield


def _events(stores: Stores) -> Iterator[None]:
    current = session(0)
    for _ in range(TIMES):
        current = event(stores, current, "x")
        stores.sessions.record(current, ANNE)
        yield


def _undo(stores: Stores) -> Iterator[None]:
    current = event(stores, session(0), "x")
    stores.sessions.record(current, ANNE)
    for number in range(TIMES):
        current = current.undone()
        stores.sessions.move(current, ANNE)
        yield
        current = event(stores, current, f"y{number}")
        stores.sessions.record(current, ANNE)
        yield


def _sessions(stores: Stores) -> Iterator[None]:
    for number in range(6, 6 + TIMES):
        stores.sessions.open(session(number), ANNE)
        yield
        stores.sessions.renew(f"s{number}", NOW + timedelta(hours=2), 3.0)
        yield
        stores.sessions.end(session(number).ended(SessionState.ABANDONED), ANNE)
        yield


def _snapshots(stores: Stores) -> Iterator[None]:
    for number in range(3 * TIMES):
        stores.sessions.keep_snapshot(
            f"s{number % TIMES}", number, stores.blobs.add_bytes(f"whole {number}".encode() * 200)
        )
        yield


def _labels(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        stores.labels.accept(label(stores, number, "second"), session(number), ANNE)
        yield


def _reviews(stores: Stores) -> Iterator[None]:
    for number in range(6, 6 + TIMES):
        given = stores.labels.get(f"first{number}").reviewed("bela", LabelState.RETURNED, "too small")
        stores.labels.review(given, BELA)
        yield


def _predictions(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        stores.predictions.add(
            StoredPrediction(f"p{number}", f"case{number}", "app", "1", layer(stores, f"p{number}"), NOW)
        )
        yield


def _jobs(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        stores.queue.add(Job(f"j{number}", JobKind.DRAFT, {"case": f"case{number}"}))
        yield
        claimed = stores.queue.claim()
        yield
        if claimed is not None and claimed.state is JobState.RUNNING:
            stores.queue.advance(claimed.id, 0.5, "half")
            yield
            if number == 1:
                stores.queue.fail(claimed.id, Problem("x", "y", "z"))
            else:
                stores.queue.finish(claimed.id, {"prediction": f"p{number}"})
            yield


def _users(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        stores.users.add(f"user{number}", Role.REVIEWER)
        yield


def _projects(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        stores.projects.add(Project(f"project{number}", "A project", (LIVER,)), ANNE)
        yield
        stores.projects.mark(WorkItem("liver", f"case{number}"), CaseStatus.PUT_ASIDE, "moved", ANNE)
        yield


def _models(stores: Stores) -> Iterator[None]:
    for number in range(TIMES):
        name = f"model{number}"
        blobs = [stores.blobs.add_bytes(f"{name} {part}".encode() * 40) for part in ("weights", "description", "gate")]
        first = VersionRecord("v1", name, blobs[1], (WeightFile("w", blobs[0], 1),), made_at=NOW)
        stores.models.add(LearnedModel(name, "liver", "app", made_at=NOW), first, ANNE)
        yield
        moved = Promotion(name, "v2", PromotionKind.GATE, "gate", "better", "v1", blobs[2], at=NOW)
        stores.models.decide(replace(first, id="v2", parent="v1"), moved, ANNE)
        yield
        stores.models.decide(None, Promotion(name, "v1", PromotionKind.ROLLBACK, "anne", "", "v2", at=NOW), ANNE)
        yield
        stores.parts.draw([PatientPart("liver", f"p{number}", Part.GATE, NOW)])
        stores.parts.key("liver")
        yield
        stores.works.add(LabelWork(f"first{number + 6}", "liver", name, "v1", True, True, 1.0, dice=0.5, made_at=NOW))
        yield


OPERATIONS: Mapping[str, Callable[[Stores], Iterator[None]]] = {
    "blobs": _blobs,
    "cases": _cases,
    "events": _events,
    "undo": _undo,
    "sessions": _sessions,
    "snapshots": _snapshots,
    "labels": _labels,
    "reviews": _reviews,
    "predictions": _predictions,
    "jobs": _jobs,
    "users": _users,
    "projects": _projects,
    "models": _models,
    "first-start": _users,
}


def main() -> None:
    """Carry out an operation; after each step, say every fact that is new."""
    workspace, operation = Path(sys.argv[1]), sys.argv[2]
    opening.SYNCHRONOUS = sys.argv[3] if len(sys.argv) > 3 else opening.SYNCHRONOUS
    stores: Stores | None = None
    try:
        stores = opened(workspace)
        carry_out(stores, operation)
    except StorageFailed as error:
        os.writev(1, [f"REFUSED {type(error).__name__} {error}\n".encode()])
        stores = opened(workspace) if stores is None else stores
        if stores.database.failure is None:
            carry_out(stores, "users")
        else:
            os.writev(1, [b"CLOSED until it is started again\n"])
    stores.database.close()


def carry_out(stores: Stores, operation: str) -> None:
    """Do the steps of an operation and say after each what is new.

    It is said by `writev`, so that whoever lets writes fail does not hit this.
    """
    said = set(fact_digests(stores))
    for _ in OPERATIONS[operation](stores):
        new = set(fact_digests(stores)) - said
        os.writev(1, ["".join(f"ACK {digest}\n" for digest in sorted(new)).encode()])
        said |= new


def fact_digests(stores: Stores) -> Iterator[str]:
    """Yield each fact as a short line: its kind and a digest."""
    for fact in facts(stores):
        yield f"{fact.split()[0]} {hashlib.sha256(fact.encode()).hexdigest()[:24]}"


if __name__ == "__main__":
    main()
