"""Train: one round: a challenger is trained from the champion and compared with it; nothing that serves is touched.

The champion drafts the new labels and the gate's before anything is learned; the backend trains; candidates between
the old and the new weights draft the gate's patients (with few patients also those that a training without them has not
seen); one of them is chosen; the gate decides. All that is done lies in the order's folder: a round that was killed
goes on from there. What comes of it is put into the store; the alias is moved by who ordered the round.
"""

import time
from dataclasses import replace

from annotate_server.domain.errors import StateError
from annotate_server.domain.ports import Control
from annotate_server.domain.training import Trained, TrainingSet, TrainOrder
from annotate_server.workflows.challenger_choice import Choice, choose
from annotate_server.workflows.gate import GateDecision, GateQuestion, decide
from annotate_server.workflows.gate_evidence import GateEvidence
from annotate_server.workflows.round_before import Before, before_learning
from annotate_server.workflows.round_judging import Judging, judged
from annotate_server.workflows.round_keeping import keep_round
from annotate_server.workflows.round_networks import MAIN, RoundNetworks, prepared
from annotate_server.workflows.round_tools import RoundTools, part_of
from annotate_server.workflows.training_refusal import training_refusal


def run_round(order: TrainOrder, training_set: TrainingSet, tools: RoundTools, control: Control) -> Trained:
    """Train a challenger and let the gate decide on it; goes on where the same round was interrupted in its folder.

    Raises StateError where nothing can be learned from the set or the model cannot be trained, Cancelled, and what the
    backend raises. Deterministic as far as the backend is.
    """
    began = time.perf_counter()
    control = replace(control, device=tools.device)
    networks = prepared(order, training_set, tools, control)
    _check(networks)
    before = before_learning(networks, part_of(control, 0.0, 0.1))
    networks.train(MAIN, before.learned, networks.start, part_of(control, 0.1, 0.4))
    judging = judged(networks, before, part_of(control, 0.5, 0.45))
    choice = choose(judging.works, judging.patients) if judging.entries else Choice(1.0, {}, {})
    decision = decide(_question(networks, judging, choice), tools.rule)
    evidence = _evidence(networks, before, judging, choice, decision)
    seconds = time.perf_counter() - began
    evidence = replace(evidence, training=networks.facts(len(before.learned.entries), seconds))
    control.report(0.97, "Storing the new version and the gate's figures")
    trained = keep_round(networks, choice.share, judging, evidence)
    control.report(1.0, trained.reason)
    return trained


def _check(networks: RoundNetworks) -> None:
    """Refuse a set that nothing can be learned from."""
    champion = networks.champion
    known = frozenset(segment.name for segment in champion.app.card.segments) if champion is not None else None
    refusal = training_refusal(networks.training_set, is_new_model=champion is None, known_segments=known)
    if refusal is not None:
        raise StateError(refusal)


def _question(networks: RoundNetworks, judging: Judging, choice: Choice) -> GateQuestion:
    """Return what the gate is asked: the targets are the segments that the new labels speak about."""
    segments = tuple(segment.name for segment in networks.training_set.segments)
    named = {segment.name for entry in networks.training_set.new for segment in entry.segments}
    return GateQuestion(
        cases=judging.cases(choice),
        segments=segments,
        targets=frozenset(named & set(segments)) or frozenset(segments),
        evaluations=networks.tools.evaluations,
        is_first=networks.champion is None,
        is_cross_fitted=judging.is_cross_fitted,
    )


def _evidence(
    networks: RoundNetworks, before: Before, judging: Judging, choice: Choice, decision: GateDecision
) -> GateEvidence:
    """Return everything behind a decision; the challenger's identity is known when it is kept."""
    order = networks.order
    return GateEvidence(
        model=order.model,
        champion=order.champion,
        challenger="",
        training_set=order.training_set,
        decision=decision,
        rule=networks.tools.rule,
        cases=judging.cases(choice),
        share=choice.share,
        shares={0.0: judging.champion_dice, **choice.dice},
        training=networks.facts(len(before.learned.entries), 0.0),
        doubted=before.doubts,
        new_drafts=before.drafts,
    )
