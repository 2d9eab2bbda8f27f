"""Demonstrate: the sample volumes are drafted, and where asked for, the drafts are held against their truth."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import PredictionFailed, error_of
from annotate_server.domain.ports import CaseReader, Control
from annotate_server.imaging.overlap import dice
from annotate_server.testing.phantoms import SAMPLE_CASES, SampleCase, is_intact, make_sample_data
from annotate_server.workflows.batch import Batch, BatchOrder
from annotate_server.workflows.contact_sheet import NAME as CONTACT_SHEET
from annotate_server.workflows.drafter import Keep, LocalDrafter
from annotate_server.workflows.manifest import ManifestLine
from annotate_server.workflows.predict import Predictor

ENOUGH_DICE = 0.9
"""What a draft of a phantom must reach in every segment of its truth: less, and the installation is broken."""

Scan = Callable[[Path], Iterable[StoredVolume]]


@dataclass(frozen=True)
class SampleDraft:
    """What became of one sample volume; `sheet` is the contact sheet that shows it."""

    case: SampleCase
    stored: StoredVolume
    line: ManifestLine
    sheet: Path


@dataclass(frozen=True)
class LocalModels:
    """Models in this process, and what is told of every draft (`drafter.Keep`)."""

    predictor: Predictor
    keep: Keep | None = None


@dataclass(frozen=True)
class Demonstration:
    """The sample volumes below a folder and their drafts beside them."""

    folder: Path

    @property
    def samples(self) -> Path:
        """Return the folder of the sample volumes."""
        return self.folder / "sample_data"

    @property
    def workspace(self) -> Path:
        """Return the workspace of the demonstration's server: apart, so that samples never stand among patients."""
        return self.folder / "workspace"

    def drafts(self, scan: Scan, models: LocalModels, reader: CaseReader, control: Control) -> Iterator[SampleDraft]:
        """Make the samples where they are not whole, draft each with the model that is made for it, and yield it."""
        if not is_intact(self.samples):
            make_sample_data(self.samples)
        volumes = {stored.key: stored for stored in scan(self.samples / "images")}
        for model in sorted({case.model for case in SAMPLE_CASES}):
            cases = {Path(case.image).name: case for case in SAMPLE_CASES if case.model == model}
            order = BatchOrder(model, self.folder / "drafts" / model)
            batch = Batch(order, LocalDrafter(model, models.predictor, models.keep), reader)
            for line in batch.drafts([volumes[key] for key in cases], control):
                if line is not None:
                    yield SampleDraft(cases[line.key], volumes[line.key], line, order.out / CONTACT_SHEET)

    def check(self, draft: SampleDraft, reader: CaseReader) -> float:
        """Return the lowest Dice of a draft's segments against the truth; PredictionFailed where it is not enough."""
        if draft.line.problem is not None:
            raise error_of(draft.line.problem)
        volume = reader.read(draft.stored)
        (truth,) = reader.read_labelmap(self.samples / draft.case.label, volume)
        (drafted,) = reader.read_labelmap(draft.sheet.parent / draft.line.outputs[0].path, volume)
        present = [segment for segment in truth.segments if truth.where(segment).any()]
        scores = {s.name: dice(truth.where(s), drafted.voxels == s.index) for s in present}
        worst = min(scores, key=lambda name: scores[name])
        if scores[worst] < ENOUGH_DICE:
            raise PredictionFailed(
                f"{worst} was drafted with a Dice of {scores[worst]:.3f}; {ENOUGH_DICE} is expected",
                source=draft.case.name,
                remedy="The installation is not sound; see `annotate doctor`.",
            )
        return scores[worst]
