"""Two servers that answer the same requests of MONAI Label's clients: ours, and MONAI Label's own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import psutil
from serving import running, say

START_S = 300.0
THREADS = "2"
_PARAMS = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "benchmark"}
"""What the module for 3D Slicer sends with every inference."""


@dataclass
class Site:
    """A server as its clients see it; `images` are its ids of images by the names of the files."""

    name: str
    url: str
    process: psutil.Process
    images: dict[str, str] = field(default_factory=dict)
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        """Open a line to it."""
        self.client = httpx.Client(base_url=self.url, timeout=600.0)

    def answered(self, response: httpx.Response) -> httpx.Response:
        """Return an answer that is one; a benchmark of refusals means nothing."""
        assert response.status_code == 200, (self.name, response.status_code, response.text[:500])  # noqa: S101
        return response

    def listed(self) -> httpx.Response:
        """Ask for the list of everything, as clients do before they open a case that has a label."""
        return self.answered(self.client.get("/datastore/", params={"output": "all"}))

    def infer(self, model: str, name: str, client: httpx.Client | None = None) -> bytes:
        """Ask a model for its draft of an image and return the volume in the answer."""
        line = client or self.client
        form = {"params": (None, json.dumps(_PARAMS))}
        answer = self.answered(line.post(f"/infer/{model}", params={"image": self.images[name]}, files=form))
        return volume_in(answer)

    def save(self, name: str, label: bytes) -> None:
        """Hand a label in."""
        said = json.dumps({"label_info": [{"name": "spleen", "idx": 1}], "client_id": "benchmark"})
        where = {"image": self.images[name], "tag": "final"}
        self.answered(
            self.client.put(
                "/datastore/label", params=where, files={"label": ("label.nii", label)}, data={"params": said}
            )
        )

    def cpu_ms(self) -> float:
        """Return the processor time that all its processes have used so far."""
        times = [each.cpu_times() for each in (self.process, *self.process.children(recursive=True))]
        return 1e3 * sum(each.user + each.system for each in times)

    def memory_mb(self) -> float:
        """Return the memory of all its processes; what several of them share counts once (PSS)."""
        every = [self.process, *self.process.children(recursive=True)]
        return sum(_pss_mb(each.pid) for each in every)


def volume_in(answer: httpx.Response) -> bytes:
    """Return the file in an answer of several parts."""
    kind = answer.headers["content-type"]
    mark = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    for part in answer.content.split(mark):
        head, _, content = part.partition(b"\r\n\r\n")
        if b"filename=" in head:
            return content.removesuffix(b"\r\n")
    raise AssertionError(f"no file came: {kind}")


@dataclass(frozen=True)
class PeerEnvironment:
    """An environment in which MONAI Label is installed; `app` is a folder of its sample app `radiology`."""

    folder: Path
    app: Path

    @property
    def interpreter(self) -> Path:
        """Return its Python."""
        return self.folder / "bin" / "python"


@contextmanager
def our_server(workspace: Path, studies: Path) -> Iterator[Site]:
    """Give our server over a workspace and a folder of studies, once it knows them all."""
    with running(workspace, studies, {"OMP_NUM_THREADS": THREADS}) as server:
        server.wait_until_ready()
        assert server.process is not None  # noqa: S101  it runs
        site = Site("ours", server.url, psutil.Process(server.process.pid))
        wanted = {path.name for path in studies.iterdir() if path.is_file()}
        _wait(lambda: site.client.get("/datastore/").json()["total"] >= len(wanted))
        for offset in range(0, len(wanted), 1000):
            page = site.client.get("/api/v1/cases", params={"limit": 1000, "offset": offset}).json()
            site.images |= {case["name"]: case["id"] for case in page["cases"]}
        assert set(site.images) == wanted, (len(site.images), len(wanted))  # noqa: S101
        yield site
        server.terminate()


@contextmanager
def peer_server(peer: PeerEnvironment, app: Path, studies: Path, conf: Sequence[str] = ()) -> Iterator[Site]:
    """Give MONAI Label's server over an app and a folder of studies, once it answers."""
    port = _free_port()
    place = f"http://127.0.0.1:{port}"
    command = [str(peer.interpreter.absolute()), "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    given = [word for pair in (*_CONF, *_pairs(conf)) for word in ("--conf", *pair)]
    log = (app.parent / f"{app.name}.log").open("ab")
    # ANNOTATE_* and a PYTHONPATH of ours are no business of the peer's
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**clean, "OMP_NUM_THREADS": THREADS}
    process = subprocess.Popen([*command, *given], stdout=log, stderr=log, env=environment, cwd=app.parent)  # noqa: S603
    try:
        site = Site("MONAI Label", place, psutil.Process(process.pid))
        _wait(lambda: process.poll() is not None or _is_answering(site))
        assert process.poll() is None, Path(log.name).read_text(errors="replace")[-3000:]  # noqa: S101
        site.images |= {path.name: path.name.split(".")[0] for path in studies.iterdir() if path.is_file()}
        yield site
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        log.close()


_CONF = (("use_pretrained_model", "false"), ("sam2", "false"))


def _pairs(conf: Sequence[str]) -> Iterator[tuple[str, str]]:
    for each in conf:
        name, _, value = each.partition("=")
        yield name, value


def adopt(bundle: Path, name: str, workspace: Path) -> None:
    """Take a bundle over into a workspace."""
    command = (sys.executable, "-m", "annotate_server.cli.main", "models", "adopt", str(bundle))
    words = [*command, "--name", name, "--workspace", str(workspace), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    assert done.returncode == 0, done.stdout + done.stderr  # noqa: S101


def answers_under_load(site: Site, work: Mapping[int, Sequence[str]], model: str, seconds: float) -> list[float]:
    """Return the milliseconds of `/info/` while one client for each row of `work` asks for draft after draft."""
    stop = Event()

    def one(names: Sequence[str]) -> None:
        with httpx.Client(base_url=site.url, timeout=600.0) as client:
            while not stop.is_set():
                for name in names:
                    if stop.is_set():
                        return
                    try:
                        site.infer(model, name, client)
                    except httpx.TransportError as error:  # told, and asked on: it is `/info/` that is measured
                        say(f"{site.name} dropped a request under load ({error})")

    with ThreadPoolExecutor(len(work)) as people:
        asked = [people.submit(one, names) for names in work.values()]
        time.sleep(2.0)
        command = (sys.executable, str(Path(__file__).with_name("probing.py")), f"{site.url}/info/", str(seconds))
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603  a file beside this
        finally:
            stop.set()
        for each in asked:
            each.result()
    found: list[float] = json.loads(done.stdout)
    return found


def _is_answering(site: Site) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{site.url}/info/", timeout=60.0).status_code == 200
    return False


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if until():
            return
        time.sleep(0.2)
    raise AssertionError("it did not come about in time")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _pss_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
