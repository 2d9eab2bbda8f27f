"""What requests may say: strict types, no unknown fields, bounded sizes, finite numbers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from annotate_server.domain.annotation import LabelState
from annotate_server.domain.helper import Combination, HelperKind, HelperOrder, IslandRule
from annotate_server.domain.job import Priority
from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, CodedConcept, Segment
from annotate_server.domain.person import Role
from annotate_server.domain.project import DEFAULT_STRATEGY, Project, ReviewPolicy
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Modality

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
LongText = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
VersionName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
Coordinate = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]
Point = Annotated[list[Coordinate], Field(min_length=3, max_length=3, description="x, y, z in LPS mm.")]
Index = Annotated[int, Field(ge=1, le=65535)]
Code = Annotated[list[Text], Field(min_length=3, max_length=3, description="Value, scheme, meaning.")]
Component = Annotated[int, Field(ge=0, le=255)]


class Form(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SegmentForm(Form):
    """A segment; `index` is its value in the voxels."""

    index: Index
    name: Text
    colour: Annotated[list[Component], Field(min_length=3, max_length=3, description="sRGB, 0 to 255.")]
    kind: Code | None = None
    category: Code | None = None
    laterality: Code | None = None

    def value(self) -> Segment:
        """Return the segment."""
        red, green, blue = self.colour
        return Segment(
            index=self.index,
            name=self.name,
            colour=(red, green, blue),
            kind=_concept(self.kind),
            category=_concept(self.category) or ANATOMICAL_STRUCTURE,
            laterality=_concept(self.laterality),
        )


class SegmentChangeForm(Form):
    """What changes of a segment; what is absent stays."""

    name: Text | None = None
    colour: Annotated[list[Component], Field(min_length=3, max_length=3)] | None = None
    kind: Code | None = None
    category: Code | None = None
    laterality: Code | None = None

    def applied_to(self, segment: Segment) -> Segment:
        """Return the segment with the changes."""
        given = self.model_fields_set
        red, green, blue = segment.colour if self.colour is None else self.colour
        return Segment(
            index=segment.index,
            name=segment.name if self.name is None else self.name,
            colour=(red, green, blue),
            kind=_concept(self.kind) if "kind" in given else segment.kind,
            category=_concept(self.category) or ANATOMICAL_STRUCTURE if "category" in given else segment.category,
            laterality=_concept(self.laterality) if "laterality" in given else segment.laterality,
        )


class ProjectForm(Form):
    """A project without its id."""

    title: Text
    segments: Annotated[list[SegmentForm], Field(max_length=1000)] = []
    apps: Annotated[list[Name], Field(max_length=50)] = []
    modalities: Annotated[list[Literal["CT", "MR", "PT", "OT"]], Field(max_length=4)] = []
    review: Literal["none", "other-person"] = "none"
    send_labels_back: Annotated[
        bool, Field(description="Approved labels go as DICOM SEG to the archive that their case came from.")
    ] = False
    strategy: Annotated[Name, Field(description="The rule that orders open cases.")] = DEFAULT_STRATEGY

    def project(self, project_id: str) -> Project:
        """Return the project of an id."""
        return Project(
            id=project_id,
            title=self.title,
            segments=tuple(segment.value() for segment in self.segments),
            apps=tuple(self.apps),
            modalities=tuple(Modality(each) for each in self.modalities),
            review=ReviewPolicy(self.review),
            send_labels_back=self.send_labels_back,
            strategy=self.strategy,
        )


class NewProjectForm(ProjectForm):
    """A project."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class ModalityForm(Form):
    """The modality of a case whose file names none."""

    modality: Literal["CT", "MR", "PT", "OT"]


class PutAsideForm(Form):
    """Why a case cannot be used."""

    reason: Text


class HeartbeatForm(Form):
    """How long the person was active since the last heartbeat."""

    active_s: Annotated[FiniteFloat, Field(ge=0, le=3600)] = 0.0


class PromptForm(Form):
    """A prompt to a model, in LPS mm: a point has one, a box two opposite corners, a lasso at least three points."""

    kind: Literal["point", "box", "scribble", "lasso"]
    points_mm: Annotated[list[Point], Field(min_length=1, max_length=10_000)]
    segment: Index = 1
    positive: bool = True
    model: Name

    def prompt(self) -> Prompt:
        """Return the prompt."""
        points = tuple((float(x), float(y), float(z)) for x, y, z in self.points_mm)
        return Prompt(PromptKind(self.kind), points, self.segment, self.positive)


class HelperForm(Form):
    """A classical helper on a segment; which numbers each kind reads is said in `HelperOrder`."""

    kind: Literal[
        "threshold",
        "region-growing",
        "geodesic-fill",
        "smooth",
        "fill-holes",
        "islands",
        "interpolate",
        "margin",
        "combine",
    ]
    segment: Index = 1
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    seed_mm: Point | None = None
    distance_mm: Annotated[FiniteFloat, Field(ge=-1000, le=1000)] | None = None
    volume_ml: Annotated[FiniteFloat, Field(ge=0, le=1e6)] | None = None
    axis: Annotated[int, Field(ge=0, le=2)] = 0
    by_slice: bool = False
    rule: Literal["largest", "minimum-size", "at-seed"] = "largest"
    combination: Literal["union", "intersection", "difference", "copy"] = "union"
    other: Index | None = None
    within: Index | None = None

    def order(self) -> HelperOrder:
        """Return the order; raises InvalidRequest where its kind needs more."""
        seed = None
        if self.seed_mm is not None:
            x, y, z = self.seed_mm
            seed = (float(x), float(y), float(z))
        return HelperOrder(
            kind=HelperKind(self.kind),
            low=self.low,
            high=self.high,
            seed_mm=seed,
            distance_mm=self.distance_mm,
            volume_ml=self.volume_ml,
            axis=self.axis,
            by_slice=self.by_slice,
            rule=IslandRule(self.rule),
            combination=Combination(self.combination),
            other=self.other,
            within=self.within,
        )


class DraftForm(Form):
    """The model that drafts the whole case."""

    model: Name


class LockedForm(Form):
    """The segments that nothing may change."""

    locked: Annotated[list[Index], Field(max_length=65535)]


class SubmitForm(Form):
    """What a label is worth; a partial one speaks only about the slices in which something is drawn.

    Where it is not said, a label is as partial as the one that it corrects.
    """

    is_partial: bool | None = None


class ReviewForm(Form):
    """The verdict of a second person; a return says why."""

    verdict: Literal["approved", "returned"]
    comment: LongText = ""

    @property
    def state(self) -> LabelState:
        """Return what the label becomes."""
        return LabelState(self.verdict)


class JobForm(Form):
    """A whole draft of a case, as a job."""

    case: Id
    model: Name
    priority: Literal["person", "ahead", "batch"] = "person"

    @property
    def rank(self) -> Priority:
        """Return the priority."""
        return Priority[self.priority.upper()]


class UserForm(Form):
    """Somebody who may sign in."""

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f/]{1,100}$")]
    role: Literal["annotator", "reviewer", "admin"] = "annotator"

    @property
    def rank(self) -> Role:
        """Return the role."""
        return Role(self.role)


def _concept(code: list[str] | None) -> CodedConcept | None:
    return None if code is None else CodedConcept(*code)


class NewModelForm(Form):
    """A model that begins from nothing but the approved labels of a project."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    project: Id


class TrainForm(Form):
    """A training: of an app, `project` says from whose labels; `full` begins from the original on everything."""

    project: Id | None = None
    full: bool = False


class PromoteForm(Form):
    """Which version is to serve, and why."""

    version: VersionName
    reason: LongText = ""


class RollBackForm(Form):
    """Which version is to serve again, by default the one before; and why."""

    version: VersionName | None = None
    reason: LongText = ""


class TrainingSettingsForm(Form):
    """When a model is trained by itself: after so many approved labels (0: never), and at night."""

    every_labels: Annotated[int, Field(ge=0, le=10_000)]
    nightly: bool
