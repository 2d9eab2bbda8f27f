"""What the server answers, as values of this extension."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from AnnotateServerLib import frame as frames
from AnnotateServerLib.places import Grid, grid_of_case
from AnnotateServerLib.problem import Problem
from AnnotateServerLib.segments import Segment, segment_of

API = "v1"


class Server(NamedTuple):
    """What the server is, and how much it lets in."""

    version: str
    api: str
    frame: str
    upload_bytes: int


class Project(NamedTuple):
    """A project: its apps draft its cases."""

    id: str
    title: str
    apps: tuple[str, ...]
    review: str
    segments: tuple[Segment, ...] = ()


class Case(NamedTuple):
    """A case; `grid` is there once the server has read its voxels."""

    id: str
    name: str
    modality: str | None
    grid: Grid | None
    warnings: tuple[str, ...]


class Item(NamedTuple):
    """Where a case stands in a project."""

    case: str
    status: str
    person: str
    session: str
    reason: str


class Model(NamedTuple):
    """A model: what it can do, and its version that serves."""

    name: str
    title: str
    state: str
    reason: str
    version: str | None
    prompts: tuple[str, ...]
    drafts: bool


class Session(NamedTuple):
    """A session."""

    id: str
    project: str
    case: str
    state: str
    revision: int
    can_undo: bool
    can_redo: bool
    segments: tuple[Segment, ...]
    locked: tuple[int, ...]
    geometry: str
    model_version: str | None


class Job(NamedTuple):
    """A job; `problem` says why it failed."""

    id: str
    state: str
    progress: float
    message: str
    has_ended: bool
    problem: str


class Label(NamedTuple):
    """A label."""

    id: str
    project: str
    case: str
    author: str
    state: str
    model_version: str | None
    comment: str


class Prompt(NamedTuple):
    """A hint to a model; its points are LPS mm."""

    kind: str
    points_mm: tuple[tuple[float, float, float], ...]
    segment: int
    is_positive: bool
    model: str


def read(of: Callable, body: bytes) -> object:
    """Return what `of` makes of an answer's JSON; raises Problem for an answer of something else."""
    told = _json(body)
    try:
        return of(told)
    except (KeyError, TypeError, ValueError) as error:
        remedy = "Extension and server may be of different versions: update the older one."
        raise Problem(f"The server's answer is not as expected ({type(error).__name__}: {error}).", remedy) from error


def _json(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        remedy = "Check the address: it is the one that `annotate serve` prints."
        raise Problem("What answers there is no annotate server.", remedy) from error


def server_of(told: dict) -> Server:
    """Return what the server is; raises Problem for one that this extension does not understand."""
    found = Server(
        str(told.get("version", "?")),
        str(told.get("api", "")),
        str(told.get("frame", "")),
        int(told.get("limits", {}).get("upload_bytes", 0)),
    )
    if found.api != API or found.frame != frames.MEDIA_TYPE:
        older = "newer" if found.api > API else "older"
        remedy = "Update the older of the two: server and extension have to speak the same language."
        raise Problem(f"The server (version {found.version}) is {older} than this extension understands.", remedy)
    return found


def project_of(told: dict) -> Project:
    """Return a project."""
    segments = tuple(segment_of(each) for each in told["segments"])
    return Project(told["id"], told["title"], tuple(told["apps"]), told["review"], segments)


def cases_of(told: dict) -> tuple[Case, ...]:
    """Return a page of cases."""
    return tuple(case_of(each) for each in told["cases"])


def case_of(told: dict) -> Case:
    """Return a case."""
    grid = None if told["geometry"] is None else grid_of_case(told["geometry"])
    return Case(told["id"], told["name"], told["modality"], grid, tuple(told["warnings"]))


def item_of(told: dict) -> Item:
    """Return where a case stands."""
    return Item(told["case"], told["status"], told["person"] or "", told["session"] or "", told["reason"])


def model_of(told: dict) -> Model:
    """Return a model."""
    card = told["card"] or {"title": told["name"], "prompts": [], "drafts": False}
    ready = (told["name"], card["title"], told["state"], told["reason"], told["version"])
    return Model(*ready, tuple(card["prompts"]), bool(card["drafts"]))


def session_of(told: dict) -> Session:
    """Return a session."""
    return Session(
        id=told["id"],
        project=told["project"],
        case=told["case"],
        state=told["state"],
        revision=int(told["revision"]),
        can_undo=bool(told["can_undo"]),
        can_redo=bool(told["can_redo"]),
        segments=tuple(segment_of(each) for each in told["segments"]),
        locked=tuple(told["locked"]),
        geometry=told["geometry"],
        model_version=told["model_version"],
    )


def job_of(told: dict) -> Job:
    """Return a job."""
    problem = told["problem"]["detail"] if told["problem"] else ""
    return Job(told["id"], told["state"], float(told["progress"]), told["message"], bool(told["has_ended"]), problem)


def label_of(told: dict) -> Label:
    """Return a label."""
    names = ("id", "project", "case", "author", "state", "model_version", "comment")
    return Label(*(told[name] for name in names))
