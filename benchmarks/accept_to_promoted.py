"""Seconds from the fifth accepted label to the version that serves, and how long a person waits for a warm prompt.

    python benchmarks/accept_to_promoted.py [--device cpu|cuda:0] [--quick]

A server of its own with the shipped hippocampus network, five phantoms that look like nothing which it has seen, and
one volume for prompts: no data is needed. With the fifth label a training is ordered, cross-fitted as for any project
of few patients; the time ends when the job has. --quick trains for four steps, which shows that the script works.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from serving import Measured, machine, running, say

from annotate_server.client import AnnotateClient
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.imaging.labelmap_files import LabelmapFormat, write_labelmap
from annotate_server.testing.phantom_files import write_nifti

APP = Path(__file__).parents[1] / "apps" / "hippocampus_mr"
MODEL, PROMPTED = "hippocampus_bench", "any_structure"
LABELS, PROMPTS = 5, 40
CROP, LARGE = (36, 50, 35), (96, 192, 192)
LONGEST_S = 3600.0


def phantom(shape: tuple[int, int, int], seed: int) -> tuple[Geometry, NDArray[np.int16], NDArray[np.uint8]]:
    """Return a grid of 1 mm, a noisy ellipsoid in two tones, and the labels of its halves."""
    random = np.random.default_rng(seed)
    places = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2 - random.uniform(-2, 2, (3, 1, 1, 1))
    inside = ((places / (np.array(shape).reshape(3, 1, 1, 1) * 0.3)) ** 2).sum(0) < 1
    labels = (inside * np.where(places[1] > 0, 1, 2)).astype(np.uint8)
    voxels = np.array([100, 260, 420])[labels] + random.normal(0, 20, shape)
    grid = Geometry(shape, (1.0, 1.0, 1.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)), (0.0, 0.0, 0.0))
    return grid, voxels.astype(np.int16), labels


def prompt(client: AnnotateClient, case_id: str, labels: NDArray[np.uint8], grid: Geometry) -> Measured:
    """Click into one half and beside it in turn; the first five clicks warm up."""
    measured, random = Measured("warm prompts"), np.random.default_rng(0)
    with client.open(PROMPTED, case_id) as session:
        session.add_segment(Segment(1, "Half", (200, 60, 60)))
        for number in range(PROMPTS + 5):
            if number == 5:
                measured.milliseconds.clear()
            positive = number % 2 == 0
            places = np.argwhere(labels == (1 if positive else 2))
            point = grid.world(places[random.integers(len(places))][None].astype(np.float64))[0]
            measured.time(lambda at=point, good=positive: session.point(PROMPTED, at, positive=good))
    return measured


def accept(client: AnnotateClient, folder: Path, number: int) -> None:
    """Import the label of a phantom; without a review it is approved."""
    grid, _, labels = phantom(CROP, number)
    path = folder / f"{number}.seg.nrrd"
    write_labelmap(Labelmap(labels, grid, client.model(MODEL).segments), path, LabelmapFormat.NRRD)
    case = next(case for case in client.cases() if case.name.rpartition("/")[2] == f"{number}.nii.gz")
    client.import_label(MODEL, case.id, path)


def promoted(client: AnnotateClient, folder: Path) -> tuple[float, str]:
    """Accept the labels and train with the fifth; return the seconds from its accept on, and what was decided."""
    for number in range(LABELS - 1):
        accept(client, folder, number)
    begun = time.perf_counter()
    accept(client, folder, LABELS - 1)
    job = client.wait(client.train(MODEL).id, LONGEST_S)
    return time.perf_counter() - begun, job.result.get("reason", job.state)


def main() -> None:
    """Measure both on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    given, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(APP, folder / "apps" / MODEL)
        if given.quick:
            table = folder / "apps" / MODEL / "app.toml"
            table.write_text(table.read_text().replace("\nsteps = ", "\nsteps = 4 # "))
        studies = folder / "studies"
        studies.mkdir()
        for number in range(LABELS):
            grid, voxels, _ = phantom(CROP, number)
            write_nifti(studies / f"{number}.nii.gz", voxels, grid)
        grid, voxels, labels = phantom(LARGE, LABELS)
        write_nifti(studies / "large.nii.gz", voxels, grid)
        settings = {"ANNOTATE_DEVICE": given.device, "ANNOTATE_APPS": json.dumps([str(folder / "apps")])}
        with running(folder / "w", studies, settings) as server:
            server.wait_until_ready().wait_for_cases(LABELS + 1)
            with server.client() as client:
                for case in client.cases():
                    client.declare_modality(case.id, "MR")
                large = next(case for case in client.cases() if case.name.rpartition("/")[2] == "large.nii.gz")
                prompts = prompt(client, large.id, labels, grid)
                seconds, reason = promoted(client, folder)
            server.terminate()
    say(machine())
    say(f"{prompts.line()} (a volume of {' x '.join(map(str, LARGE))})")
    say(f"from the {LABELS}th accept to the decision: {seconds:.1f} s: {reason}")


if __name__ == "__main__":
    main()
