"""The viewer on the studies of an archive (Debian's Orthanc): every image comes through the server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from orthanc_process import PASSWORD, USER, OrthancProcess, needs_orthanc
from server_process import running
from small_studies import write_chest_series
from viewer_stand import Browser, Stand, digest

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory, browser: Browser, shots: Path) -> Iterator[Stand]:
    needs_orthanc()
    folder = tmp_path_factory.mktemp("archived")
    orthanc = OrthancProcess(folder / "orthanc").start()
    try:
        write_chest_series(folder / "chest")
        orthanc.upload(sorted((folder / "chest").iterdir()))
        settings = {"ANNOTATE_ARCHIVE_USER": USER, "ANNOTATE_ARCHIVE_PASSWORD": PASSWORD}
        with running(folder / "workspace", orthanc.dicom_web, settings) as server:
            server.wait_until_ready().wait_for_cases(1)
            yield Stand(server, browser, shots)
    finally:
        orthanc.kill()


def test_what_is_drawn_on_a_series_of_an_archive_is_stored_voxel_for_voxel(archived: Stand) -> None:
    case = archived.case("Small chest")
    address = archived.address(case, "any_structure")
    (found,) = archived.play("series", cases=[{"name": "archived", "address": address}])["cases"]
    known = archived.get(f"/cases/{case['id']}")
    drawn = archived.session_labelmap(found["session"], known["geometry"]["shape"])
    assert digest(drawn) == found["stored"] == found["shown"]
    assert 0 < np.count_nonzero(drawn) == found["count"]
