"""Every error that this program raises on purpose, as one tree.

A class's docstring is the title of the problem; the facts of one occurrence are its fields.

    AnnotateError
    ├── InputError                      what came in cannot be used
    │   ├── UnreadableFile              damaged, truncated, not what its name says
    │   ├── UnsupportedInput            intact, but no volume that can be annotated
    │   ├── UntrustedGeometry           voxels without a position that can be trusted
    │   ├── TooLarge                    a header that asks for more than the limit
    │   ├── ParserFailed                the parser crashed or hung on it
    │   ├── InvalidLabelmap             a labelmap that contradicts itself or its volume
    │   └── InvalidPrompt               a prompt outside the volume, empty or not finite
    ├── NotMadeFor                      the model is not made for this volume
    ├── ModelError
    │   ├── UnknownModel
    │   ├── InvalidApp
    │   ├── WeightsMissing
    │   ├── WeightsInvalid
    │   ├── BackendUnavailable
    │   └── PredictionFailed
    ├── DownloadFailed
    ├── NotFound                        no case, project, session, label or job of this id
    ├── StateError                      an action that the present state does not allow
    │   ├── LockedSegment
    │   ├── CaseTaken                   somebody else, or another window, works on the case
    │   ├── StaleRevision               the draft has changed since the caller saw it
    │   ├── RevisionRequired            an edit that does not say which draft it was made on
    │   └── SessionExpired              its lease ran out; everything in it can be restored
    ├── NotSignedIn
    ├── NotAllowed
    ├── InvalidRequest                  a field of a request that no model of it allows
    ├── TryLater                        nothing is wrong; `retry_after_s` says when to ask again
    │   ├── TooBusy
    │   ├── ShuttingDown
    │   ├── WorkerDied
    │   ├── ArchiveUnreachable          the DICOM archive that the studies are in does not answer at all
    │   └── ArchiveTooSlow
    ├── ArchiveRefused                  it answered what cannot be used
    ├── StorageFailed
    │   └── NoSpace
    ├── InvalidSettings
    └── Cancelled
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as data: what is stored with a job and written into a manifest (the body of RFC 9457)."""

    type: str
    title: str
    detail: str


class AnnotateError(Exception):
    """The request could not be carried out."""

    def __init__(self, detail: str, *, source: str | None = None, remedy: str | None = None) -> None:
        """Keep what is wrong (`detail`), in what (`source`: a file or a name) and what to do (`remedy`)."""
        super().__init__(detail, source, remedy)
        self.detail = detail
        self.source = source
        self.remedy = remedy

    def __str__(self) -> str:
        """Return one sentence: what, what is wrong with it, what to do."""
        parts = [f"{self.source}: {self.detail}" if self.source else self.detail]
        if self.remedy:
            parts.append(self.remedy)
        return " ".join(part if part.endswith((".", "!", "?")) else part + "." for part in parts)

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error cross a process border with its fields."""
        return (_rebuild, (type(self), self.detail, self.source, self.remedy))

    @property
    def type(self) -> str:
        """Return the stable name that machines compare, for example `untrusted-geometry`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()

    @property
    def title(self) -> str:
        """Return the class's docstring: the same for every occurrence."""
        return (type(self).__doc__ or "").strip().rstrip(".")

    def problem(self) -> Problem:
        """Return the error as data."""
        return Problem(type=self.type, title=self.title, detail=str(self))


def _rebuild(kind: type[AnnotateError], detail: str, source: str | None, remedy: str | None) -> AnnotateError:
    return kind(detail, source=source, remedy=remedy)


class InputError(AnnotateError):
    """The input cannot be used."""


class UnreadableFile(InputError):
    """The file is damaged or is not what its name says."""


class UnsupportedInput(InputError):
    """The file is intact but holds no volume that can be annotated."""


class UntrustedGeometry(InputError):
    """The voxels have no position in space that can be trusted."""


class TooLarge(InputError):
    """The file declares more than the limit."""


class ParserFailed(InputError):
    """The parser crashed or hung on the file."""


class InvalidLabelmap(InputError):
    """The labelmap contradicts itself or its volume."""


class InvalidPrompt(InputError):
    """The prompt is empty, not finite or outside the volume."""


class NotMadeFor(AnnotateError):
    """The model is not made for this volume."""


class ModelError(AnnotateError):
    """The model cannot be used."""


class UnknownModel(ModelError):
    """There is no model of this name."""


class InvalidApp(ModelError):
    """The app's description is not valid."""


class WeightsMissing(ModelError):
    """The model's weights are not installed."""


class WeightsInvalid(ModelError):
    """The weights are not the ones that the app names."""


class BackendUnavailable(ModelError):
    """The backend cannot run on this machine."""


class PredictionFailed(ModelError):
    """The model failed on this volume."""


class DownloadFailed(AnnotateError):
    """The download did not succeed."""


class StateError(AnnotateError):
    """The present state does not allow this action."""


class LockedSegment(StateError):
    """The change would touch a locked segment."""


class CaseTaken(StateError):
    """Somebody works on this case already."""

    person: str | None = None
    session: str | None = None

    @classmethod
    def by(cls, person: str, session: str) -> "CaseTaken":
        """Return the error for a case on which a person has a live session."""
        error = cls(f"{person} is working on this case in session {session}", remedy="Take another.")
        error.person, error.session = person, session
        return error


class StaleRevision(StateError):
    """The draft has changed since."""


class RevisionRequired(StateError):
    """The change does not say which revision of the draft it was made on."""


class SessionExpired(StateError):
    """The session's lease has run out."""


class NotFound(AnnotateError):
    """There is nothing of this name."""


class NotSignedIn(AnnotateError):
    """Nobody is signed in."""


class NotAllowed(AnnotateError):
    """The role of who asks does not allow it."""


class InvalidRequest(AnnotateError):
    """The request is not valid."""


class TryLater(AnnotateError):
    """The server cannot do it now."""

    retry_after_s = 2


class TooBusy(TryLater):
    """Too much is waiting already."""


class ShuttingDown(TryLater):
    """The server is shutting down."""

    retry_after_s = 10


class WorkerDied(TryLater):
    """The process that did the work died."""


class ArchiveUnreachable(TryLater):
    """The DICOM archive cannot be reached."""

    retry_after_s = 10


class ArchiveTooSlow(TryLater):
    """The DICOM archive did not answer in time."""

    retry_after_s = 10


class ArchiveRefused(AnnotateError):
    """The DICOM archive did not give what was asked of it."""


class StorageFailed(AnnotateError):
    """The result could not be stored."""


class NoSpace(StorageFailed):
    """The disk is full."""


class InvalidSettings(AnnotateError):
    """The settings are not valid."""


class Cancelled(AnnotateError):
    """The work was cancelled."""


@contextmanager
def about(source: str) -> Iterator[None]:
    """Let an error that leaves the block name its source, unless it already names one."""
    try:
        yield
    except AnnotateError as error:
        error.source = error.source or source
        raise


def error_class(type_name: str) -> type[AnnotateError]:
    """Return the class of a problem's `type`; the root for a name that this version does not know."""
    pending: list[type[AnnotateError]] = [AnnotateError]
    while pending:
        kind = pending.pop()
        if kind("").type == type_name:
            return kind
        pending.extend(kind.__subclasses__())
    return AnnotateError


def error_of(problem: Problem) -> AnnotateError:
    """Return a stored problem as the error that it was; its sentence stays as it is."""
    return error_class(problem.type)(problem.detail)
