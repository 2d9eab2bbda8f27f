"""Cross-fitting: with few patients every one of them judges a network that was trained without it.

A patient's fold is fixed for ever, and every fold has a line of networks of its own, each trained from the one before:
a network of fold 2 descends from none that saw a patient of fold 2. A champion that saw nobody (an app's own) begins
all lines.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from annotate_server.domain.training import TrainingEntry, TrainingSet

FOLDS = 3
"""Every fold is a training: three are what a machine without a card can afford."""


@dataclass(frozen=True)
class Fold:
    """One of the trainings: what it learns from, and what it is then scored on."""

    number: int
    training_set: TrainingSet
    held_out: tuple[TrainingEntry, ...]


def assigned(patients: Iterable[str], known: Mapping[str, int], number: int = FOLDS) -> Mapping[str, int]:
    """Return the fold of every patient: those that are known stay where they are, a new one joins the smallest fold."""
    fold_of = dict(known)
    for patient in sorted(set(patients) - known.keys()):
        sizes = [sum(fold == at for fold in fold_of.values()) for at in range(number)]
        fold_of[patient] = sizes.index(min(sizes))
    return fold_of


def folds(training_set: TrainingSet, fold_of: Mapping[str, int]) -> tuple[Fold, ...]:
    """Return the folds of a set that may be trained on; those without a patient, and those without others, are not."""
    made = (_fold(training_set, fold_of, number) for number in sorted(set(fold_of.values())))
    return tuple(fold for fold in made if fold.held_out and fold.training_set.entries)


def _fold(training_set: TrainingSet, fold_of: Mapping[str, int], number: int) -> Fold:
    held_out = tuple(entry for entry in training_set.entries if fold_of[entry.patient] == number)
    rest = tuple(entry for entry in training_set.entries if fold_of[entry.patient] != number)
    return Fold(number, replace(training_set, entries=rest), held_out)
