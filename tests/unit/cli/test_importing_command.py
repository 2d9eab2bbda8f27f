"""`annotate import monailabel` into a real workspace: what is there afterwards, and what was refused why."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import oblique_geometry
from foreign_store import SAVED_AT, ForeignStore, blocks, named
from typer.testing import CliRunner

from annotate_server.bootstrap.stored_records import stored_records
from annotate_server.bootstrap.workspace import checked
from annotate_server.cli.console import ports
from annotate_server.cli.main import command_line
from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.case import Format
from annotate_server.domain.labelmap import Labelmap, LabelVoxels, Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.project import ReviewPolicy
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_files import LabelmapFormat, write_labelmap
from annotate_server.imaging.layer_file import read_word
from annotate_server.stores.database import FILE_NAME, open_database
from annotate_server.stores.workspace_lock import workspace_lock
from annotate_server.testing.phantom_files import SeriesWords, write_series
from annotate_server.workflows.layers import read_layer
from annotate_server.workflows.records import Records

GRID = oblique_geometry((5, 9, 7))
SEVEN = ("Spleen", "Right kidney", "Left kidney", "Gallbladder", "Liver", "Stomach", "Aorta")


@dataclass
class Site:
    """A datastore of another server, and a workspace of ours."""

    store: ForeignStore
    workspace: Path

    def run(self, *words: object) -> tuple[int, Mapping[str, Any]]:
        """Import, and return the exit code and the report."""
        self.store.write_index()
        return self.run_as_it_is(*words)

    def run_as_it_is(self, *words: object) -> tuple[int, Mapping[str, Any]]:
        command = ["import", "monailabel", self.store.folder, "--workspace", self.workspace, "--json", *words]
        result = CliRunner().invoke(command_line(("import",)), list(map(str, command)))
        return result.exit_code, json.loads(result.stdout) if result.stdout else {}

    @contextmanager
    def records(self) -> Iterator[Records]:
        database = open_database(self.workspace / FILE_NAME)
        try:
            yield stored_records(ports(self.workspace), database)[0]
        finally:
            database.close()

    def labels(self, project: str = "monailabel") -> tuple[Label, ...]:
        with self.records() as records:
            return tuple(label for case in records.cases.all() for label in records.labels.of_case(project, case.id))

    def voxels(self, label: Label) -> Mapping[str, np.ndarray]:
        """Return where each segment of a label is."""
        with self.records() as records:
            layers = [read_layer(records.blobs, layer) for layer in label.layers]
        return {segment.name: layer.where(segment) for layer in layers for segment in layer.segments}

    def is_intact(self) -> bool:
        return checked(ports(self.workspace), Control()).faults == ()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(ForeignStore(tmp_path / "studies", GRID), tmp_path / "workspace")


def outcomes(report: Mapping[str, Any]) -> Mapping[tuple[str, str], str]:
    return {(item["name"], item["tag"]): item["outcome"] for item in report["items"]}


def reason(report: Mapping[str, Any], tag: str) -> str:
    (item,) = (item for item in report["items"] if item["tag"] == tag)
    return str(item["problem"]["detail"])


@pytest.mark.parametrize("names", [("Liver",), SEVEN])
def test_every_voxel_and_name_comes_in_with_author_time_and_verdict(site: Site, names: tuple[str, ...]) -> None:
    drawn = blocks(GRID, len(names))
    site.store.volume("Übung 1", 1)
    model = {"model": "unet", "params": {"label_names": dict(zip(names, range(1, 9), strict=False))}}
    site.store.label("Übung 1", "original", drawn, model)
    site.store.label("Übung 1", "final", drawn, {"client_id": "ann", "label_info": named(*names, start=2)})
    meta = {"status": "approved", "approvedBy": "carla", "comment": "fine", "editTime": SAVED_AT + 999}
    mirrored: LabelVoxels = np.ascontiguousarray(drawn[::-1])
    reordered = {"label_info": named(*names), "client_id": "bo", "segmentationMeta": meta}
    site.store.label("Übung 1", "version_1", mirrored, reordered)
    site.store.write_index()
    before = site.store.contents()
    code, report = site.run_as_it_is("--modality", "CT")
    assert (code, report["labels"]["imported"], report["drafts"]["imported"]) == (0, 2, 1)
    first, second = site.labels()
    assert (first.author, first.is_author_verified, first.state) == ("ann", False, LabelState.SUBMITTED)
    assert (second.author, second.state, second.reviewer) == ("bo", LabelState.APPROVED, "carla")
    assert first.made_at is not None
    assert first.made_at.timestamp() == SAVED_AT + 60
    assert second.parent == first.id
    for label, voxels in ((first, drawn), (second, mirrored)):
        found = site.voxels(label)
        assert list(found) == list(names)
        for value, name in enumerate(names, 1):
            np.testing.assert_array_equal(found[name], voxels == value)
    with site.records() as records:
        (known,) = records.cases.all()
        draft = records.predictions.newest(known.id)
        assert draft is not None
        np.testing.assert_array_equal(read_layer(records.blobs, draft.layer).voxels, drawn)
        assert (known.name, str(known.modality), draft.model) == ("Übung 1", "CT", "monailabel:unet")
        project = records.projects.get("monailabel")
        assert [segment.name for segment in project.segments] == list(names)
        assert project.review is ReviewPolicy.OTHER_PERSON
        origin = read_word(records.blobs.path(second.layers[0].blob), "AnnotateServer_Imported")
    assert origin is not None
    assert json.loads(origin)["tag"] == "version_1"
    assert "Übung" not in origin
    assert site.is_intact()
    assert site.store.contents() == before


def test_a_second_run_adds_nothing_and_a_third_only_what_is_new(site: Site) -> None:
    site.store.volume("a", 1)
    site.store.label("a", "original", blocks(GRID, 1), {"params": {"label_names": {"Liver": 1}}})
    site.store.label("a", "final", blocks(GRID, 1), {"client_id": "ann", "label_info": named("Liver")})
    assert site.run()[0] == 0
    code, report = site.run()
    assert (code, set(outcomes(report).values())) == (0, {"there already"})
    site.store.label("a", "version_1", blocks(GRID, 1), {"client_id": "bo", "label_info": named("Liver")})
    assert outcomes(site.run()[1])["a", "version_1"] == "imported"
    assert [label.author for label in site.labels()] == ["ann", "bo"]
    with site.records() as records:
        (known,) = records.cases.all()
        assert len(records.predictions.of_case(known.id)) == 1


def test_a_verdict_that_was_given_there_meanwhile_comes_in_too(site: Site) -> None:
    site.store.volume("a", 1)
    meta = {"status": "segmented", "approvedBy": ""}
    info = {"client_id": "ann", "label_info": named("Liver"), "segmentationMeta": meta}
    site.store.label("a", "final", blocks(GRID, 1), info)
    site.run()
    meta |= {"status": "flagged", "approvedBy": "carla", "comment": "the tip is missing"}
    code, report = site.run()
    assert (code, outcomes(report)["a", "final"]) == (0, "there already")
    (label,) = site.labels()
    assert (label.state, label.reviewer, label.comment) == (LabelState.RETURNED, "carla", "the tip is missing")
    meta |= {"status": "approved"}
    site.run()
    assert site.labels() == (label,)


def test_a_series_of_the_cache_of_an_archive_is_copied_with_its_label(site: Site) -> None:
    words = SeriesWords("a", "Doe^Jane", "p1", "abdomen", "ABDOMEN")
    volume = Volume(np.zeros(GRID.shape, np.int16), GRID, Modality.CT)
    site.store.volume("1.2.3.4", 1)
    write_series(site.store.folder / "1.2.3.4", volume, words)
    site.store.label("1.2.3.4", "final", blocks(GRID, 1), {"label_info": named("Liver")})
    assert site.run()[0] == 0
    with site.records() as records:
        (known,) = records.cases.all()
    assert (known.case.reference.format, str(known.modality)) == (Format.DICOM, "CT")
    assert len(known.case.reference.files) == GRID.shape[0]
    (label,) = site.labels()
    assert site.voxels(label)["Liver"].sum() == 1


def test_one_bad_file_never_stops_the_rest(site: Site) -> None:
    site.store.volume("a", 1)
    site.store.volume("broken", 2).write_bytes(b"no volume")
    site.store.label("broken", "of_broken", blocks(GRID, 1), {"label_info": named("Liver")})
    info = {"client_id": "ann", "label_info": named("Liver")}
    other = ForeignStore(site.store.folder, oblique_geometry((5, 9, 8)))
    other.objects = site.store.objects
    other.label("a", "shape", blocks(other.grid, 1), info)
    site.store.label("a", "text", b"Liver: all of it", info)
    site.store.label("a", "empty", b"", info)
    site.store.label("a", "unnamed", blocks(GRID, 2), {"client_id": "ann"})
    site.store.label("a", "few", blocks(GRID, 2), info)
    site.store.label("a", "detection", b'{"box": []}', info, ext=".json")
    site.store.label("a", "good", blocks(GRID, 1), info)
    code, report = site.run()
    assert code == 1
    assert outcomes(report)["a", "good"] == "imported"
    assert report["labels"] == {"imported": 1, "there": 0, "refused": 7}
    assert "the volume" in reason(report, "shape")
    assert "--labels" in reason(report, "unnamed")
    assert "[2]" in reason(report, "few")
    assert "could not be brought in" in reason(report, "of_broken")
    assert str(site.store.folder) not in json.dumps(report["items"])
    assert site.is_intact()


def test_names_of_who_imports_name_what_nothing_else_does(site: Site) -> None:
    site.store.volume("a", 1)
    site.store.label("a", "final", blocks(GRID, 2), {"client_id": "ann"})
    (site.store.folder / "datastore_v2.json").touch()
    code, report = site.run_as_it_is()
    assert (code, "empty or damaged" in report["notes"][0]) == (1, True)
    code, report = site.run_as_it_is("--labels", "Liver=2, Spleen=1", "--project", "organs")
    assert (code, outcomes(report)) == (0, {("a", ""): "there already", ("a", "final"): "imported"})
    (label,) = site.labels("organs")
    assert (label.author, label.state) == ("(unknown)", LabelState.APPROVED)
    np.testing.assert_array_equal(site.voxels(label)["Spleen"], blocks(GRID, 2) == 1)
    assert site.run_as_it_is("--labels", "Liver")[0] == 2


def test_a_file_that_names_its_segments_needs_no_index(site: Site) -> None:
    site.store.volume("a", 1)
    layers = [Labelmap(blocks(GRID, 1), GRID, (Segment(1, name, (9, 9, 9)),)) for name in ("Organ", "Lesion")]
    path = site.store.label("a", "final", None, {}, ext=".seg.nrrd")
    write_labelmap(layers, path, LabelmapFormat.NRRD)
    assert site.run_as_it_is()[0] == 0
    (label,) = site.labels()
    assert list(site.voxels(label)) == ["Organ", "Lesion"]
    with site.records() as records:
        segments = records.projects.get("monailabel").segments
    assert {segment.name: segment.index for segment in segments} == {"Organ": 1, "Lesion": 2}


def test_nothing_depends_on_the_old_folder_unless_one_wants_it_to(site: Site) -> None:
    path = site.store.volume("a", 1)
    assert site.run("--in-place")[0] == 0
    with site.records() as records:
        (known,) = records.cases.all()
    assert (known.case.reference.files, known.is_uploaded) == ((path.resolve(),), False)
    assert outcomes(site.run()[1])["a", ""] == "imported"
    path.unlink()
    with site.records() as records:
        (known,) = records.cases.all()
    assert known.is_uploaded
    assert known.case.reference.files[0].is_relative_to(site.workspace)
    assert known.case.reference.files[0].is_file()


def test_a_dry_run_finds_the_faults_and_keeps_nothing(site: Site) -> None:
    site.store.volume("a", 1)
    site.store.label("a", "final", blocks(GRID, 1), {"label_info": named("Liver")})
    site.store.label("a", "text", b"text", {"label_info": named("Liver")})
    code, report = site.run("--dry-run")
    assert (code, outcomes(report)) == (
        1,
        {("a", ""): "imported", ("a", "final"): "imported", ("a", "text"): "refused"},
    )
    with site.records() as records:
        assert (records.cases.all(), records.projects.all()) == ((), ())
    assert not list((site.workspace / "blobs").rglob("*"))


def test_only_the_tags_that_are_wanted_come_in(site: Site) -> None:
    site.store.volume("a", 1)
    for tag in ("final", "version_1", "version_2"):
        site.store.label("a", tag, blocks(GRID, 1), {"client_id": tag, "label_info": named("Liver")})
    site.run("--tag", "final", "--tag", "version_2")
    assert [label.author for label in site.labels()] == ["final", "version_2"]


def test_a_project_takes_only_labels_of_its_volumes_and_keeps_its_segments(site: Site) -> None:
    site.store.volume("a", 1)
    site.store.label("a", "final", blocks(GRID, 1), {"client_id": "ann", "label_info": named("liver")})
    site.run("--modality", "CT")
    site.store.label("a", "version_1", blocks(GRID, 2), {"client_id": "bo", "label_info": named("Spleen", "LIVER")})
    assert site.run("--modality", "MR")[0] == 0
    _, second = site.labels()
    assert {segment.name: segment.index for layer in second.layers for segment in layer.segments} == {
        "liver": 1,
        "Spleen": 2,
    }
    with site.records() as records:
        assert [segment.name for segment in records.projects.get("monailabel").segments] == ["liver"]
        assert [str(known.modality) for known in records.cases.all()] == ["CT"]


def test_a_workspace_that_a_server_uses_is_left_alone(site: Site) -> None:
    site.store.volume("a", 1)
    with workspace_lock(site.workspace):
        code, report = site.run()
    assert (code, report["problem"]["type"]) == (1, "state-error")
    assert "Stop that server" in report["problem"]["detail"]
