"""Labels of another datastore become labels of ours; what a model drew there becomes a draft."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.errors import InvalidLabelmap, InvalidRequest, NotFound, UnreadableFile
from annotate_server.domain.person import Person
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.domain.stored import StoredLayer, StoredPrediction
from annotate_server.imaging.foreign_datastore import ForeignLabel
from annotate_server.imaging.foreign_index import Told
from annotate_server.imaging.whole_file import digest_of
from annotate_server.workflows.importing_names import Naming
from annotate_server.workflows.importing_report import ImportedItem, ItemKind, Outcome
from annotate_server.workflows.importing_volumes import TakenVolume
from annotate_server.workflows.label_files import LabelParser
from annotate_server.workflows.named_labels import keep_renumbered, named_segments, under_names
from annotate_server.workflows.records import Records

UNKNOWN = "(unknown)"
"""The author of a label of which nothing says who drew it, and the version of a model of another server."""
FOREIGN_MODEL = "monailabel:"
"""How the names of models begin that drew drafts elsewhere: no model here is called so."""
HEADER = "AnnotateServer_Imported"
"""The key in the header of a layer under which its origin stands, as JSON."""
_FLAGGED_PLAINLY = "flagged in MONAI Label, without a comment"


@dataclass(frozen=True)
class LabelIntake:
    """Takes labels in; `scratch` is a folder for them meanwhile."""

    records: Records
    parser: LabelParser
    scratch: Path
    naming: Naming
    is_tried_only: bool = False

    def take(self, foreign: ForeignLabel, taken: TakenVolume, project: Project, person: Person) -> ImportedItem:
        """Take a file of labels in, unless the same is there; what came of it names no volume yet.

        Raises InvalidLabelmap where it does not lie on the volume's grid or nothing says what its values mean, another
        InputError where it cannot be read, InvalidRequest for a volume that the project does not take.
        """
        kind = ItemKind.DRAFT if foreign.is_by_a_model else ItemKind.LABEL
        digest = digest_of(foreign.path)
        if digest is None:
            raise UnreadableFile("it cannot be read")
        identity = self._identity(foreign, taken, "" if kind is ItemKind.DRAFT else project.id, digest)
        item = ImportedItem(kind, "", Outcome.THERE, foreign.tag, taken.case_id, identity)
        if self._is_there(identity, kind):
            is_draft = kind is ItemKind.DRAFT
            return item if is_draft else replace(item, notes=self._caught_up(identity, foreign.told, person))
        is_outside = taken.modality is not None and taken.modality not in (project.modalities or (taken.modality,))
        if kind is ItemKind.LABEL and is_outside:
            raise InvalidRequest(f"the project {project.id} takes no {taken.modality}")
        layers = self._layers(foreign, taken, project, digest)
        notes: tuple[str, ...] = ()
        if kind is ItemKind.DRAFT:
            self._keep_draft(foreign, layers, item)
        else:
            notes = self._keep_label(foreign, layers, item, project, person)
        return replace(item, outcome=Outcome.IMPORTED, notes=notes)

    def _identity(self, foreign: ForeignLabel, taken: TakenVolume, project_id: str, digest: str) -> str:
        """Return the id of a label here: the same file with the same names is the same label in a second run."""
        words = [project_id, taken.case_id, foreign.tag, foreign.told.author, digest, self.naming.key(foreign.told)]
        text = json.dumps(["monailabel", *words], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _is_there(self, identity: str, kind: ItemKind) -> bool:
        try:
            if kind is ItemKind.DRAFT:
                self.records.predictions.get(identity)
            else:
                self.records.labels.get(identity)
        except NotFound:
            return False
        return True

    def _caught_up(self, identity: str, told: Told, person: Person) -> tuple[str, ...]:
        """Keep the verdict that a label was given there after it had been brought in, and return what to say of it."""
        label = self.records.labels.get(identity)
        if label.state is not LabelState.SUBMITTED or self.is_tried_only:
            return ()
        judged, _ = judged_label(label, told, ReviewPolicy.OTHER_PERSON)
        if judged.state is LabelState.SUBMITTED:
            return ()
        self.records.labels.review(judged, person)
        return (f"It was {judged.state} there meanwhile, and is here now.",)

    def _layers(
        self, foreign: ForeignLabel, taken: TakenVolume, project: Project, digest: str
    ) -> tuple[StoredLayer, ...]:
        """Return the layers of a file as they are kept, under the project's segments; none where it is only tried."""
        told = foreign.told
        found = self.parser.read_labelmap(foreign.path, taken.facts.geometry)
        if foreign.is_by_a_model and len(found) > 1:
            raise InvalidLabelmap("its segments overlap, and a draft has one layer")
        named = [(layer, named_segments(layer, lambda values: self.naming.of(told, values))) for layer in found]
        pairs = [(layer, under_names(project.segments, theirs)) for layer, theirs in named]
        if self.is_tried_only:
            return ()
        words = {HEADER: json.dumps(_origin(foreign, digest), separators=(",", ":"))}
        return tuple(keep_renumbered(*each, self.records.blobs, self.scratch, words) for each in pairs)

    def _keep_draft(self, foreign: ForeignLabel, layers: tuple[StoredLayer, ...], item: ImportedItem) -> None:
        for layer in layers:
            model = f"{FOREIGN_MODEL}{foreign.told.model or UNKNOWN}"
            made = StoredPrediction(
                item.record_id or "", item.case_id or "", model, UNKNOWN, layer, foreign.made_at, (_FROM,)
            )
            self.records.predictions.add(made)

    def _keep_label(
        self,
        foreign: ForeignLabel,
        layers: tuple[StoredLayer, ...],
        item: ImportedItem,
        project: Project,
        person: Person,
    ) -> tuple[str, ...]:
        """Keep a label with its author and verdict, and return what could not be kept of them."""
        case_id = item.case_id or ""
        earlier = () if self.is_tried_only else self.records.labels.of_case(project.id, case_id)
        label = Label(
            id=item.record_id or "",
            project_id=project.id,
            case_id=case_id,
            author=foreign.told.author or UNKNOWN,
            layers=layers,
            parent=earlier[-1].id if earlier else None,
            is_author_verified=False,
            made_at=foreign.made_at,
        )
        judged, notes = judged_label(label, foreign.told, project.review)
        if not self.is_tried_only:
            self.records.labels.accept(judged, None, person)
        return notes


def judged_label(label: Label, told: Told, policy: ReviewPolicy) -> tuple[Label, tuple[str, ...]]:
    """Return a label with the verdict that it had, where a second person is named, else under the project's policy."""
    verdicts = {"approved": LabelState.APPROVED, "flagged": LabelState.RETURNED}
    verdict = verdicts.get(told.status)
    if verdict is not None and told.reviewer and told.reviewer != label.author:
        comment = told.comment or (_FLAGGED_PLAINLY if verdict is LabelState.RETURNED else "")
        return replace(label.reviewed(told.reviewer, verdict, comment), reviewed_at=told.edited_at), ()
    is_free = policy is ReviewPolicy.NONE and verdict is not LabelState.RETURNED
    accepted = replace(label, state=LabelState.APPROVED) if is_free else label
    if verdict is None:
        return accepted, ()
    who = "by its own author" if told.reviewer else "and nothing says by whom"
    return accepted, (f"It was {told.status} {who}: that is no review here.",)


def _origin(foreign: ForeignLabel, digest: str) -> Mapping[str, str]:
    """Return what is kept of a label's origin beside its voxels; not the name of the volume, which may be a patient's.

    Texts are on one line, as a header needs them.
    """
    told = foreign.told
    words = {
        "from": "MONAI Label",
        "tag": foreign.tag,
        "file_sha256": digest,
        "model": told.model,
        "status": told.status,
        "level": told.level,
        "comment": told.comment,
    }
    return {name: value for name, value in words.items() if value}


_FROM = "A model of a MONAI Label server drew this; it was imported."
