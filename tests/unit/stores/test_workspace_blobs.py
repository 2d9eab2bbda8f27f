import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from annotate_server.domain.errors import NoSpace, StorageFailed
from annotate_server.imaging.whole_file import make_folder, whole_file
from annotate_server.stores.blobs import BlobFolder

CONTENT = b"some bytes"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "deep" / "blobs")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def failing(name: str, error: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error), name)

    return fail


def test_bytes_come_back(blobs: BlobFolder) -> None:
    assert blobs.add_bytes(CONTENT) == DIGEST
    assert blobs.read(DIGEST) == CONTENT
    assert list(blobs.all()) == [DIGEST]


def test_a_file_is_kept_under_its_digest(blobs: BlobFolder, tmp_path: Path) -> None:
    with blobs.adding() as added:
        added.path.write_bytes(CONTENT)
        assert added.sha256 == ""
    assert added.sha256 == DIGEST
    assert files(tmp_path) == [DIGEST]


def test_nothing_is_left_of_a_file_that_was_given_up(blobs: BlobFolder, tmp_path: Path) -> None:
    def give_up() -> None:
        with blobs.adding() as added:
            added.path.write_bytes(CONTENT)
            raise KeyError

    with pytest.raises(KeyError):
        give_up()
    assert files(tmp_path) == []


def test_a_blob_that_is_there_is_not_written_again_but_a_damaged_one_is(blobs: BlobFolder) -> None:
    blobs.add_bytes(CONTENT)
    inode = blobs.path(DIGEST).stat().st_ino
    blobs.add_bytes(CONTENT)
    with blobs.adding() as added:
        added.path.write_bytes(CONTENT)
    assert blobs.path(DIGEST).stat().st_ino == inode
    blobs.path(DIGEST).write_bytes(b"other bytes")
    blobs.add_bytes(CONTENT)
    assert blobs.read(DIGEST) == CONTENT


def test_a_changed_or_missing_blob_is_never_served(blobs: BlobFolder) -> None:
    blobs.add_bytes(CONTENT)
    blobs.path(DIGEST).write_bytes(b"some bytez")
    with pytest.raises(StorageFailed, match="changed on the disk"):
        blobs.read(DIGEST)
    blobs.path(DIGEST).unlink()
    with pytest.raises(StorageFailed, match="gone"):
        blobs.read(DIGEST)
    with pytest.raises(StorageFailed, match="no SHA-256"):
        blobs.read("../../etc/passwd")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename"])
def test_a_full_disk_is_no_space_and_leaves_nothing(
    blobs: BlobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, call: str
) -> None:
    make_folder(tmp_path / "deep")
    monkeypatch.setattr(os, {"rename": "replace"}.get(call, call), failing(call, error))
    with pytest.raises(NoSpace):
        blobs.add_bytes(CONTENT)
    with pytest.raises(NoSpace), whole_file(tmp_path / "new" / "file") as temporary:
        temporary.write_bytes(CONTENT)
    monkeypatch.undo()
    assert files(tmp_path) == []
    assert blobs.read(blobs.add_bytes(CONTENT)) == CONTENT


def test_another_refusal_is_storage_failed(blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing("fsync", errno.EIO))
    with pytest.raises(StorageFailed) as caught:
        blobs.add_bytes(CONTENT)
    assert not isinstance(caught.value, NoSpace)


def test_the_entries_of_new_folders_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    BlobFolder(tmp_path / "a" / "b").add_bytes(CONTENT)
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / DIGEST[:2]} <= set(synced)


def test_leftovers_of_a_killed_process_are_swept(blobs: BlobFolder, tmp_path: Path) -> None:
    blobs.add_bytes(CONTENT)
    (tmp_path / "deep" / "blobs" / ".part-x").write_bytes(b"1")
    (blobs.path(DIGEST).parent / ".part-y-z").write_bytes(b"2")
    assert blobs.sweep() == 2
    assert files(tmp_path) == [DIGEST]
    assert BlobFolder(tmp_path / "nowhere").sweep() == 0
