from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.training import Verdict
from annotate_server.workflows.challenger_choice import choose, mean_dice
from annotate_server.workflows.gate import GateQuestion, GateRule, PairedCase, decide

RULE = GateRule()


def a_work(dice: float, apl_mm: float | None = None) -> SegmentWork:
    return SegmentWork(dice, dice, 100.0 * (1 - dice) if apl_mm is None else apl_mm, 1 - dice)


def pairs(champion: Sequence[float], challenger: Sequence[float], segment: str = "Liver") -> tuple[PairedCase, ...]:
    return tuple(
        PairedCase(f"label-{n:03}", f"case-{n}", f"patient-{n}", {segment: a_work(old)}, {segment: a_work(new)})
        for n, (old, new) in enumerate(zip(champion, challenger, strict=True))
    )


def asked(cases: tuple[PairedCase, ...], *segments: str, **changes: object) -> GateQuestion:
    names = segments or ("Liver",)
    return replace(GateQuestion(cases, names, frozenset(names)), **changes)


def spread(mean: float, number: int, deviation: float = 0.03, seed: int = 0) -> list[float]:
    return list(np.clip(np.random.default_rng(seed).normal(mean, deviation, number), 0.0, 1.0))


def test_a_challenger_that_is_better_on_enough_patients_is_promoted() -> None:
    old = spread(0.8, 25)
    decision = decide(asked(pairs(old, [dice + 0.03 for dice in old])), RULE)
    assert decision.verdict is Verdict.PROMOTE
    assert "better" in decision.reasons[0]
    assert decision.segments[0].patients == 25
    assert decision.target_dice is not None
    assert decision.target_dice.low > 0


def test_an_equal_challenger_is_promoted_as_equal_and_not_as_better() -> None:
    old = spread(0.8, 25)
    decision = decide(asked(pairs(old, old)), RULE)
    assert decision.verdict is Verdict.PROMOTE
    assert "equal" in decision.reasons[0]
    assert "better" not in decision.reasons[0]


def test_a_worse_mean_on_the_target_is_kept_out() -> None:
    old = spread(0.8, 25)
    decision = decide(asked(pairs(old, [dice - 0.005 for dice in old])), RULE)
    assert decision.verdict is Verdict.KEEP
    assert "worse" in decision.reasons[0]


def test_one_collapse_refuses_whatever_the_mean_says() -> None:
    old = spread(0.8, 40)
    new = [dice + 0.05 for dice in old]
    new[7] = old[7] - 0.25
    decision = decide(asked(pairs(old, new)), RULE)
    assert decision.verdict is Verdict.KEEP
    assert "case-7" in decision.reason


def test_the_network_that_would_serve_must_not_collapse_either() -> None:
    old = spread(0.8, 25)
    cases = pairs(old, [dice + 0.02 for dice in old])
    bad = replace(cases[3], served={"Liver": a_work(0.3)})
    decision = decide(asked((*cases[:3], bad, *cases[4:])), RULE)
    assert decision.verdict is Verdict.KEEP


def test_another_segment_that_gets_worse_refuses_a_better_target() -> None:
    old, new = spread(0.8, 25), spread(0.85, 25)
    cases = tuple(
        replace(
            case,
            champion={**case.champion, "Spleen": a_work(0.9)},
            challenger={**case.challenger, "Spleen": a_work(0.88, apl_mm=0.0)},
        )
        for case in pairs(old, new)
    )
    question = GateQuestion(cases, ("Liver", "Spleen"), frozenset({"Liver"}))
    decision = decide(question, RULE)
    assert decision.verdict is Verdict.KEEP
    assert "Spleen" in decision.reason
    assert [segment.is_target for segment in decision.segments] == [True, False]


def test_more_to_redraw_refuses_an_equal_dice() -> None:
    cases = tuple(
        replace(case, challenger={"Liver": replace(case.challenger["Liver"], apl_mm=30.0)})
        for case in pairs([0.8] * 25, [0.8] * 25)
    )
    decision = decide(asked(cases), RULE)
    assert decision.verdict is Verdict.KEEP
    assert "redraw" in decision.reason


def test_uncertain_evidence_is_no_evidence() -> None:
    old = spread(0.8, 22)
    new = [dice + shift for dice, shift in zip(old, [0.09, -0.08] * 11, strict=True)]
    decision = decide(asked(pairs(old, new)), RULE)
    assert decision.verdict is Verdict.KEEP
    assert "may be worse" in decision.reason


def test_few_patients_promote_for_now_and_only_what_is_certainly_better() -> None:
    old = spread(0.8, 8)
    better = decide(asked(pairs(old, [dice + 0.04 for dice in old])), RULE)
    equal = decide(asked(pairs(old, old)), RULE)
    assert better.verdict is Verdict.PROMOTE_PROVISIONALLY
    assert equal.verdict is Verdict.KEEP


def test_cross_fitted_evidence_promotes_for_now_however_many_patients_there_are() -> None:
    old = spread(0.8, 30)
    question = asked(pairs(old, [dice + 0.04 for dice in old]), is_cross_fitted=True)
    assert decide(question, RULE).verdict is Verdict.PROMOTE_PROVISIONALLY


@pytest.mark.parametrize("number", [0, 1, 4])
def test_below_five_patients_a_person_decides_with_the_figures(number: int) -> None:
    old = spread(0.8, number)
    decision = decide(asked(pairs(old, [dice + 0.1 for dice in old])), RULE)
    assert decision.verdict is Verdict.ASK
    assert ("+0.100" in decision.reason) == (number > 0)


def test_two_labels_of_one_patient_are_one_patient() -> None:
    old = spread(0.8, 8)
    cases = tuple(replace(case, patient="one" if n < 6 else case.patient) for n, case in enumerate(pairs(old, old)))
    assert decide(asked(cases), RULE).verdict is Verdict.ASK


def test_a_segment_that_no_label_speaks_about_leaves_it_to_a_person() -> None:
    old = spread(0.8, 25)
    decision = decide(asked(pairs(old, [dice + 0.03 for dice in old]), "Liver", "Spleen"), RULE)
    assert decision.verdict is Verdict.ASK
    assert "Spleen" in decision.reason


def test_a_first_version_has_to_be_of_use() -> None:
    by_hand = [0.0] * 12
    poor = decide(asked(pairs(by_hand, spread(0.3, 12)), is_first=True), RULE)
    good = decide(asked(pairs(by_hand, spread(0.7, 12)), is_first=True), RULE)
    assert (poor.verdict, good.verdict) == (Verdict.ASK, Verdict.PROMOTE_PROVISIONALLY)


def test_wrong_labels_are_named_and_the_answer_must_hold_without_them() -> None:
    old = [0.85] * 26
    new = [0.848] * 26
    for wrong in (3, 9, 14):
        old[wrong], new[wrong] = 0.05, 0.2
    decision = decide(asked(pairs(old, new)), RULE)
    assert {doubt.label_id for doubt in decision.doubts} == {"label-003", "label-009", "label-014"}
    assert decision.verdict is Verdict.KEEP
    assert "Without 3 labels that look wrong" in decision.reasons[0]


def test_a_label_that_the_versions_see_differently_is_hard_and_not_wrong() -> None:
    old, new = [0.85] * 26, [0.86] * 26
    old[3], new[3] = 0.1, 0.12
    cases = pairs(old, new)
    hard = replace(cases[3], rivals={"Liver": 0.3})
    decision = decide(asked((*cases[:3], hard, *cases[4:])), RULE)
    assert decision.doubts == ()


def test_much_used_patients_are_said_to_be_so() -> None:
    old = spread(0.8, 25)
    decision = decide(asked(pairs(old, old), evaluations=25), RULE)
    assert "25 times" in decision.reason


def test_a_label_is_judged_by_what_the_others_chose() -> None:
    labels = [f"label-{n}" for n in range(20)]
    flattering = {label: {"Liver": a_work(0.9 if n == 0 else 0.80)} for n, label in enumerate(labels)}
    steady = {label: {"Liver": a_work(0.804)} for label in labels}
    choice = choose({0.5: steady, 1.0: flattering}, {label: label for label in labels})
    assert choice.share == 1.0
    assert choice.judged_by[labels[0]] == 0.5


def test_of_equal_candidates_the_one_nearest_to_the_champion_is_chosen() -> None:
    works = {"label": {"Liver": a_work(0.8)}}
    assert choose({1.0: works, 0.25: works, 0.5: works}, {"label": "patient"}).share == 0.25


def test_the_mean_dice_gives_every_segment_the_same_weight() -> None:
    rare = {"Liver": a_work(0.8), "Lesion": a_work(0.2)}
    assert mean_dice([rare, {"Liver": a_work(0.8)}, {"Liver": a_work(0.8)}]) == pytest.approx(0.5)
