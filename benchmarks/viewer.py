"""What a person waits for in the browser: first load, a large draft until it is seen, prompts, the demonstration.

python benchmarks/viewer.py [--prompts 30] [--slices 200]

A server of its own serves a CT phantom of 512 x 512 x slices; Chromium with software WebGL looks at it. Every figure
is taken in one run, by the browser's clock: a prompt from asking to the changed voxels in the viewer's arrays, beside
what the server says in `Server-Timing` that it took; a draft from the end of its job (the server's clock, which is
that of the same machine).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from serving import Measured, machine, running, say

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viewer"))

from viewer_stand import CHROMIUM, NODE, Browser, Stand

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.volume import Modality, Volume
from annotate_server.testing.chest import ChestOptions, chest_phantom
from annotate_server.testing.phantom_files import SeriesWords, write_series

SIDE, REPEATS = 512, 4
APP = "lungs_ct"


def main() -> None:
    """Measure and say it."""
    parser = argparse.ArgumentParser(description="Measure what a person waits for in the browser.")
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--slices", type=int, default=200)
    wanted = parser.parse_args()
    if CHROMIUM is None or NODE is None:
        raise SystemExit("chromium and node are needed: make bench-viewer installs them")
    say(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_large(folder / "studies/large", wanted.slices)
        browser = Browser(NODE, CHROMIUM)
        with running(folder / "workspace", folder / "studies") as server:
            stand = Stand(server.wait_until_ready().wait_for_cases(1), browser, folder)
            try:
                case = stand.case("Large")
                seen = stand.play("measure", address=stand.address(case, APP), app=APP, prompts=wanted.prompts)
            finally:
                browser.close()
    voxels = wanted.slices * SIDE * SIDE
    say(f"first load, images left aside, {seen['first_load_bytes'] / 1e6:.1f} MB; ready after {seen['opened_ms']} ms,")
    say(f"all {wanted.slices} slices there after {seen['whole_ms']} ms")
    say(f"draft of {voxels / 1e6:.1f} M voxels, from the end of its job:")
    say(f"in the viewer's arrays {seen['arrays_ms']:.0f} ms, drawn {seen['drawn_ms']:.0f} ms")
    say(f"its labelmap on the wire: {seen['labelmap_bytes']} bytes, {100 * seen['labelmap_bytes'] / voxels:.2f} %")
    rounds, server_, more = Measured("prompt, browser"), Measured("prompt, server"), Measured("browser beyond server")
    for prompt in seen["prompts"][1:]:
        rounds.milliseconds.append(prompt["round"])
        server_.milliseconds.append(prompt["server"])
        more.milliseconds.append(prompt["round"] - prompt["server"])
    for each in (rounds, server_, more):
        say(each.line())
    most = max(prompt["bytes"] for prompt in seen["prompts"])
    say(f"largest reply to a prompt {most} bytes, {100 * most / voxels:.3f} % of the labelmap")
    say(machine())


def write_large(folder: Path, slices: int) -> None:
    """Write a chest whose pixels are repeated up to 512 x 512: as many voxels as a hospital's, made in seconds."""
    side = SIDE // REPEATS
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    first = (-187.0, -177.0, -145.0)
    small = chest_phantom(Geometry((slices, side, side), (360.0 / slices, 2.96, 2.96), axes, first), ChestOptions())
    voxels = np.repeat(np.repeat(small.volume.voxels, REPEATS, axis=1), REPEATS, axis=2)
    grid = Geometry((slices, SIDE, SIDE), (360.0 / slices, 0.74, 0.74), axes, first)
    write_series(
        folder, Volume(voxels, grid, Modality.CT), SeriesWords("large", "Large^CT", "LARGE", "Large CT", "CHEST")
    )


if __name__ == "__main__":
    main()
