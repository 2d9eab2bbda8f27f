"""A session seen from outside: a local labelmap that every answer of the server keeps up to date."""

from collections.abc import Iterable
from dataclasses import asdict
from types import TracebackType
from typing import Self

import httpx
import numpy as np
from numpy.typing import ArrayLike

from annotate_server.client.answers import RemoteJob, RemoteLabel, RemoteSession
from annotate_server.client.connection import Connection
from annotate_server.client.jobs import waited
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import HelperOrder
from annotate_server.domain.labelmap import LabelVoxels, Segment
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.imaging.frame import MEDIA_TYPE, Frame, decode_frame, encode_frame
from annotate_server.imaging.segment_json import segment_as_json


class ClientSession:
    """One open case.

    `draft` is the labelmap (k, j, i) as it stands on the server, uint8 or uint16: read it, and change it by the
    methods only. Every change names the revision that it was made on; StaleRevision says that another window was
    faster: `refresh` and decide again. Use it from one thread; as a context manager it leaves the session at the end
    unless it was submitted.
    """

    def __init__(self, connection: Connection, opened: RemoteSession) -> None:
        """Fetch the draft of a session that was opened."""
        self._connection = connection
        self._path = f"/api/v1/sessions/{opened.id}"
        self.id, self.case_id, self.project_id = opened.id, opened.case, opened.project
        self.segments, self.locked = opened.segments, opened.locked
        self.revision = 0
        self.can_undo = self.can_redo = self.has_ended = False
        whole = self._frame(connection.get(f"{self._path}/labelmap"))
        self.geometry_digest = whole.geometry
        self.draft: LabelVoxels = np.zeros(whole.box.shape, whole.voxels.dtype)
        self._apply(whole)

    def __enter__(self) -> Self:
        """Use the session within a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the session, unless it has ended."""
        if not self.has_ended:
            self.leave()

    # Prompts, helpers, edits

    def prompt(self, prompt: Prompt, model: str) -> Frame:
        """Let a model answer a prompt; returns what changed."""
        body = {
            "kind": str(prompt.kind),
            "points_mm": [list(point) for point in prompt.points_mm],
            "segment": prompt.segment,
            "positive": prompt.positive,
            "model": model,
        }
        return self._change("POST", "prompts", body)

    def point(self, model: str, point_mm: ArrayLike, *, segment: int = 1, positive: bool = True) -> Frame:
        """Prompt with a point (3,) in LPS mm."""
        return self._prompted(PromptKind.POINT, model, point_mm, segment=segment, positive=positive)

    def box(self, model: str, corners_mm: ArrayLike, *, segment: int = 1) -> Frame:
        """Prompt with two opposite corners (2, 3) in LPS mm."""
        return self._prompted(PromptKind.BOX, model, corners_mm, segment=segment, positive=True)

    def scribble(self, model: str, points_mm: ArrayLike, *, segment: int = 1, positive: bool = True) -> Frame:
        """Prompt with an open line (n, 3) in LPS mm."""
        return self._prompted(PromptKind.SCRIBBLE, model, points_mm, segment=segment, positive=positive)

    def lasso(self, model: str, points_mm: ArrayLike, *, segment: int = 1, positive: bool = True) -> Frame:
        """Prompt with a closed polygon (n, 3) in one plane, in LPS mm."""
        return self._prompted(PromptKind.LASSO, model, points_mm, segment=segment, positive=positive)

    def help(self, order: HelperOrder, segment: int = 1) -> Frame:
        """Carry out a classical helper on a segment."""
        given = {name: value for name, value in asdict(order).items() if value is not None}
        return self._change("POST", "helpers", {**given, "segment": segment})

    def edit(self, box: Box, voxels: LabelVoxels) -> Frame:
        """Put voxels (k, j, i) of the box's shape into the draft; their values are indices of segments."""
        frame = Frame(self.case_id, self.id, self.revision, box, voxels, self.geometry_digest)
        headers = {"If-Match": f'"{self.revision}"', "Content-Type": MEDIA_TYPE}
        answer = self._connection.send_bytes("PUT", f"{self._path}/labelmap", encode_frame(frame), headers)
        return self._apply(self._frame(answer))

    def undo(self) -> Frame:
        """Take the newest change back."""
        return self._change("POST", "undo")

    def redo(self) -> Frame:
        """Make the change again that was taken back last."""
        return self._change("POST", "redo")

    # Segments

    def add_segment(self, segment: Segment) -> Frame:
        """Add a segment."""
        return self._change("POST", "segments", segment_as_json(segment))

    def alter_segment(self, segment: Segment) -> Frame:
        """Give the segment of this index another name, colour or code."""
        body = {name: value for name, value in segment_as_json(segment).items() if name != "index"}
        return self._change("PATCH", f"segments/{segment.index}", body)

    def remove_segment(self, index: int) -> Frame:
        """Remove a segment and its voxels."""
        return self._change("DELETE", f"segments/{index}")

    def lock(self, indices: Iterable[int]) -> None:
        """Lock these segments and no others."""
        answer = self._connection.send("PUT", f"{self._path}/locked", {"locked": sorted(indices)})
        self.locked = RemoteSession.of(answer.json()).locked

    # Whole drafts

    def take_prediction(self, prediction_id: str) -> Frame:
        """Put a stored whole draft into this one."""
        return self._change("POST", f"predictions/{prediction_id}")

    def draft_by(self, model: str, timeout_s: float = 3600.0) -> RemoteJob:
        """Let a model draft the whole case, wait for it, and return its job; the draft here is then up to date."""
        ordered = RemoteJob.of(self._connection.send("POST", f"{self._path}/draft", {"model": model}).json())
        job = waited(self._connection, ordered.id, timeout_s)
        self.refresh()
        return job

    # The session itself

    def refresh(self) -> Frame:
        """Fetch what changed on the server since the last answer."""
        answer = self._connection.get(f"{self._path}/labelmap", {"since": self.revision})
        return self._apply(self._frame(answer))

    def heartbeat(self, active_s: float = 0.0) -> RemoteSession:
        """Hold the case, and say for how many seconds somebody worked on it."""
        return RemoteSession.of(self._connection.send("POST", f"{self._path}/heartbeat", {"active_s": active_s}).json())

    def submit(self, *, is_partial: bool | None = None) -> RemoteLabel:
        """Make the draft a label; a partial one speaks only about the slices in which something is drawn.

        Where that is not said, it is as partial as the label that it corrects.
        """
        body = None if is_partial is None else {"is_partial": is_partial}
        answer = self._connection.send("POST", f"{self._path}/submit", body, if_match=self.revision)
        label = RemoteLabel.of(answer.json())
        self.has_ended = True
        return label

    def leave(self) -> None:
        """Leave the session; it can be resumed."""
        self._connection.send("POST", f"{self._path}/leave")
        self.has_ended = True

    def _prompted(self, kind: PromptKind, model: str, points_mm: ArrayLike, *, segment: int, positive: bool) -> Frame:
        rows = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3).tolist()
        points = tuple((x, y, z) for x, y, z in rows)
        return self.prompt(Prompt(kind, points, segment, positive), model)

    def _change(self, method: str, path: str, body: object = None) -> Frame:
        answer = self._connection.send(method, f"{self._path}/{path}", body, if_match=self.revision)
        return self._apply(self._frame(answer))

    def _frame(self, answer: httpx.Response) -> Frame:
        return decode_frame(answer.content)

    def _apply(self, frame: Frame) -> Frame:
        """Put what changed into the local draft."""
        if self.draft.dtype.itemsize < frame.voxels.dtype.itemsize:
            self.draft = self.draft.astype(np.uint16)
        self.draft[frame.box.slices] = frame.voxels
        self.segments = self.segments if frame.segments is None else frame.segments
        self.revision, self.can_undo, self.can_redo = frame.revision, frame.can_undo, frame.can_redo
        return frame
