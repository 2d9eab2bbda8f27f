"""Import: the datastore of a MONAI Label server becomes cases, labels and drafts of a project.

One bad file never stops the rest. What is there already is not added again. The other folder is only read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from annotate_server.domain.errors import AnnotateError, Cancelled, NotFound, Problem, StorageFailed, TryLater
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.person import Person
from annotate_server.domain.ports import Control
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.domain.volume import Modality
from annotate_server.imaging.foreign_datastore import ForeignDatastore, ForeignLabel, ForeignVolume, Unplaced
from annotate_server.workflows.importing_labels import LabelIntake
from annotate_server.workflows.importing_names import Naming
from annotate_server.workflows.importing_report import ImportedItem, ItemKind, Outcome
from annotate_server.workflows.importing_volumes import TakenVolume, Taking, VolumeIntake
from annotate_server.workflows.label_contents import listed_segments
from annotate_server.workflows.label_files import LabelParser
from annotate_server.workflows.merging import free_index
from annotate_server.workflows.records import Records
from annotate_server.workflows.value_names import Named

DEFAULT_PROJECT = "monailabel"
_TITLE = "Imported from MONAI Label"


@dataclass(frozen=True)
class ImportOrder:
    """What is imported, and how.

    `project_id` is made where there is no such project. `tags` are those of the labels that are wanted, none for all.
    `names` are what values mean where the datastore does not say. `is_tried_only` reads everything and keeps nothing.
    """

    project_id: str = DEFAULT_PROJECT
    modality: Modality | None = None
    tags: frozenset[str] = frozenset()
    names: tuple[Named, ...] = ()
    is_in_place: bool = False
    is_tried_only: bool = False


@dataclass
class Importer:
    """Imports datastores into records; `person` is who does it, `scratch` a folder for labels meanwhile."""

    records: Records
    volumes: VolumeIntake
    parser: LabelParser
    scratch: Path
    person: Person
    _has_made_project: bool = field(default=False, init=False)

    def items(self, datastore: ForeignDatastore, order: ImportOrder, control: Control) -> Iterator[ImportedItem]:
        """Yield what became of each volume, then of each label, oldest first; what was yielded is on the disk.

        Raises NoSpace, StorageFailed and Cancelled: what came before them stays.
        """
        datastore = _wanted(datastore, order.tags)
        naming = Naming(order.names)
        project = self._project(datastore, order, naming)
        intake = LabelIntake(self.records, self.parser, self.scratch, naming, order.is_tried_only)
        for absent in datastore.unplaced:
            yield _unplaced(absent)
        taken: dict[str, TakenVolume] = {}
        taking = Taking(order.modality, order.is_in_place, order.is_tried_only)
        for foreign in datastore.volumes:
            control.check()
            control.report(0.0, foreign.name)
            yield self._volume(foreign, taking, taken)
        for name, label in _by_age(datastore):
            control.check()
            control.report(0.0, f"{name} {label.tag}")
            item = self._label(label, taken.get(name), project, intake)
            project = self._grown(project, item)
            yield replace(item, name=name)

    def _project(self, datastore: ForeignDatastore, order: ImportOrder, naming: Naming) -> Project:
        """Return the project, made where there is none: what is reviewed there is reviewed here."""
        try:
            return self.records.projects.get(order.project_id)
        except NotFound:
            labels = [label for volume in datastore.volumes for label in volume.labels]
            is_reviewed = any(label.told.status for label in labels)
            has_series = any(volume.path.is_dir() for volume in datastore.volumes)
            project = Project(
                order.project_id,
                _TITLE,
                naming.segments(labels),
                modalities=() if order.modality is None or has_series else (order.modality,),
                review=ReviewPolicy.OTHER_PERSON if is_reviewed else ReviewPolicy.NONE,
            )
        if not order.is_tried_only:
            self.records.projects.add(project, self.person)
            self._has_made_project = True
        return project

    def _grown(self, project: Project, item: ImportedItem) -> Project:
        """Return a project that was made here with what a file names beside the index; others stay as they are."""
        is_new = item.kind is ItemKind.LABEL and item.outcome is Outcome.IMPORTED
        if not self._has_made_project or not is_new or item.record_id is None:
            return project
        segments: list[Segment] = list(project.segments)
        for each in listed_segments(self.records.labels.get(item.record_id)):
            if each.name not in {known.name for known in segments}:
                is_free = each.index not in {known.index for known in segments}
                segments.append(each if is_free else replace(each, index=free_index(segments)))
        if len(segments) > len(project.segments):
            project = replace(project, segments=tuple(segments))
            self.records.projects.change(project, self.person)
        return project

    def _volume(self, foreign: ForeignVolume, taking: Taking, taken: dict[str, TakenVolume]) -> ImportedItem:
        try:
            found = self.volumes.take(foreign, taking, self.person)
        except _ENDING:
            raise
        except AnnotateError as error:
            return ImportedItem(ItemKind.VOLUME, foreign.name, Outcome.REFUSED, problem=_problem(error))
        taken[foreign.name] = found
        outcome = Outcome.IMPORTED if found.is_new else Outcome.THERE
        return ImportedItem(ItemKind.VOLUME, foreign.name, outcome, case_id=found.case_id)

    def _label(
        self, label: ForeignLabel, volume: TakenVolume | None, project: Project, intake: LabelIntake
    ) -> ImportedItem:
        kind = ItemKind.DRAFT if label.is_by_a_model else ItemKind.LABEL
        try:
            if volume is None:
                raise NotFound("its volume could not be brought in")
            return intake.take(label, volume, project, self.person)
        except _ENDING:
            raise
        except AnnotateError as error:
            return ImportedItem(kind, "", Outcome.REFUSED, label.tag, problem=_problem(error))


_ENDING = (StorageFailed, Cancelled, TryLater)
"""What has nothing to do with the one file over which it happened."""


def _wanted(datastore: ForeignDatastore, tags: frozenset[str]) -> ForeignDatastore:
    """Return a datastore with the labels of some tags only."""
    if not tags:
        return datastore
    volumes = tuple(
        replace(volume, labels=tuple(label for label in volume.labels if label.tag in tags))
        for volume in datastore.volumes
    )
    unplaced = tuple(each for each in datastore.unplaced if not each.tag or each.tag in tags)
    return replace(datastore, volumes=volumes, unplaced=unplaced)


def _by_age(datastore: ForeignDatastore) -> list[tuple[str, ForeignLabel]]:
    labels = [(volume.name, label) for volume in datastore.volumes for label in volume.labels]
    return sorted(labels, key=lambda pair: pair[1].made_at)


def _unplaced(absent: Unplaced) -> ImportedItem:
    kind = ItemKind.LABEL if absent.tag else ItemKind.VOLUME
    return ImportedItem(kind, absent.name, Outcome.REFUSED, absent.tag, problem=_problem(NotFound(absent.reason)))


def _problem(error: AnnotateError) -> Problem:
    """Return an error without the path over which it happened: the item names what it is about."""
    error.source = None
    return error.problem()
