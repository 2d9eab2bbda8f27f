"""The list of every case with its labels, which clients ask for whole and often: kept until something changes."""

import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from annotate_server.api.monailabel.words import image_entry, label_entries
from annotate_server.api.services import Services
from annotate_server.domain.annotation import Label

_HEAD = {"name": "annotate-server", "description": "", "images_dir": ".", "labels_dir": "labels"}
_UNKNOWN = -1


@dataclass
class Listing:
    """The list as JSON; thread-safe. The stores say when it is no longer right."""

    services: Services
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)
    _cases_at: int = field(default=_UNKNOWN, init=False)
    _labels_at: tuple[int, int] = field(default=(_UNKNOWN, _UNKNOWN), init=False)
    _images: Mapping[str, bytes] = field(default_factory=dict, init=False)
    _whole: bytes = field(default=b"", init=False)

    def json(self) -> bytes:
        """Return the list."""
        with self._turn:
            cases_at = self.services.cases.changes
            labels_at = (self.services.labels.changes, self.services.predictions.changes)
            if cases_at != self._cases_at:
                every = self.services.cases.all()
                self._images = {known.id: _packed(image_entry(known)) for known in every}
            if (cases_at, labels_at) != (self._cases_at, self._labels_at):
                self._whole = self._joined()
                self._cases_at, self._labels_at = cases_at, labels_at
            return self._whole

    def _joined(self) -> bytes:
        labels: dict[str, list[Label]] = defaultdict(list)
        for label in self.services.labels.of_every_project():
            labels[label.case_id].append(label)
        drafts = {draft.case_id: draft for draft in self.services.predictions.newest_of_all()}
        entries = []
        for case_id, image in self._images.items():
            has_any = case_id in labels or case_id in drafts
            tags = _packed(label_entries(labels[case_id], drafts.get(case_id))) if has_any else b"{}"
            entries.append(b'"%s":{"image":%s,"labels":%s}' % (case_id.encode(), image, tags))
        return _packed(_HEAD)[:-1] + b',"objects":{' + b",".join(entries) + b"}}"


def _packed(words: object) -> bytes:
    return json.dumps(words, separators=(",", ":")).encode()
