"""What a round's candidates answer on labels that they have not seen: the gate's, or with few patients all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from annotate_server.domain.labelmap import labelmap_dtype
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.training import Part, TrainingEntry
from annotate_server.workflows.challenger_choice import Choice, mean_dice
from annotate_server.workflows.cross_fitting import Fold, assigned, folds
from annotate_server.workflows.gate import PairedCase
from annotate_server.workflows.round_before import Before, unseen_by_champion
from annotate_server.workflows.round_networks import CHAMPION, MAIN, RoundNetworks
from annotate_server.workflows.round_scoring import alike, works_of
from annotate_server.workflows.round_tools import part_of

Works = Mapping[str, SegmentWork]


@dataclass(frozen=True)
class Judging:
    """Figures by label of labels that neither champion nor candidates have seen; the candidates' by share first.

    `rivals` say by share how alike a candidate's draft of a gate label is to the champion's. `fold_works` are those of
    networks trained without the label's patient, also where the champion has nothing fair to compare; `fold_of` is by
    patient. Both are empty where no fold was needed.
    """

    entries: tuple[TrainingEntry, ...]
    works: Mapping[float, Mapping[str, Works]]
    champion: Mapping[str, Works]
    rivals: Mapping[float, Mapping[str, Mapping[str, float]]]
    fold_of: Mapping[str, int] = field(default_factory=dict)
    fold_numbers: tuple[int, ...] = ()
    fold_works: Mapping[float, Mapping[str, Works]] = field(default_factory=dict)

    @property
    def is_cross_fitted(self) -> bool:
        """Say whether patients that were trained on are among them."""
        return bool(self.fold_of)

    @property
    def patients(self) -> Mapping[str, str]:
        """Return the patient of each label."""
        return {entry.label_id: entry.patient for entry in self.entries}

    @property
    def champion_dice(self) -> float:
        """Return the champion's mean Dice."""
        return mean_dice([self.champion[entry.label_id] for entry in self.entries])

    def cases(self, choice: Choice) -> tuple[PairedCase, ...]:
        """Return the pairs that the gate compares: each label is judged by a candidate that it did not choose."""
        return tuple(
            PairedCase(
                entry.label_id,
                entry.case_id,
                entry.patient,
                self.champion[entry.label_id],
                self.works[choice.judged_by[entry.label_id]][entry.label_id],
                served=self.works[choice.share][entry.label_id],
                rivals=self.rivals[choice.share].get(entry.label_id, {}),
            )
            for entry in self.entries
        )


def judged(networks: RoundNetworks, before: Before, control: Control) -> Judging:
    """Score champion and candidates on the gate's labels, where those are too few by cross-fitting on the others."""
    gate = networks.training_set.of(Part.GATE)
    is_enough = _is_enough(networks, gate)
    on_gate = _on_gate(networks, before, gate, part_of(control, 0.0, 1.0 if is_enough else 0.2))
    return on_gate if is_enough else _with_folds(networks, before, on_gate, part_of(control, 0.2, 0.8))


def _is_enough(networks: RoundNetworks, gate: tuple[TrainingEntry, ...]) -> bool:
    """Say whether every segment is spoken about by enough patients of the gate."""
    counts = (
        len({entry.patient for entry in gate if any(each.name == segment.name for each in entry.segments)})
        for segment in networks.training_set.segments
    )
    return min(counts, default=0) >= networks.tools.rule.enough


def _on_gate(networks: RoundNetworks, before: Before, gate: tuple[TrainingEntry, ...], control: Control) -> Judging:
    shares = networks.shares
    works: dict[float, Mapping[str, Works]] = {}
    rivals: dict[float, Mapping[str, Mapping[str, float]]] = {}
    for number, share in enumerate(shares):
        steps = part_of(control, number / len(shares), 1 / len(shares))
        key = f"{MAIN}-{share:g}"
        version = networks.version(networks.candidate(MAIN, _champion(networks), share))
        scores = networks.scores(key, version, gate, steps)
        works[share] = {label: score.works for label, score in scores.items()}
        rivals[share] = {entry.label_id: _alike(networks, key, entry) for entry in gate}
    champion = {entry.label_id: _champion_works(networks, before, entry) for entry in gate}
    return Judging(gate, works, champion, rivals)


def _with_folds(networks: RoundNetworks, before: Before, on_gate: Judging, control: Control) -> Judging:
    """Return the figures with those of patients that a training without them was scored on."""
    evidence = networks.tools.champion_evidence
    known = evidence.fold_of if evidence is not None else {}
    fold_of = assigned((entry.patient for entry in before.learned.entries), known)
    made = folds(before.learned, fold_of)
    works: dict[float, dict[str, Works]] = {share: {} for share in networks.shares}
    for number, fold in enumerate(made):
        steps = part_of(control, number / len(made), 1 / len(made))
        for share, scores in _on_fold(networks, fold, steps).items():
            works[share].update(scores)
    held_out = tuple(entry for fold in made for entry in fold.held_out)
    champion = {**on_gate.champion, **_fair_to_champion(networks, before, held_out)}
    return Judging(
        (*on_gate.entries, *(entry for entry in held_out if entry.label_id in champion)),
        {share: {**on_gate.works[share], **scores} for share, scores in works.items()},
        champion,
        on_gate.rivals,
        fold_of,
        tuple(fold.number for fold in made),
        works,
    )


def _fair_to_champion(
    networks: RoundNetworks, before: Before, held_out: tuple[TrainingEntry, ...]
) -> Mapping[str, Works]:
    """Return the champion's figures where they are fair: it never learned from the label, or its own fold is known."""
    evidence = networks.tools.champion_evidence
    unseen = {entry.label_id for entry in unseen_by_champion(networks)}
    kept = evidence.fold_works if evidence is not None else {}
    fair = {entry.label_id: kept[entry.label_id] for entry in held_out if entry.label_id in kept}
    for entry in held_out:
        if entry.label_id in unseen or networks.champion is None:
            fair[entry.label_id] = _champion_works(networks, before, entry)
    return fair


def _on_fold(networks: RoundNetworks, fold: Fold, control: Control) -> Mapping[float, Mapping[str, Works]]:
    """Train without a fold's patients, from what never saw them either, and score the candidates on them."""
    name = fold_name(fold.number)
    start = fold_start(networks, fold.number)
    networks.train(name, fold.training_set, start, part_of(control, 0.0, 0.8))
    found = {}
    for number, share in enumerate(networks.shares):
        steps = part_of(control, 0.8 + 0.2 * number / len(networks.shares), 0.2 / len(networks.shares))
        version = networks.version(networks.candidate(name, start, share))
        scores = networks.scores(f"{name}-{share:g}", version, fold.held_out, steps)
        found[share] = {label: score.works for label, score in scores.items()}
    return found


def fold_name(number: int) -> str:
    """Return how a fold's training is called in the folder of a round."""
    return f"fold-{number}"


def fold_start(networks: RoundNetworks, number: int) -> ModelVersion:
    """Return what a fold's training begins with: the fold's network of the champion's round, where there is one."""
    evidence = networks.tools.champion_evidence
    if evidence is None or networks.order.is_full or number not in evidence.fold_weights:
        return networks.start
    files = {name: networks.tools.keep.path(sha256) for name, sha256 in evidence.fold_weights[number].items()}
    return replace(networks.start, files=files, known_id=None)


def _champion(networks: RoundNetworks) -> ModelVersion:
    return networks.champion or networks.start


def _champion_works(networks: RoundNetworks, before: Before, entry: TrainingEntry) -> Works:
    """Return the champion's figures of a label; where there is no champion those of an empty draft."""
    if entry.label_id in before.champion:
        return before.champion[entry.label_id].works
    example = networks.tools.examples.open(entry, networks.training_set)
    segments = networks.training_set.segments
    return works_of(example, np.zeros(example.target.shape, labelmap_dtype(segments)), segments)


def _alike(networks: RoundNetworks, key: str, entry: TrainingEntry) -> Mapping[str, float]:
    if networks.champion is None:
        return {}
    return alike(networks.draft(CHAMPION, entry), networks.draft(key, entry), networks.training_set.segments)
