"""A batch whose drafts a server makes: volumes that it lacks are uploaded, and what it drafted stays with it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from annotate_server.client import AnnotateClient
from annotate_server.domain.case import StoredVolume, case_id
from annotate_server.domain.errors import Cancelled, InvalidLabelmap, NotFound, WeightsMissing
from annotate_server.domain.model import App, ModelCard, ModelVersion
from annotate_server.domain.ports import Control, LabelmapReader
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.labelmap_orders import LabelmapFormat
from annotate_server.workflows.predict import DraftResult


@dataclass
class RemoteDrafter:
    """Fulfils `drafter.Drafter` by the model of this name on a server."""

    client: AnnotateClient
    model: str
    reader: LabelmapReader

    def version(self) -> ModelVersion:
        """Return the version that serves there; raises UnknownModel, or WeightsMissing where it is not ready."""
        return self._version

    @cached_property
    def _version(self) -> ModelVersion:
        found = self.client.model(self.model)
        if found.version is None:
            raise WeightsMissing(f"the server cannot run it: {found.reason}", source=self.model)
        card = ModelCard(
            title=found.name,
            purpose="",
            not_for="",
            modalities=tuple(Modality(each) for each in found.modalities),
            segments=found.segments,
            licence="",
            attribution="",
            drafts=found.drafts,
        )
        app = App(found.name, Path(found.name), "server", card, (), {}, digest="")
        return ModelVersion(app, known_id=found.version)

    def draft(self, stored: StoredVolume, volume: Volume, control: Control) -> DraftResult:
        """Upload the volume if the server does not have it, let it be drafted, and fetch the labelmap.

        Raises what the server answers; a job that is no longer wanted is cancelled there.
        """
        identity = self._known(stored, volume, control)
        job = self.client.draft_case(identity, self.model, priority="batch")
        try:
            done = self.client.wait(job.id, report=_checked(control))
        except (Cancelled, KeyboardInterrupt):
            self.client.cancel(job.id)
            raise
        prediction = self.client.prediction(identity, self.model)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "draft.seg.nrrd"
            self.client.download_prediction(done.result["prediction"], LabelmapFormat.NRRD, path)
            layers = self.reader.read_labelmap(path, volume)
        if len(layers) != 1:
            raise InvalidLabelmap("the server's draft has several layers", source=stored.key)
        return DraftResult(layers[0], self._version, prediction.notes)

    def _known(self, stored: StoredVolume, volume: Volume, control: Control) -> str:
        """Return the case's id on the server, where it is known after this."""
        identity = case_id(stored, volume.digest)
        try:
            known = self.client.case(identity)
        except NotFound:
            control.report(0.0, "Uploading")
            uploaded = {case.id: case for case in self.client.upload_files(stored.files)}
            if identity not in uploaded:
                raise InvalidLabelmap("the server read another volume from it", source=stored.key) from None
            known = uploaded[identity]
        if known.modality is None and volume.modality in (Modality.CT, Modality.MR):
            self.client.declare_modality(identity, "CT" if volume.modality is Modality.CT else "MR")
        return identity


def _checked(control: Control) -> Callable[[float, str], None]:
    """Return a report of progress that stops where nobody wants the work any more."""

    def report(fraction: float, message: str) -> None:
        control.check()
        control.report(fraction, message)

    return report
