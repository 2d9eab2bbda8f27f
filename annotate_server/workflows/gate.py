"""The gate: whether a challenger may replace the champion, from what both answer on the same labelled patients.

**With enough patients** (`GateRule.enough` for every segment) the challenger is promoted if the target segments improve
or are equal, no segment is worse by more than a margin (lower bound of the paired interval, patients drawn), no label
collapses and there is not more to redraw. **With fewer**, the evidence comes from all approved patients, each scored by
a challenger that has not seen it (`cross_fitting`): the target has to be *better*, and the promotion is provisional.
Below `GateRule.fewest` patients only a person may promote. Labels of the gate can be wrong themselves: those that every
version contradicts in the same way are named for a reviewer, and the rule has to hold with them and without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.training import Verdict
from annotate_server.workflows.bootstrap_interval import Bootstrap, Interval
from annotate_server.workflows.label_doubts import Doubt, doubts_about

MUCH_USED = 20
"""After this many decisions on one set of patients the sentence says that new ones are due."""


@dataclass(frozen=True)
class GateRule:
    """The thresholds. Dice and surface Dice (at 2 mm) as shares, patients by segment.

    `dice_margin` and `surface_margin` are how much worse a segment may be at the lower bound of its 95 % interval;
    `collapse` is a fall of Dice on one label that refuses whatever the mean says.
    `first_dice` is what the first version of a model has to reach on every segment: a worse draft is no help.
    """

    dice_margin: float = 0.01
    surface_margin: float = 0.02
    collapse: float = 0.2
    enough: int = 20
    fewest: int = 5
    first_dice: float = 0.5


@dataclass(frozen=True)
class PairedCase:
    """One label as champion and challenger answer it, by the name of the segment; only segments that it speaks about.

    `challenger` are the figures that decide: of a challenger that was neither trained nor chosen by this patient.
    `served` are those of the network that would serve (as `challenger` where it is left out), and `rivals` how alike
    it and the champion are to each other (Dice).
    """

    label_id: str
    case_id: str
    patient: str
    champion: Mapping[str, SegmentWork]
    challenger: Mapping[str, SegmentWork]
    served: Mapping[str, SegmentWork] = field(default_factory=dict)
    rivals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GateQuestion:
    """What the gate is asked. `segments` are all that count, in order; `targets` those that the new labels are of.

    `evaluations` says how often this set of patients was decided on before; every look makes it a little less fair.
    `is_first` says that there is no champion yet: it stands for drawing everything by hand, with nothing drafted.
    `is_cross_fitted` says that not all cases are of patients kept for the gate: a promotion is provisional then.
    """

    cases: tuple[PairedCase, ...]
    segments: tuple[str, ...]
    targets: frozenset[str]
    evaluations: int = 0
    is_first: bool = False
    is_cross_fitted: bool = False


@dataclass(frozen=True)
class SegmentComparison:
    """One segment over all patients: the means of both versions, and the paired differences with their intervals.

    A difference is challenger less champion. All are None where no label speaks about the segment.
    """

    name: str
    is_target: bool
    patients: int
    champion_dice: float | None = None
    challenger_dice: float | None = None
    dice: Interval | None = None
    surface_dice: Interval | None = None
    champion_apl_mm: float | None = None
    challenger_apl_mm: float | None = None


@dataclass(frozen=True)
class GateDecision:
    """What the gate says, and why: `reasons` are sentences, the first one is what decided."""

    verdict: Verdict
    reasons: tuple[str, ...]
    segments: tuple[SegmentComparison, ...]
    target_dice: Interval | None
    patients: int
    evaluations: int
    doubts: tuple[Doubt, ...] = ()

    @property
    def reason(self) -> str:
        """Return the reasons as one text."""
        return " ".join(self.reasons)


def decide(question: GateQuestion, rule: GateRule) -> GateDecision:
    """Return the decision on a challenger; the order of the cases does not matter."""
    cases = tuple(sorted(question.cases, key=lambda case: case.label_id))
    question = replace(question, cases=cases)
    doubts = doubts_about({case.label_id: _either(case) for case in cases}, {c.label_id: c.rivals for c in cases})
    decision = _decided(question, rule)
    doubted = {doubt.label_id for doubt in doubts}
    trusted = tuple(case for case in cases if case.label_id not in doubted)
    if doubted and _promotes(decision) and _patients(trusted) >= rule.fewest:
        without = _decided(replace(question, cases=trusted), replace(rule, enough=min(rule.enough, len(trusted))))
        if not _promotes(without):
            reason = f"Without {len(doubted)} labels that look wrong the answer is another one: {without.reasons[0]}"
            decision = replace(decision, verdict=without.verdict, reasons=(reason, *decision.reasons))
    return replace(decision, doubts=doubts, reasons=(*decision.reasons, *_remarks(doubts, question.evaluations)))


def _decided(question: GateQuestion, rule: GateRule) -> GateDecision:
    """Return the decision over the cases as they are."""
    cases = question.cases
    segments = tuple(_compared(name, question) for name in question.segments)
    target = _target(question)
    decision = GateDecision(Verdict.KEEP, (), segments, target, _patients(cases), question.evaluations)
    objections = _objections(decision, cases, rule)
    if target is None or (unsettled := _unsettled(decision, question.is_first, rule)):
        reasons = ("No label tells anything about it.",) if target is None else unsettled
        return replace(decision, verdict=Verdict.ASK, reasons=(*reasons, *objections))
    if objections:
        return replace(decision, reasons=objections)
    return _promoted(decision, target, is_certain=not question.is_cross_fitted, rule=rule)


def _promoted(decision: GateDecision, target: Interval, *, is_certain: bool, rule: GateRule) -> GateDecision:
    """Return the decision where nothing speaks against the challenger."""
    fewest = min(segment.patients for segment in decision.segments)
    if fewest >= rule.enough and is_certain:
        word = "better" if target.low > 0 else ("better in the mean" if target.mean > 0 else "equal")
        sentence = f"Promoted: the target is {word} (Dice {_signed(target)}, {decision.patients} patients)"
        return replace(decision, verdict=Verdict.PROMOTE, reasons=(f"{sentence}, and no segment is worse.",))
    if target.low <= 0:
        sentence = f"With {fewest} patients the target would have to be better for certain: Dice {_signed(target)}."
        return replace(decision, reasons=(sentence,))
    sentence = f"Promoted for now, on {fewest} patients: the target is better (Dice {_signed(target)})."
    return replace(decision, verdict=Verdict.PROMOTE_PROVISIONALLY, reasons=(sentence,))


def _objections(decision: GateDecision, cases: Sequence[PairedCase], rule: GateRule) -> tuple[str, ...]:
    """Return a sentence for every condition that is not fulfilled."""
    found = []
    target = decision.target_dice
    if target is not None and target.mean < 0:
        found.append(f"Kept: the target would be worse (Dice {_signed(target)}).")
    for segment in decision.segments:
        if segment.dice is not None and segment.dice.low <= -rule.dice_margin:
            found.append(
                f"{segment.name} may be worse by more than {rule.dice_margin:g} Dice: {_signed(segment.dice)}."
            )
        if segment.surface_dice is not None and segment.surface_dice.low <= -rule.surface_margin:
            found.append(
                f"{segment.name} may be worse by more than {rule.surface_margin:g} surface Dice: "
                f"{_signed(segment.surface_dice)}."
            )
    found += _collapses(cases, rule)
    before, after = (_path(cases, is_challenger=flag) for flag in (False, True))
    if after > before * (1 + 1e-9):
        found.append(f"There would be more to redraw: {after:.1f} mm instead of {before:.1f} mm a label.")
    return tuple(found)


def _unsettled(decision: GateDecision, is_first: bool, rule: GateRule) -> tuple[str, ...]:
    """Return sentences on why the figures alone cannot decide, and a person is asked."""
    target = decision.target_dice
    if decision.patients < rule.fewest and target is not None:
        few = f"{decision.patients} patients are too few to decide by ({rule.fewest} are needed)"
        return (f"{few}: a person may promote it. Its target differs by {_signed(target)} Dice.",)
    unknown = [f"No label tells anything about {each.name}." for each in decision.segments if each.patients == 0]
    poor = [
        f"{segment.name} is drafted with {segment.challenger_dice:.2f} Dice only: it needs more labels."
        for segment in decision.segments
        if is_first and segment.challenger_dice is not None and segment.challenger_dice < rule.first_dice
    ]
    return (*unknown, *poor)


def _collapses(cases: Sequence[PairedCase], rule: GateRule) -> list[str]:
    return [
        f"{name} falls from {case.champion[name].dice:.2f} to {work.dice:.2f} Dice in case {case.case_id}: look at it."
        for case in cases
        for name, work in sorted((case.served or case.challenger).items())
        if case.champion[name].dice - work.dice > rule.collapse
    ]


def _compared(name: str, question: GateQuestion) -> SegmentComparison:
    cases = [case for case in question.cases if name in case.challenger]
    old, new = ([side[name] for side in sides] for sides in _sides(cases))
    if not cases:
        return SegmentComparison(name, name in question.targets, 0)
    bootstrap = Bootstrap([case.patient for case in cases])
    return SegmentComparison(
        name,
        name in question.targets,
        _patients(cases),
        float(np.mean([work.dice for work in old])),
        float(np.mean([work.dice for work in new])),
        bootstrap.mean(_differences([w.dice for w in old], [w.dice for w in new])),
        bootstrap.mean(_differences([w.surface_dice for w in old], [w.surface_dice for w in new])),
        float(np.mean([work.apl_mm for work in old])),
        float(np.mean([work.apl_mm for work in new])),
    )


def _target(question: GateQuestion) -> Interval | None:
    """Return the difference of the mean Dice over the target segments; None where no label speaks about any."""
    names = [name for name in question.segments if name in question.targets] or list(question.segments)
    cases = [case for case in question.cases if not case.challenger.keys().isdisjoint(names)]
    if not cases:
        return None
    table = np.full((len(cases), len(names)), np.nan)
    for row, case in enumerate(cases):
        for column, name in enumerate(names):
            if name in case.challenger:
                table[row, column] = case.challenger[name].dice - case.champion[name].dice
    return Bootstrap([case.patient for case in cases]).mean_of_means(table)


def _path(cases: Sequence[PairedCase], *, is_challenger: bool) -> float:
    """Return what is to be redrawn of a label, in mm, on average."""
    lengths = [
        sum(work.apl_mm for work in (case.challenger if is_challenger else case.champion).values()) for case in cases
    ]
    return float(np.mean(lengths)) if lengths else 0.0


def _remarks(doubts: Sequence[Doubt], evaluations: int) -> list[str]:
    remarks = []
    if doubts:
        remarks.append(f"{len(doubts)} labels of these patients look wrong and should be looked at.")
    if evaluations >= MUCH_USED:
        remarks.append(
            f"These patients have decided {evaluations} times before; the drafts of new cases are the fairer measure."
        )
    return remarks


def _either(case: PairedCase) -> Mapping[str, SegmentWork]:
    """Return for each segment the better of the two answers: what both contradict is contradicted by it."""
    return {name: max(work, case.champion[name], key=lambda each: each.dice) for name, work in case.challenger.items()}


def _sides(
    cases: Sequence[PairedCase],
) -> tuple[list[Mapping[str, SegmentWork]], list[Mapping[str, SegmentWork]]]:
    return [case.champion for case in cases], [case.challenger for case in cases]


def _differences(old: Sequence[float], new: Sequence[float]) -> NDArray[np.float64]:
    return np.array(new, dtype=np.float64) - np.array(old, dtype=np.float64)


def _patients(cases: Sequence[PairedCase]) -> int:
    return len({case.patient for case in cases})


def _promotes(decision: GateDecision) -> bool:
    return decision.verdict in (Verdict.PROMOTE, Verdict.PROMOTE_PROVISIONALLY)


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
