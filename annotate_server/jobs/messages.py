"""What a worker and the server say to each other over `imaging.channel`; one call at a time, so nothing is numbered."""

from dataclasses import dataclass

from annotate_server.imaging.isolated_process import Raised
from annotate_server.imaging.wire import sendable


@sendable
@dataclass(frozen=True)
class WorkerSetup:
    """The first message to a worker.

    `factory` is "module:function": a function that takes `settings` (JSON) and returns what the worker can do, by name.
    `nice` is added to its nice level. `scratch` is the name of the folder for arrays on their way, None for the
    system's own.
    """

    factory: str
    settings: str
    nice: int = 0
    scratch: str | None = None


@sendable
@dataclass(frozen=True)
class WorkerCall:
    """A function by its name, and its argument."""

    function: str
    argument: object


@sendable
@dataclass(frozen=True)
class WorkerStop:
    """The call in progress is no longer wanted."""


@sendable
@dataclass(frozen=True)
class WorkerProgress:
    """How far the call in progress is, 0 to 1, with a sentence."""

    fraction: float
    message: str


@sendable
@dataclass(frozen=True)
class WorkerAnswer:
    """What came of a call, or of the setup: a value, a domain error, or the name of an unforeseen exception.

    The message of an unforeseen exception stays in the worker: it may quote a file, and so the patient.
    """

    value: object = None
    raised: Raised | None = None
    failure: str | None = None
    place: str = ""
