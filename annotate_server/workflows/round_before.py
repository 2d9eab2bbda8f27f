"""Before anything is learned: what the champion drafts of the new labels, and which of them look wrong.

These drafts are the fairest figures that there are of the champion (test, then train). A label that the champion
contradicts far more than the others is left out of this round and named for a reviewer; the next round asks again, with
a better champion.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from annotate_server.domain.ports import Control
from annotate_server.domain.training import Part, TrainingEntry, TrainingSet
from annotate_server.workflows.gate_evidence import NewDraft
from annotate_server.workflows.label_doubts import Doubt, doubts_about
from annotate_server.workflows.round_networks import CHAMPION, RoundNetworks
from annotate_server.workflows.round_scoring import LabelScore
from annotate_server.workflows.training_refusal import training_refusal

MOST_DOUBTED = 0.4
"""Where a larger share of a site's new labels looks wrong, it is the champion that does not know such cases."""


@dataclass(frozen=True)
class Before:
    """The champion's figures by label (of the gate and of new labels), what looks wrong, and what is learned from."""

    champion: Mapping[str, LabelScore]
    doubts: tuple[Doubt, ...]
    learned: TrainingSet
    drafts: tuple[NewDraft, ...]


def before_learning(networks: RoundNetworks, control: Control) -> Before:
    """Let the champion draft the gate's labels and those that it has not learned from; without one nothing is known."""
    if networks.champion is None:
        return Before({}, (), networks.learned, ())
    unseen = unseen_by_champion(networks)
    gate = networks.training_set.of(Part.GATE)
    scores = networks.scores(CHAMPION, networks.champion, (*gate, *unseen), control)
    doubts = _doubted(scores, unseen)
    drafts = tuple(NewDraft(e.label_id, e.case_id, e.patient, scores[e.label_id].works) for e in unseen)
    return Before(scores, doubts, _without(networks.learned, doubts), drafts)


def unseen_by_champion(networks: RoundNetworks) -> tuple[TrainingEntry, ...]:
    """Return the labels to learn from that the champion has not learned from: new ones, and those it left out."""
    evidence = networks.tools.champion_evidence
    left_out = evidence.left_out if evidence is not None else frozenset()
    entries = networks.training_set.of(Part.TRAIN)
    return tuple(entry for entry in entries if entry.is_new or entry.label_id in left_out)


def _doubted(scores: Mapping[str, LabelScore], unseen: tuple[TrainingEntry, ...]) -> tuple[Doubt, ...]:
    """Return which of the new labels look wrong beside all others.

    None of a site where very many do: what came from other sites says nothing about a scanner that is new.
    """
    site_of = {entry.label_id: entry.site for entry in unseen}
    doubts = doubts_about({label: score.works for label, score in scores.items()})
    found = [doubt for doubt in doubts if doubt.label_id in site_of]
    new, doubted = Counter(site_of.values()), Counter(site_of[doubt.label_id] for doubt in found)
    known = {site for site, count in doubted.items() if count <= MOST_DOUBTED * new[site]}
    return tuple(doubt for doubt in found if site_of[doubt.label_id] in known)


def _without(learned: TrainingSet, doubts: tuple[Doubt, ...]) -> TrainingSet:
    """Return a set without labels that look wrong, where something can still be learned from it then."""
    doubted = {doubt.label_id for doubt in doubts}
    rest = replace(learned, entries=tuple(entry for entry in learned.entries if entry.label_id not in doubted))
    return learned if training_refusal(rest) is not None else rest
