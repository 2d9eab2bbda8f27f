"""Eight people at once on one server, each on their own cases: errors, waiting times, memory.

python benchmarks/server_people.py --data ../shared/data --people 8 --minutes 10

Each person has a project, a real volume of DATA and a phantom. They take the next case, let a model draft it, then
draw a lasso, click, edit, undo, redo and help, and submit; then the next case, and when none is left their oldest
again. Between two actions they think for `--think` seconds on average. For the first minute the first person is alone.
"""

import argparse
import json
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from serving import Measured, ServerProcess, machine, running, say, studies_of

from annotate_server.client import AnnotateClient
from annotate_server.client.session import ClientSession
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.helper import HelperKind, HelperOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.project import Project
from annotate_server.testing.chest import ChestOptions, chest_phantom
from annotate_server.testing.phantom_files import write_nifti

REAL = (
    "04_liver_ct_dicom_crlm/CRLM-CT-1006/dicom",
    "15_brain_volumes/t1_crop_conformed256_LIA.nii.gz",
    "14_small_labelled/spleen_ct/image.nii.gz",
    "03_totalseg_ct_mr/ct_sm/image.nii.gz",
    "02_sts_sarcoma_ct_mr_pet/nifti/STS_002/CT_image.nii.gz",
    "02_sts_sarcoma_ct_mr_pet/nifti/STS_008/CT_image.nii.gz",
    "02_sts_sarcoma_ct_mr_pet/nifti/STS_019/CT_image.nii.gz",
    "02_sts_sarcoma_ct_mr_pet/nifti/STS_024/MR_T1_image.nii.gz",
)
DRAFTERS = {"CT": "lungs_ct", "MR": "demo_mr"}
LESION = Segment(60, "Lesion", (250, 120, 20))
CLICKS = 5
RADIUS_MM = 25.0
SAMPLE_S = 5.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Act:
    """Something that a person did: what, when it began (s since the start) and how long it took."""

    person: int
    kind: str
    began_s: float
    seconds: float


@dataclass
class Diary:
    """What everybody did, what went wrong, and the memory of the server's processes meanwhile."""

    start_s: float = field(default_factory=time.monotonic)
    acts: list[Act] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, str, float, float]] = field(default_factory=list)
    """Seconds, process, resident MB, MB of its own (not shared with other processes or files)."""

    def now_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.start_s

    def times(self, kind: str, where: Callable[[Act], bool] = lambda _: True) -> Measured:
        """Return how long acts of a kind took."""
        chosen = [act.seconds * 1e3 for act in self.acts if act.kind == kind and where(act)]
        return Measured(kind, chosen)


@dataclass
class Worker:
    """A person at work; `number` says which of the cases are theirs."""

    number: int
    client: AnnotateClient
    diary: Diary
    think_s: float
    until_s: float
    draw: np.random.Generator
    oldest: list[str] = field(default_factory=list)

    @property
    def project(self) -> str:
        """Return the person's own project."""
        return f"own-{self.number}"

    def work(self) -> None:
        """Annotate case after case until the time is over; what goes wrong is noted, and the next case taken."""
        while self.diary.now_s() < self.until_s:
            try:
                self._annotate(self._timed("open", self._next))
            except Exception as error:  # the benchmark's last handler: every error counts
                where = traceback.extract_tb(error.__traceback__)[-1]
                self.diary.errors.append(f"{self.diary.now_s():.0f} s, {self.number}: {error!r} at {where.name}")
                time.sleep(1.0)

    def _next(self) -> ClientSession:
        session = self.client.next_case(self.project)
        if session is None:
            self.oldest.append(self.oldest.pop(0))
            session = self.client.open(self.project, self.oldest[-1])
        elif session.case_id not in self.oldest:
            self.oldest.append(session.case_id)
        return session

    def _annotate(self, session: ClientSession) -> None:
        case = self.client.case(session.case_id)
        assert case.geometry is not None  # noqa: S101  it is open
        self._timed("draft", lambda: session.draft_by(DRAFTERS[case.modality or "CT"]))
        if LESION.index not in {segment.index for segment in session.segments}:
            self._timed("segment", lambda: session.add_segment(LESION))
        for act in self._acts(session, case.geometry):
            if self.diary.now_s() >= self.until_s:
                session.leave()
                return
            self._think()
            act()
        self._timed("submit", session.submit)

    def _acts(self, session: ClientSession, geometry: Geometry) -> Iterator[Callable[[], object]]:
        """Yield what is done on a case, one after the other."""
        shape, step_mm = np.array(geometry.shape), np.array(geometry.spacing_mm)
        middle = np.floor(self.draw.uniform(0.35, 0.65, 3) * shape)
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        circle = np.stack([np.zeros(24), np.sin(angle), np.cos(angle)], 1) * RADIUS_MM / step_mm + middle
        circle = np.clip(circle, 0, shape - 1)
        yield self._prompting(lambda: session.lasso("any_structure", geometry.world(circle), segment=LESION.index))
        for click in range(CLICKS):
            offset = self.draw.normal(0, RADIUS_MM / 2, 3) / step_mm
            point = geometry.world([np.clip(np.rint(middle + offset), 0, shape - 1)])[0]
            positive = click % 2 == 0
            yield self._prompting(
                lambda point=point, positive=positive: session.point(
                    "any_structure", point, segment=LESION.index, positive=positive
                )
            )
        start = tuple(int(n) for n in np.minimum(middle, shape - 4))
        box = Box((start[0], start[1], start[2]), (start[0] + 2, start[1] + 3, start[2] + 4))
        yield lambda: self._timed("edit", lambda: session.edit(box, np.full(box.shape, LESION.index, np.uint8)))
        yield lambda: self._timed("undo", session.undo)
        yield lambda: self._timed("redo", session.redo)
        smoother = HelperOrder(HelperKind.MARGIN, distance_mm=2.0)
        yield lambda: self._timed("help", lambda: session.help(smoother, segment=LESION.index))

    def _prompting(self, ask: Callable[[], object]) -> Callable[[], object]:
        return lambda: self._timed("prompt", ask)

    def _timed(self, kind: str, what: Callable[[], Answer]) -> Answer:
        began = self.diary.now_s()
        answer = what()
        self.diary.acts.append(Act(self.number, kind, began, self.diary.now_s() - began))
        return answer

    def _think(self) -> None:
        """Think, and say now and then that one is there."""
        time.sleep(float(self.draw.uniform(0.5, 1.5)) * self.think_s)


def cases_of(data: Path, people: int, folder: Path) -> Mapping[str, Path]:
    """Return a real volume where there is one and a phantom for each person, by the name of its file."""
    parts = {}
    for number in range(people):
        real = data / REAL[number % len(REAL)]
        if real.exists():
            parts[f"{number}-real" + "".join(real.suffixes if real.is_file() else [])] = real
        grid = Geometry((60, 128, 128), (5.0, 2.875, 2.875), np.eye(3)[::-1].tolist(), (-180.0, -170.0, -110.0))
        phantom = chest_phantom(grid, ChestOptions(seed=number + 1, nodule=True, blood_hu=45.0 + number))
        path = folder / f"{number}-phantom.nii"
        write_nifti(path, phantom.volume.voxels, phantom.volume.geometry)
        parts[path.name] = path
    return parts


def prepare(server: ServerProcess, people: int) -> None:
    """Make a project for each person in which the cases of the others are put aside."""
    with server.client("chief") as client:
        cases = list(client.cases())
        for case in cases:
            if case.modality is None:
                client.declare_modality(case.id, "MR" if "-real" in case.name and _is_mr(case.name) else "CT")
        for number in range(people):
            client.add_project(Project(f"own-{number}", f"Person {number}", (LESION,), ("any_structure",)))
            for case in cases:
                if not case.name.startswith(f"{number}-"):
                    client.put_aside(f"own-{number}", case.id, "somebody else's")


def _is_mr(name: str) -> bool:
    real = REAL[int(name.split("-", 1)[0]) % len(REAL)]
    return "t1" in real.lower()


def watch_memory(server: ServerProcess, diary: Diary, stop: threading.Event) -> None:
    """Note the memory of the web process and the workers every few seconds."""
    assert server.process is not None  # noqa: S101  it runs
    processes = {"web": psutil.Process(server.process.pid)}
    processes |= {f"worker {n}": each for n, each in enumerate(server.workers())}
    while not stop.wait(SAMPLE_S):
        for name, process in processes.items():
            facts = process.memory_full_info()
            diary.memory.append((diary.now_s(), name, facts.rss / 1e6, facts.uss / 1e6))


def report(diary: Diary, wanted: argparse.Namespace) -> None:
    """Print what came of it."""
    alone_s, end_s = 60.0 * wanted.alone, 60.0 * wanted.minutes
    say(f"\n{wanted.people} people, {wanted.minutes:g} min, {wanted.think:g} s of thought; {machine()}")
    say(f"errors: {len(diary.errors)}")
    for error in diary.errors[:20]:
        say(f"  {error}")
    for kind in ("prompt", "edit", "undo", "redo", "help", "open", "submit", "draft"):
        together = diary.times(kind, lambda act: act.began_s >= alone_s)
        say("together  " + together.line())
        if kind in ("prompt", "undo"):
            same = diary.times(kind, lambda act: act.began_s >= alone_s and act.person == 0)
            alone = diary.times(kind, lambda act: act.began_s + act.seconds < alone_s)
            say(f"alone     {alone.line()}\n          {same.line()}  (the same person, together)")
    drafts = [act for act in diary.acts if act.kind == "draft" and act.began_s >= alone_s]
    meanwhile = diary.times("prompt", lambda p: any(d.began_s < p.began_s < d.began_s + d.seconds for d in drafts))
    without = diary.times("prompt", lambda p: p.began_s >= alone_s and not any(_overlap(p, d) for d in drafts))
    say(
        f"asked while somebody's draft was made {meanwhile.line()}\nasked while none was               {without.line()}"
    )
    for name in sorted({row[1] for row in diary.memory}):
        rows = np.array([(s, rss, uss) for s, each, rss, uss in diary.memory if each == name])
        say(f"{name:9} {_growth('resident', rows[:, [0, 1]], end_s)}; {_growth('its own', rows[:, [0, 2]], end_s)}")


def _overlap(one: Act, other: Act) -> bool:
    return one.began_s < other.began_s + other.seconds and other.began_s < one.began_s + one.seconds


def _growth(what: str, rows: np.ndarray, end_s: float) -> str:
    """Return the memory at half-time and its growth since, by a line fitted through the last half."""
    last = rows[rows[:, 0] >= end_s / 2]
    if len(last) < 3:
        return f"{what} {rows[-1, 1]:.0f} MB"
    slope, offset = np.polyfit(last[:, 0], last[:, 1], 1)
    at_half, at_end = (slope * s + offset for s in (end_s / 2, end_s))
    peak = rows[:, 1].max()
    return f"{what} {at_half:.0f} MB at half-time, {100 * (at_end / at_half - 1):+.1f} % since, most {peak:.0f} MB"


def main() -> None:
    """Let people work on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0, help="the minute alone included")
    parser.add_argument("--alone", type=float, default=1.0, help="minutes for which the first person is alone")
    parser.add_argument("--think", type=float, default=3.0, help="seconds between two actions, on average")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = cases_of(wanted.data, wanted.people, folder)
        with studies_of(folder / "studies", parts) as studies, running(folder / "workspace", studies) as server:
            server.wait_until_ready().wait_for_cases(len(parts))
            prepare(server, wanted.people)
            diary = let_work(server, wanted)
            log = server.log()
    report(diary, wanted)
    if diary.errors:
        say(log)
    if wanted.json is not None:
        acts = [(act.person, act.kind, round(act.began_s, 3), round(act.seconds, 4)) for act in diary.acts]
        wanted.json.write_text(json.dumps({"acts": acts, "errors": diary.errors, "memory": diary.memory}))


def let_work(server: ServerProcess, wanted: argparse.Namespace) -> Diary:
    """Let the first person work, the others join after a while, and return what everybody did."""
    diary, stop = Diary(), threading.Event()
    watch = threading.Thread(target=watch_memory, args=(server, diary, stop))
    watch.start()

    def one(number: int) -> None:
        if number:
            time.sleep(60.0 * wanted.alone)
        with server.client(f"person {number}") as client:
            draw = np.random.default_rng(number)
            Worker(number, client, diary, wanted.think, 60.0 * wanted.minutes, draw).work()

    with ThreadPoolExecutor(wanted.people) as people:
        for ended in [people.submit(one, number) for number in range(wanted.people)]:
            ended.result()
    stop.set()
    watch.join()
    return diary


if __name__ == "__main__":
    main()
