"""Taking an app of MONAI Label over: each of its tasks becomes a model."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from annotate_server.backends.anatomy import segments_named
from annotate_server.backends.environments.guest import Environment, Guest
from annotate_server.backends.monailabel_app.app_folder import MAIN, can_be_hosted, files_of, is_app, packed, taken_in
from annotate_server.backends.monailabel_app.loaded import ENVIRONMENT, HOST, opening
from annotate_server.backends.monailabel_app.tasks import (
    MonaiLabelAppParameters,
    OfferedTask,
    TaskKind,
    TaskLabel,
    Values,
)
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.app_table import segment_table
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality

log = logging.getLogger(__name__)
ARCHIVE = "app.zip"
CONF: Mapping[str, str] = {"models": "all", "use_pretrained_model": "false", "sam2": "false"}
"""How an app is asked for everything it has: MONAI Label's own apps know these words. Nothing is downloaded."""
_NOT_FOR = (
    "What this app must not be used for was not said where it was taken over from: write it here. Look at every draft "
    "slice by slice."
)
_LICENCE = "not stated: see the files of the app"


@dataclass(frozen=True)
class _Taken:
    """An app as it lies in a private folder, and what it says of itself; `values` is what its tasks answer with."""

    folder: Path
    name: str
    version: str
    tasks: tuple[OfferedTask, ...]
    values: Values


def adopted(order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
    """Return an app for each task that answers with labelmaps and has its weights.

    Raises InvalidApp where the app is not trusted yet, says no modality, or has no such task.
    """
    if not can_be_hosted(order.source):
        raise InvalidApp(
            f"it is no app of MONAI Label (no {MAIN} with a subclass of MONAILabelApp), nor a MONAI bundle with its "
            "own code",
            source=order.source.name,
        )
    folder = scratch / "app"
    control.report(0.0, "Reading the app's files")
    _check_trust(order, taken_in(order.source, folder, control))
    if not order.modalities:
        raise InvalidApp(
            "it does not say which modality it is made for",
            source=order.source.name,
            remedy="Say it, for example with --modality CT.",
        )
    own = set(files_of(folder))
    values = Values.RANK if is_app(order.source) else Values.NUMBER
    taken = _asked(folder, values, scratch, control)
    tasks = _usable(taken, order.source.name)
    weights = {place for task in taken.tasks for place in task.weights}
    archive = packed(folder, own - weights, scratch / ARCHIVE)
    names = _names(order.name, [task.name for task in tasks])
    return tuple(_app(task, taken, archive, names[task.name], order.modalities) for task in tasks)


def _usable(taken: _Taken, source: str) -> tuple[OfferedTask, ...]:
    """Return the tasks that can become models; raises InvalidApp, with every reason, where there is none."""
    refusals = {task.name: why for task in taken.tasks if (why := task.refusal())}
    for name, why in refusals.items():
        log.info("the task %s of %s is left out: %s", name, source, why)
    if len(refusals) == len(taken.tasks):
        listing = "; ".join(f"{name}: {why}" for name, why in refusals.items()) or "it has no tasks"
        raise InvalidApp(
            f"no task of the app can become a model ({listing})",
            source=source,
            remedy="Put weights where MONAI Label keeps them (model/NAME.pt in the app's folder).",
        )
    return tuple(task for task in taken.tasks if task.name not in refusals)


def _check_trust(order: AdoptionOrder, digest: str) -> None:
    """Refuse an app that nobody has vouched for: it is code, and runs with the rights of this program."""
    if (order.trusted or "").lower() != digest:
        changed = "it is not the app that you trusted" if order.trusted else "it is code that will run on this machine"
        raise InvalidApp(
            f"{changed}; the SHA-256 of its files is {digest}",
            source=order.source.name,
            remedy=f"Read it, then repeat with --trust {digest}",
        )


def _asked(folder: Path, values: Values, scratch: Path, control: Control) -> _Taken:
    """Load an app in its environment and return what it offers."""
    studies = scratch / "studies"
    studies.mkdir()
    control.report(0.1, "Loading the app")
    guest = Guest.start(Environment.named(ENVIRONMENT), HOST, opening(folder, studies, CONF))
    try:
        words = cast("Mapping[str, Any]", guest.call("tasks", {}, {}, control).words)
    finally:
        guest.close()
    tasks = tuple(OfferedTask.of(task) for task in words["tasks"])
    return _Taken(folder, str(words["name"]), str(words["version"]), tasks, values)


def _app(task: OfferedTask, taken: _Taken, archive: Path, name: str, modalities: Sequence[Modality]) -> AdoptedApp:
    """Return a task as an app: its description, the archive of the app's code, and its own weights."""
    files = file_names(task.weights)
    kind = TaskKind(task.kind)
    labels = task.labels if kind.names_structures else ()
    parameters = MonaiLabelAppParameters(
        task=task.name,
        kind=kind,
        archive=ARCHIVE,
        dimension=task.dimension,
        values=taken.values,
        labels=labels,
        conf=task.conf or CONF,
        weights=files,
        trainer=task.trainer if kind.names_structures else None,
    )
    table: dict[str, object] = {
        "title": f"{_sentence(task.name)} ({taken.name or 'MONAI Label'})",
        "purpose": task.description or f"The task {task.name} of an app of MONAI Label.",
        "not_for": _NOT_FOR,
        "backend": "monailabel_app",
        "modalities": [str(modality) for modality in modalities],
        "licence": _LICENCE,
        "attribution": f"{taken.name} {taken.version}".strip() or "an app of MONAI Label",
        "drafts": kind.names_structures,
        "trainable": parameters.trainer is not None,
        "prompts": [str(prompt) for prompt in kind.prompts],
        "segments": _segments(labels),
        "parameters": parameters.table(),
    }
    return AdoptedApp(name, table, {ARCHIVE: archive, **{file: taken.folder / place for file, place in files.items()}})


def _segments(labels: Sequence[TaskLabel]) -> object:
    """Return the segments of a task's labels, in their order, as a table has them."""
    card = segments_named({index: label.name for index, label in enumerate(labels, 1)})
    return [segment_table(segment) for segment in card]


def file_names(places: Iterable[str]) -> Mapping[str, str]:
    """Return plain file names for places in the app's folder, no two alike."""
    names: dict[str, str] = {}
    for place in places:
        plain = Path(place).name
        names[plain if plain not in names else place.replace("/", "-")] = place
    return names


def _names(wanted: str | None, tasks: Sequence[str]) -> Mapping[str, str]:
    """Return the name of each task's model: the wanted one alone for a single task, else as its beginning."""
    plain = {task: re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_") for task in tasks}
    if wanted is not None:
        return {task: wanted if len(tasks) == 1 else f"{wanted}_{plain[task]}"[:64] for task in tasks}
    return {task: name if name[:1].isalpha() else f"task_{name}" for task, name in plain.items()}


def _sentence(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
