"""What is found in the folder of a MONAI Label server, whatever its index says."""

import json
import unicodedata
from pathlib import Path

import pytest
from conftest import oblique_geometry
from foreign_store import SAVED_AT, ForeignStore, blocks, named

from annotate_server.domain.errors import UnreadableFile
from annotate_server.imaging.foreign_datastore import ForeignDatastore, read_foreign_datastore

GRID = oblique_geometry((4, 6, 5))


@pytest.fixture
def store(tmp_path: Path) -> ForeignStore:
    return ForeignStore(tmp_path / "studies", GRID)


def read(store: ForeignStore) -> ForeignDatastore:
    store.write_index()
    return read_foreign_datastore(store.folder)


def test_labels_of_all_tags_come_with_what_is_said_of_them_oldest_first(store: ForeignStore) -> None:
    store.volume("liver 1", 1)
    meta = {"status": "Approved", "approvedBy": "carla", "level": "easy", "comment": "fine\nso", "editTime": SAVED_AT}
    store.label("liver 1", "version_1", blocks(GRID, 1), {"client_id": "bo", "segmentationMeta": meta})
    store.label("liver 1", "original", blocks(GRID, 1), {"model": "unet", "params": {"label_names": {"Liver": 1}}})
    store.label("liver 1", "mine", blocks(GRID, 1), {"client_id": "ann", "label_info": named("Liver")})
    (volume,) = read(store).volumes
    assert volume.name == "liver 1"
    assert [label.tag for label in volume.labels] == ["version_1", "original", "mine"]
    assert [label.is_by_a_model for label in volume.labels] == [False, True, False]
    first, draft, last = (label.told for label in volume.labels)
    assert (first.author, first.status, first.reviewer, first.comment) == ("bo", "approved", "carla", "fine so")
    assert (draft.model, draft.label_names) == ("unet", {"Liver": 1})
    assert last.label_info == named("Liver")
    assert volume.labels[0].made_at.timestamp() == SAVED_AT


def test_a_draft_that_was_saved_under_another_tag_is_still_a_draft(store: ForeignStore) -> None:
    store.volume("a", 1)
    store.label("a", "auto", blocks(GRID, 1), {"model": "unet", "params": {"label_names": {"Liver": 1}}})
    assert read(store).volumes[0].labels[0].is_by_a_model


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "", "a/../../outside", "a\0b", "\ud800"])
def test_a_name_of_the_index_is_compared_and_never_opened(store: ForeignStore, name: str) -> None:
    store.volume("a", 1)
    (store.folder.parent / "outside.nii.gz").write_bytes(b"secret")
    (store.folder.parent / "outside").mkdir()
    (store.folder.parent / "outside/a.nii.gz").write_bytes(b"secret")
    store.objects[name] = {"image": {"ext": ".nii.gz"}, "labels": {"final": {"ext": ".nii.gz"}}}
    store.objects["a"]["labels"]["../../outside"] = {"ext": ".nii.gz"}
    found = read(store)
    assert [volume.name for volume in found.volumes] == ["a"]
    assert found.volumes[0].labels == ()
    assert len(found.unplaced) == 2
    assert all(each.name.isprintable() and each.tag.isprintable() for each in found.unplaced)


@pytest.mark.parametrize("words", ["..", "../outside", "/", "labels/../.."])
def test_the_folder_of_labels_is_never_outside(store: ForeignStore, words: str) -> None:
    store.volume("a", 1)
    store.label("a", "final", blocks(GRID, 1), {})
    outside = store.folder.parent / "outside/final"
    outside.mkdir(parents=True)
    (outside / "a.nii.gz").write_bytes(b"secret")
    store.write_index()
    path = store.folder / "datastore_v2.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels_dir": words}))
    (label,) = read_foreign_datastore(store.folder).volumes[0].labels
    assert label.path.is_relative_to(store.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"objects": 3}', b"[" * 100_000, b"\xff\xfe", b"null"])
def test_without_an_index_the_folders_tell_what_there_is(store: ForeignStore, content: bytes) -> None:
    store.volume("a.b", 1)
    store.label("a.b", "final", blocks(GRID, 1), {"client_id": "ann"})
    (store.folder / "readme.txt").touch()
    (store.folder / "datastore_v2.json").write_bytes(content)
    found = read_foreign_datastore(store.folder)
    (label,) = found.volumes[0].labels
    assert (found.volumes[0].name, label.tag, label.told.author) == ("a.b", "final", "")
    assert label.made_at.timestamp() == pytest.approx(label.path.stat().st_mtime, abs=1)
    assert "empty or damaged" in found.notes[0]


@pytest.mark.parametrize(
    "wrong", [3, None, [], {"image": 3}, {"image": {"ext": 3}, "labels": []}, {"labels": {"t": 1}}]
)
def test_an_entry_of_another_form_costs_nothing_but_itself(store: ForeignStore, wrong: object) -> None:
    store.volume("a", 1)
    store.label("a", "final", blocks(GRID, 1), {"client_id": 3, "ts": "soon", "segmentationMeta": [], "params": 1})
    store.objects["b"] = wrong
    (volume,) = read(store).volumes
    assert (volume.name, [label.told.author for label in volume.labels]) == ("a", [""])


def test_what_the_index_and_the_folders_do_not_share_is_told(store: ForeignStore) -> None:
    store.volume("a", 1)
    store.label("a", "final", blocks(GRID, 1), {}).unlink()
    store.volume("gone", 2).unlink()
    orphan = store.folder / "labels/final/nobody.nii.gz"
    orphan.write_bytes(b"x")
    found = read(store)
    told = {(each.name, each.tag): each.reason for each in found.unplaced}
    assert set(told) == {("a", "final"), ("gone", ""), ("nobody.nii.gz", "final")}
    assert "no such file" in told["gone", ""]
    assert "no volume of its name" in told["nobody.nii.gz", "final"]


def test_the_same_letters_written_otherwise_are_the_same_name(store: ForeignStore) -> None:
    written = unicodedata.normalize("NFD", "Übung")
    store.volume(written, 1)
    store.label(written, "final", blocks(GRID, 1), {"client_id": "ann"})
    store.objects = {unicodedata.normalize("NFC", name): entry for name, entry in store.objects.items()}
    found = read(store)
    assert [label.told.author for label in found.volumes[0].labels] == ["ann"]
    assert found.unplaced == ()


def test_a_file_that_an_earlier_save_left_is_a_label_of_its_own(store: ForeignStore) -> None:
    store.volume("a", 1)
    store.label("a", "final", blocks(GRID, 1), {"client_id": "ann"}, ext=".nrrd")
    store.label("a", "final", blocks(GRID, 1), {"client_id": "bo"})
    (volume,) = read(store).volumes
    assert sorted(label.told.author for label in volume.labels) == ["", "bo"]


def test_the_layout_before_tags_had_folders_is_read(store: ForeignStore) -> None:
    store.volume("a", 1)
    store.label("a", "x", blocks(GRID, 1), {})
    (store.folder / "labels/x/a.nii.gz").rename(store.folder / "labels/label_final_a.nii.gz")
    (store.folder / "labels/x").rmdir()
    label = {"id": "label_final_a.nii.gz", "tag": "final", "info": {"ts": SAVED_AT, "client_id": "ann"}}
    old = {"name": "n", "description": "", "objects": [{"image": {"id": "a.nii.gz"}, "labels": [label]}]}
    (store.folder / "datastore.json").write_text(json.dumps(old))
    found = read_foreign_datastore(store.folder)
    (volume,) = found.volumes
    assert [(each.tag, each.told.author) for each in volume.labels] == [("final", "ann")]
    assert (found.unplaced, found.notes) == ((), ())
    (store.folder / "datastore.json").unlink()
    assert [each.tag for each in read_foreign_datastore(store.folder).volumes[0].labels] == ["final"]


def test_in_the_cache_of_an_archive_the_series_is_the_volume(store: ForeignStore) -> None:
    store.volume("1.2.3", 1)
    series = store.folder / "1.2.3"
    series.mkdir()
    store.label("1.2.3", "final", blocks(GRID, 1), {})
    (store.folder / "labels/final/1.2.99").mkdir()
    found = read(store)
    assert [(volume.name, volume.path) for volume in found.volumes] == [("1.2.3", series)]
    assert [label.tag for label in found.volumes[0].labels] == ["final"]


def test_a_folder_that_is_no_datastore_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such folder"):
        read_foreign_datastore(tmp_path / "nowhere")
    with pytest.raises(UnreadableFile, match="no volume"):
        read_foreign_datastore(tmp_path)
