"""What labels took: the work of people from the event log, and what drafts were worth, as jobs of the kind `score`.

**The lineage.** A label that was returned and corrected took both sessions: the work of all labels back to the last
approved one, or to the beginning, counts for the one that is approved in the end. **Test then train.** Every version
that drafted the case before it was labelled is scored against the label. The champion of the moment, and in its shadow
the former one where the champion is provisional, draft the case now where they have not; these drafts nobody has seen.
A version that has learned from a patient says nothing about how it does on a new one: it is left out for their cases.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from annotate_server.domain.annotation import Interaction, InteractionKind, Label, LabelState, Session
from annotate_server.domain.clock import Clock, now
from annotate_server.domain.compute import VolumePlace
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.job import Job, JobKind, Priority
from annotate_server.domain.learning import LabelWork
from annotate_server.domain.learning_ports import ModelStore, WorkStore
from annotate_server.domain.ports import ModelRegistry
from annotate_server.domain.scoring import DraftScore, MadeDraft, Scored, ScoreOrder, WantedDraft
from annotate_server.domain.store_ports import JobQueue
from annotate_server.domain.stored import StoredPrediction
from annotate_server.domain.training import Part
from annotate_server.workflows.parts import patient_of
from annotate_server.workflows.queueing import queued_once
from annotate_server.workflows.records import Records
from annotate_server.workflows.training_set_json import read_training_set

CATCH_UP = timedelta(days=7)
"""How old an approval may be that is scored after a restart."""


@dataclass(frozen=True)
class Lineage:
    """How a label came about, back to the last approved one: its sessions, newest first, and what the first began with.

    `follows_approved` says that a person corrected an approved label: no draft was corrected then.
    """

    sessions: tuple[Session, ...] = ()
    follows_approved: bool = False
    active_s: float = 0.0

    @property
    def in_force(self) -> Iterator[Interaction]:
        """Yield every interaction that was not undone."""
        for session in self.sessions:
            yield from session.interactions[: session.applied]

    @property
    def shown(self) -> frozenset[str]:
        """Return the versions (`model@version`) whose drafts the person worked on."""
        drafts = {i.model_version for i in self.in_force if i.kind is InteractionKind.MODEL}
        if self.sessions and not self.follows_approved:
            drafts.add(self.sessions[-1].model_version)
        return frozenset(each for each in drafts if each is not None)


@dataclass
class LabelScoring:
    """Orders scores of approved labels and keeps what they give; a score's order holds `label` and `champions`.

    `ordered` are told of every new job, `scored` of every label whose work is known.
    """

    records: Records
    models: ModelStore
    works: WorkStore
    registry: ModelRegistry
    queue: JobQueue
    ordered: list[Callable[[Job], None]] = field(default_factory=list)
    scored: list[Callable[[Label], None]] = field(default_factory=list)
    clock: Clock = now

    def order(self, label: Label) -> Job:
        """Queue the score of an approved label; which versions are champions is fixed now, and returned as a job."""
        champions = " ".join(f"{model}@{version}" for model, version in self._champions(label.project_id).items())
        order = {"label": label.id, "champions": champions, "shadows": " ".join(self._shadows(label.project_id))}
        job = Job(uuid.uuid4().hex, JobKind.SCORE, order, Priority.BATCH, label.author, made_at=self.clock())
        return queued_once(job, self.queue, self.ordered)

    def catch_up(self) -> None:
        """Queue the scores of labels that were approved lately and that a stop of the server left without."""
        since = self.clock() - CATCH_UP
        for label in self._without_score():
            at = label.reviewed_at or label.made_at
            if at is not None and at >= since:
                self.order(label)

    def order_missing(self) -> tuple[Job, ...]:
        """Queue the score of every approved label that has none, however old, and return the jobs."""
        return tuple(self.order(label) for label in self._without_score())

    def _without_score(self) -> Iterator[Label]:
        for project in self.records.projects.all():
            known = {work.label_id for work in self.works.of_project(project.id)}
            labels = self.records.labels.of_state(project.id, LabelState.APPROVED)
            yield from (label for label in labels if label.id not in known)

    def order_of(self, job: Job) -> ScoreOrder:
        """Return what a score's job asks a worker for."""
        label = self.records.labels.get(job.order["label"])
        case = self.records.cases.get(label.case_id)
        place = VolumePlace.of(case)
        made = {(p.model, p.version): p for p in self._drafts_before(label)}
        wanted = [WantedDraft(*_parted(each)) for each in self._drafters(job)]
        return ScoreOrder(
            layers=label.layers,
            volume=place,
            is_partial=label.is_partial,
            made=tuple(MadeDraft(p.model, p.version, p.layer) for p in made.values()),
            wanted=tuple(
                each
                for each in wanted
                if (each.model, each.version) not in made
                and not self._has_learned_from(label, each.model, each.version)
            ),
        )

    def keep(self, job: Job, scored: Scored) -> Mapping[str, str]:
        """Keep what a worker found as the work of the label, and return the job's result."""
        label = self.records.labels.get(job.order["label"])
        bare = self._bare(label)
        champions, shown = set(_words(job, "champions")), self._lineage(label).shown
        for score in scored.scores:
            is_champions = self._is_unbiased(label, score, champions)
            self.works.add(_with_score(bare, score, shown, is_champions=is_champions))
        if not scored.scores:
            self.works.add(bare)
        for listener in self.scored:
            listener(label)
        return {"drafts": str(len(scored.scores)), "notes": " ".join(scored.notes)}

    def _is_unbiased(self, label: Label, score: DraftScore, champions: set[str]) -> bool:
        """Say whether a draft belongs to the curve: by the champion, who had not learned from the patient."""
        is_champion = f"{score.model}@{score.version}" in champions
        return is_champion and not self._has_learned_from(label, score.model, score.version)

    def _bare(self, label: Label) -> LabelWork:
        """Return the work of a label, whatever drafted it."""
        lineage = self._lineage(label)
        happened = list(lineage.in_force)
        return LabelWork(
            label_id=label.id,
            project_id=label.project_id,
            model=None,
            version=None,
            is_champions=False,
            is_shown=False,
            active_s=round(lineage.active_s, 1),
            prompts=dict(Counter(str(i.prompt.kind) for i in happened if i.prompt is not None)),
            edits=sum(i.kind is InteractionKind.EDIT for i in happened),
            helpers=dict(Counter(i.helper for i in happened if i.helper is not None)),
            made_at=label.reviewed_at or label.made_at,
        )

    def _lineage(self, label: Label) -> Lineage:
        sessions: list[Session] = []
        active_s, present = 0.0, label
        while True:
            active_s += present.active_s
            if present.session_id is not None:
                sessions.append(self.records.sessions.get(present.session_id))
            if present.parent is None:
                return Lineage(tuple(sessions), follows_approved=False, active_s=active_s)
            present = self.records.labels.get(present.parent)
            if present.state is LabelState.APPROVED:
                return Lineage(tuple(sessions), follows_approved=True, active_s=active_s)

    def _drafts_before(self, label: Label) -> tuple[StoredPrediction, ...]:
        """Return what was drafted of a label's case before it was made, the newest of each version."""
        made = self.records.predictions.of_case(label.case_id)
        models = set(self.records.projects.get(label.project_id).apps) | set(self._learned(label.project_id))
        return tuple(p for p in made if p.model in models and (label.made_at is None or p.made_at <= label.made_at))

    def _learned(self, project_id: str) -> tuple[str, ...]:
        return tuple(model.name for model in self.models.all() if model.project_id == project_id)

    def _champions(self, project_id: str) -> Mapping[str, str]:
        """Return the version that serves of each model of a project; one that has none is left out."""
        names = dict.fromkeys((*self.records.projects.get(project_id).apps, *self._learned(project_id)))
        found = {}
        for name in names:
            try:
                found[name] = self.registry.champion(name).id
            except AnnotateError:
                continue  # its weights are not installed, or it has learned nothing yet
        return found

    def _shadows(self, project_id: str) -> Iterator[str]:
        """Yield the former champions of provisional ones."""
        for name in self._learned(project_id):
            moves = [p for p in self.models.promotions(name) if p.version == self.models.champion(name)]
            if moves and moves[-1].is_provisional and moves[-1].previous is not None:
                yield f"{name}@{moves[-1].previous}"

    def _drafters(self, job: Job) -> list[str]:
        """Return who drafts now: champions of models that learn, and the shadows of provisional ones.

        An app that learns nothing is not asked for a draft that nobody will see.
        """
        learning = {model.name for model in self.models.all()}
        champions = [each for each in _words(job, "champions") if _parted(each)[0] in learning]
        return [*champions, *_words(job, "shadows")]

    def _has_learned_from(self, label: Label, model: str, version: str) -> bool:
        """Say whether a version, or one that it came from, was trained on a label of the same patient."""
        patient = patient_of(self.records.cases.get(label.case_id))
        known = {record.id: record for record in self.models.versions(model)} if self._is_learned(model) else {}
        record = known.get(version)
        while record is not None:
            if record.training_set is not None:
                training_set = read_training_set(self.records.blobs.read(record.training_set))
                if any(entry.patient == patient for entry in training_set.of(Part.TRAIN)):
                    return True
            record = known.get(record.parent or "")
        return False

    def _is_learned(self, model: str) -> bool:
        return any(each.name == model for each in self.models.all())


def _with_score(bare: LabelWork, score: DraftScore, shown: frozenset[str], *, is_champions: bool) -> LabelWork:
    """Return the work with what a draft was worth."""
    return replace(
        bare,
        model=score.model,
        version=score.version,
        is_champions=is_champions,
        is_shown=f"{score.model}@{score.version}" in shown,
        is_untouched=score.is_untouched and f"{score.model}@{score.version}" in shown,
        dice=score.dice,
        relative_apl=score.relative_apl,
        apl_mm=score.apl_mm,
        segments=score.segments,
    )


def _words(job: Job, key: str) -> list[str]:
    return job.order.get(key, "").split()


def _parted(reference: str) -> tuple[str, str]:
    """Return model and version of `model@version`."""
    model, _, version = reference.partition("@")
    return model, version
