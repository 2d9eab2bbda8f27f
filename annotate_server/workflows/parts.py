"""Parts: which patients train, which decide on promotions, and which only tell how good a version is.

A patient's part is drawn once and stored; it is never drawn again, whatever becomes of the numbers here.

**From when on.** The first `FIRST_PATIENTS` patients with an approved label all train. Until then a gate could not be
filled (it asks for 20 patients per segment, notes of the gate), and holding three of ten patients back would cost more
than it tells: small projects are judged by cross-fitting, in which every patient is scored by a network that did not
see them. From then on every new patient is drawn by `SHARES`.

**How.** By the HMAC-SHA-256 of the patient's pseudonym under the project's own secret key: nobody can tell from outside
which part a patient will fall into, so that nobody can choose it, and the same patient gets the same part in whatever
order the labels come. The shares are the usual ones of the field (70 % to learn from, the rest halved).
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.learning import PatientPart
from annotate_server.domain.learning_ports import PartStore
from annotate_server.domain.stored import KnownCase
from annotate_server.domain.training import Part

FIRST_PATIENTS = 20
"""Patients who all train: as many as the gate asks for per segment before it is used alone."""
SHARES: Mapping[Part, float] = {Part.TRAIN: 0.70, Part.GATE: 0.15, Part.TEST: 0.15}
"""How patients are shared out from then on."""


@dataclass(frozen=True)
class Parts:
    """Draws the parts of a project's patients, and remembers them."""

    store: PartStore
    clock: Clock = now

    def drawn(self, project_id: str, patients: Iterable[str]) -> Mapping[str, Part]:
        """Return the part of each patient, drawing those that have none yet.

        `patients` are pseudonyms, those first whose label was approved first. What another process drew meanwhile
        counts.
        """
        ordered = tuple(dict.fromkeys(patients))
        known = self.store.parts(project_id)
        missing = [patient for patient in ordered if patient not in known]
        if missing:
            first = max(0, FIRST_PATIENTS - len(known))
            key, at = self.store.key(project_id), self.clock()
            self.store.draw(
                PatientPart(project_id, patient, Part.TRAIN if number < first else part_by_key(key, patient), at)
                for number, patient in enumerate(missing)
            )
            known = self.store.parts(project_id)
        return {patient: known[patient].part for patient in ordered}


def part_by_key(key: bytes, patient: str) -> Part:
    """Return the part that a patient falls into: always the same for one key."""
    number = int.from_bytes(hmac.digest(key, patient.encode(), hashlib.sha256)[:8], "big") / 2**64
    reached = 0.0
    for part, share in SHARES.items():
        reached += share
        if number < reached:
            return part
    return Part.TEST


def patient_of(case: KnownCase) -> str:
    """Return the pseudonym of a case's patient.

    Where the files say nothing the case is a patient of its own, named by its voxels rather than by its path, so that a
    renamed file does not change its part.
    """
    patient = case.case.patient
    return patient.pseudonym() if patient.known else f"case-{case.id[:12]}"
