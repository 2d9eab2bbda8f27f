"""How soon a server listens and is ready, how much memory its web process takes, and how it answers under load.

python benchmarks/server_start.py --data ../shared/data

Five starts on the sample data, the first on an empty workspace. Then one server of a real CT (from DATA, interpolated
to 102 slices and as it is) and of the samples: four whole drafts are kept in its queue and three people prompt without
a pause, while another process asks /health/live every 20 ms.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from prompt_latency import CASE, load
from serving import Measured, ServerProcess, machine, memory_mb, running, say, studies_of

from annotate_server.client import AnnotateClient
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.project import Project
from annotate_server.testing.phantom_files import write_nifti
from annotate_server.testing.phantoms import make_sample_data

STARTS = 5
PROMPTERS = 3
DRAFTERS = ("lungs_ct", "demo_ct")
EVERY_S = 0.02
ROUND = 8
"""A person undoes everything after so many prompts on average: a model is told all that is in force."""
PROJECT = Project("load", "Load", (Segment(1, "Something", (200, 60, 60)),), ("any_structure",))


def start_often(samples: Path, folder: Path) -> None:
    """Start a server five times and print what each start took; the processes of a start run until it is ready."""
    listening, ready, memory = Measured("until it listens"), Measured("until it is ready"), []
    for _ in range(STARTS):
        begun = time.perf_counter()
        with running(folder / "workspace", samples / "images") as server:
            listening.milliseconds.append((time.perf_counter() - begun) * 1e3)
            server.wait_until_ready()
            ready.milliseconds.append((time.perf_counter() - begun) * 1e3)
            server.wait_for_cases(3)
            assert server.process is not None  # noqa: S101  it runs
            memory.append(memory_mb(server.process.pid))
            server.terminate()
    for each in (listening, ready):
        say(f"{each.line()}   {' '.join(f'{ms:.0f}' for ms in each.milliseconds)}")
    say(f"web process when ready: {' '.join(f'{each:.0f}' for each in memory)} MB")


@dataclass
class Load:
    """Four drafts in the queue and people who prompt, until somebody says stop."""

    server: ServerProcess
    prompts: Measured = field(default_factory=lambda: Measured("prompts of three people"))
    drafts: Measured = field(default_factory=lambda: Measured("four whole drafts"))
    stop: threading.Event = field(default_factory=threading.Event)

    def prompt(self, number: int) -> None:
        """Prompt at places of one's own, one prompt after the other."""
        with self.server.client(f"person {number}") as client:
            case = sorted(client.cases(), key=lambda each: each.id)[number]
            draw = np.random.default_rng(number)
            with client.open(PROJECT.id, case.id) as session:
                geometry = client.case(case.id).geometry
                assert geometry is not None  # noqa: S101  it was opened
                while not self.stop.is_set():
                    point = geometry.world([np.floor(draw.uniform(0.3, 0.7, 3) * np.array(geometry.shape))])[0]
                    self.prompts.time(lambda point=point: session.point("any_structure", point))
                    if not draw.integers(ROUND):
                        while session.can_undo:
                            session.undo()

    def draft(self) -> None:
        """Keep four whole drafts ordered: of two cases by two models."""
        with self.server.client("drafter") as client:
            cases = [case.id for case in client.cases(modality="CT")]
            while not self.stop.is_set():
                begun = time.perf_counter()
                jobs = [client.draft_case(case, model, "batch").id for case in cases[:2] for model in DRAFTERS]
                for job in jobs:
                    client.wait(job)
                self.drafts.milliseconds.append((time.perf_counter() - begun) * 1e3)


def under_load(data: Path, seconds: float, folder: Path) -> None:
    """Saturate a server and print how it answers meanwhile."""
    volume, _ = load(data, 102)
    write_nifti(folder / "ct.nii", volume.voxels, volume.geometry)
    del volume
    make_sample_data(folder / "more")
    parts = {"ct": data / CASE / "dicom", "ct.nii": folder / "ct.nii", "samples": folder / "more/images"}
    with studies_of(folder / "studies", parts) as studies, running(folder / "loaded", studies) as server:
        server.wait_until_ready().wait_for_cases(5)
        with server.client() as client:
            prepare(client)
        say(Measured("/health/live, at rest", probed(server.url, 5)).line())
        work = Load(server)
        with ThreadPoolExecutor(PROMPTERS + 1) as people:
            asked = [people.submit(work.draft), *(people.submit(work.prompt, n) for n in range(PROMPTERS))]
            time.sleep(3)
            answered = Measured("/health/live, under load", probed(server.url, seconds))
            work.stop.set()
        for each in asked:
            each.result()
        say(f"{answered.line()}  p99 {answered.at(99):.0f} ms")
        say(work.prompts.line())
        say(work.drafts.line())
        say(machine())


def prepare(client: AnnotateClient) -> None:
    """Read every volume once, so that only drafts and prompts are left to do."""
    client.add_project(PROJECT)
    for case in client.cases():
        client.open(PROJECT.id, case.id).leave()
        if case.modality is None:
            client.declare_modality(case.id, "CT")


def probed(url: str, seconds: float) -> list[float]:
    """Ask /health/live from another process and return the milliseconds of each answer."""
    command = (sys.executable, __file__, "--probe", url, "--seconds", str(seconds))
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603  this file itself
    found: list[float] = json.loads(done.stdout)
    return found


def probe(url: str, seconds: float) -> Sequence[float]:
    """Ask /health/live at a steady pace on a line that stays open."""
    line, times = http.client.HTTPConnection(urlsplit(url).netloc), []
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        line.request("GET", "/health/live")
        assert line.getresponse().read()  # noqa: S101  else the run means nothing
        times.append((time.perf_counter() - begun) * 1e3)
        time.sleep(EVERY_S)
    return times


def main() -> None:
    """Measure starts, then the health under load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.probe:
        sys.stdout.write(json.dumps(probe(wanted.probe, wanted.seconds)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sample_data(folder / "samples")
        say(machine())
        start_often(folder / "samples", folder)
        if wanted.data.is_dir():
            under_load(wanted.data, wanted.seconds, folder)
        else:
            say(f"skipped: {wanted.data} is not here")


if __name__ == "__main__":
    main()
