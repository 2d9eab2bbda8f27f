"""How well versions of a model answer on labelled examples, drafting as the server does; kept as it is found."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import Labelmap, Segment, labelmap_dtype
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.model import App, ModelVersion, WeightFile
from annotate_server.domain.ports import Control, ModelRegistry
from annotate_server.domain.training import IGNORED, Example, TrainingEntry, TrainingSet
from annotate_server.imaging.overlap import Agreement, agreement, dice, structure_pairs
from annotate_server.imaging.whole_file import PART_PREFIX, refused_by_disk
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.round_tools import Examples

Voxels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class ServingOnly:
    """A registry in which one version serves under its own name; all other models are those of `others`."""

    served: ModelVersion
    others: ModelRegistry

    @property
    def changes(self) -> int:
        """Say that nothing changes while the version is asked."""
        return 0

    def names(self) -> tuple[str, ...]:
        """Return every name."""
        return tuple(sorted({*self.others.names(), self.served.model}))

    def app(self, name: str) -> App:
        """Return the app of a model."""
        return self.served.app if name == self.served.model else self.others.app(name)

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Return the weights that are not there."""
        return () if app.name == self.served.model else self.others.missing(app)

    def ready(self) -> tuple[App, ...]:
        """Return the apps that miss no weights."""
        others = (app for app in self.others.ready() if app.name != self.served.model)
        return tuple(sorted((*others, self.served.app), key=lambda app: app.name))

    def champion(self, name: str) -> ModelVersion:
        """Return the version."""
        return self.served if name == self.served.model else self.others.champion(name)

    def is_learned(self, name: str) -> bool:
        """Say whether a model is one that learns here."""
        return name == self.served.model or self.others.is_learned(name)

    def version(self, name: str, version_id: str) -> ModelVersion:
        """Return a version by its id."""
        return self.served if name == self.served.model else self.others.version(name, version_id)

    def original(self, name: str) -> ModelVersion:
        """Return what a full training begins from."""
        return self.others.original(name)


@dataclass(frozen=True)
class LabelScore:
    """One label as one version answers it: figures by the name of the segment, and how many voxels were drafted."""

    label_id: str
    works: Mapping[str, SegmentWork]
    voxels: int


class Scoring:
    """Scores one version on labels, one after the other; a score that the folder holds is not made again.

    What is in the folder survives a kill. It is not synced (a sync takes longer than a small draft): after a power cut
    what is damaged is made again.
    """

    def __init__(
        self, version: ModelVersion, training_set: TrainingSet, examples: Examples, predictor: Predictor, folder: Path
    ) -> None:
        """Let `predictor` draft with a version; scores and drafts go into `folder`."""
        self._version = version
        self._set = training_set
        self._examples = examples
        self._predictor = predictor
        self._folder = folder
        self._known = read_scores(self._path)

    @property
    def voxels(self) -> int:
        """Return how many voxels were drafted, those of earlier attempts included."""
        return sum(score.voxels for score in self._known.values())

    def scores(self, entries: Sequence[TrainingEntry], control: Control) -> Mapping[str, LabelScore]:
        """Return a score for each entry, by label."""
        for number, entry in enumerate(entries, start=1):
            control.check()
            control.report((number - 1) / len(entries), f"Drafting labelled case {number} of {len(entries)}")
            if entry.label_id not in self._known:
                self._known[entry.label_id] = self._score(entry)
                _write(self._path, self._known.values())
        return {entry.label_id: self._known[entry.label_id] for entry in entries}

    def draft(self, entry: TrainingEntry) -> Voxels:
        """Return the version's draft (k, j, i) of an entry that was scored, in the training set's indices."""
        try:
            with self._draft_path(entry).open("rb") as file, np.load(file) as stored:
                voxels: Voxels = stored["voxels"]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            return self._drafted(self._examples.open(entry, self._set))
        return voxels

    @property
    def _path(self) -> Path:
        return self._folder / "scores.json"

    def _draft_path(self, entry: TrainingEntry) -> Path:
        return self._folder / f"{entry.label_id}.npz"

    def _score(self, entry: TrainingEntry) -> LabelScore:
        example = self._examples.open(entry, self._set)
        drafted = self._drafted(example)
        with _replacing(self._draft_path(entry)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, voxels=drafted)
        return LabelScore(entry.label_id, works_of(example, drafted, self._set.segments), int(drafted.size))

    def _drafted(self, example: Example) -> Voxels:
        """Return the draft as the server would make it; empty where the model is not made for the volume."""
        volumes = {str(example.volume.modality or "volume"): example.volume}
        try:
            draft = self._predictor.draft(self._version.model, volumes, Control())
        except NotMadeFor:
            return np.zeros(example.volume.geometry.shape, labelmap_dtype(self._set.segments))
        return translated(draft.labelmap, self._set.segments)


def translated(labelmap: Labelmap, segments: Iterable[Segment]) -> Voxels:
    """Return a draft's voxels in the indices of `segments`, matched by name; others become background."""
    wanted = tuple(segments)
    ours = {segment.name: segment.index for segment in wanted}
    lookup = np.zeros(int(np.iinfo(labelmap.voxels.dtype).max) + 1, labelmap_dtype(wanted))
    for segment in labelmap.segments:
        lookup[segment.index] = ours.get(segment.name, 0)
    voxels: Voxels = lookup[labelmap.voxels]
    return voxels


def works_of(example: Example, drafted: Voxels, segments: tuple[Segment, ...]) -> Mapping[str, SegmentWork]:
    """Return the figures of the segments that a label speaks about; voxels that it ignores count for nobody."""
    geometry = example.volume.geometry
    spoken = example.target != IGNORED
    truth, answer = (labelmap_of(np.where(spoken, each, 0), geometry, segments) for each in (example.target, drafted))
    known = [segment for segment in segments if segment.index in example.known]
    pairs = structure_pairs(truth, answer, [(segment.index, segment.index) for segment in known])
    return {segment.name: _work(agreement(pair)) for segment, pair in zip(known, pairs, strict=True)}


def labelmap_of(voxels: NDArray[np.integer], geometry: Geometry, segments: tuple[Segment, ...]) -> Labelmap:
    """Return voxels (k, j, i) of any integer type as a labelmap of the segments."""
    is_small = labelmap_dtype(segments) == np.uint8
    return Labelmap(voxels.astype(np.uint8) if is_small else voxels.astype(np.uint16), geometry, segments)


def _work(figures: Agreement) -> SegmentWork:
    return SegmentWork(figures.dice, figures.surface_dice_2mm, figures.apl_mm, figures.relative_apl)


def alike(first: Voxels, second: Voxels, segments: Iterable[Segment]) -> Mapping[str, float]:
    """Return by name how alike two drafts of one volume are (Dice)."""
    return {segment.name: dice(first == segment.index, second == segment.index) for segment in segments}


def read_scores(path: Path) -> dict[str, LabelScore]:
    """Return the scores that a file holds, by label; none where it is not there or damaged."""
    try:
        table = json.loads(path.read_bytes())
        return {
            label_id: LabelScore(
                label_id,
                {name: SegmentWork(**work) for name, work in row["works"].items()},
                int(row["voxels"]),
            )
            for label_id, row in table.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(path: Path, scores: Iterable[LabelScore]) -> None:
    table = {
        score.label_id: {"works": {name: asdict(work) for name, work in score.works.items()}, "voxels": score.voxels}
        for score in scores
    }
    with _replacing(path) as temporary:
        temporary.write_text(json.dumps(table))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a name beside a path; what is written there becomes the path's at once, or nothing does."""
    with refused_by_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{PART_PREFIX}{path.name}")
        yield temporary
        temporary.replace(path)
