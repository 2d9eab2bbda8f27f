"""A server seen from outside."""

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from annotate_server.client.answers import (
    RemoteCase,
    RemoteDecision,
    RemoteJob,
    RemoteLabel,
    RemoteModel,
    RemotePrediction,
    RemoteProject,
    RemoteSession,
    RemoteWorkItem,
)
from annotate_server.client.connection import Connection
from annotate_server.client.jobs import ignore, waited
from annotate_server.client.session import ClientSession
from annotate_server.domain.errors import NotFound
from annotate_server.domain.project import Project
from annotate_server.domain.training import TrainingPoint
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.imaging.segment_json import segment_as_json
from annotate_server.imaging.whole_file import whole_file

_PAGE = 500
_CHUNK = 1 << 20


class AnnotateClient:
    """The HTTP interface of one server, with numpy in and out; errors are those of `domain.errors`.

    `token` is one of `annotate users add`; `name` declares who asks where the server has no users.
    """

    def __init__(self, url: str, token: str | None = None, name: str | None = None, timeout_s: float = 60.0) -> None:
        """Prepare the line; nothing is sent yet."""
        self._connection = Connection(url.rstrip("/"), token, name, timeout_s)

    def __enter__(self) -> Self:
        """Use the client within a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the line."""
        self.close()

    def close(self) -> None:
        """Close the line."""
        self._connection.close()

    # Projects and models

    def projects(self) -> tuple[RemoteProject, ...]:
        """Return every project."""
        return tuple(RemoteProject.of(each) for each in self._connection.get_json("/api/v1/projects"))

    def add_project(self, project: Project) -> RemoteProject:
        """Add a project."""
        body = {
            "id": project.id,
            "title": project.title,
            "segments": [segment_as_json(segment) for segment in project.segments],
            "apps": list(project.apps),
            "modalities": [str(each) for each in project.modalities],
            "review": str(project.review),
            "send_labels_back": project.send_labels_back,
            "strategy": project.strategy,
        }
        return RemoteProject.of(self._connection.send("POST", "/api/v1/projects", body).json())

    def models(self) -> tuple[RemoteModel, ...]:
        """Return every model."""
        return tuple(RemoteModel.of(each) for each in self._connection.get_json("/api/v1/models"))

    def model(self, name: str) -> RemoteModel:
        """Return a model."""
        return RemoteModel.of(self._connection.get_json(f"/api/v1/models/{name}"))

    # Models that learn

    def new_model(self, name: str, project_id: str) -> RemoteModel:
        """Begin a model from nothing, which is trained once enough labels of the project are approved."""
        body = {"name": name, "project": project_id}
        return RemoteModel.of(self._connection.send("POST", "/api/v1/models", body).json())

    def train(self, model: str, project_id: str | None = None, *, is_full: bool = False) -> RemoteJob:
        """Order a training and return its job; an app is trained for a project as a model of its own."""
        body = {"project": project_id, "full": is_full}
        return RemoteJob.of(self._connection.send("POST", f"/api/v1/models/{model}/train", body).json())

    def train_by_itself(self, model: str, *, every_labels: int, is_nightly: bool) -> RemoteModel:
        """Say when a model is trained by itself: after so many approved labels (0: never), and at night."""
        body = {"every_labels": every_labels, "nightly": is_nightly}
        return RemoteModel.of(self._connection.send("PUT", f"/api/v1/models/{model}/training", body).json())

    def promote(self, model: str, version: str, reason: str = "") -> RemoteDecision:
        """Let a version of a model serve."""
        body = {"version": version, "reason": reason}
        return RemoteDecision.of(self._connection.send("POST", f"/api/v1/models/{model}/promote", body).json())

    def roll_back(self, model: str, version: str | None = None, reason: str = "") -> RemoteDecision:
        """Let the version of a model serve that did before, or a named one that did."""
        body = {"version": version, "reason": reason}
        return RemoteDecision.of(self._connection.send("POST", f"/api/v1/models/{model}/rollback", body).json())

    def version_weights(self, model: str, version: str) -> Mapping[str, str]:
        """Return the SHA-256 of each file of weights of a version."""
        found = self._connection.get_json(f"/api/v1/models/{model}/versions/{version}")
        weights: Mapping[str, str] = found["version"]["weights"]
        return weights

    def evidence(self, model: str, version: str) -> Mapping[str, Any]:
        """Return what the gate found of a version, as JSON values."""
        found: Mapping[str, Any] = self._connection.get_json(f"/api/v1/models/{model}/versions/{version}/evidence")
        return found

    def curve(self, job_id: str) -> tuple[TrainingPoint, ...]:
        """Return the curve of a training so far."""
        return tuple(TrainingPoint(**point) for point in self._connection.get_json(f"/api/v1/jobs/{job_id}/curve"))

    # Cases

    def cases(self, modality: str | None = None, study: str | None = None) -> Iterator[RemoteCase]:
        """Yield the cases, oldest first."""
        chosen = {"modality": modality, "study": study}
        params = {name: value for name, value in chosen.items() if value is not None}
        offset = 0
        while True:
            page = self._connection.get_json("/api/v1/cases", {**params, "limit": _PAGE, "offset": offset})
            yield from (RemoteCase.of(each) for each in page["cases"])
            offset += _PAGE
            if offset >= page["total"]:
                return

    def case(self, case_id: str) -> RemoteCase:
        """Return a case."""
        return RemoteCase.of(self._connection.get_json(f"/api/v1/cases/{case_id}"))

    def upload(self, source: Path) -> tuple[RemoteCase, ...]:
        """Upload a file, or a folder of DICOM files as one zip, and return the cases found in it."""
        if source.is_dir():
            files = sorted(Path(root) / name for root, _, names in os.walk(source) for name in names)
            return self.upload_files(files)
        headers = {"Content-Length": str(source.stat().st_size), "Content-Type": "application/octet-stream"}
        answer = self._connection.send_bytes("POST", "/api/v1/cases", _chunks(source), headers)
        return tuple(RemoteCase.of(each) for each in answer.json()["cases"])

    def upload_files(self, files: Sequence[Path]) -> tuple[RemoteCase, ...]:
        """Upload one file, or several of a DICOM series as one zip, and return the cases found in them."""
        if len(files) == 1:
            return self.upload(files[0])
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder) / "upload.zip"
            _pack(files, packed)
            return self.upload(packed)

    def declare_modality(self, case_id: str, modality: Literal["CT", "MR", "PT", "OT"]) -> RemoteCase:
        """Say the modality of a case whose file names none."""
        answer = self._connection.send("PUT", f"/api/v1/cases/{case_id}/modality", {"modality": modality})
        return RemoteCase.of(answer.json())

    # Work

    def open(self, project_id: str, case_id: str) -> ClientSession:
        """Open a case; raises CaseTaken with `person` and `session`."""
        answer = self._connection.send("POST", f"/api/v1/projects/{project_id}/cases/{case_id}/sessions")
        return ClientSession(self._connection, RemoteSession.of(answer.json()))

    def next_case(self, project_id: str) -> ClientSession | None:
        """Open the next case that waits; None where none is left."""
        try:
            answer = self._connection.send("POST", f"/api/v1/projects/{project_id}/next")
        except NotFound:
            self._connection.get(f"/api/v1/projects/{project_id}")  # a project that is not there is an error
            return None
        return ClientSession(self._connection, RemoteSession.of(answer.json()))

    def resume(self, session_id: str) -> ClientSession:
        """Go on with a session of one's own."""
        answer = self._connection.send("POST", f"/api/v1/sessions/{session_id}/resume")
        return ClientSession(self._connection, RemoteSession.of(answer.json()))

    def sessions(self) -> tuple[RemoteSession, ...]:
        """Return one's own sessions that were not submitted."""
        return tuple(RemoteSession.of(each) for each in self._connection.get_json("/api/v1/sessions"))

    def worklist(self, project_id: str) -> tuple[RemoteWorkItem, ...]:
        """Return where the cases of a project stand."""
        found = self._connection.get_json(f"/api/v1/projects/{project_id}/worklist")
        return tuple(RemoteWorkItem.of(each) for each in found)

    def put_aside(self, project_id: str, case_id: str, reason: str) -> RemoteWorkItem:
        """Put a case aside as unusable."""
        path = f"/api/v1/projects/{project_id}/cases/{case_id}/put-aside"
        return RemoteWorkItem.of(self._connection.send("POST", path, {"reason": reason}).json())

    # Drafts ahead of a session

    def draft_case(
        self, case_id: str, model: str, priority: Literal["person", "ahead", "batch"] = "person"
    ) -> RemoteJob:
        """Order a whole draft of a case and return its job."""
        body = {"case": case_id, "model": model, "priority": priority}
        return RemoteJob.of(self._connection.send("POST", "/api/v1/jobs", body).json())

    def wait(self, job_id: str, timeout_s: float = 3600.0, report: Callable[[float, str], None] = ignore) -> RemoteJob:
        """Return a job once it has succeeded, reporting its progress; raises the error that it failed with."""
        return waited(self._connection, job_id, timeout_s, report)

    def job(self, job_id: str) -> RemoteJob:
        """Return a job as it is now."""
        return RemoteJob.of(self._connection.get_json(f"/api/v1/jobs/{job_id}"))

    def cancel(self, job_id: str) -> RemoteJob:
        """Cancel a job."""
        return RemoteJob.of(self._connection.send("POST", f"/api/v1/jobs/{job_id}/cancel").json())

    def prediction(self, case_id: str, model: str | None = None) -> RemotePrediction:
        """Return the newest stored draft of a case; raises NotFound."""
        params: Mapping[str, str] = {} if model is None else {"model": model}
        return RemotePrediction.of(self._connection.get_json(f"/api/v1/cases/{case_id}/prediction", params))

    def download_prediction(self, prediction_id: str, kind: LabelmapFormat, target: Path) -> None:
        """Write a stored draft to a file: whole, or not at all."""
        self._download(f"/api/v1/predictions/{prediction_id}/file", kind, target)

    # Labels

    def labels(self, project_id: str, case_id: str) -> tuple[RemoteLabel, ...]:
        """Return the labels of a case, oldest first."""
        found = self._connection.get_json(f"/api/v1/projects/{project_id}/cases/{case_id}/labels")
        return tuple(RemoteLabel.of(each) for each in found)

    def label(self, label_id: str) -> RemoteLabel:
        """Return a label."""
        return RemoteLabel.of(self._connection.get_json(f"/api/v1/labels/{label_id}"))

    def import_label(self, project_id: str, case_id: str, source: Path) -> RemoteLabel:
        """Upload a NIfTI, `.seg.nrrd` or DICOM SEG file as a label of a case; overlapping segments become layers."""
        headers = {"Content-Length": str(source.stat().st_size), "Content-Type": "application/octet-stream"}
        path = f"/api/v1/projects/{project_id}/cases/{case_id}/labels"
        return RemoteLabel.of(self._connection.send_bytes("POST", path, _chunks(source), headers).json())

    def download_label(self, label_id: str, kind: LabelmapFormat, target: Path) -> None:
        """Write a label to a file: whole, or not at all."""
        self._download(f"/api/v1/labels/{label_id}/file", kind, target)

    def reviews(self, project_id: str) -> tuple[RemoteLabel, ...]:
        """Return the labels that wait for a second person."""
        found = self._connection.get_json(f"/api/v1/projects/{project_id}/reviews")
        return tuple(RemoteLabel.of(each) for each in found)

    def review(self, label_id: str, verdict: Literal["approved", "returned"], comment: str = "") -> RemoteLabel:
        """Approve somebody else's label, or return it with a comment."""
        body = {"verdict": verdict, "comment": comment}
        return RemoteLabel.of(self._connection.send("POST", f"/api/v1/labels/{label_id}/review", body).json())

    def _download(self, path: str, kind: LabelmapFormat, target: Path) -> None:
        with (
            self._connection.streaming(path, {"format": str(kind)}) as answer,
            whole_file(target) as temporary,
            temporary.open("wb") as sink,
        ):
            for part in answer.iter_bytes():
                sink.write(part)


def _chunks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as stream:
        while part := stream.read(_CHUNK):
            yield part


def _pack(files: Iterable[Path], target: Path) -> None:
    """Pack files under numbers: their names may hold a patient's."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number, file in enumerate(files):
            archive.write(file, f"{number:05}")
