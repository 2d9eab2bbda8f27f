"""The picture of the extension: the panel beside a slice of the sample CT, drafted.

`make slicer-screenshot` writes viewer_plugin/slicer/Screenshots/panel.png. Look at it: the right lung is on the left.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import slicer_fixtures as fixtures
from server import ROOT, program, running, server_environment
from stand_in import application
from stand_in.picture import beside, drawn_slice


def main(target):
    """Draft, lock, and write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = "import sys, pathlib; from annotate_server.testing.phantoms import make_sample_data as make; "
        command = [program(), "-c", code + "make(pathlib.Path(sys.argv[1]))", str(folder / "samples")]
        subprocess.run(command, check=True, env=server_environment())
        with running(folder / "workspace", folder / "samples/images", cases=3) as server:
            drafted(server, target)


def drafted(server, target):
    """Do the work."""
    chest = next(each for each in server.get("/api/v1/cases")["cases"] if each["modality"] == "CT")
    work = fixtures.begin(server, "anna").open("demo_ct", chest["id"])
    work.desk.draft("demo_ct")
    fixtures.wait(lambda: work.desk.job is not None and work.desk.job.has_ended)
    work.settle()
    names = {segment.name: segment.index for segment in work.desk.session.segments}
    lung = work.sheet.copy == names["Right lung"]
    k = int(lung.sum(axis=(1, 2)).argmax())
    work.place.lock(work.host_id(names["Right lung"]), True)
    work.settle()
    j, i = (int(n) for n in np.argwhere(lung[k]).mean(axis=0))
    ras = work.ras((k, j, i))
    assert ras[0] > 0  # the right lung is on the patient's right
    pixels, _ = drawn_slice(work.place.volume, ras)
    _, _, widget, panel = application.load_module(application.extension_folder() / "AnnotateServer.py")
    widget.panel.place = work.place
    work.place.listeners.append(widget.panel.show)
    widget.ui.personEdit.text = "anna"
    widget.panel.show()
    panel.setFixedWidth(430)
    panel.resize(430, 940)
    panel.show()
    fixtures.app.processEvents()
    beside(panel, pixels, target)
    work.place.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "viewer_plugin/slicer/Screenshots/panel.png")
