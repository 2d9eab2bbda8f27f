"""Evaluate: labelled cases and a model's answers to figures: overlap, surfaces, what is left to draw."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import AnnotateError, Cancelled, InvalidLabelmap, UnsupportedInput
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.overlap import MEASURED_NOTHING, StructurePair, agreement, boxes_by_index, structure_pairs
from annotate_server.workflows.effort import EffortConstants, effort_against_scratch
from annotate_server.workflows.evaluation import CaseFailure, CaseFigures, Evaluation, StructureFigures, summarised
from annotate_server.workflows.robots import Trace
from annotate_server.workflows.segment_matching import match_segments

log = logging.getLogger(__name__)

Drafter = Callable[[Volume], Labelmap]
"""Drafts a volume: returns a labelmap on the volume's own grid."""

Driver = Callable[[Volume, NDArray[np.bool_], Segment], Trace]
"""Sends a robot to one structure: volume, truth (k, j, i) on its grid, and the segment that the prompts speak about."""


@dataclass(frozen=True)
class LabelledCase:
    """A volume with its truth; `patient` keeps the cases of one patient together, None is a patient of its own."""

    name: str
    volume: Volume
    truth: Labelmap
    patient: str | None = None


@dataclass(frozen=True)
class Examinee:
    """What is evaluated: a model's segments (none: it takes any structure), and how it drafts or is prompted.

    At least one of `draft` and `drive` is there. With `draft`, every figure of a segment is that of the draft; without
    it, its figures are those at the end of the robot's plan.
    """

    segments: tuple[Segment, ...]
    draft: Drafter | None = None
    drive: Driver | None = None

    def __post_init__(self) -> None:
        """Refuse what can answer nothing."""
        if self.draft is None and self.drive is None:
            raise ValueError("a model is evaluated by its drafts, by a robot, or by both")


@dataclass(frozen=True)
class EvaluationOptions:
    """What else to find out.

    `effort` asks for the effort against by hand. The robot is sent to structures of at least `min_voxels` voxels, and
    with `skip_border` only to those that do not touch the border of the volume, where they may be cut off.
    """

    effort: EffortConstants | None = None
    min_voxels: int = 500
    skip_border: bool = True


def evaluate(
    cases: Iterable[LabelledCase | CaseFailure], examinee: Examinee, options: EvaluationOptions, control: Control
) -> Evaluation:
    """Measure a model on labelled cases, which are taken one at a time.

    A case that cannot be evaluated, or that comes as a failure already, is reported as one and left out of every mean.
    Raises UnsupportedInput where no case is left.
    """
    done: list[CaseFigures] = []
    failures: list[CaseFailure] = []
    for case in cases:
        control.check()
        if isinstance(case, CaseFailure):
            failures.append(case)
            continue
        try:
            done.append(_case_figures(case, examinee, options))
        except Cancelled:
            raise
        except AnnotateError as error:
            log.warning("%s could not be evaluated: %s", case.name, error, extra={"action": "evaluation_failed"})
            failures.append(CaseFailure(case.name, error.problem()))
    if not done and failures:
        raise UnsupportedInput(
            f"none of {len(failures)} cases could be evaluated; of the first one: {failures[0].problem.detail}"
        )
    if not done:
        raise UnsupportedInput("there is no case to evaluate a model on")
    if examinee.drive is not None and not any(case.traces for case in done):
        raise UnsupportedInput(
            f"no case has a structure of at least {options.min_voxels} voxels"
            + (" that keeps off the border of its volume" if options.skip_border else "")
            + " for the robot to work on"
        )
    return summarised(done, failures, options.effort)


def _case_figures(case: LabelledCase, examinee: Examinee, options: EvaluationOptions) -> CaseFigures:
    if not case.truth.geometry.matches(case.volume.geometry):
        raise InvalidLabelmap("the label does not lie on the grid of its volume", source=case.name)
    figures = CaseFigures(case.name, case.patient or case.name, {})
    if examinee.draft is not None:
        figures = _with_draft(figures, case, examinee.draft, examinee.segments, options.effort)
    if examinee.drive is not None:
        figures = _with_robot(figures, case, examinee.drive, examinee.segments, options)
    return figures


def _with_draft(
    figures: CaseFigures,
    case: LabelledCase,
    drafter: Drafter,
    segments: tuple[Segment, ...],
    constants: EffortConstants | None,
) -> CaseFigures:
    """Return a case's figures with those of its draft."""
    began = time.perf_counter()
    draft = drafter(case.volume)
    draft_s = time.perf_counter() - began
    matching = match_segments(case.truth, segments or draft.segments)
    indices = [(true_index, segment.index) for segment, true_index in matching.pairs]
    structures = {
        segment.name: _structure(pair, constants)
        for (segment, _), pair in zip(matching.pairs, structure_pairs(case.truth, draft, indices), strict=True)
    }
    return replace(figures, structures=structures, ignored=matching.ignored, draft_s=draft_s)


def _structure(pair: StructurePair, constants: EffortConstants | None) -> StructureFigures:
    return StructureFigures(
        agreement(pair),
        bool(pair.truth.any()),
        bool(pair.predicted.any()),
        effort_against_scratch(pair, constants) if constants is not None else None,
    )


def _with_robot(
    figures: CaseFigures, case: LabelledCase, drive: Driver, segments: tuple[Segment, ...], options: EvaluationOptions
) -> CaseFigures:
    """Return a case's figures with what a robot reached on each of its structures."""
    matching = match_segments(case.truth, segments or case.truth.segments)
    boxes = boxes_by_index(case.truth)
    traces: dict[str, Trace] = {}
    reached: dict[str, StructureFigures] = {}
    left_out: list[str] = []
    for segment, index in matching.pairs:
        box = boxes.get(index)
        if box is None or index is None:
            continue
        truth = case.truth.voxels == index
        if np.count_nonzero(truth) < options.min_voxels or (options.skip_border and _is_cut(box, truth)):
            left_out.append(segment.name)
        else:
            trace = drive(case.volume, truth, segment)
            reached[segment.name] = _reached(case, trace, (index, segment.index))
            traces[segment.name] = replace(trace, final=None)
    return replace(
        figures,
        structures=figures.structures or reached,
        ignored=figures.ignored or matching.ignored,
        traces=traces,
        small_or_cut=tuple(left_out),
    )


def _is_cut(box: Box, voxels: NDArray[np.bool_]) -> bool:
    return 0 in box.start or any(stop == side for stop, side in zip(box.stop, voxels.shape, strict=True))


def _reached(case: LabelledCase, trace: Trace, indices: tuple[int, int]) -> StructureFigures:
    """Return how well the draft at the end of a robot's work agrees; only its Dice where the draft was not kept."""
    if trace.final is None:
        return StructureFigures(replace(MEASURED_NOTHING, dice=trace.dice[-1]), in_truth=True, in_draft=True)
    (pair,) = structure_pairs(case.truth, trace.final, [indices])
    return StructureFigures(agreement(pair), in_truth=True, in_draft=bool(pair.predicted.any()))
