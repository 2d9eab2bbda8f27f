"""Send back: approved labels go to the archive that their case came from, as DICOM SEG, until they are there."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from annotate_server.domain.annotation import Label, Sending, SendingState
from annotate_server.domain.archive import ArchivedFiles, InstanceArchive
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import (
    AnnotateError,
    ArchiveTooSlow,
    ArchiveUnreachable,
    InvalidLabelmap,
    UnsupportedInput,
)
from annotate_server.domain.store_ports import SendingStore
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.workflows.label_files import LabelFiles
from annotate_server.workflows.records import Records

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 3600.0
_LONGEST_REASON = 500


def _never() -> bool:
    return False


@dataclass(frozen=True)
class SendingBack:
    """Sends what is due. A label is always the same instance, so that an archive that has it already takes no second.

    It is tried again after 2 s, then after twice as long each time, up to an hour.
    """

    records: Records
    sendings: SendingStore
    files: LabelFiles
    archived: ArchivedFiles
    archive: InstanceArchive
    clock: Clock = now

    def send_due(self, is_stopping: Callable[[], bool] = _never) -> int:
        """Try every label that is due, and return how many are there now; the first silence of the archive ends it."""
        sent = 0
        for label_id in self.sendings.due(self.clock()):
            if is_stopping():
                break
            label = self.records.labels.get(label_id)
            before = label.sending or Sending()
            attempt = replace(before, attempts=before.attempts + 1)
            try:
                self._send(label)
            except (InvalidLabelmap, UnsupportedInput) as error:
                log.warning("a label cannot be sent back: %s", error.type, extra={"action": "send", "label": label_id})
                self.sendings.keep(label_id, replace(attempt, state=SendingState.IMPOSSIBLE, reason=_reason(error)))
            except AnnotateError as error:
                log.info("a label is not sent back yet: %s", error, extra={"action": "send", "label": label_id})
                self.sendings.keep(label_id, self._later(attempt, error))
                if isinstance(error, ArchiveUnreachable | ArchiveTooSlow):
                    break
            else:
                sent += 1
                log.info("a label was sent back", extra={"action": "send", "label": label_id})
                self.sendings.keep(label_id, replace(attempt, state=SendingState.SENT, reason="", sent_at=self.clock()))
        return sent

    def _send(self, label: Label) -> None:
        if label.is_partial:  # whoever reads it there would take it for a whole one
            raise UnsupportedInput("the label speaks about some slices only, which a DICOM SEG cannot say")
        stored = self.records.cases.get(label.case_id).case.reference
        if not self.archived.has(stored):
            raise UnsupportedInput("the case did not come from the archive", remedy="Download the label instead.")
        with self.files.label_file(label.id, LabelmapFormat.DICOM_SEG) as path:
            self.archive.store(path)

    def _later(self, attempt: Sending, error: AnnotateError) -> Sending:
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(attempt.attempts - 1, 20))
        return replace(attempt, next_at=self.clock() + timedelta(seconds=wait_s), reason=_reason(error))


def _reason(error: AnnotateError) -> str:
    return str(error)[:_LONGEST_REASON]
