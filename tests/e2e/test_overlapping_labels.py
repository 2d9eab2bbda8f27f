"""Labels whose segments overlap: in as a file, corrected layer by layer, out again as they were."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from server_process import running

from annotate_server.domain.errors import InvalidLabelmap, UnsupportedInput
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.labelmap_files import LabelmapFormat, read_labelmap, write_labelmap
from annotate_server.testing.phantoms import make_sample_data

ORGAN, LESION = Segment(1, "Organ", (200, 100, 50)), Segment(1, "Lesion", (20, 100, 250))


def test_overlapping_segments_survive_import_correction_and_download(tmp_path: Path) -> None:
    make_sample_data(tmp_path / "samples")
    with running(tmp_path / "workspace", tmp_path / "samples/images") as server:
        server.wait_until_ready().wait_for_cases(3)
        with server.client() as client:
            case = next(case for case in client.cases() if case.series_uid and case.modality == "CT")
            with client.open("demo_ct", case.id):
                geometry = client.case(case.id).geometry
            assert geometry is not None
            organ, lesion = (np.zeros(geometry.shape, np.uint8) for _ in range(2))
            organ[10:30, 40:80, 40:80], lesion[20:40, 60:90, 60:70] = 1, 1
            layers = (Labelmap(organ, geometry, (ORGAN,)), Labelmap(lesion, geometry, (LESION,)))
            source = tmp_path / "mine.seg.nrrd"
            write_labelmap(layers, source, LabelmapFormat.NRRD)
            label = client.import_label("demo_ct", case.id, source)
            assert [[segment.name for segment in layer] for layer in label.layers] == [["Organ"], ["Lesion"]]
            for kind in (LabelmapFormat.NRRD, LabelmapFormat.DICOM_SEG):
                client.download_label(label.id, kind, tmp_path / f"out.{kind}")
                found = {
                    segment.name: layer.where(segment)
                    for layer in read_labelmap(tmp_path / f"out.{kind}", geometry)
                    for segment in layer.segments
                }
                np.testing.assert_array_equal(found["Organ"], organ == 1)
                np.testing.assert_array_equal(found["Lesion"], lesion == 1)
            with pytest.raises(InvalidLabelmap, match="overlap"):
                client.download_label(label.id, LabelmapFormat.NIFTI, tmp_path / "out.nii.gz")
            with client.open("demo_ct", case.id) as session:
                np.testing.assert_array_equal(session.draft == 1, organ == 1)
                corrected = session.submit()
            assert (corrected.parent, len(corrected.layers)) == (label.id, 2)
            other = tmp_path / "samples/labels/mr_head.nii"
            with pytest.raises(InvalidLabelmap):
                client.import_label("demo_ct", case.id, other)
            (tmp_path / "note.txt").write_text("no labels")
            with pytest.raises(UnsupportedInput):
                client.import_label("demo_ct", case.id, tmp_path / "note.txt")
            answer = httpx.get(f"{server.url}/api/v1/labels/{label.id}/file?format=nifti")
            assert answer.headers["content-type"] == "application/problem+json"
            assert not list((tmp_path / "workspace/uploads").iterdir())
