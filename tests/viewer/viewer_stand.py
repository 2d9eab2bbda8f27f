"""A server with a browser in front of it: what the tests of the viewer share."""

import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nrrd
import numpy as np
from numpy.typing import NDArray
from server_process import ServerProcess

PLAY_S = 280.0
"""The longest that the browser may say nothing."""
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
NODE = shutil.which("node", path=f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', '')}")


class Browser:
    """One Chromium, driven by driver.mjs; a play that hangs costs a browser, not the tests after it."""

    def __init__(self, node: str, chromium: str) -> None:
        self._command = [node, str(HERE / "driver.mjs"), chromium]
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def play(self, asked: Mapping[str, object], answers: Mapping[str, Callable[[], object]]) -> Any:
        """Play one of the modules here; `answers` are what it may ask back for. Returns what was seen."""
        self._say(asked)
        while True:
            line = json.loads(self._heard())
            if "ask" not in line:
                return line
            self._say(answers[line["ask"]]() or "")

    def close(self) -> None:
        """End the browser."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _say(self, what: object) -> None:
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _heard(self) -> str:
        try:
            line = self._lines.get(timeout=PLAY_S)
        except queue.Empty:
            line = ""
        if not line:
            self.close()
            raise AssertionError("the browser has said nothing for too long, or has ended")
        return line

    def _start(self) -> None:
        self._lines = queue.Queue()
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=_pass_on, args=(self._process, self._lines), daemon=True).start()


def _pass_on(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")


@dataclass
class Stand:
    """A server, and the browser that looks at it; the folder is where pictures go."""

    server: ServerProcess
    browser: Browser
    shots: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.server.url}/api/v1{path}", headers=dict(self.headers), timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def case(self, name: str) -> Any:
        return next(case for case in self.get("/cases?limit=1000")["cases"] if case["name"].startswith(name))

    def address(self, case: Any, project: str) -> str:
        """Where a case is annotated."""
        return (
            f"/viewer/annotate?StudyInstanceUIDs={case['study_uid']}"
            f"&SeriesInstanceUIDs={case['series_uid']}&project={project}&case={case['id']}"
        )

    def play(self, module: str, /, **asked: object) -> Any:
        """Play a module and return what was seen; nothing may go wrong on the page or leave the machine."""
        answers = {
            "a sign of life": lambda: None,
            "kill": self.server.kill,
            "start": self._start_again,
            "workers rest": lambda: self._signal_workers(signal.SIGSTOP),
            "workers go on": lambda: self._signal_workers(signal.SIGCONT),
        }
        asked = {"play": module, "url": self.server.url, "shots": str(self.shots), **asked}
        found = self.browser.play(asked, answers)
        seen = found["seen"]
        assert "failed" not in seen, f"{seen['failed']}\n{seen.get('panel', '')}\n{found['wrong']}\n{seen}"
        assert found["wrong"] == []
        assert found["foreign"] == []
        return seen

    def _start_again(self) -> None:
        """Start the server where the browser looks for it."""
        self.server.port = int(self.server.url.rsplit(":", 1)[1])
        self.server.start().wait_until_ready()

    def _signal_workers(self, which: signal.Signals) -> None:
        for worker in self.server.workers():
            worker.send_signal(which)

    def session_labelmap(self, session_id: str, shape: list[int]) -> NDArray[np.uint8]:
        """Return the draft (k, j, i) of a session, from the answer's bytes."""
        answer = httpx.get(
            f"{self.server.url}/api/v1/sessions/{session_id}/labelmap", headers=dict(self.headers), timeout=60
        )
        assert answer.is_success, answer.text
        count = int(np.prod(shape))
        return np.frombuffer(answer.content[-count:], np.uint8).reshape(shape)

    def label_voxels(self, label_id: str) -> NDArray[np.uint8]:
        """Return a label's voxels (k, j, i), from the file that is downloaded."""
        answer = httpx.get(
            f"{self.server.url}/api/v1/labels/{label_id}/file?format=nrrd", headers=dict(self.headers), timeout=60
        )
        assert answer.is_success, answer.text
        file = self.shots / f"{label_id}.seg.nrrd"
        file.write_bytes(answer.content)
        voxels, _ = nrrd.read(str(file), index_order="C")
        file.unlink()
        return np.ascontiguousarray(voxels, np.uint8)


def digest(voxels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of voxels in order k, j, i."""
    return hashlib.sha256(voxels.tobytes()).hexdigest()


def index_of(grid: Any, place_mm: list[float]) -> list[int]:
    """Return the voxel (k, j, i) that a place (LPS mm) lies in."""
    axes = np.array(grid["direction"]) * np.array(grid["spacing_mm"])[:, None]
    index = np.linalg.solve(axes.T, np.array(place_mm) - np.array(grid["origin_mm"]))
    return [round(float(each)) for each in index]
