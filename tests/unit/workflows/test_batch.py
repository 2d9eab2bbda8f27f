import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import NoSpace, NotMadeFor, UnreadableFile
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap
from annotate_server.testing.fakes import (
    InMemoryBackends,
    InMemoryReader,
    InMemoryRegistry,
    ThresholdBackend,
    threshold_app,
)
from annotate_server.workflows.batch import Batch, BatchOrder
from annotate_server.workflows.drafter import Keep, LocalDrafter
from annotate_server.workflows.manifest import ManifestLine, Status
from annotate_server.workflows.predict import Predictor

SHAPE = (9, 14, 11)


@dataclass
class Bench:
    """Three volumes on disk (as far as a fingerprint sees), a model, and an output folder."""

    folder: Path
    volumes: dict[str, Volume | Exception] = field(default_factory=dict)
    backend: ThresholdBackend = field(default_factory=ThresholdBackend)
    reader: InMemoryReader = field(init=False)
    keep: Keep | None = None

    def __post_init__(self) -> None:
        (self.folder / "in").mkdir()
        self.reader = InMemoryReader(self.volumes)

    def stored(self, key: str, modality: Modality | None = None, **changes: object) -> StoredVolume:
        path = self.folder / "in" / key
        if not path.exists():
            path.write_text(key)
        if key not in self.volumes:
            self.volumes[key] = a_volume(seed=len(self.volumes))
        return StoredVolume(key, Format.NIFTI, (path,), PatientKey("", key), modality, **changes)

    def batch(self, **changes: object) -> Batch:
        registry = InMemoryRegistry({"bright": threshold_app()})
        predictor = Predictor(registry, InMemoryBackends({"threshold": self.backend}))
        drafter = LocalDrafter("bright", predictor, self.keep)
        return Batch(BatchOrder("bright", self.folder / "out", **changes), drafter, self.reader)

    def run(self, stored: list[StoredVolume], **changes: object) -> list[ManifestLine | None]:
        return list(self.batch(**changes).drafts(stored, Control()))

    def manifest(self) -> list[dict]:
        return [json.loads(text) for text in (self.folder / "out" / "manifest.jsonl").read_text().splitlines()]


def a_volume(seed: int = 0) -> Volume:
    voxels = np.full(SHAPE, -50, np.int16)
    voxels[3:6, 4:9, 2 : 5 + seed % 4] = 300
    return Volume(voxels, oblique_geometry(SHAPE))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_case_gets_a_labelmap_a_picture_and_a_line(bench: Bench) -> None:
    lines = bench.run([bench.stored("a.nii.gz"), bench.stored("b.nii.gz")])
    assert [line.status for line in lines] == [Status.OK, Status.OK]
    out = bench.folder / "out"
    labels = nib.load(out / "a.nii.gz")
    assert labels.get_fdata().sum() == (bench.volumes["a.nii.gz"].voxels > 100).sum()
    assert (out / "overlays" / "b.png").is_file()
    line = bench.manifest()[0]
    assert line["source"].endswith("in/a.nii.gz")
    assert (line["status"], line["model"]) == ("ok", "bright")
    assert line["segments"]["Bright"]["volume_ml"] > 0
    assert line["segments"]["Bright"]["mean_intensity"] == 300
    assert {output["path"] for output in line["outputs"]} == {"a.nii.gz", "overlays/a.png"}
    assert line["problem"] is None


def test_a_bad_case_is_named_and_never_stops_the_rest(bench: Bench) -> None:
    bench.volumes["bad.nii.gz"] = UnreadableFile("it ends in the middle", source="bad.nii.gz")
    scanned_bad = bench.stored("c.nii.gz", problem=UnreadableFile("no NIfTI", source="c.nii.gz").problem())
    lines = bench.run([bench.stored("bad.nii.gz"), scanned_bad, bench.stored("ok.nii.gz")])
    assert [line.status for line in lines] == [Status.FAILED, Status.FAILED, Status.OK]
    assert bench.manifest()[0]["problem"] == {
        "type": "unreadable-file",
        "title": "The file is damaged or is not what its name says",
        "detail": "bad.nii.gz: it ends in the middle.",
    }
    assert bench.manifest()[1]["problem"]["detail"] == "c.nii.gz: no NIfTI."


def test_a_model_that_breaks_on_a_case_fails_that_case_alone(bench: Bench) -> None:
    bench.backend.failure = RuntimeError("out of memory")
    lines = bench.run([bench.stored("a.nii.gz")])
    assert lines[0].status is Status.FAILED
    assert lines[0].problem.type == "prediction-failed"
    assert "out of memory" in lines[0].problem.detail


def test_what_the_model_is_not_made_for_is_skipped_unread(bench: Bench) -> None:
    refused = bench.stored("r.nii.gz", problem=NotMadeFor("a report", source="r.nii.gz").problem())
    lines = bench.run([bench.stored("pet.nii.gz", Modality.PT), refused])
    assert [line.status for line in lines] == [Status.SKIPPED, Status.SKIPPED]
    assert bench.reader.read_keys == []
    assert "PT" in lines[0].problem.detail


def test_resuming_does_only_what_is_missing_changed_or_damaged(bench: Bench) -> None:
    stored = [bench.stored(f"{name}.nii.gz") for name in "abcd"]
    bench.run(stored)
    bench.reader.read_keys.clear()
    out = bench.folder / "out"
    (out / "b.nii.gz").write_bytes((out / "b.nii.gz").read_bytes()[:-7])
    (out / "overlays" / "c.png").unlink()
    (bench.folder / "in" / "d.nii.gz").write_text("another volume")
    lines = bench.run(stored, resume=True)
    assert bench.reader.read_keys == ["b.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert lines.count(None) == 1
    assert sorted(line["key"] for line in bench.manifest()) == [f"{name}.nii.gz" for name in "abcd"]
    read_labelmap(out / "b.nii.gz", bench.volumes["b.nii.gz"])


def test_resuming_in_another_format_drafts_again(bench: Bench) -> None:
    stored = [bench.stored("a.nii.gz")]
    bench.run(stored)
    assert bench.run(stored, resume=True) == [None]
    assert bench.run(stored, resume=True, format=LabelmapFormat.NRRD)[0] is not None
    assert (bench.folder / "out" / "a.seg.nrrd").is_file()


def test_a_failed_case_is_tried_again_and_a_torn_line_is_no_obstacle(bench: Bench) -> None:
    bench.backend.failure = RuntimeError("once")
    stored = [bench.stored("a.nii.gz"), bench.stored("b.nii.gz")]
    bench.run(stored)
    with (bench.folder / "out" / "manifest.jsonl").open("a") as stream:
        stream.write('{"key": "b.nii.gz", "status": "o')
    bench.backend.failure = None
    lines = bench.run(stored, resume=True)
    assert [line.status for line in lines] == [Status.OK, Status.OK]
    assert len(bench.manifest()) == 2


def test_stopping_early_leaves_what_was_finished_valid_with_its_contact_sheet(bench: Bench) -> None:
    stored = [bench.stored(f"{name}.nii.gz") for name in "abc"]
    running = bench.batch().drafts(stored, Control())
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
    assert [line["key"] for line in bench.manifest()] == ["a.nii.gz"]
    page = (bench.folder / "out" / "index.html").read_text()
    assert "a.nii.gz" in page
    assert "1 drafted" in page
    assert not list((bench.folder / "out").rglob(".part-*"))


def test_the_contact_sheet_escapes_what_files_are_called(bench: Bench) -> None:
    bench.volumes["<script>x.nii"] = UnreadableFile("broken & <b>", source="<script>x.nii")
    bench.run([bench.stored("<script>x.nii")])
    page = (bench.folder / "out" / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;x.nii" in page
    assert "broken &amp; &lt;b&gt;" in page


def test_the_next_volume_is_read_while_the_present_one_is_drafted(bench: Bench) -> None:
    stored = [bench.stored(f"{name}.nii.gz") for name in "abc"]
    running = bench.batch().drafts(stored, Control())
    next(running)
    running.close()
    assert bench.reader.read_keys == ["a.nii.gz", "b.nii.gz"]


def test_nothing_of_a_volume_is_in_the_manifest_but_its_name_and_numbers(bench: Bench) -> None:
    bench.run([bench.stored("a.nii.gz")])
    assert bench.manifest()[0]["geometry"]["shape"] == list(SHAPE)
    assert len(bench.manifest()[0]["digest"]) == 64


def test_a_draft_that_cannot_be_kept_in_the_workspace_is_written_all_the_same_and_says_so(bench: Bench) -> None:
    def refuse(stored: StoredVolume, volume: Volume, result: object) -> None:
        raise NoSpace("the disk is full")

    bench.keep = refuse
    (line,) = bench.run([bench.stored("a.nii")])
    assert line is not None
    assert line.status is Status.OK
    assert "not kept in the workspace: the disk is full." in line.notes[-1]
    assert (bench.folder / "out" / line.outputs[0].path).is_file()
