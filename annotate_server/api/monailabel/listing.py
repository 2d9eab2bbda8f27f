"""The list of every case with its labels, which clients ask for whole and often: kept, and renewed case by case."""

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from annotate_server.api.monailabel.words import image_entry, label_entries
from annotate_server.api.services import Services
from annotate_server.domain.annotation import Label
from annotate_server.domain.stored import KnownCase

_HEAD = {"name": "annotate-server", "description": "", "images_dir": ".", "labels_dir": "labels"}


@dataclass
class Listing:
    """The list as JSON; thread-safe. The stores say which cases are no longer as they were."""

    services: Services
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)
    _at: Sequence[int] = field(default=(), init=False)
    _entries: dict[str, bytes] = field(default_factory=dict, init=False)
    _whole: bytes = field(default=b"", init=False)

    def json(self) -> bytes:
        """Return the list."""
        changed = [store.changed for store in (self.services.cases, self.services.labels, self.services.predictions)]
        with self._turn:
            at = [each.count for each in changed]
            if not self._at:
                self._renew(self.services.cases.all())
            elif at != self._at:
                touched = {
                    case_id for each, known in zip(changed, self._at, strict=True) for case_id in each.since(known)
                }
                self._renew(self.services.cases.those(touched))
            self._at = at
            return self._whole

    def _renew(self, cases: Sequence[KnownCase]) -> None:
        case_ids = [known.id for known in cases]
        labels: dict[str, list[Label]] = defaultdict(list)
        for label in self.services.labels.of_cases(case_ids):
            labels[label.case_id].append(label)
        drafts = {draft.case_id: draft for draft in self.services.predictions.newest_of(case_ids)}
        for known in cases:
            tags = label_entries(labels[known.id], drafts.get(known.id))
            entry = {"image": image_entry(known), "labels": tags}
            self._entries[known.id] = b'"%s":%s' % (known.id.encode(), _packed(entry))
        self._whole = _packed(_HEAD)[:-1] + b',"objects":{' + b",".join(self._entries.values()) + b"}}"


def _packed(words: object) -> bytes:
    return json.dumps(words, separators=(",", ":")).encode()
