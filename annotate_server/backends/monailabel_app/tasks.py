"""Tasks of a MONAI Label app: what the app offers, and what `[parameters]` of ours keeps of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.model import App
from annotate_server.domain.prompt import PromptKind

BACKGROUND = "background"


class TaskKind(StrEnum):
    """MONAI Label's types of tasks that answer with a labelmap of a volume."""

    SEGMENTATION = "segmentation"
    DEEPEDIT = "deepedit"
    DEEPGROW = "deepgrow"
    SCRIBBLES = "scribbles"

    @property
    def prompts(self) -> tuple[PromptKind, ...]:
        """Return what a person can give to such a task."""
        return {
            TaskKind.SEGMENTATION: (),
            TaskKind.DEEPEDIT: (PromptKind.POINT,),
            TaskKind.DEEPGROW: (PromptKind.POINT,),
            TaskKind.SCRIBBLES: (PromptKind.SCRIBBLE,),
        }[self]

    @property
    def names_structures(self) -> bool:
        """Say whether the values of an answer mean structures of the task's list, rather than what is pointed at."""
        return self in (TaskKind.SEGMENTATION, TaskKind.DEEPEDIT)


class Values(StrEnum):
    """What the values in a task's answer are.

    `RANK`: 1 to N in the order of the numbers, which is how a network's channels come out and how 3D Slicer reads
    every answer. `NUMBER`: the numbers of the list themselves; both are the same where the list counts from 1 to N.
    """

    RANK = "rank"
    NUMBER = "number"


@dataclass(frozen=True)
class TaskLabel:
    """A structure of a task's list: its name, and the number that the app gives it."""

    name: str
    number: int


@dataclass(frozen=True)
class OfferedTask:
    """What an app says of one of its tasks.

    `labels` are without background, by rising number. `weights` are files by their place in the app's folder;
    `lacks_weights` says that it names some and has none. `trainer` is where its training publishes weights, None
    where it cannot be trained here. `conf` is the least configuration that gives the task, empty where the app's own
    has to do.
    """

    name: str
    kind: str
    dimension: int
    description: str
    labels: tuple[TaskLabel, ...]
    weights: tuple[str, ...]
    lacks_weights: bool
    trainer: str | None
    conf: Mapping[str, str]

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> "OfferedTask":
        """Return a task from the words of the host of apps."""
        labels = [TaskLabel(str(name), int(number)) for name, number in words["labels"]]
        return cls(
            name=str(words["name"]),
            kind=str(words["kind"]),
            dimension=int(words["dimension"]),
            description=" ".join(str(words["description"]).split()),
            labels=drawn(labels),
            weights=tuple(dict.fromkeys(str(place) for place in words["weights"])),
            lacks_weights=bool(words["lacks_weights"]),
            trainer=None if words["trainer"] is None else str(words["trainer"]),
            conf={str(key): str(value) for key, value in words["conf"].items()},
        )

    def refusal(self) -> str | None:
        """Return why the task cannot become a model; None where it can."""
        if self.kind not in set(TaskKind):
            return f"its type is {self.kind!r}, whose answers are no labelmaps"
        if self.lacks_weights:
            return "its weights are not in the app's folder"
        if TaskKind(self.kind).names_structures and not self.labels:
            return "it names no labels"
        if self.dimension != 3 and self.kind != TaskKind.DEEPGROW:
            return "it answers about pictures, not about volumes"
        return None


def drawn(labels: Sequence[TaskLabel]) -> tuple[TaskLabel, ...]:
    """Return the labels that are drawn, by rising number: what is called background, or has the number 0, is not."""
    kept = [label for label in labels if label.number > 0 and label.name.lower() != BACKGROUND]
    return tuple(sorted(kept, key=lambda label: label.number))


@dataclass(frozen=True)
class MonaiLabelAppParameters:
    """What `[parameters]` of an app of this backend says.

    `task` is a task of the app in `archive`, started with `conf`. `labels` are those of the card's segments, in their
    order. `weights` says where in the app's folder each file of weights belongs, `trainer` where a training publishes.
    """

    task: str
    kind: TaskKind
    archive: str
    dimension: int = 3
    values: Values = Values.RANK
    labels: tuple[TaskLabel, ...] = ()
    conf: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    trainer: str | None = None

    @classmethod
    def of(cls, app: App) -> "MonaiLabelAppParameters":
        """Return the parameters of an app; InvalidApp names what is wrong."""
        table = dict(app.parameters)
        try:
            labels = cast("Sequence[Mapping[str, Any]]", table.pop("labels", ()))
            parameters = cls(
                task=str(table.pop("task")),
                kind=TaskKind(str(table.pop("kind"))),
                archive=str(table.pop("archive")),
                dimension=int(cast("int", table.pop("dimension", 3))),
                values=Values(str(table.pop("values", Values.RANK))),
                labels=tuple(TaskLabel(str(label["name"]), int(label["number"])) for label in labels),
                conf=_texts(table.pop("conf", {})),
                weights=_texts(table.pop("weights", {})),
                trainer=None if (trainer := table.pop("trainer", None)) is None else str(trainer),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidApp(f"[parameters] cannot be read: {error!r}", source=app.name) from error
        if table:
            raise InvalidApp(f"[parameters] has the unknown keys {', '.join(sorted(table))}", source=app.name)
        if parameters.kind.names_structures and len(parameters.labels) != len(app.card.segments):
            raise InvalidApp("[parameters] has another number of labels than the card has segments", source=app.name)
        return parameters

    def table(self) -> dict[str, object]:
        """Return the parameters as a table of `app.toml`."""
        table: dict[str, object] = {
            "task": self.task,
            "kind": str(self.kind),
            "archive": self.archive,
            "dimension": self.dimension,
            "values": str(self.values),
            "conf": dict(self.conf),
            "weights": dict(self.weights),
            "labels": [{"name": label.name, "number": label.number} for label in self.labels],
        }
        return table if self.trainer is None else {**table, "trainer": self.trainer}


def _texts(table: object) -> Mapping[str, str]:
    return {str(key): str(value) for key, value in cast("Mapping[object, object]", table).items()}
