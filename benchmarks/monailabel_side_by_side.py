"""Our server and MONAI Label's own, side by side: the same requests, networks, weights and volumes, in turns.

python benchmarks/monailabel_side_by_side.py --peer .venv-monailabel/monailabel [--json figures.json]

1. A draft of a volume of 256 x 256 x 128 by two networks with random weights, warm: of a volume that nobody has asked
   about (both servers compute), and asked again (ours has kept what that version of the model drew; the peer computes).
2. `/info/` while eight clients ask for drafts without a pause.
3. The memory of all processes, at rest, with the larger network loaded.
4. 5,000 studies: the list of all, and saving a label.

`--peer` is an environment with `monailabel` in it, `--app` its sample app `radiology`. Without one only our side runs.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nrrd
import numpy as np
from many_studies import fill_workspace, label_of, write_studies
from serving import Measured, machine, say
from side_by_side_models import SharedModel, one_by_one, spleen, write_bundle, write_peer_app
from side_by_side_servers import PeerEnvironment, Site, adopt, answers_under_load, our_server, peer_server

from annotate_server.domain.geometry import Geometry
from annotate_server.testing.phantom_files import write_nifti

SHAPE = (128, 256, 256)
CLIENTS = 8
REST_S = 3.0
WARM_UPS = 2


@dataclass(frozen=True)
class Aim:
    """What must hold: at most so much of the peer's, or at most so much."""

    ratio: float | None = None
    most: float | None = None

    def text(self) -> str:
        """Return it for the table."""
        if self.ratio is not None:
            return f"≤ {self.ratio:g}x"
        return f"≤ {self.most:g}"

    def verdict(self, ours: float, theirs: float | None) -> str:
        """Return whether it holds."""
        of_peer = None if theirs is None or self.ratio is None else self.ratio * theirs
        limit = of_peer if self.most is None else self.most
        if limit is None:
            return "not measured"
        return "met" if ours <= limit else "**not met**"


@dataclass(frozen=True)
class Row:
    """A line of the table: figures of both sides in `unit`; the aim is about a percentile."""

    what: str
    unit: str
    aim: Aim
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    percent: float = 50.0
    cpu: str = ""

    def at(self, figures: Sequence[float]) -> float | None:
        """Return the percentile that the aim is about."""
        return float(np.percentile(figures, self.percent)) if figures else None

    def cells(self) -> tuple[str, ...]:
        """Return the line."""
        ours, theirs = self.at(self.ours), self.at(self.theirs)
        assert ours is not None  # noqa: S101  our side always runs
        ratio = "" if theirs is None else f"{ours / theirs:.3g}"
        verdict = self.aim.verdict(ours, theirs)
        return self.what, _told(self.ours), _told(self.theirs), self.cpu, ratio, self.aim.text(), verdict

    def as_json(self) -> dict[str, object]:
        """Return it for machines."""
        aim = {"ratio": self.aim.ratio, "most": self.aim.most, "percentile": self.percent}
        verdict = self.cells()[-1]
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": list(self.ours),
            "peer": list(self.theirs),
            "cpu_ms": self.cpu,
            "aim": aim,
            "met": verdict,
        }


def _told(figures: Sequence[float]) -> str:
    if not figures:
        return ""
    if len(figures) == 1:
        return f"{figures[0]:.0f}"
    return f"{np.percentile(figures, 50):.0f} / {np.percentile(figures, 95):.0f}"


@dataclass
class Figures:
    """Milliseconds of both sides: by the clock of who asked, and of the processors of who answered."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    our_cpu: list[float] = field(default_factory=list)
    their_cpu: list[float] = field(default_factory=list)

    def cpu(self) -> str:
        """Return the processor times, on average; they hardly depend on what else a machine does."""
        return " : ".join(f"{np.mean(each):.0f}" for each in (self.our_cpu, self.their_cpu) if each)


@dataclass
class Pair:
    """The two servers, asked in turns; `theirs` is None where there is no peer."""

    ours: Site
    theirs: Site | None

    def each(self) -> Iterator[Site]:
        """Yield those that there are."""
        yield self.ours
        if self.theirs is not None:
            yield self.theirs

    def timed(self, figures: Figures, what: Callable[[Site], object]) -> None:
        """Do something on each server, one after the other, and add the milliseconds of each."""
        sides = ((figures.ours, figures.our_cpu), (figures.theirs, figures.their_cpu))
        for site, (found, cpu) in zip(self.each(), sides, strict=False):
            before = site.cpu_ms()
            Measured(site.name, found).time(lambda site=site: what(site))
            cpu.append(site.cpu_ms() - before)


@dataclass
class Bench:
    """What a run has found so far, and where it works."""

    folder: Path
    peer: PeerEnvironment | None
    options: argparse.Namespace
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def peers(self, model: SharedModel, studies: Path) -> Iterator[Site | None]:
        """Give the peer's server with a model over studies; None where there is no peer."""
        if self.peer is None:
            yield None
            return
        app = write_peer_app(model, self.folder / f"peer-{model.name}-{studies.name}", self.peer.app)
        conf = ("models=segmentation_spleen",)
        with peer_server(self.peer, app, studies, conf) as site:
            yield site

    def draft(self, pair: Pair, model: SharedModel, names: Sequence[str], aim: float) -> None:
        """Measure drafts: each name is new to both; the first warms them up and shows how far they agree."""
        first, second = (self._grid(site, model.name, names[0]) for site in (pair.ours, pair.theirs))
        if first is not None and second is not None:
            same, share = float((first == second).mean()), float((first > 0).mean())
            self.notes.append(f"{model.name}: {same:.2%} of the voxels agree; {share:.0%} are drawn.")
        fresh, again = Figures(), Figures()
        for name in names[1:]:
            for found in (fresh, again):
                pair.timed(found, lambda site, name=name: site.infer(model.name, name))
        what = f"`/infer/{model.name}`"
        for told, found in (("a volume never asked about", fresh), ("asked again", again)):
            self.rows.append(Row(f"{what}, {told} (ms)", "ms", Aim(aim), found.ours, found.theirs, cpu=found.cpu()))

    def _grid(self, site: Site | None, model: str, name: str) -> np.ndarray | None:
        if site is None:
            return None
        path = self.folder / "answer.nrrd"
        path.write_bytes(site.infer(model, name))
        return nrrd.read(str(path))[0]

    def rest(self, pair: Pair) -> None:
        """Measure memory."""
        time.sleep(REST_S)
        found = [[site.memory_mb()] for site in pair.each()]
        theirs = found[1] if len(found) > 1 else []
        self.rows.append(
            Row("memory of all processes at rest, that model loaded (MB)", "MB", Aim(0.6), found[0], theirs)
        )

    def crowd(self, pair: Pair, model: SharedModel, names: Sequence[str]) -> None:
        """Measure `/info/` while eight clients ask for drafts, one server after the other."""
        work = {client: tuple(names[client::CLIENTS]) for client in range(CLIENTS)}
        found = [answers_under_load(site, work, model.name, self.options.seconds) for site in pair.each()]
        theirs = found[1] if len(found) > 1 else []
        what = f"`/info/` while {CLIENTS} clients ask for drafts (ms)"
        self.rows.append(Row(what, "ms", Aim(most=50), found[0], theirs, 95))


def volumes(folder: Path, count: int) -> tuple[str, ...]:
    """Write a body of soft tissue in air, with noise, so many times; one voxel tells them apart."""
    grid = Geometry(SHAPE, (1.0, 1.0, 1.0), np.eye(3)[::-1].tolist(), (-128.0, -128.0, -64.0))
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    is_body = ((j - SHAPE[1] / 2) / (0.35 * SHAPE[1])) ** 2 + ((i - SHAPE[2] / 2) / (0.45 * SHAPE[2])) ** 2 < 1
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32) * 30
    voxels = (np.where(is_body, 40 + 0 * k, -1000) + noise).astype(np.int16)
    names = tuple(f"volume-{number:02d}.nii" for number in range(count))
    for number, name in enumerate(names):
        voxels[0, 0, 0] = -1000 + number
        write_nifti(folder / name, voxels, grid)
    return names


def drafts(bench: Bench) -> None:
    """Rows 1 to 3."""
    models, repeats = (spleen(), one_by_one()), bench.options.repeats
    studies, workspace = bench.folder / "volumes", bench.folder / "workspace"
    names = volumes(studies, 3 * CLIENTS)
    for model in models:
        adopt(write_bundle(model, bench.folder / "bundles" / model.name), model.name, workspace)
    large, small = models
    with our_server(workspace, studies) as ours:
        for case_id in ours.images.values():
            ours.answered(ours.client.put(f"/api/v1/cases/{case_id}/modality", json={"modality": "CT"}))
        with bench.peers(large, studies) as theirs:
            say("drafts by the network of the sample app")
            bench.draft(Pair(ours, theirs), large, names[: repeats + 1], 0.8)
            bench.rest(Pair(ours, theirs))
        with bench.peers(small, studies) as theirs:
            say("drafts by a network of 1x1x1 convolutions")
            bench.draft(Pair(ours, theirs), small, names[: 2 * repeats + 1], 0.5)
            say(f"{CLIENTS} clients at once")
            bench.crowd(Pair(ours, theirs), small, names)


def many(bench: Bench) -> None:
    """Row 4."""
    count, repeats = bench.options.studies, bench.options.saves
    studies, workspace = bench.folder / "many", bench.folder / "workspace-many"
    say(f"{count} studies")
    paths = write_studies(studies, count)
    fill_workspace(workspace, paths)
    copies = bench.folder / "many-of-peer"
    copies.mkdir()
    for path in paths:
        (copies / path.name).hardlink_to(path)
    with our_server(workspace, studies) as ours, bench.peers(one_by_one(), copies) as theirs:
        pair = Pair(ours, theirs)
        steps: dict[str, Callable[[Site, int], object]] = {
            "the list of all": lambda site, _: site.listed(),
            "saving a label": lambda site, n: site.save(paths[n * 37 % count].name, label_of(n, bench.folder)),
            "the list of all, after a label was saved": lambda site, _: site.listed(),
        }
        figures = {name: Figures() for name in steps}
        for number in range(-WARM_UPS, repeats):
            for name, step in steps.items():
                kept = figures[name] if number >= 0 else Figures()
                pair.timed(kept, lambda site, step=step, number=number: step(site, number))
        pages = Measured("pages")
        for number in range(repeats):
            part = {"limit": 1000, "offset": 1000 * (number % max(1, count // 1000))}
            pages.time(lambda part=part: ours.answered(ours.client.get("/api/v1/cases", params=part)))
    told = f", {count:,} studies (ms)"
    for name, found in figures.items():
        aim = Aim(most=60 if name.startswith("saving") else 30)
        bench.rows.append(Row(name + told, "ms", aim, found.ours, found.theirs, 95, found.cpu()))
    aim = Aim(most=30)
    bench.rows.append(Row("a page of 1,000 cases of our own API" + told, "ms", aim, pages.milliseconds, percent=95))


def report(bench: Bench) -> str:
    """Return the table."""
    head = ("", "ours, p50 / p95", "MONAI Label, p50 / p95", "CPU ms, ours : theirs", "ratio", "must hold", "")
    lines = [head, tuple("---" for _ in head), *(row.cells() for row in bench.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer", type=Path, default=Path(".venv-monailabel/monailabel"), help="environment of MONAI Label"
    )
    parser.add_argument("--app", type=Path, help="its sample app; default: the one that came with it")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    parser.add_argument("--repeats", type=int, default=4, help="volumes for the larger network; twice for the small")
    parser.add_argument("--seconds", type=float, default=15.0, help="for which /info/ is asked under load")
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--saves", type=int, default=25)
    parser.add_argument("--only", choices=("drafts", "many"), help="one half of it")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with it
    peer = PeerEnvironment(wanted.peer, wanted.app or wanted.peer / "monailabel/sample-apps/radiology")
    is_there = peer.interpreter.exists() and peer.app.is_dir()
    if not is_there:
        say(f"MONAI Label is not in {wanted.peer}: only our side is measured.")
    say(machine())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), peer if is_there else None, wanted)
        for part, measure in (("drafts", drafts), ("many", many)):
            if wanted.only in (None, part):
                measure(bench)
    ended = machine()
    say("\n" + "\n".join(bench.notes) + "\n\n" + report(bench) + f"\n\n{ended}; {time.monotonic() - begun:.0f} s")
    if wanted.json is not None:
        figures = {"rows": [row.as_json() for row in bench.rows], "notes": bench.notes, "machine": ended}
        wanted.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
