"""Keeping what a round gave: weights, description and evidence become blobs; nothing that was there changes."""

import hashlib
from dataclasses import replace

from annotate_server.domain.model import App, ModelVersion, WeightFile
from annotate_server.domain.training import Checkpoint, Trained
from annotate_server.workflows.app_description import description_bytes
from annotate_server.workflows.gate_evidence import GateEvidence, evidence_bytes
from annotate_server.workflows.round_judging import Judging, fold_name, fold_start
from annotate_server.workflows.round_networks import MAIN, RoundNetworks


def keep_round(networks: RoundNetworks, share: float, judging: Judging, evidence: GateEvidence) -> Trained:
    """Keep the chosen candidate with its evidence, and return what the job answers."""
    checkpoint = networks.candidate(MAIN, networks.champion or networks.start, share)
    app = _described(networks, checkpoint, evidence)
    description = description_bytes(app)
    app = replace(app, digest=hashlib.sha256(description).hexdigest())
    version = ModelVersion(app, checkpoint.files).id
    evidence = _with_folds(replace(evidence, challenger=version), networks, share, judging)
    facts = evidence.training
    return Trained(
        version=version,
        description=networks.tools.keep.keep_bytes(description),
        weights=app.weights,
        verdict=evidence.decision.verdict,
        reason=evidence.decision.reason,
        evidence=networks.tools.keep.keep_bytes(evidence_bytes(evidence)),
        steps=facts.steps,
        voxels=facts.training_voxels + facts.drafted_voxels,
        seconds=facts.seconds,
    )


def _described(networks: RoundNetworks, checkpoint: Checkpoint, evidence: GateEvidence) -> App:
    """Return the app of a version, with its weights kept and named, and the gate's figures on its card."""
    app = networks.version(checkpoint).app
    weights = tuple(
        WeightFile(name, networks.tools.keep.keep_file(path), path.stat().st_size)
        for name, path in sorted(checkpoint.files.items())
    )
    figures = tuple(
        f"{segment.name}: Dice {segment.challenger_dice:.3f} on {segment.patients} patients that it has not learned "
        "from, against their approved labels."
        for segment in evidence.decision.segments
        if segment.patients
    )
    return replace(app, weights=weights, card=replace(app.card, figures=figures))


def _with_folds(evidence: GateEvidence, networks: RoundNetworks, share: float, judging: Judging) -> GateEvidence:
    """Return the evidence with what the next round's folds go on from, where there were folds."""
    if not judging.is_cross_fitted:
        return evidence
    weights = {
        number: {
            name: networks.tools.keep.keep_file(path)
            for name, path in networks.candidate(fold_name(number), fold_start(networks, number), share).files.items()
        }
        for number in judging.fold_numbers
    }
    return replace(evidence, fold_works=judging.fold_works[share], fold_weights=weights, fold_of=judging.fold_of)
