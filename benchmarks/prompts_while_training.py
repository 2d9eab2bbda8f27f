"""How much longer a person waits for a warm prompt while a model is being trained on the same machine.

python benchmarks/prompts_while_training.py --data ../shared/data

A server of its own serves a large CT and a few volumes of hippocampi. A robot prompts for the organs of the CT (as in
`server_prompts.py`) while nothing else runs; then a round of the hippocampus model is trained from approved labels, and
the robot prompts for the same organs again while the network learns; then once more with the training cancelled, which
tells how far the machine itself was the same. Each time the server starts anew, so that no answer is remembered; the
first organ warms up and is not counted. Compare within one run only.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import nibabel
import numpy as np
from numpy.typing import NDArray
from prompt_latency import CASE, load
from server_prompts import MODEL, Robot, Run
from serving import Measured, ServerProcess, machine, running, say, studies_of

from annotate_server.client import AnnotateClient
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.project import Project
from annotate_server.imaging.labelmap_files import LabelmapFormat, write_labelmap
from annotate_server.workflows.robots import Plan

LEARNER = "hippocampus_mr"
POOL = Path("01_hippocampus_msd/dev_pool")
LABELS = 6
Answer = TypeVar("Answer")
BEGIN_S = 300.0
"""How long it may take until the network learns: the worker starts, and drafts the new labels first."""


@dataclass
class Phase:
    """What the robot waited for in one state of the machine."""

    name: str
    prompts: Measured


def approve(client: AnnotateClient, data: Path, folder: Path) -> None:
    """Import the labels of the hippocampi, with the names of their segments; without a review they are approved."""
    segments = client.model(LEARNER).segments
    for case in client.cases():
        label = data / POOL / "labels" / case.name.rpartition("/")[2]
        if label.is_file():
            file = nibabel.load(label)
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ file.affine @ np.eye(4)[[2, 1, 0, 3]]
            voxels = np.asanyarray(file.dataobj).T.astype(np.uint8)
            named = Labelmap(voxels, Geometry.from_affine(affine, voxels.shape), segments)
            path = folder / f"{case.id}.seg.nrrd"
            write_labelmap(named, path, LabelmapFormat.NRRD)
            client.import_label(LEARNER, case.id, path)


def trains(client: AnnotateClient, server: ServerProcess) -> str:
    """Order a training and return its job once the network learns."""
    job = client.train(LEARNER)
    until = time.monotonic() + BEGIN_S
    while not client.curve(job.id):
        if time.monotonic() > until or client.job(job.id).has_ended:
            raise TimeoutError(f"the network does not learn: {client.job(job.id)}\n{server.log()}")
        time.sleep(0.2)
    return job.id


@dataclass(frozen=True)
class Prompting:
    """The CT, its labels and the organs that the robot works on."""

    client: AnnotateClient
    geometry: Geometry
    labels: NDArray[np.uint8]
    organs: list[int]

    def phase(self, name: str, number: int) -> Phase:
        """Let the robot work on the organs, in a session of its own: none begins with another's prompts."""
        project = f"organs-{number}"
        segments = tuple(Segment(n, f"Organ {n}", (9 * n, 99, 99)) for n in range(1, int(self.labels.max()) + 1))
        self.client.add_project(Project(project, "Organs", segments, (MODEL,)))
        case = next(case for case in self.client.cases(modality="CT"))
        run = Run()
        robot = Robot(
            self.client.open(project, case.id), self.geometry, self.labels, Plan.parse("lasso:1+clicks:9"), run
        )
        robot.put_labels_in()
        for position, organ in enumerate(self.organs):
            if position == 1:
                run.forget()
            robot.work_on(organ)
        robot.session.leave()
        return Phase(name, run.prompts)


def main() -> None:
    """Run the three phases and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--organs", type=int, nargs="+", default=[4, 3, 1, 2])
    wanted = parser.parse_args()
    volume, labels = load(wanted.data, 51)
    images = sorted((wanted.data / POOL / "images").glob("*.nii.gz"))[:LABELS]
    parts = {"ct": wanted.data / CASE / "dicom", **{image.name: image for image in images}}
    settings = {"OMP_NUM_THREADS": "2", "ANNOTATE_DEVICE": "cpu"}

    def prompting(client: AnnotateClient) -> Prompting:
        return Prompting(client, volume.geometry, labels, wanted.organs)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with studies_of(folder / "studies", parts) as studies, running(folder / "w", studies, settings) as server:
            server.wait_until_ready().wait_for_cases(1 + LABELS)
            with server.client() as client:
                approve(client, wanted.data, folder)
            idle = anew(server, lambda client: prompting(client).phase("idle", 1))
            trained, step = anew(server, lambda client: while_it_trains(client, server, prompting(client)))
            again = anew(server, lambda client: prompting(client).phase("idle again", 3))
            server.terminate()
    say(f"\n{machine()}; the training went on until the last prompt, when it was at step {step}")
    for phase in (idle, trained, again):
        say(f"{phase.name:24} {phase.prompts.line()}")
    say(f"p95 while training / idle: {trained.prompts.at(95) / idle.prompts.at(95):.2f}")


def anew(server: ServerProcess, act: Callable[[AnnotateClient], Answer]) -> Answer:
    """Start the server anew and do something with it."""
    server.terminate()
    server.start().wait_until_ready()
    with server.client() as client:
        return act(client)


def while_it_trains(client: AnnotateClient, server: ServerProcess, robot: Prompting) -> tuple[Phase, int]:
    """Prompt while a round trains; return the step that it was at when the last prompt was answered."""
    job = trains(client, server)
    found = robot.phase("while a round trains", 2)
    if client.job(job).has_ended:
        raise TimeoutError("the training ended before the last prompt: take fewer organs")
    step = client.curve(job)[-1].step
    client.cancel(job)
    return found, step


if __name__ == "__main__":
    main()
