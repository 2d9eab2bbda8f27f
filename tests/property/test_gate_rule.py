from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.training import Verdict
from annotate_server.workflows.gate import GateQuestion, GateRule, PairedCase, decide

shares = st.floats(0.0, 1.0, width=32)
PROMOTING = (Verdict.PROMOTE, Verdict.PROMOTE_PROVISIONALLY)


@st.composite
def works(draw: st.DrawFn) -> SegmentWork:
    return SegmentWork(draw(shares), draw(shares), draw(shares) * 500, draw(shares))


@st.composite
def questions(draw: st.DrawFn, *, equal: bool = False) -> GateQuestion:
    number = draw(st.integers(0, 30))
    cases = []
    for n in range(number):
        names = draw(st.sampled_from([("Liver",), ("Liver", "Spleen"), ("Spleen",)]))
        champion = {name: draw(works()) for name in names}
        challenger = champion if equal else {name: draw(works()) for name in names}
        cases.append(PairedCase(f"label-{n}", f"case-{n}", f"patient-{draw(st.integers(0, n))}", champion, challenger))
    targets = draw(st.sampled_from([frozenset({"Liver"}), frozenset({"Liver", "Spleen"})]))
    return GateQuestion(tuple(cases), ("Liver", "Spleen"), targets, is_cross_fitted=draw(st.booleans()))


@settings(max_examples=60, deadline=None)
@given(questions(), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(question: GateQuestion, random) -> None:
    shuffled = list(question.cases)
    random.shuffle(shuffled)
    assert decide(replace(question, cases=tuple(shuffled)), GateRule()) == decide(question, GateRule())


@settings(max_examples=60, deadline=None)
@given(questions(equal=True))
def test_a_twin_of_the_champion_is_never_called_better(question: GateQuestion) -> None:
    decision = decide(question, GateRule())
    assert decision.verdict is not Verdict.PROMOTE_PROVISIONALLY
    assert "better" not in decision.reasons[0] or decision.verdict is Verdict.KEEP
    if decision.target_dice is not None:
        assert (decision.target_dice.mean, decision.target_dice.low) == (0.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(questions(), st.data())
def test_a_collapse_refuses_always(question: GateQuestion, data: st.DataObject) -> None:
    if not question.cases:
        return
    at = data.draw(st.integers(0, len(question.cases) - 1))
    case = question.cases[at]
    name = next(iter(case.champion))
    champion = {**case.champion, name: replace(case.champion[name], dice=0.9)}
    challenger = {**case.challenger, name: replace(case.challenger[name], dice=0.6)}
    fallen = replace(case, champion=champion, challenger=challenger)
    cases = (*question.cases[:at], fallen, *question.cases[at + 1 :])
    assert decide(replace(question, cases=cases), GateRule()).verdict not in PROMOTING


@settings(max_examples=60, deadline=None)
@given(questions())
def test_what_is_promoted_fulfils_every_condition(question: GateQuestion) -> None:
    decision = decide(question, GateRule())
    if decision.verdict not in PROMOTING:
        return
    assert decision.target_dice is not None
    assert decision.target_dice.mean >= 0
    assert decision.patients >= GateRule().fewest
    for segment in decision.segments:
        assert segment.dice is not None
        assert segment.surface_dice is not None
        assert segment.dice.low > -0.01
        assert segment.surface_dice.low > -0.02
    if decision.verdict is Verdict.PROMOTE:
        assert not question.is_cross_fitted
        assert min(segment.patients for segment in decision.segments) >= GateRule().enough
