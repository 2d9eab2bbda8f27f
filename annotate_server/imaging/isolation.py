"""Run the parsing of untrusted files in a process of its own, so that no file can take the caller down.

    with Isolated() as isolated:
        volume = isolated.call("read nifti", stored, allowance_s=allowance_s(stored.files), source=stored.key)
        for outcome in isolated.each("dicom header", paths, source=str):
            ...  outcome.answer, or outcome.error that names the file

What goes in and out are JSON-able values, paths, arrays and the nouns of `wire.SENDABLE` (a module of imaging adds its
own frozen dataclass with `@wire.sendable`); sequences arrive as tuples. Functions are named by a fixed table
(`FUNCTIONS`: name -> "module:function"); each takes one argument. Arrays come back read-only, mapped from a file.

A domain error of the function arrives as the same class with the same sentence. A crash, a hang beyond the allowance or
an unforeseen exception becomes ParserFailed, too little memory becomes TooLarge; both name the source. The process is
started when it is first needed, stays for the next call, and is replaced after a crash; it ends when its caller does.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from annotate_server.domain.errors import AnnotateError, ParserFailed, TooLarge
from annotate_server.imaging.channel import ChannelClosed, ChannelTimeout
from annotate_server.imaging.child import PATIENCE_S
from annotate_server.imaging.isolated_process import Answer, ChildProcess, Limits

__all__ = ["FUNCTIONS", "Isolated", "Limits", "Outcome", "allowance_s"]

log = logging.getLogger(__name__)

Item = TypeVar("Item")

FUNCTIONS: Mapping[str, str] = {
    "read dicom": "annotate_server.imaging.dicom_series:read_series",
    "read nifti": "annotate_server.imaging.nifti:read_nifti",
    "read metaimage": "annotate_server.imaging.metaimage:read_metaimage",
    "read nrrd": "annotate_server.imaging.nrrd:read_nrrd",
    "read labelmap": "annotate_server.imaging.label_reading:read_labelmap_from",
    "write labelmap": "annotate_server.imaging.label_writing:write_labelmap_from",
    "write stored labels": "annotate_server.imaging.label_writing:write_stored_labels",
    "identify": "annotate_server.imaging.file_kind:identify",
    "dicom header": "annotate_server.imaging.dicom_header:read_header",
    "archive volumes": "annotate_server.imaging.dicom_metadata:volumes_of_metadata",
    "archive slices": "annotate_server.imaging.dicom_metadata:slices_of_metadata",
    "describe dicom": "annotate_server.imaging.dicom_describing:describe_instance",
    "dicom slices": "annotate_server.imaging.dicom_describing:slices_of_part",
    "decode frames": "annotate_server.imaging.dicom_composing:decoded_frames",
    "plain dicom": "annotate_server.imaging.dicom_composing:plain_file",
    "compose dicom": "annotate_server.imaging.dicom_composing:composed_file",
    "picture": "annotate_server.imaging.rendering:picture",
}
"""What may be called, and where it is: a module of imaging that is to be isolated adds a line.

A file cannot name a function; only this table can.
"""

BASE_S = 8.0
PER_MEGABYTE_S = 0.25
"""An honest JPEG 2000 series needs about 0.1 s a megabyte on a core (30 ms a slice of 0.25 MB), twice that if busy."""
LONGEST_S = 1800.0


def allowance_s(files: Iterable[Path]) -> float:
    """Return how long reading these files may take: 8 s for small ones, longer by size for large ones."""
    return min(LONGEST_S, BASE_S + PER_MEGABYTE_S * sum(map(_size_bytes, files)) / 1e6)


def _size_bytes(path: Path) -> int:
    """Return a file's size; 0 for one that cannot be looked at, which its parser will say better."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """What became of one item: an answer, or the error that names it."""

    item: Item
    answer: object = None
    error: AnnotateError | None = None


@dataclass
class Isolated:
    """A process for parsing that is replaced when it dies; a context manager.

    One call at a time: calls from several threads wait for each other, so give each thread that shall work at the same
    time an Isolated of its own. Not to be used on both sides of a fork.
    """

    limits: Limits = field(default_factory=Limits)
    functions: Mapping[str, str] = field(default_factory=lambda: FUNCTIONS)
    _child: ChildProcess | None = field(default=None, init=False, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; the next call would start another."""
        with self._turn:
            self._discard()

    def call(self, function: str, argument: object, *, allowance_s: float, source: str) -> object:
        """Return what a function of the table answers to one argument.

        Raises the function's own AnnotateError; ParserFailed for a crash, an answer that took longer than `allowance_s`
        or an exception that is no AnnotateError; TooLarge where the memory limit was reached.
        """
        with self._turn:
            outcome = self._chunk(function, [argument], lambda _: allowance_s, lambda _: source)[0]
        if outcome.error is not None:
            raise outcome.error
        return outcome.answer

    def each(
        self,
        function: str,
        items: Iterable[Item],
        *,
        source: Callable[[Item], str] = str,
        allowance_s: Callable[[Item], float] = lambda _: BASE_S,
        chunk: int = 64,
    ) -> Iterator[Outcome[Item]]:
        """Yield for each item what the function answers to it, in order; an error names its item and stops no other.

        Items go over in chunks and each answer comes back by itself, so the item that brings the process down is known
        without a search; one that crashed it after others is tried once more in a fresh process before it is blamed.
        """
        pending = iter(items)
        while part := list(islice(pending, chunk)):
            with self._turn:
                outcomes = self._chunk(function, part, allowance_s, source)
            yield from outcomes

    def _chunk(
        self,
        function: str,
        items: Sequence[Item],
        allowance_s: Callable[[Item], float],
        source: Callable[[Item], str],
    ) -> list[Outcome[Item]]:
        """Return the outcomes of all items, over as many processes as it takes."""
        done: list[Outcome[Item]] = []
        while len(done) < len(items):
            child, left = self._running(), items[len(done) :]
            try:
                child.ask(function, left, self.limits.scratch)
                for item in left:
                    done.append(_outcome(item, source(item), child.answer(allowance_s(item))))
            except ChannelTimeout:
                self._discard()
                item = items[len(done)]
                done.append(Outcome(item, error=_hung(source(item), allowance_s(item))))
            except ChannelClosed:
                was_fresh = child.served == 0
                code = self._discard(PATIENCE_S)
                item = items[len(done)]
                if was_fresh:
                    done.append(Outcome(item, error=_crashed(source(item), code)))
            except BaseException:
                self._discard()
                raise
        return done

    def _running(self) -> ChildProcess:
        """Return the process, started if it is not there."""
        if self._child is None or not self._child.child.is_alive:
            self._discard()
            self._child = ChildProcess.start(self.limits, self.functions)
        return self._child

    def _discard(self, patience_s: float = 0.0) -> int:
        """End the process, if there is one, and return how it ended."""
        child, self._child = self._child, None
        return child.child.end(patience_s) if child is not None else 0


def _outcome(item: Item, source: str, message: Answer) -> Outcome[Item]:
    """Return what the process said of one item."""
    if message.raised is not None:
        return Outcome(item, error=message.raised.error(source))
    if message.failure is None:
        return Outcome(item, message.value)
    log.debug("the parser failed", extra={"action": "parse", "failure": message.failure, "at": message.place})
    if message.failure == "MemoryError":
        return Outcome(item, error=TooLarge("reading it takes more memory than a parser is given", source=source))
    detail = f"the parser gave up on it ({message.failure} in {message.place})"
    return Outcome(item, error=ParserFailed(detail, source=source, remedy=_REMEDY))


def _hung(source: str, allowance_s: float) -> ParserFailed:
    """Return the error of an item that took too long."""
    return ParserFailed(f"the parser did not end within {allowance_s:.0f} s", source=source, remedy=_REMEDY)


def _crashed(source: str, code: int) -> ParserFailed:
    """Return the error of an item that ended the process."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ParserFailed(f"the parser crashed on it ({how})", source=source, remedy=_REMEDY)


_REMEDY = "The file is damaged or hostile; export it again from where it came."
