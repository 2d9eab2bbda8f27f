"""The workplace: a server, a project, and the case at hand; everything that the panel does, without the panel."""

from __future__ import annotations

from collections.abc import Generator
from typing import Callable

import slicer
import vtk

from AnnotateServerLib import client, sheet, volumes
from AnnotateServerLib.answers import Case, Item, Label, Model, Project, Server, Session
from AnnotateServerLib.desk import Desk
from AnnotateServerLib.draft_file import read_label
from AnnotateServerLib.line import Line
from AnnotateServerLib.places import Grid
from AnnotateServerLib.problem import Problem
from AnnotateServerLib.prompting import Table, index_of
from AnnotateServerLib.shelf import Shelf
from AnnotateServerLib.strokes import Stroke
from AnnotateServerLib.turns import Turn, Turns

_STROKE_EVENTS = ("SourceRepresentationModified", "SegmentAdded", "SegmentRemoved", "SegmentModified")


class Workplace:
    """Where somebody works. `listeners` are called whenever something that a panel shows has changed.

    `consents(address)` says whether volumes may be sent to a server; it is asked before anything but a digest is.
    """

    def __init__(self, consents: Callable[[str], bool]) -> None:
        self.listeners: list[Callable[[], None]] = []
        self.server: Server | None = None
        self.person = ""
        self.projects: tuple[Project, ...] = ()
        self.models: tuple[Model, ...] = ()
        self.cases: dict = {}
        self.items: tuple[Item, ...] = ()
        self.mine: tuple[Session, ...] = ()
        self.reviews: tuple[Label, ...] = ()
        self.project = ""
        self.case: Case | None = None
        self.volume: object | None = None
        self.desk: Desk | None = None
        self.news = ""
        self._consents = consents
        self._line: Line | None = None
        self._turns: Turns | None = None
        self._shelf: Shelf | None = None
        self._problem: Problem | None = None
        self._observed: list = []
        self._opened_grid: Grid | None = None
        self._watch(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._leaving_scene)
        self._watch(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self._scene_closing)
        self._of_scene, self._observed = self._observed, []

    # What is so

    @property
    def is_connected(self) -> bool:
        """Say whether a server answered."""
        return self.server is not None

    @property
    def doing(self) -> str:
        """Return what a person waits for, as words."""
        for turns in self._every_turns():
            if turns.doing:
                return turns.doing
        return ""

    @property
    def fraction(self) -> float:
        """Return how far what a person waits for has come, as far as that is known."""
        return max([turns.fraction for turns in self._every_turns() if turns.doing], default=0.0)

    @property
    def problem(self) -> Problem | None:
        """Return what went wrong last."""
        return self._problem or (self.desk.problem if self.desk is not None else None)

    @property
    def prompted_models(self) -> tuple[Model, ...]:
        """Return the models of the project that answer prompts; all that do, where it names none."""
        ready = [model for model in self.models if model.prompts and model.state == "ready"]
        named = [model for model in ready if model.name in self._apps]
        return tuple(named or ready)

    @property
    def drafting_models(self) -> tuple[Model, ...]:
        """Return the models of the project that draft whole cases."""
        return tuple(model for model in self.models if model.drafts and model.name in self._apps)

    @property
    def drafted_by(self) -> str:
        """Return which version drafted the case, and whether another one serves now."""
        version = self.desk.drafted if self.desk is not None else ""
        if not version:
            return ""
        name, _, number = version.partition("@")
        now = next((model.version for model in self.models if model.name == name), None)
        told = f"Drafted by {name}, version {number}."
        return told if now in (None, number) else f"{told} Version {now} has come since: draft again to use it."

    @property
    def _apps(self) -> tuple[str, ...]:
        return next((each.apps for each in self.projects if each.id == self.project), ())

    # The server

    def connect(self, address: str, token: str = "", name: str = "") -> None:
        """Connect to a server; what was connected before is left."""
        self.disconnect()
        try:
            self._line = Line(address, token, name)
        except Problem as problem:
            self._say(problem)
            return
        self._turns = Turns(self._line, self._changed)
        self._begin("Connecting", self._connected())

    def disconnect(self) -> None:
        """Stop all that is under way; the session stays on the server and can be gone on with."""
        self._end_desk()
        if self._turns is not None:
            self._turns.close()
        if self._line is not None:
            self._line.close()
        self._line = self._turns = self._shelf = self.server = self._problem = None
        self.projects, self.models, self.items, self.mine, self.reviews = (), (), (), (), ()
        self.cases, self.case, self.project, self.person, self.news = {}, None, "", "", ""
        self._changed()

    def close(self) -> None:
        """End: stop listening to the scene, too."""
        self.disconnect()
        self.listeners.clear()
        _forget(self._of_scene)

    def choose(self, project: str) -> None:
        """Work in a project."""
        self.project = project
        self.look()

    def look(self) -> None:
        """Fetch the worklist, my sessions and the labels to be reviewed."""
        if self._turns is not None and self.project:
            self._begin("", self._looked())

    # Cases

    def open_next(self) -> None:
        """Open the next case that waits."""
        self._open("Opening the next case", client.open_next(self.project))

    def open_case(self, case_id: str) -> None:
        """Open a case, or go on with my session on it."""
        mine = self._my_session(case_id)
        if mine is None:
            self._open("Opening the case", client.open_case(self.project, case_id))
        else:
            self.resume(mine.id)

    def resume(self, session: str) -> None:
        """Go on with a session of mine: begun here, or in the browser."""
        self._open("Going on with the session", client.resume(session))

    def open_volume(self, volume: object, modality: str) -> None:
        """Open the case that a volume of the scene is; it is uploaded where the server does not have it.

        `modality` is said to the server where its files do not say it.
        """
        if self._shelf is None:
            self._say(_unconnected())
            return
        steps = self._shelf.recognised(volume, modality)
        self._begin("Looking for the volume on the server", steps, self._open_recognised)

    # The case at hand

    def prompt(self, stroke: Stroke, host_id: str, model: str) -> None:
        """Let a model answer a stroke about a segment of Slicer's."""
        desk = self.desk
        if desk is None or desk.sheet is None:
            self._say(_unopened())
            return
        table = Table(self.volume, self._opened_grid, desk.sheet)
        try:
            asked = table.prompt(stroke, host_id, model)
        except Problem as problem:
            self._say(problem)
            return
        desk.prompt(asked, table.masking(), table.intensities)

    def lock(self, host_id: str, is_locked: bool) -> None:
        """Lock a segment of Slicer's, or unlock it."""
        if self.desk is None or self.desk.sheet is None:
            self._say(_unopened())
            return
        try:
            index = index_of(self.desk.sheet, host_id)
        except Problem as problem:
            self._say(problem)
            return
        others = tuple(each for each in self.desk.locked if each != index)
        self.desk.lock((*others, index) if is_locked else others)

    def show_again(self) -> None:
        """Show the case and its draft again, after their nodes were deleted, moved or the scene was closed."""
        if self.desk is None or self.case is None:
            return
        if self.desk.sheet is not None:
            self.desk.catch()
        self._say(None)
        self._begin("Loading the volume", self._brought(self.case), self._show_draft)

    def submit(self) -> None:
        """Make the draft a label."""
        self.desk.submit(self._submitted)

    def leave(self) -> None:
        """Give the case free."""
        self.desk.leave(self._left)

    def cancel(self) -> None:
        """Stop what a person waits for."""
        if self._turns is not None:
            self._turns.stop()
        if self.desk is not None:
            self.desk.cancel()

    def dismiss(self) -> None:
        """Forget what went wrong."""
        self._problem = None
        if self.desk is not None:
            self.desk.dismiss()
        self._changed()

    def look_at_label(self, label: Label) -> None:
        """Show a label that waits for a second person, with its volume."""
        self._begin("Loading the label", self._label_shown(label))

    def review(self, label: str, verdict: str, comment: str) -> None:
        """Approve a label of somebody else, or return it with a comment."""
        self._begin("Sending the verdict", self._reviewed(label, verdict, comment))

    # The steps

    def _connected(self) -> Generator:
        server = yield client.server()
        self.person = yield client.me()
        self.projects = yield client.projects()
        self.models = yield client.models()
        self.server = server
        self._shelf = Shelf(self._line.address, server.upload_bytes, self._consents)
        if self.projects and not self.project:
            self.project = self.projects[0].id
        yield from self._looked()

    def _looked(self) -> Generator:
        self.items = yield client.worklist(self.project)
        self.mine = yield client.sessions()
        self.reviews = yield client.reviews(self.project)
        unknown = [item for item in self.items if item.case not in self.cases]
        while unknown:
            page = yield client.cases(len(self.cases))
            self.cases.update((each.id, each) for each in page)
            if not page:
                break
            unknown = [item for item in unknown if item.case not in self.cases]

    def _opened(self, request: object) -> Generator:
        """Open a session, bring its volume into the scene, and hand both over."""
        try:
            session = yield request
        except Problem as problem:
            if problem.kind != "case-taken" or problem.person != self.person:
                raise
            session = yield client.resume(problem.session)
        case = yield client.case(session.case)
        yield from self._brought(case)
        return session, case

    def _brought(self, case: Case) -> Generator:
        """Have the volume of a case in the scene: the one that is loaded already, or a new one."""
        volume = volumes.volume_of_case(self._line.address, case.id)
        if volume is None:
            volume = yield from self._shelf.loaded(case)
        if case.grid is not None and not volumes.grid_of(volume).is_same_as(case.grid):
            raise Problem(
                f"{volume.GetName()} lies elsewhere than the case on the server.", "Delete it, and open again."
            )
        self.case, self.volume = case, volume
        self._opened_grid = volumes.grid_of(volume)

    def _label_shown(self, label: Label) -> Generator:
        case = yield client.case(label.case)
        volume = volumes.volume_of_case(self._line.address, case.id)
        if volume is None:
            volume = yield from self._shelf.loaded(case)
        content = yield client.label_file(label.id)
        yield None
        node = read_label(content, f"{case.name} by {label.author}")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        self.news = f"The label by {label.author} is shown: approve it, or return it with a comment."

    def _reviewed(self, label: str, verdict: str, comment: str) -> Generator:
        yield client.review(label, verdict, comment)
        self.news = f"The label was {verdict}."
        yield from self._looked()

    # Between them

    def _open(self, doing: str, request: object) -> None:
        if self.desk is not None:
            self.desk.leave(lambda _: self._open_after(doing, request))
        else:
            self._begin(doing, self._opened(request), self._show)

    def _open_after(self, doing: str, request: object) -> None:
        self._end_desk()
        self._begin(doing, self._opened(request), self._show)

    def _open_recognised(self, case_id: object) -> None:
        self.open_case(str(case_id))

    def _show(self, found: tuple) -> None:
        session, _case = found
        self.desk = Desk(self._line, session, self._changed)
        self._show_draft(None)
        self.look()

    def _show_draft(self, _: object) -> None:
        case = self.case

        def made(content: bytes) -> Generator:
            grid = case.grid or self._opened_grid
            shown, revision = yield from sheet.sheet_of_draft(content, f"{case.name} draft", grid)
            shown.node.SetNodeReferenceID(_reference_role(), self.volume.GetID())
            above = self.volume.GetParentTransformNode()
            if above is not None:
                shown.node.SetAndObserveTransformNodeID(above.GetID())
            shown.node.SetAttribute(sheet.SESSION_ATTRIBUTE, self.desk.id)
            self._observe(shown)
            return shown, revision

        self.desk.show(made)

    def _observe(self, shown: sheet.Sheet) -> None:
        _forget(self._observed)
        for name in _STROKE_EVENTS:
            self._watch(shown.segmentation, getattr(slicer.vtkSegmentation, name), self._host_drew)
        self._watch(self.volume, vtk.vtkCommand.ModifiedEvent, self._volume_changed)
        self._watch(self.volume, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._volume_moved)

    def _host_drew(self, _caller: object, _event: object) -> None:
        if self.desk is not None:
            self.desk.drew()

    def _volume_moved(self, _caller: object, _event: object) -> None:
        """Keep the draft where its volume is."""
        if self.desk is None or self.desk.sheet is None or not self.desk.sheet.is_there:
            return
        above = self.volume.GetParentTransformNode()
        self.desk.sheet.node.SetAndObserveTransformNodeID(above.GetID() if above is not None else None)

    def _volume_changed(self, _caller: object, _event: object) -> None:
        self._volume_moved(None, None)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _leaving_scene(self, _caller: object, _event: object, node: object) -> None:
        if self.desk is None:
            return
        if self.desk.sheet is not None and node is self.desk.sheet.node:
            _forget(self._observed)
            self.desk.catch()
            remedy = "Nothing is lost: press “Show the draft again”."
            self._say(Problem("The segmentation was deleted.", remedy, kind="node-deleted"))
        elif node is self.volume:
            self.volume = None
            remedy = "Nothing is lost: press “Show the draft again”."
            self._say(Problem("The volume was deleted.", remedy, kind="node-deleted"))

    def _scene_closing(self, _caller: object, _event: object) -> None:
        if self.desk is not None:
            _forget(self._observed)
            self.desk.catch()
            self.volume = None
            remedy = "Your session is kept: press “Show the draft again”, or leave the case."
            self._say(Problem("The scene was closed.", remedy, kind="scene-closed"))

    def _my_session(self, case_id: str) -> Session | None:
        return next((each for each in self.mine if each.case == case_id and each.project == self.project), None)

    def _submitted(self, label: object) -> None:
        self._end_desk()
        waits = label.state == "submitted"
        self.news = "Submitted: a second person reviews it." if waits else "Submitted and approved."
        self.look()

    def _left(self, _: object) -> None:
        self._end_desk()
        self.news = "The case is free; your work is kept and can be gone on with."
        self.look()

    def _end_desk(self) -> None:
        _forget(self._observed)
        if self.desk is not None:
            self.desk.close()
        self.desk = None

    # What they have in common

    def _begin(self, doing: str, steps: Generator, done: Callable | None = None) -> None:
        if self._turns is None:
            steps.close()
            self._say(_unconnected())
            return
        if doing:
            self._problem, self.news = None, ""
        self._turns.begin(Turn(steps, doing, lambda value: self._done(value, done), self._say))

    def _done(self, value: object, done: Callable | None) -> None:
        if done is not None:
            done(value)
        self._changed()

    def _say(self, problem: Problem | None) -> None:
        self._problem = problem
        self._changed()

    def _changed(self) -> None:
        for listener in tuple(self.listeners):
            listener()

    def _every_turns(self) -> tuple[Turns, ...]:
        return tuple(each for each in (self._turns, self.desk and self.desk.turns) if each is not None)

    def _watch(self, watched: object, event: object, act: Callable) -> None:
        self._observed.append((watched, watched.AddObserver(event, act)))


def _forget(observed: list) -> None:
    for watched, tag in observed:
        watched.RemoveObserver(tag)
    observed.clear()


def _unopened() -> Problem:
    return Problem("No draft is shown.", "Open a case in the Annotate Server module, or show its draft again.")


def _unconnected() -> Problem:
    return Problem("There is no server yet.", "Connect to one first.")


def _reference_role() -> str:
    return slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
