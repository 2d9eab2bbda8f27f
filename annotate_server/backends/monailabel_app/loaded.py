"""A task of an app that is ready to answer."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from annotate_server.backends.environments.guest import Environment, Guest
from annotate_server.backends.monailabel_app.answers import prediction_of
from annotate_server.backends.monailabel_app.app_folder import laid_out
from annotate_server.backends.monailabel_app.places import PrivatePlace
from annotate_server.backends.monailabel_app.request import request_of
from annotate_server.backends.monailabel_app.tasks import MonaiLabelAppParameters
from annotate_server.domain.errors import WeightsMissing
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume

log = logging.getLogger(__name__)
ENVIRONMENT = "monailabel"
HOST = "annotate_server.backends.monailabel_app.hosting"


@dataclass(frozen=True)
class HostedApp:
    """A running app: the private folder that it lies in, beside its empty datastore, and the guest that runs it."""

    place: PrivatePlace
    guest: Guest

    @classmethod
    def start(cls, version: ModelVersion, parameters: MonaiLabelAppParameters) -> Self:
        """Lay the app of a version out and load it; raises WeightsMissing, InvalidApp, BackendUnavailable."""
        environment = Environment.named(ENVIRONMENT)
        wanted = (parameters.archive, *parameters.weights)
        if missing := [name for name in wanted if name not in version.files]:
            raise WeightsMissing(f"{', '.join(missing)} is not there", source=version.model)
        place = PrivatePlace.made()
        app, studies = place.folder / "app", place.folder / "studies"
        try:
            app.mkdir()
            studies.mkdir()
            weights = {where: version.files[name] for name, where in parameters.weights.items()}
            laid_out(version.files[parameters.archive], weights, app)
            guest = Guest.start(environment, HOST, opening(app, studies, parameters.conf))
        except BaseException:
            place.remove()
            raise
        return cls(place, guest)

    def close(self) -> None:
        """End the guest and remove the folder."""
        self.guest.close()
        self.place.remove()


def opening(app: Path, studies: Path, conf: Mapping[str, str]) -> Mapping[str, str | Mapping[str, str]]:
    """Return the words that open the desk of an app."""
    return {"app": str(app), "studies": str(studies), "conf": conf}


@dataclass(frozen=True)
class HostedTask:
    """Fulfils `ports.LoadedModel`: a question is one request to the app, whose files are removed with the answer.

    Nothing is remembered of a volume between two questions.
    """

    version: ModelVersion
    parameters: MonaiLabelAppParameters
    app: HostedApp
    device: str

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Ask the task about the first volume.

        Raises NotMadeFor and InvalidPrompt for what the task is not made for, PredictionFailed with what the app's
        code raised, Cancelled.
        """
        volume = next(iter(volumes.values()))
        control.check()
        with TemporaryDirectory(prefix="volume-", dir=self.app.place.folder, ignore_cleanup_errors=True) as folder:
            request = request_of(self.parameters, volume, situation, Path(folder), self.device)
            answer = self.app.guest.call("predict", {"request": request, "folder": folder}, {}, control)
        segments = self.version.app.card.segments
        prediction = prediction_of(answer, self.parameters, segments, situation, volume.geometry)
        control.report(1.0, "Done")
        return prediction

    def close(self) -> None:
        """End the app."""
        self.app.close()
