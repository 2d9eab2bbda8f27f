"""Exports: the published layouts, exact voxels and grids, pseudonyms only, and what a label leaves open."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from annotation_bench import ANN, BOB, LIVER, PROJECT, SPLEEN, Bench
from conftest import oblique_geometry

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.clock import now
from annotate_server.domain.errors import InvalidRequest, StateError, UnreadableFile
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.learning import PatientPart
from annotate_server.domain.ports import Control
from annotate_server.domain.training import Part
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.nifti import read_nifti
from annotate_server.testing.fakes import InMemoryReader
from annotate_server.testing.memory_learning import InMemoryParts
from annotate_server.workflows.answer import OpenVolumes
from annotate_server.workflows.export import MANIFEST, Exported, Exporter
from annotate_server.workflows.export_plan import ExportFormat, ExportOrder
from annotate_server.workflows.layers import keep_layer
from annotate_server.workflows.parts import patient_of
from annotate_server.workflows.training_examples import StoredExamples

GRID = oblique_geometry((6, 9, 7))
WHO = "MUELLER-4711"


class NoCache:
    """Keeps nothing."""

    def get(self, digest: str) -> None:
        return None

    def put(self, volume: Volume) -> None:
        return None


@dataclass
class Desk:
    bench: Bench
    volumes: dict[str, Volume | UnreadableFile] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.parts = InMemoryParts()
        records, self.reader = self.bench.records, InMemoryReader(self.volumes)
        examples = StoredExamples(records.cases, records.labels, records.blobs, OpenVolumes(self.reader, NoCache()))
        self.exporter = Exporter(records, self.parts, examples)

    def case(self, name: str, *, patient: str = WHO, modality: Modality | None = Modality.CT, text: str = "") -> str:
        key = f"{WHO}/{name}.nii"
        voxels = np.random.default_rng(len(name) + ord(name[-1])).integers(-1000, 1500, GRID.shape).astype(np.int16)
        self.volumes[key] = Volume(voxels, GRID, modality)
        stored = StoredVolume(key, Format.NIFTI, (Path(key),), PatientKey("", patient), modality, description=text)
        self.bench.records.cases.put([Case(name, stored.patient, {"CT": stored})])
        return name

    def label(self, case: str, *layers: tuple[np.ndarray, tuple[Segment, ...]], is_partial: bool = False) -> str:
        kept = tuple(keep_layer(self.bench.records.blobs, Labelmap(v, GRID, s)) for v, s in layers)
        self.count += 1
        self.bench.clock.forward(1)
        made_at, state = self.bench.clock(), LabelState.APPROVED
        made = Label(f"label{self.count}", "organs", case, "ann", kept, made_at=made_at, state=state)
        self.bench.records.labels.accept(replace(made, is_partial=is_partial), None, ANN)
        return made.id

    def whole(self, name: str, **words: object) -> str:
        return self.label(self.case(name, **words), (drawn(), (LIVER, SPLEEN)))

    def drawn_for(self, case: str, part: Part) -> None:
        patient = patient_of(self.bench.records.cases.get(case))
        self.parts.draw([PatientPart("organs", patient, part, now())])

    def export(self, kind: str = "nnunet", **words: object) -> Exported:
        order = ExportOrder("organs", ExportFormat(kind), **words)
        return self.exporter.export(order, self.bench.folder / "out", Control())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    bench = Bench(tmp_path, GRID)
    bench.records.projects.add(PROJECT, BOB)
    yield Desk(bench)
    bench.close()


def drawn(liver: int = LIVER.index, spleen: int = SPLEEN.index) -> np.ndarray:
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[1:3, 2:5, 1:4] = liver
    voxels[4, 5:8, 2:6] = spleen
    return voxels


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def ras_affine() -> np.ndarray:
    affine: np.ndarray = np.diag([-1.0, -1.0, 1.0, 1.0]) @ GRID.affine[:, [2, 1, 0, 3]]
    return affine


def test_nnunet_has_its_layout_and_says_its_channel_and_labels(desk: Desk) -> None:
    desk.whole("a", patient="1")
    desk.whole("b", patient="2")
    exported = desk.export(number=512)
    assert exported.folder.name == "Dataset512_Organs"
    table = json.loads((exported.folder / "dataset.json").read_text())
    assert table["channel_names"] == {"0": "CT"}
    assert table["labels"] == {"background": 0, "Liver": 1, "Spleen": 2}
    assert (table["numTraining"], table["file_ending"]) == (2, ".nii.gz")
    volumes = sorted(path.name for path in (exported.folder / "imagesTr").iterdir())
    labels = sorted(path.name for path in (exported.folder / "labelsTr").iterdir())
    assert [name.removesuffix("_0000.nii.gz") for name in volumes] == [name.removesuffix(".nii.gz") for name in labels]
    assert len(volumes) == 2


def test_voxels_and_grids_are_exact_for_us_and_for_another_reader(desk: Desk) -> None:
    desk.whole("a")
    exported = desk.export()
    (volume,), (label,) = (list((exported.folder / f"{what}Tr").iterdir()) for what in ("images", "labels"))
    truth = desk.volumes[f"{WHO}/a.nii"]
    assert isinstance(truth, Volume)
    for path, voxels in ((volume, truth.voxels), (label, drawn())):
        theirs = nib.nifti1.load(path)
        np.testing.assert_array_equal(np.asarray(theirs.dataobj).transpose(2, 1, 0), voxels)
        assert theirs.get_data_dtype() == voxels.dtype
        np.testing.assert_allclose(theirs.affine, ras_affine(), atol=1e-4)
        np.testing.assert_allclose(theirs.get_sform(), theirs.get_qform(), atol=1e-4)
        ours = read_nifti(StoredVolume(path.name, Format.NIFTI, (path,), PatientKey("", "x")))
        np.testing.assert_array_equal(ours.voxels, voxels)
        assert ours.geometry.matches(GRID)
    assert (nib.nifti1.load(volume).affine == nib.nifti1.load(label).affine).all()


def test_numbers_follow_the_project_whatever_a_labels_own_indices_are(desk: Desk) -> None:
    theirs = (Segment(9, "spleen", (1, 1, 1)), Segment(4, "LIVER", (2, 2, 2)))
    desk.label(desk.case("a"), (drawn(liver=4, spleen=9), theirs))
    (label,) = (desk.export().folder / "labelsTr").iterdir()
    np.testing.assert_array_equal(np.asarray(nib.nifti1.load(label).dataobj).transpose(2, 1, 0), drawn())


def test_project_indices_with_gaps_are_numbered_without(desk: Desk) -> None:
    desk.bench.records.projects.change(replace(PROJECT, segments=(replace(SPLEEN, index=7), LIVER)), BOB)
    desk.whole("a")
    exported = desk.export()
    labels = json.loads((exported.folder / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "Spleen": 1, "Liver": 2}
    (label,) = (exported.folder / "labelsTr").iterdir()
    expected = np.select([drawn() == 1, drawn() == 2], [2, 1], 0)
    np.testing.assert_array_equal(np.asarray(nib.nifti1.load(label).dataobj).transpose(2, 1, 0), expected)


def test_what_a_label_leaves_open_is_the_highest_number_and_called_ignore(desk: Desk) -> None:
    desk.label(desk.case("a"), (drawn(), (LIVER, SPLEEN)), is_partial=True)
    only_liver = np.where(drawn() == 1, 1, 0).astype(np.uint8)
    desk.label(desk.case("b"), (only_liver, (LIVER,)))
    exported = desk.export()
    table = json.loads((exported.folder / "dataset.json").read_text())
    assert table["labels"]["ignore"] == max(table["labels"].values()) == 3
    found = {}
    for case in exported.cases:
        (path,) = (exported.folder / "labelsTr").glob(f"*{case.case.scan}.nii.gz")
        found[case.case.case.id] = np.asarray(nib.nifti1.load(path).dataobj).transpose(2, 1, 0)
    spoken = drawn().any(axis=(1, 2))
    assert (found["a"][~spoken] == 3).all()
    np.testing.assert_array_equal(found["a"][spoken], drawn()[spoken])
    np.testing.assert_array_equal(found["b"], np.where(only_liver == 1, 1, 3))
    assert any("2 labels do not speak" in note for note in exported.notes)


def test_msd_has_its_table_and_leaves_out_what_it_cannot_say(desk: Desk) -> None:
    desk.whole("a", patient="1")
    desk.label(desk.case("b"), (drawn(), (LIVER, SPLEEN)), is_partial=True)
    exported = desk.export("msd", number=11)
    assert exported.folder.name == "Task11_Organs"
    table = json.loads((exported.folder / "dataset.json").read_text())
    assert table["labels"] == {"0": "background", "1": "Liver", "2": "Spleen"}
    assert table["modality"] == {"0": "CT"}
    assert (table["numTraining"], table["numTest"], table["tensorImageSize"]) == (1, 0, "3D")
    (pair,) = table["training"]
    assert (exported.folder / pair["image"]).is_file()
    assert (exported.folder / pair["label"]).is_file()
    assert [each.case.case.id for each in exported.failed] == ["b"]


def test_bids_has_a_derivative_with_a_table_of_segments(desk: Desk) -> None:
    desk.whole("a", patient="1", modality=Modality.MR, text="t1_mprage_sag")
    exported = desk.export("bids")
    (subject,) = exported.folder.glob("sub-*")
    (volume,) = subject.glob("ses-*/anat/*_T1w.nii.gz")
    derivative = exported.folder / "derivatives" / "annotate-server"
    (label,) = derivative.glob("sub-*/ses-*/anat/*_space-orig_dseg.nii.gz")
    assert label.name.split("_space")[0] == volume.name.split("_T1w")[0]
    rows = list(csv.DictReader((derivative / "dseg.tsv").read_text().splitlines(), delimiter="\t"))
    assert [(row["index"], row["name"]) for row in rows] == [("0", "Background"), ("1", "Liver"), ("2", "Spleen")]
    assert rows[1]["color"] == "#dd8265"
    for path, kind in ((exported.folder, "raw"), (derivative, "derivative")):
        description = json.loads((path / "dataset_description.json").read_text())
        assert description["DatasetType"] == kind
        assert description["BIDSVersion"]
    participants = (exported.folder / "participants.tsv").read_text().splitlines()
    assert participants == ["participant_id\tpart", f"{subject.name}\ttrain"]
    sidecar = json.loads(label.with_name(label.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Manual"] is True
    assert (exported.folder / sidecar["Sources"][0].removeprefix("bids:raw:")).is_file()


def test_bids_does_not_guess_a_contrast(desk: Desk) -> None:
    desk.whole("a", modality=Modality.MR, text="localizer")
    assert "--suffix" in desk.export("bids").failed[0].problem
    assert desk.export("bids", suffix="T2w").failed == ()


def test_no_file_name_or_content_holds_who_it_is(desk: Desk) -> None:
    desk.whole("a")
    for kind in ("nnunet", "msd", "bids"):
        order = ExportOrder("organs", ExportFormat(kind))
        folder = desk.exporter.export(order, desk.bench.folder / kind, Control()).folder
        pseudonym = patient_of(desk.bench.records.cases.get("a"))
        for name in files(folder):
            content = (folder / name).read_bytes()
            content += bytes(nib.nifti1.load(folder / name).header.binaryblock) if name.endswith(".gz") else b""
            for word in (WHO, pseudonym):
                assert word.encode() not in content, name
                assert word not in name


def test_one_patient_has_one_pseudonym_and_another_project_another(desk: Desk) -> None:
    desk.whole("a", patient="7")
    desk.whole("b", patient="7")
    names = {case.case.patient for case in desk.export().cases}
    assert len(names) == 1
    assert all(re.fullmatch(r"[0-9a-f]{10}", name) for name in names)
    scans = {case.case.scan for case in desk.export().cases}
    assert len(scans) == 2


def test_who_must_not_be_learned_from_lies_apart(desk: Desk) -> None:
    desk.whole("a", patient="1")
    desk.whole("b", patient="2")
    desk.drawn_for("b", Part.GATE)
    exported = desk.export()
    assert json.loads((exported.folder / "dataset.json").read_text())["numTraining"] == 1
    assert (
        len(list((exported.folder / "imagesTs").iterdir())) == len(list((exported.folder / "labelsTs").iterdir())) == 1
    )
    assert any("must not be learned from" in note for note in exported.notes)


def test_an_export_goes_on_where_it_was_and_writes_only_what_is_new(desk: Desk) -> None:
    desk.whole("a", patient="1")
    first = desk.export()
    before = {name: (first.folder / name).stat().st_mtime_ns for name in files(first.folder) if name.endswith(".gz")}
    desk.whole("b", patient="2")
    second = desk.export()
    assert [case.is_new for case in second.cases] == [False, True]
    assert all((first.folder / name).stat().st_mtime_ns == at for name, at in before.items())
    damaged = first.folder / next(iter(before))
    damaged.write_bytes(b"cut")
    assert [case.is_new for case in desk.export().cases] == [True, False]
    assert damaged.stat().st_size > 100


def test_a_newer_label_takes_the_place_of_the_older_and_a_gone_case_is_taken_away(desk: Desk) -> None:
    desk.whole("a", patient="1")
    desk.whole("b", patient="2")
    folder = desk.export().folder
    other = drawn()
    other[0, 0, 0] = 2
    desk.label("a", (other, (LIVER, SPLEEN)))
    desk.bench.records.cases.keep_only(["a"])
    exported = desk.export()
    assert len(exported.cases) == 1
    (label,) = (folder / "labelsTr").iterdir()
    np.testing.assert_array_equal(np.asarray(nib.nifti1.load(label).dataobj).transpose(2, 1, 0), other)
    assert len((folder / MANIFEST).read_text().splitlines()) == 1


def test_other_segments_in_the_project_make_every_label_anew(desk: Desk) -> None:
    desk.whole("a")
    desk.export()
    desk.bench.records.projects.change(replace(PROJECT, segments=(SPLEEN, LIVER)), BOB)
    assert [case.is_new for case in desk.export().cases] == [True]


def test_one_case_that_cannot_be_read_never_stops_the_rest(desk: Desk) -> None:
    desk.whole("a", patient="1")
    desk.whole("b", patient="2")
    desk.volumes[f"{WHO}/a.nii"] = UnreadableFile("it is cut off")
    exported = desk.export()
    assert [case.problem for case in exported.failed] == ["it is cut off."]
    assert json.loads((exported.folder / "dataset.json").read_text())["numTraining"] == 1


def test_modalities_are_not_mixed(desk: Desk) -> None:
    desk.whole("a")
    desk.whole("b", modality=Modality.MR)
    with pytest.raises(InvalidRequest, match="several modalities"):
        desk.export()
    assert [case.case.case.id for case in desk.export(modality=Modality.MR).cases] == ["b"]


def test_a_folder_with_something_else_in_it_is_left_alone(desk: Desk) -> None:
    desk.whole("a")
    folder = desk.bench.folder / "out" / "Dataset500_Organs"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(StateError, match="not empty"):
        desk.export()
    assert files(folder) == ["mine.txt"]


def test_a_manifest_that_names_files_elsewhere_takes_nothing_away_there(desk: Desk) -> None:
    desk.whole("a")
    folder = desk.export().folder
    outside = desk.bench.folder / "precious"
    outside.write_text("x")
    line = {"label": "z", "meaning": "", "files": {"../../precious": "", str(outside): ""}}
    with (folder / MANIFEST).open("a") as file:
        file.write(json.dumps(line) + "\n")
    desk.export()
    assert outside.read_text() == "x"


def test_nothing_approved_is_refused_and_so_is_a_reserved_name(desk: Desk) -> None:
    with pytest.raises(StateError, match="approved"):
        desk.export()
    desk.bench.records.projects.change(replace(PROJECT, segments=(Segment(1, "Ignore", (1, 1, 1)),)), BOB)
    desk.whole("a")
    with pytest.raises(InvalidRequest, match="Ignore"):
        desk.export()


def test_overlapping_segments_keep_the_smaller_one(desk: Desk) -> None:
    inside = np.zeros(GRID.shape, np.uint8)
    inside[1, 3, 2] = 2
    whole = np.where(drawn() == 1, 1, 0).astype(np.uint8)
    desk.label(desk.case("a"), (whole, (LIVER,)), (inside, (SPLEEN,)))
    (label,) = (desk.export().folder / "labelsTr").iterdir()
    found = np.asarray(nib.nifti1.load(label).dataobj).transpose(2, 1, 0)
    assert found[1, 3, 2] == 2
    assert np.count_nonzero(found == 1) == np.count_nonzero(whole) - 1
