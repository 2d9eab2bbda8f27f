"""How long a person waits for a warm prompt, for undo, redo and submit on a large CT, over HTTP.

python benchmarks/server_prompts.py --data ../shared/data                the CT as it is, 512 x 512 x 51
python benchmarks/server_prompts.py --data ../shared/data --slices 300   interpolated to 300 slices

A server of its own serves the CT; a client opens it, puts a network's labels of it into the draft, takes one organ out
and lets a robot draw a lasso round where it was and click where the draft is wrong, then undoes and redoes all of it;
then the next organ. Times are the client's: from sending to the local draft being up to date. What the robot thinks
is not in them. The first organ warms up and is not counted.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prompt_latency import CASE, load
from serving import Measured, Noted, ServerProcess, machine, memory_mb, noting, peak_mb, running, say, studies_of

from annotate_server.client import AnnotateClient
from annotate_server.client.session import ClientSession
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.project import Project
from annotate_server.testing.phantom_files import write_nifti
from annotate_server.workflows.robots import Plan, next_prompt, overlap

ORGANS = {4: "gallbladder", 3: "left kidney", 1: "spleen", 6: "liver", 7: "stomach", 2: "pancreas", 8: "duodenum"}
MODEL = "any_structure"
PLANES = 16
"""Planes of an edit that puts the labels in: a larger body would only be a slower start."""


@dataclass
class Run:
    """What one run measured; the robot's first organ is in none of it."""

    prompts: Measured = field(default_factory=lambda: Measured("prompt"))
    undos: Measured = field(default_factory=lambda: Measured("undo"))
    redos: Measured = field(default_factory=lambda: Measured("redo"))
    edits: Measured = field(default_factory=lambda: Measured("edit of 16 planes"))
    submits: Measured = field(default_factory=lambda: Measured("submit"))
    opens: Measured = field(default_factory=lambda: Measured("open and fetch the draft"))
    prompted: Noted = field(default_factory=Noted)
    undone: Noted = field(default_factory=Noted)

    def forget(self) -> None:
        """Begin to count."""
        for each in (self.prompts, self.undos, self.redos):
            each.milliseconds.clear()
        self.prompted, self.undone = Noted(), Noted()


@dataclass
class Robot:
    """Somebody who works on one organ after the other."""

    session: ClientSession
    geometry: Geometry
    labels: NDArray[np.uint8]
    plan: Plan
    run: Run
    note: Noted = field(default_factory=Noted)

    def put_labels_in(self) -> None:
        """Edit the draft to be the labels."""
        for first in range(0, len(self.labels), PLANES):
            part = self.labels[first : first + PLANES]
            box = Box((first, 0, 0), (first + len(part), *self.labels.shape[1:]))
            self.run.edits.time(lambda box=box, part=part: self.session.edit(box, part))

    def work_on(self, index: int) -> None:
        """Take an organ out, prompt for it, take all of that back and bring it back."""
        truth = self.labels == index
        segment = self.session.segments[index - 1]
        where = Box.around(truth)
        assert where is not None  # noqa: S101  else the run means nothing
        emptied = self.session.draft[where.slices].copy()
        emptied[truth[where.slices]] = 0
        self.session.edit(where, emptied)
        asked, begun = 0, len(self.run.prompts.milliseconds)
        for step in range(self.plan.length):
            prompt = next_prompt(self.plan, step, truth, self.session.draft == index, self.geometry, segment)
            if prompt is None:
                break
            self.note.wire_bytes, self.note.parts = self.run.prompted.wire_bytes, self.run.prompted.parts
            self.run.prompts.time(lambda prompt=prompt: self.session.prompt(prompt, MODEL))
            asked += 1
        reached = overlap(truth, self.session.draft == index)
        self.note.wire_bytes, self.note.parts = self.run.undone.wire_bytes, self.run.undone.parts
        for _ in range(asked):
            self.run.undos.time(self.session.undo)
        for _ in range(asked):
            self.run.redos.time(self.session.redo)
        self.note.wire_bytes, self.note.parts = [], {}
        each = " ".join(f"{ms:.0f}" for ms in self.run.prompts.milliseconds[begun:])
        say(f"{ORGANS[index]:12} Dice {reached:.3f}   prompts {each} ms")


@contextmanager
def served(data: Path, slices: int, folder: Path) -> Iterator[tuple[ServerProcess, Geometry, NDArray[np.uint8]]]:
    """Give a server of the CT, its grid and its labels."""
    volume, labels = load(data, slices)
    if slices == 51:
        source = data / CASE / "dicom"
    else:
        source = folder / "made/ct.nii"
        source.parent.mkdir()
        write_nifti(source, volume.voxels, volume.geometry)
    with (
        studies_of(folder / "studies", {source.name: source}) as studies,
        running(folder / "workspace", studies) as server,
    ):
        yield server.wait_until_ready().wait_for_cases(1), volume.geometry, labels


def work(client: AnnotateClient, geometry: Geometry, labels: NDArray[np.uint8], run: Run, plan: Plan) -> None:
    """Open the case, work on every organ, submit."""
    (case,) = client.cases()
    if case.modality is None:
        client.declare_modality(case.id, "CT")
    segments = tuple(Segment(n, f"Organ {n}", (9 * n, 99, 99)) for n in range(1, int(labels.max()) + 1))
    client.add_project(Project("organs", "Organs", segments, (MODEL,)))
    client.open("organs", case.id).leave()  # reads the files
    session = run.opens.time(lambda: client.open("organs", case.id))
    found = client.case(case.id).geometry
    assert found is not None  # noqa: S101  else the run means nothing
    assert found.matches(geometry)  # noqa: S101
    robot = Robot(session, found, labels, plan, run)
    noting(client, robot.note)
    robot.put_labels_in()
    for number, index in enumerate(ORGANS):
        if number == 1:
            run.forget()
        robot.work_on(index)
    run.submits.time(session.submit)


def report(run: Run, labels: NDArray[np.uint8], server: ServerProcess, out: Path | None) -> None:
    """Print the figures, and write them where asked for."""
    share = 100 * np.array(run.prompted.wire_bytes) / labels.nbytes
    shape = " x ".join(map(str, labels.shape[::-1]))
    say(f"\n{shape}; {machine()}")
    for each in (run.opens, run.edits, run.prompts, run.undos, run.redos, run.submits):
        say(each.line())
    say(f"reply of a prompt: p50 {np.median(share):.2f} %, most {share.max():.2f} % of the bytes of the labelmap")
    for name, noted in (("prompt", run.prompted), ("undo and redo", run.undone)):
        for part, milliseconds in noted.parts.items():
            say("  " + Measured(f"{name}: {part}", milliseconds).line())
    assert server.process is not None  # noqa: S101  it runs
    pids = (server.process.pid, *(worker.pid for worker in server.workers()))
    memory = ", ".join(f"{memory_mb(pid):.0f} (most {peak_mb(pid):.0f})" for pid in pids)
    say(f"memory of the web process and the workers: {memory} MB")
    if out is not None:
        facts = {"machine": machine(), "shape": labels.shape, "share_percent": share.tolist()}
        facts |= {m.name: m.milliseconds for m in (run.prompts, run.undos, run.redos, run.submits, run.edits)}
        out.write_text(json.dumps({**facts, "parts": run.prompted.parts, "undo_parts": run.undone.parts}))


def main() -> None:
    """Run the robot through a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--slices", type=int, default=51)
    parser.add_argument("--plan", default="lasso:1+clicks:9")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    wanted = parser.parse_args()
    run = Run()
    with (
        tempfile.TemporaryDirectory() as name,
        served(wanted.data, wanted.slices, Path(name)) as (server, grid, labels),
    ):
        with server.client() as client:
            work(client, grid, labels, run, Plan.parse(wanted.plan))
            report(run, labels, server, wanted.json)
        server.terminate()


if __name__ == "__main__":
    main()
