"""Examine: a model of the registry on a folder of labelled cases."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.ports import CaseReader, Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.workflows.effort import EffortConstants
from annotate_server.workflows.evaluate import Drafter, Driver, EvaluationOptions, Examinee, LabelledCase, evaluate
from annotate_server.workflows.evaluation import CaseFailure, Evaluation
from annotate_server.workflows.labelled_folder import LabelledFolder
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.robots import Plan, Trace, drive


@dataclass(frozen=True)
class ExaminationOrder:
    """What to find out of a model: by drafts, by a robot's plan where one is given, with the effort where asked for."""

    model: str
    plan: Plan | None = None
    effort: EffortConstants | None = None
    modality: Modality | None = None


def examine(
    order: ExaminationOrder, folder: LabelledFolder, predictor: Predictor, reader: CaseReader, control: Control
) -> Evaluation:
    """Evaluate a model on every case of a folder; progress is reported by case.

    Raises NotMadeFor where the model does not take prompts and a plan is given, or only takes prompts and none is.
    """
    version, _ = predictor.load(order.model)
    card = version.app.card
    if order.plan is not None and not card.prompts:
        raise NotMadeFor(f"{order.model} takes no prompts", remedy="Leave out --robot to evaluate its drafts.")
    if order.plan is None and not card.drafts:
        raise NotMadeFor(f"{order.model} drafts nothing without prompts", remedy="Add --robot lasso:3+clicks:5.")
    examinee = Examinee(
        card.segments,
        draft=_drafter(order, predictor) if card.drafts and order.plan is None else None,
        drive=_driver(order.plan, order, predictor) if order.plan is not None else None,
    )
    cases = _counted(folder.cases(reader, card, order.modality), len(folder), control)
    return evaluate(cases, examinee, EvaluationOptions(effort=order.effort), control)


def _counted(
    cases: Iterator[LabelledCase | CaseFailure], total: int, control: Control
) -> Iterator[LabelledCase | CaseFailure]:
    for done, case in enumerate(cases):
        control.report(done / total, case.name)
        yield case
    control.report(1.0, "done")


def _drafter(order: ExaminationOrder, predictor: Predictor) -> Drafter:
    def draft(volume: Volume) -> Labelmap:
        return predictor.draft(order.model, {str(volume.modality or "volume"): volume}, Control()).labelmap

    return draft


def _driver(plan: Plan, order: ExaminationOrder, predictor: Predictor) -> Driver:
    def send(volume: Volume, truth: NDArray[np.bool_], segment: Segment) -> Trace:
        return drive(predictor.load(order.model)[1], volume, truth, segment, plan)

    return send
