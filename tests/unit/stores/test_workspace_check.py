import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import text
from store_values import ANNE, LAYER, clock, filled_database, interaction, label, prediction, session

from annotate_server.domain.errors import Cancelled, StateError, StorageFailed
from annotate_server.domain.ports import Control
from annotate_server.domain.stored import StoredLayer
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.database import Database, open_database
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_sessions import SqliteSessions
from annotate_server.stores.workspace_backup import Contents, back_up
from annotate_server.stores.workspace_check import check_workspace
from annotate_server.stores.workspace_lock import workspace_lock

KINDS = ("label", "prediction", "start", "event", "snapshot")


def layer(content: bytes) -> StoredLayer:
    return replace(LAYER, blob=hashlib.sha256(content).hexdigest())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def blobs(workspace: Path) -> BlobFolder:
    return BlobFolder(workspace / "blobs")


@pytest.fixture
def database(workspace: Path, blobs: BlobFolder) -> Iterator[Database]:
    """Give a workspace in which a row of every kind names a blob of its own."""
    named = {kind: blobs.add_bytes(kind.encode()) for kind in KINDS}
    with filled_database(workspace) as opened:
        sessions = SqliteSessions(opened, clock)
        SqliteLabels(opened).accept(replace(label(), layers=(layer(b"label"),)), None, ANNE)
        SqlitePredictions(opened).add(replace(prediction(), layer=layer(b"prediction")))
        begun = replace(session(), start=layer(b"start"))
        sessions.open(begun, ANNE)
        sessions.record(begun.recorded(replace(interaction(1), change=named["event"])), ANNE)
        sessions.keep_snapshot("s1", 1, named["snapshot"])
        yield opened


def test_a_whole_workspace_has_no_faults_and_orphans_are_none(database: Database, blobs: BlobFolder) -> None:
    blobs.add_bytes(b"an orphan")
    weight = blobs.add_bytes(b"weights")
    found = check_workspace(database, blobs, [weight, "0" * 64])
    assert (found.blobs, found.orphans, found.faults) == (6, 1, ())
    assert found.audit_rows >= 5


@pytest.mark.parametrize("kind", [*KINDS, "weights"])
@pytest.mark.parametrize("damage", ["was changed", "is gone"])
def test_every_damaged_blob_is_found(database: Database, blobs: BlobFolder, kind: str, damage: str) -> None:
    digest = blobs.add_bytes(kind.encode())
    path = blobs.path(digest)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1])) if damage == "was changed" else path.unlink()
    found = check_workspace(database, blobs, [digest] if kind == "weights" else [])
    if kind == "weights" and damage == "is gone":
        assert found.faults == ()
    else:
        (fault,) = found.faults
        assert digest[:12] in fault
        assert damage in fault


def test_a_changed_audit_trail_is_found(database: Database, blobs: BlobFolder) -> None:
    with database.writing() as connection:
        connection.execute(text("DROP TRIGGER audit_no_update"))
        connection.execute(text("UPDATE audit SET subject = 'other' WHERE number = 3"))
    assert any("row 3 of the audit trail" in fault for fault in check_workspace(database, blobs).faults)


def test_a_backup_is_a_workspace_of_its_own(
    database: Database, workspace: Path, blobs: BlobFolder, tmp_path: Path
) -> None:
    weight = blobs.add_bytes(b"weights")
    blobs.add_bytes(b"an orphan")
    (workspace / "uploads" / "one").mkdir(parents=True)
    (workspace / "uploads" / "one" / "a.dcm").write_bytes(b"dicom")
    (workspace / "uploads" / "one" / ".part-b").write_bytes(b"half")
    reports: list[float] = []
    control = Control(report=lambda fraction, _: reports.append(fraction))
    copied = back_up(workspace, tmp_path / "copy", Contents([weight, "0" * 64], ["uploads", "apps"]), control)
    assert (copied.blobs, copied.files) == (6, 1)
    assert reports == sorted(reports)
    restored = open_database(tmp_path / "copy" / "annotate.sqlite")
    found = check_workspace(restored, BlobFolder(tmp_path / "copy" / "blobs"), [weight])
    assert (found.blobs, found.orphans, found.faults) == (6, 0, ())
    assert SqliteLabels(restored).get("l1") == SqliteLabels(database).get("l1")
    assert (tmp_path / "copy" / "uploads" / "one" / "a.dcm").read_bytes() == b"dicom"
    assert not (tmp_path / "copy" / "uploads" / "one" / ".part-b").exists()
    restored.close()


def test_a_backup_of_a_workspace_in_use_is_consistent(
    database: Database, workspace: Path, blobs: BlobFolder, tmp_path: Path
) -> None:
    begun, stop = Event(), Event()

    def work() -> None:
        number = 0
        while not stop.is_set() and number < 500:
            number += 1
            content = f"label {number}".encode()
            blobs.add_bytes(content)
            SqliteLabels(database).accept(replace(label(f"x{number}"), layers=(layer(content),)), None, ANNE)
            begun.set()

    worker = Thread(target=work)
    worker.start()
    begun.wait()
    copied = back_up(workspace, tmp_path / "copy", Contents())
    stop.set()
    worker.join()
    restored = open_database(tmp_path / "copy" / "annotate.sqlite")
    found = check_workspace(restored, BlobFolder(tmp_path / "copy" / "blobs"))
    assert (found.faults, found.orphans) == ((), 0)
    assert found.blobs == copied.blobs > len(KINDS)
    restored.close()


def test_a_backup_refuses_a_folder_that_holds_something(database: Database, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").touch()
    with pytest.raises(StateError, match="not empty"):
        back_up(workspace, tmp_path / "copy", Contents())


def test_a_backup_of_a_damaged_workspace_fails(
    database: Database, workspace: Path, blobs: BlobFolder, tmp_path: Path
) -> None:
    blobs.path(layer(b"label").blob).write_bytes(b"other")
    with pytest.raises(StorageFailed):
        back_up(workspace, tmp_path / "copy", Contents())


def test_a_backup_can_be_stopped(database: Database, workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        back_up(workspace, tmp_path / "copy", Contents(), Control(is_cancelled=lambda: True))


def test_two_servers_never_share_a_workspace(workspace: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from annotate_server.stores.workspace_lock import workspace_lock\n"
        "with workspace_lock(Path(sys.argv[1])):\n    print('mine', flush=True)\n    sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", program, str(workspace)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(StateError, match=f"process {other.pid}"), workspace_lock(workspace):
            pass
        other.kill()
    with workspace_lock(workspace), pytest.raises(StateError), workspace_lock(workspace):
        pass
    with workspace_lock(workspace):
        pass
