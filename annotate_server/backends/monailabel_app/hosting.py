"""The desk of a MONAI Label app: loads it, says what it can do, runs its tasks; runs over there."""

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK

from annotate_server.backends.environments.messages import Arrays, Json, Report, Words
from annotate_server.backends.monailabel_app.surroundings import Watch, configure, files_in, foreign, said, settle
from annotate_server.domain.errors import AnnotateError, InvalidApp, PredictionFailed

_SEED = 0
_MOST_LETTERS = 600


def open(words: Words) -> "AppDesk":
    """Load the app; raises InvalidApp with what its code raised."""
    folder = Path(str(words["app"]))
    configure(folder)
    return AppDesk(folder, Path(str(words["studies"])), cast("Mapping[str, str]", words["conf"]))


class AppDesk:
    """Answers about one app."""

    def __init__(self, folder: Path, studies: Path, conf: Mapping[str, str]) -> None:
        """Make the app of `folder`, over the datastore `studies`."""
        from monailabel.tasks.infer.basic_infer import BasicInferTask  # noqa: PLC0415  after `configure`

        from annotate_server.backends.monailabel_app.faults import mend  # noqa: PLC0415

        mend(BasicInferTask)
        sys.path.append(str(folder))  # apps import what lies beside main.py, at any time
        self._folder, self._studies = folder, studies
        self._app = self._made(conf)

    def answer(self, verb: str, words: Words, arrays: Arrays, report: Report) -> tuple[Words, Arrays]:
        """Answer `tasks`, `predict` or `train`."""
        match verb:
            case "tasks":
                return self._tasks(report), {}
            case "predict":
                return self._predict(words, report)
            case "train":
                from annotate_server.backends.monailabel_app.lessons import train  # noqa: PLC0415  imports torch first

                return train(self._app, words, report), {}
        raise PredictionFailed(f"the host of apps knows no {verb!r}")

    def _made(self, conf: Mapping[str, str]) -> Any:
        """Return an instance of the app; raises InvalidApp."""
        from monailabel.utils.others.class_utils import get_class_of_subclass_from_file  # noqa: PLC0415

        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                kind = get_class_of_subclass_from_file("main", str(self._folder / "main.py"), "MONAILabelApp")
                if kind is None:
                    raise InvalidApp("its main.py defines no subclass of MONAILabelApp")
                settle(_SEED)
                return kind(app_dir=str(self._folder), studies=str(self._studies), conf=dict(conf))
        except AnnotateError:
            raise
        except (Exception, SystemExit) as error:  # code of somebody else: it may raise anything, and end itself
            lines = [line.strip(" -") for line in printed.getvalue().splitlines() if line.strip(" -")]
            words = f"; it printed: {' / '.join(lines[-3:])}" if lines else ""
            raise InvalidApp(
                f"its code failed at its start: {said(error)}{words}"[:_MOST_LETTERS],
                remedy="If it lacks a package: annotate models env monailabel --with PACKAGE. "
                "If it wants other words in `conf`, write them into [parameters.conf] of its app.toml.",
            ) from error

    def _tasks(self, report: Report) -> Words:
        """Return what the app offers: a list of tasks, as `tasks.OfferedTask` reads them."""
        offered: list[Json] = []
        for name, task in self._app._infers.items():
            report(0.5, f"Looking at {name}")
            with foreign(f"asking the app about {name!r}"):
                offered.append(self._offered(name, task))
        return {"name": str(self._app.name), "version": str(self._app.version), "tasks": offered}

    def _offered(self, name: str, task: Any) -> Words:
        said_of = task.info()
        paths = _paths(task, [])
        lacks_weights = bool(paths) and not any(Path(path).is_file() for path in paths)
        return {
            "name": name,
            "kind": str(getattr(said_of.get("type"), "value", said_of.get("type"))),
            "dimension": int(said_of.get("dimension") or 3),
            "description": str(said_of.get("description") or ""),
            "labels": _numbered(said_of.get("labels")),
            "weights": [place for place in map(self._place, paths) if place],
            "lacks_weights": lacks_weights,
            "trainer": self._trainer(name),
            "conf": {} if lacks_weights else self._narrowed(name),
        }

    def _place(self, path: str) -> str | None:
        """Return where a file of weights lies in the app's folder, None where it is not there."""
        file = Path(path)
        return str(file.relative_to(self._folder)) if file.is_file() and file.is_relative_to(self._folder) else None

    def _trainer(self, name: str) -> Json:
        """Return where the training of a task publishes its weights, None where it cannot be trained here."""
        from monailabel.tasks.train.basic_train import BasicTrainTask  # noqa: PLC0415

        trainer = self._app._trainers.get(name)
        published = Path(getattr(trainer, "_publish_path", None) or "/")
        if not isinstance(trainer, BasicTrainTask) or not published.is_relative_to(self._folder):
            return None
        return str(published.relative_to(self._folder))

    def _narrowed(self, name: str) -> Words:
        """Return the configuration under which the app loads little more than this task; empty where none is known.

        MONAI Label's own apps take `models`: names of their configurations, which a task's name begins with.
        """
        pieces = name.split("_")
        for count in range(len(pieces), 0, -1):
            conf = {**self._app.conf, "models": "_".join(pieces[:count]), "scribbles": "false"}
            try:
                if name in self._made(conf)._infers:
                    return conf
            except InvalidApp:
                continue
        return {}

    def _predict(self, words: Words, report: Report) -> tuple[Words, Arrays]:
        """Run a task on the files that the request names; return its labels (k, j, i) and their affine, in LPS."""
        request, folder = dict(cast("Mapping[str, Any]", words["request"])), Path(str(words["folder"]))
        name = str(request["model"])
        watch = Watch(report)
        settle(_SEED)
        with files_in(folder), watch.over(self._app._infers.get(name)), foreign(f"the app's task {name!r}"):
            answer = self._app.infer(request)
            file = answer.get("file") if isinstance(answer, Mapping) else None
            if not isinstance(file, str) or not Path(file).is_file():
                raise PredictionFailed(f"the app's task {name!r} answered without a labelmap")
            grid = SimpleITK.ReadImage(file)
        if grid.GetDimension() != 3 or grid.GetNumberOfComponentsPerPixel() != 1:
            raise PredictionFailed(f"the app's task {name!r} answers with layers or slices, not with one labelmap")
        watch.reach(0.99, "Reading the labels")
        return {"affine": _affine(grid).tolist()}, {"labels": SimpleITK.GetArrayFromImage(grid)}


def _affine(grid: SimpleITK.Image) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the matrix that maps (k, j, i, 1) to LPS mm, which is ITK's world too."""
    affine = np.eye(4)
    direction = np.array(grid.GetDirection()).reshape(3, 3)
    affine[:3, :3] = (direction * np.array(grid.GetSpacing()))[:, ::-1]
    affine[:3, 3] = grid.GetOrigin()
    return affine


def _numbered(labels: object) -> list[Json]:
    """Return labels as [name, number]; a list counts from 1, with its background as 0."""
    if isinstance(labels, Mapping):
        pairs = [(str(name), number) for name, number in labels.items()]
    else:
        names = [labels] if isinstance(labels, str) else list(cast("list[object]", labels or []))
        drawn = [str(name) for name in names if str(name).lower() != "background"]
        pairs = [(name, number) for number, name in enumerate(drawn, 1)]
        pairs += [(str(name), 0) for name in names if str(name).lower() == "background"]
    return [[name, int(number)] for name, number in pairs if isinstance(number, int)]


def _paths(task: Any, seen: list[object]) -> list[str]:
    """Return the files of weights that a task names, those of the tasks that it is made of included."""
    from monailabel.interfaces.tasks.infer_v2 import InferTask  # noqa: PLC0415

    seen.append(task)
    named = getattr(task, "path", None) or []
    paths = [named] if isinstance(named, str) else [str(path) for path in named if path]
    for part in vars(task).values():
        if isinstance(part, InferTask) and not any(part is other for other in seen):
            paths += _paths(part, seen)
    return paths
