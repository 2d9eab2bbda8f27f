"""Debian's Orthanc with its DICOMweb plugin, on a free port of the loopback address, ended by its process id."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

ORTHANC = "/usr/sbin/Orthanc"
PLUGINS = Path("/usr/share/orthanc/plugins")
START_S = 30.0
USER, PASSWORD = "annotate", "a-secret-of-the-archive"


@dataclass
class OrthancProcess:
    """An Orthanc whose data survive that it is killed."""

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def dicom_web(self) -> str:
        return f"{self.url}/dicom-web"

    def start(self) -> Self:
        """Start it, on the port that it had before, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration()))
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [ORTHANC, str(configuration)], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError), self.client() as client:
                if client.get("/system").status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"Orthanc did not start:\n{(self.folder / 'orthanc.log').read_text()[-3000:]}")

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, auth=(USER, PASSWORD), timeout=30)

    def upload(self, files: Iterable[Path]) -> None:
        with self.client() as client:
            for file in files:
                client.post("/instances", content=file.read_bytes()).raise_for_status()

    def instances(self, modality: str) -> list[bytes]:
        """Return the files of all instances of a modality."""
        with self.client() as client:
            query = {"Level": "Instance", "Query": {"Modality": modality}}
            found = client.post("/tools/find", json=query).json()
            return [client.get(f"/instances/{each}/file").content for each in found]

    def _configuration(self) -> Mapping[str, Any]:
        return {
            "Name": "tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
            "HttpServerEnabled": True,
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomServerEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self.settings,
        }


def needs_orthanc() -> None:
    """Skip, or fail in CI, where Orthanc or its plugin is not installed."""
    if not shutil.which(ORTHANC) or not (PLUGINS / "libOrthancDicomWeb.so").is_file():
        reason = "Orthanc is not installed: apt-get install orthanc orthanc-dicomweb"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
