"""The evidence of a round as a record that is kept: everything that a person needs to judge the decision later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.training import TrainingPoint, Verdict
from annotate_server.imaging.json_numbers import finite
from annotate_server.workflows.bootstrap_interval import Interval
from annotate_server.workflows.gate import GateDecision, GateRule, PairedCase, SegmentComparison
from annotate_server.workflows.label_doubts import Doubt

FORMAT = "annotate-gate-evidence/1"


@dataclass(frozen=True)
class NewDraft:
    """What the champion drafted for a label before anything learned from it, against that label."""

    label_id: str
    case_id: str
    patient: str
    works: Mapping[str, SegmentWork]


@dataclass(frozen=True)
class TrainingFacts:
    """What the training was: steps and voxels of everything that was computed for the round, in seconds.

    `training_voxels` went forward and back, `drafted_voxels` forward only (the sweep, the gate, the check of labels).
    `labels` were learned from. `notes` are the backend's own sentences.
    """

    labels: int
    steps: int
    training_voxels: int
    drafted_voxels: int
    seconds: float
    is_full: bool = False
    curve: tuple[TrainingPoint, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateEvidence:
    """Everything behind a decision; `champion` is None for the first version of a model.

    `shares` are the mean Dice of every candidate between the champion (0) and the new network (1), `share` the chosen
    one. `fold_works` are the figures, by label, of networks that were trained without its patient, `fold_weights` those
    networks (SHA-256 by file, by fold), `fold_of` which fold a patient belongs to: the next round pairs the figures
    with its own and goes on from the networks. `doubted` are labels to learn from that look wrong and were left out.
    """

    model: str
    champion: str | None
    challenger: str
    training_set: str
    decision: GateDecision
    rule: GateRule
    cases: tuple[PairedCase, ...]
    share: float
    shares: Mapping[float, float]
    training: TrainingFacts
    fold_works: Mapping[str, Mapping[str, SegmentWork]] = field(default_factory=dict)
    fold_weights: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    fold_of: Mapping[str, int] = field(default_factory=dict)
    doubted: tuple[Doubt, ...] = ()
    new_drafts: tuple[NewDraft, ...] = ()

    @property
    def left_out(self) -> frozenset[str]:
        """Return the labels that were not learned from because they look wrong."""
        return frozenset(doubt.label_id for doubt in self.doubted)


def evidence_bytes(evidence: GateEvidence) -> bytes:
    """Return the record: JSON that a person can read; the same evidence gives the same bytes."""
    table = {"format": FORMAT, **asdict(evidence)}
    table["shares"] = [{"share": share, "dice": dice} for share, dice in sorted(evidence.shares.items())]
    for doubts in (table["doubted"], table["decision"]["doubts"]):
        for row in doubts:
            row["sentence"] = Doubt(**row).sentence
    return json.dumps(finite(table), indent=1, sort_keys=True, allow_nan=False).encode()


def read_evidence(content: bytes) -> GateEvidence:
    """Return what `evidence_bytes` wrote; raises StorageFailed for anything else."""
    try:
        table = json.loads(content)
        if table["format"] != FORMAT:
            raise StorageFailed(f"the evidence has the form {table['format']!r}, which this version does not read")
        return _evidence(table)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageFailed(f"the evidence of a gate cannot be read ({type(error).__name__}: {error})") from error


def _evidence(table: Mapping[str, Any]) -> GateEvidence:
    return GateEvidence(
        model=table["model"],
        champion=table["champion"],
        challenger=table["challenger"],
        training_set=table["training_set"],
        decision=_decision(table["decision"]),
        rule=GateRule(**table["rule"]),
        cases=tuple(_paired(row) for row in table["cases"]),
        share=table["share"],
        shares={row["share"]: row["dice"] for row in table["shares"]},
        training=_training(table["training"]),
        fold_works={label: _works(works) for label, works in table["fold_works"].items()},
        fold_weights={int(fold): files for fold, files in table["fold_weights"].items()},
        fold_of=dict(table["fold_of"]),
        doubted=_doubts(table["doubted"]),
        new_drafts=tuple(NewDraft(**{**row, "works": _works(row["works"])}) for row in table["new_drafts"]),
    )


def _decision(table: Mapping[str, Any]) -> GateDecision:
    return GateDecision(
        verdict=Verdict(table["verdict"]),
        reasons=tuple(table["reasons"]),
        segments=tuple(_comparison(row) for row in table["segments"]),
        target_dice=_interval(table["target_dice"]),
        patients=table["patients"],
        evaluations=table["evaluations"],
        doubts=_doubts(table["doubts"]),
    )


def _comparison(table: Mapping[str, Any]) -> SegmentComparison:
    differences = {name: _interval(table[name]) for name in ("dice", "surface_dice")}
    return SegmentComparison(**{**table, **differences})


def _paired(table: Mapping[str, Any]) -> PairedCase:
    works = {side: _works(table[side]) for side in ("champion", "challenger", "served")}
    return PairedCase(table["label_id"], table["case_id"], table["patient"], rivals=table["rivals"], **works)


def _training(table: Mapping[str, Any]) -> TrainingFacts:
    rest = {name: value for name, value in table.items() if name not in ("curve", "notes")}
    curve = tuple(TrainingPoint(**point) for point in table["curve"])
    return TrainingFacts(**rest, curve=curve, notes=tuple(table["notes"]))


def _works(table: Mapping[str, Mapping[str, float]]) -> Mapping[str, SegmentWork]:
    return {name: SegmentWork(**work) for name, work in table.items()}


def _doubts(rows: Sequence[Mapping[str, Any]]) -> tuple[Doubt, ...]:
    return tuple(Doubt(row["label_id"], row["segment"], row["dice"], row["usual_dice"]) for row in rows)


def _interval(table: Mapping[str, float] | None) -> Interval | None:
    return None if table is None else Interval(table["mean"], table["low"], table["high"])
