"""The cases of a simulation: who is drawn for which part, and what a robot physician submits of them."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidRequest, error_of
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.training import Example, Part, TrainingEntry, TrainingSet
from annotate_server.workflows.evaluate import LabelledCase
from annotate_server.workflows.evaluation import CaseFailure
from annotate_server.workflows.segment_matching import match_segments
from annotate_server.workflows.simulated_labels import Mistake, mistaken
from annotate_server.workflows.simulated_scanner import Scanner, scanned_again

MOST_BYTES = 1 << 30
"""Volumes of a simulation that are kept in memory."""
OLD_SITE, NEW_SITE = "A", "B"

Read = Callable[[str], LabelledCase | CaseFailure]
"""Reads a case of the folder by its name."""


@dataclass(frozen=True)
class SimulationParts:
    """Names of cases by what they are for; `pool` is in the order in which the rounds take them."""

    start: tuple[str, ...]
    gate: tuple[str, ...]
    test: tuple[str, ...]
    pool: tuple[str, ...]


def drawn_parts(patients: Mapping[str, str], wanted: Mapping[str, int], seed: int) -> SimulationParts:
    """Draw test, gate, start and pool; `patients` are by case, and all cases of one patient are in one part.

    The order of patients is that of a keyed hash. Raises InvalidRequest that says how many cases are missing.
    """
    needed = sum(wanted.values())
    if len(patients) < needed:
        raise InvalidRequest(
            f"the simulation needs {needed} labelled cases ({_listing(wanted)}) and the folder has {len(patients)}",
            remedy="Ask for fewer rounds, or fewer cases of a part.",
        )
    by_patient: dict[str, list[str]] = {}
    for case, patient in sorted(patients.items()):
        by_patient.setdefault(patient, []).append(case)
    order = sorted(by_patient, key=lambda patient: hashlib.sha256(f"{seed}|{patient}".encode()).digest())
    parts: dict[str, list[str]] = {name: [] for name in ("test", "gate", "start", "pool")}
    for patient in order:
        name = next((each for each in parts if len(parts[each]) < wanted[each]), "pool")
        parts[name] += by_patient[patient]
    return SimulationParts(**{name: tuple(cases) for name, cases in parts.items()})


def _listing(wanted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in wanted.items())


@dataclass
class SimulatedCases:
    """Opens cases with their truth, or as the robot submitted them; fulfils `round_tools.Examples`.

    The id of a label is that of its case and site; `mistakes` are by that id. Truth is what the folder's labels say.
    """

    read: Read
    segments: tuple[Segment, ...]
    seed: int
    scanner: Scanner = field(default_factory=Scanner)
    mistakes: Mapping[str, Mistake] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    _kept: OrderedDict[str, Example] = field(default_factory=OrderedDict, init=False, repr=False)

    def entry(self, name: str, part: Part, site: str = OLD_SITE) -> TrainingEntry:
        """Return the label that the robot submits of a case."""
        truth = self.truth(name, site)
        spoken = tuple(segment for segment in self.segments if segment.index in truth.known)
        return replace(truth.entry, part=part, segments=spoken)

    def open(self, entry: TrainingEntry, training_set: TrainingSet) -> Example:
        """Return an example as it was submitted, with its mistake where it has one."""
        truth = self.truth(entry.case_id, entry.site)
        mistake = self.mistakes.get(entry.label_id)
        target = truth.target
        if mistake is not None:
            target = mistaken(target, mistake, self.truth(self.others[entry.label_id], entry.site).target)
        return Example(entry, truth.volume, target, truth.known)

    def truth(self, name: str, site: str = OLD_SITE) -> Example:
        """Return a case with what is really there; raises the error of a case that cannot be read."""
        key = label_id(name, site)
        found = self._kept.get(key) or self._read(name, site, key)
        self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(_size(each) for each in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)
        return found

    def _read(self, name: str, site: str, key: str) -> Example:
        case = self.read(name)
        if isinstance(case, CaseFailure):
            raise error_of(case.problem)
        volume, truth = case.volume, case.truth
        if site == NEW_SITE:
            seed = int.from_bytes(hashlib.sha256(f"{self.seed}|{name}".encode()).digest()[:4], "big")
            volume, truth = scanned_again(volume, truth, self.scanner, seed)
        matching = match_segments(truth, self.segments)
        target: NDArray[np.int16] = np.zeros(truth.voxels.shape, np.int16)
        for segment, index in matching.pairs:
            if index is not None:
                target[truth.voxels == index] = segment.index
        known = frozenset(segment.index for segment, _ in matching.pairs)
        entry = TrainingEntry(name, key, case.patient or name, Part.TRAIN, self.segments, site)
        return Example(entry, volume, target, known)


def label_id(name: str, site: str = OLD_SITE) -> str:
    """Return the id of the label of a case at a site: hexadecimal, as a server's."""
    return hashlib.sha256(f"{site}|{name}".encode()).hexdigest()[:32]


def _size(example: Example) -> int:
    return example.volume.voxels.nbytes + example.target.nbytes
