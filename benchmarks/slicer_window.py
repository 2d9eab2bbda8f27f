"""How long the window of 3D Slicer is held up: a heartbeat beside real work, on Slicer's own classes.

`make bench-slicer` runs it in the environment of the extension's tests. A timer ticks every 2 ms while a real server
drafts, answers prompts, and sends and takes volumes and labelmaps; the longest time between two ticks is how long the
window was deaf. Without an argument the volume is a phantom of 300 x 512 x 512 with 104 segments; with the folder of a
DICOM series, that.
"""

import gzip
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/slicer"))

import numpy as np  # noqa: E402
import slicer  # noqa: E402
import slicer_fixtures as fixtures  # noqa: E402  it makes Slicer's surroundings
from AnnotateServerLib import frame, nrrd, sheet, volumes  # noqa: E402
from AnnotateServerLib.labelmaps import at_once  # noqa: E402
from AnnotateServerLib.places import Grid  # noqa: E402
from AnnotateServerLib.strokes import LASSO, POINT, Stroke  # noqa: E402
from heartbeat import Heartbeat  # noqa: E402
from server import running  # noqa: E402

SHAPE = (300, 512, 512)
SEGMENTS = 104
GRID = Grid(SHAPE, ((0.0, 0.0, 1.0), (0.0, 0.7, 0.0), (0.7, 0.0, 0.0)), (-180.0, -170.0, -900.0))


def measured(what, act, work):
    """Do something, and print for how long the window was deaf, and how long it took."""
    begun = time.perf_counter()
    with Heartbeat() as heart:
        act()
        work.settle()
    print(f"| {what} | {heart.longest_ms:.0f} | {time.perf_counter() - begun:.1f} |")  # noqa: T201


def painted(work, box, value=1):
    """Return a stroke of the host's, to be made."""

    def act():
        work.paint(1, box, value)

    return act


def labels():
    """Return a labelmap of 104 boxes."""
    voxels = np.zeros(SHAPE, np.uint8)
    for index in range(SEGMENTS):
        k, j, i = 20 * (index // 13), 36 * (index % 13), 40 * (index % 11)
        voxels[k + 40 : k + 75, j + 10 : j + 44, i + 20 : i + 60] = index + 1
    return voxels


def main():
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studies = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        with running(folder / "workspace", studies, cases=1 if studies else 0) as server:
            print(f"{'the series' if studies else f'{SHAPE} int16, {SEGMENTS} segments'}\n")  # noqa: T201
            print("| what | longest gap (ms) | in all (s) |\n|---|---|---|")  # noqa: T201
            on_series(server) if studies else on_phantom(server)


def on_phantom(server):
    """Measure with a large volume and many segments."""
    project = {
        "id": "many",
        "title": "Many",
        "apps": ["any_structure"],
        "segments": [
            {"index": at + 1, "name": f"Part {at + 1}", "colour": [at, 200 - at, 90]} for at in range(SEGMENTS)
        ],
    }
    server.ask("POST", "/api/v1/projects", project)
    generator = np.random.default_rng(0)
    voxels = generator.integers(-50, 50, SHAPE, dtype=np.int16)
    drawn = labels()
    voxels[drawn > 0] += 200
    volume = at_once(volumes.shown_in_steps(nrrd.Plain(voxels, GRID), "large"))
    work = fixtures.begin(server)
    work.place.choose("many")
    work.settle()
    measured("a volume of 157 MB: digest, upload, open", lambda: work.place.open_volume(volume, "CT"), work)
    wait_for_sheet(work)
    edit = gzip.compress(frame.encoded_edit(frame.Box((0, 0, 0), SHAPE), drawn, work.desk.revision, ""), 1)
    kind = {"Content_Type": frame.MEDIA_TYPE, "Content_Encoding": "gzip", "If_Match": f'"{work.desk.revision}"'}
    server.ask("PUT", f"/api/v1/sessions/{work.desk.id}/labelmap", edit, **kind)
    measured("104 segments drawn elsewhere come as changes", work.desk.refresh, work)
    on_draft(work, (57, 27, 40), (200, 300, 300))
    measured("leave", work.place.leave, work)
    session = next(each.id for each in work.place.mine)
    slicer.mrmlScene.RemoveNode(volume)
    measured("volume and 104 segments: the session is opened", lambda: work.place.resume(session), work)
    wait_for_sheet(work)
    content = server.ask("GET", f"/api/v1/sessions/{work.desk.id}/file")
    begun = time.perf_counter()
    at_once(sheet.sheet_of_draft(content, "again", work.sheet.grid))
    print(f"| (104 segments, from the reply until they are shown) | | {time.perf_counter() - begun:.2f} |")  # noqa: T201


def on_series(server):
    """Measure with a real series: a whole draft by a model, prompts and edits."""
    work = fixtures.begin(server)
    project = next(each for each in work.place.projects if each.id == "lungs_ct")
    work.place.choose(project.id)
    work.settle()
    measured("the session is opened", lambda: work.place.open_case(next(iter(work.place.cases))), work)
    wait_for_sheet(work)
    measured("a whole draft", lambda: work.desk.draft("lungs_ct"), work)
    k, j, i = (length // 2 for length in work.sheet.grid.shape)
    on_draft(work, (k, j, i), (k, j + 40, i + 60))
    measured("leave", work.place.leave, work)


def on_draft(work, inside, free):
    """Measure prompts, edits, undo and redo on an open draft."""
    model = next(each.name for each in work.place.models if each.name == "any_structure")
    host = work.host_id(min(work.sheet.ids))

    def prompted(kind, at):
        places = tuple(work.ras(each) for each in at)
        return lambda: work.place.prompt(Stroke(kind, places, True), host, model)

    k, j, i = inside
    measured("the first point (the model is loaded)", prompted(POINT, [inside]), work)
    for number in range(3):
        measured("a point", prompted(POINT, [(k, j + number, i)]), work)
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    measured("a lasso", prompted(LASSO, [(k, j + 12 * np.sin(t), i + 12 * np.cos(t)) for t in turns]), work)
    k, j, i = free
    box = ((k, j, i), (k + 1, j + 15, i + 15))
    with Heartbeat() as host_alone:
        work.desk.hold(True)
        painted(work, box)()
    print(f"| (the host's own brush, before anything of ours) | {host_alone.longest_ms:.0f} | |")  # noqa: T201
    measured("a brush stroke is sent", lambda: work.desk.hold(False), work)
    measured("undo", work.desk.undo, work)
    measured("redo", work.desk.redo, work)
    measured("a heartbeat of the session", work.desk.beat, work)


def wait_for_sheet(work):
    """Wait until the draft is shown."""
    fixtures.wait(lambda: work.desk is not None and work.desk.sheet is not None, lambda: work.place.problem)
    work.settle()


if __name__ == "__main__":
    main()
