"""What MONAI Label's clients say and hear of what there is: labels, their tags, verdicts, tasks; pure functions."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from annotate_server.api.monailabel.translate import (
    EXTENSION,
    FINAL,
    LABEL_EXTENSION,
    ORIGINAL,
    VERSION,
    Json,
    named_words,
    numbered,
)
from annotate_server.domain.annotation import Label, LabelState
from annotate_server.domain.dicom_uids import series_uid, study_uid
from annotate_server.domain.errors import InvalidLabelmap, InvalidRequest
from annotate_server.domain.job import Job, JobState
from annotate_server.domain.model import ModelCard
from annotate_server.domain.stored import KnownCase, StoredPrediction
from annotate_server.domain.training import TrainingPoint
from annotate_server.domain.volume import Modality
from annotate_server.workflows.value_names import listed_segments, names_by_rank_or_number

_ONE_ORDER = timedelta(minutes=1)
"""Jobs that were made further apart are of two orders: clients know one task at a time."""

# What is handed in


def names_of_values(params: Json, model: ModelCard | None, values: Sequence[int]) -> Sequence[tuple[int, str]]:
    """Return every value that a file of labels can hold and its name; `values` are those that occur.

    By `label_info`, else in the order of the model's segments. Raises InvalidLabelmap (`value_names`).
    """
    listed = listed_segments(params.get("label_info") or [])
    if not listed and model is not None:
        listed = tuple(numbered(model.segments).items())
    if not listed:
        raise InvalidLabelmap(
            "nothing says what the values of the label mean", remedy="Send label_info, or a .seg.nrrd with names."
        )
    return names_by_rank_or_number(listed, values)


def verdict_of(params: Json) -> tuple[LabelState, str]:
    """Return what Slicer's reviewer module says of a label: the verdict and the comment."""
    said = params.get("segmentationMeta")
    meta = said if isinstance(said, dict) else params
    verdicts = {"approved": LabelState.APPROVED, "flagged": LabelState.RETURNED}
    verdict = verdicts.get(str(meta.get("status", "")).lower())
    if verdict is None:
        raise InvalidRequest("only the status `approved` or `flagged` is kept of a label")
    return verdict, named_words(meta.get("comment"))


def modality_of(said: Json) -> Modality:
    """Return the modality that a client says an image has: the one word about an image that is kept."""
    known = {str(modality): modality for modality in Modality}
    named = known.get(str(said.get("modality", "")).upper())
    if named is None or set(said) != {"modality"}:
        raise InvalidRequest("only `modality` is kept of an image", remedy=f"Send one of {', '.join(known)}.")
    return named


# What is there


def image_words(known: KnownCase) -> Json:
    """Return what is said of an image: never a path or an identifier of a patient."""
    reference = known.case.reference
    return {
        "ts": seconds(known.added_at),
        "name": f"{known.id}{EXTENSION}",
        "modality": str(known.modality) if known.modality else "",
        "description": reference.description or known.name,
        "SeriesInstanceUID": series_uid(known.case),
        "StudyInstanceUID": study_uid(known.case),
    }


def sample_words(known: KnownCase) -> Json:
    """Return the next case as a client asks for it; no path, so that it downloads the volume."""
    return {"id": known.id, "path": "", **image_words(known)}


def pair_words(case_id: str) -> Json:
    """Return where a labelled image and its newest label are downloaded: addresses, where others give away paths."""
    return {"image": f"/datastore/image?image={case_id}", "label": f"/datastore/label?label={case_id}&tag={FINAL}"}


def label_words(label: Label) -> Json:
    """Return what is said of a label."""
    segments = [segment for layer in label.layers for segment in layer.segments]
    numbers = {segment.name: segment.index for segment in segments}
    statuses = {LabelState.APPROVED: "approved", LabelState.RETURNED: "flagged"}
    return {
        "ts": seconds(label.made_at),
        "name": f"{label.case_id}{LABEL_EXTENSION}",
        "client_id": label.author,
        "model": label.model_version or "",
        "project": label.project_id,
        "label_info": [{"name": segment.name, "idx": segment.index} for segment in segments],
        "params": {"label_names": numbers},
        "segmentationMeta": {
            "status": statuses.get(label.state, ""),
            "level": "",
            "approvedBy": label.reviewer or "",
            "comment": label.comment,
            "editTime": seconds(label.made_at),
        },
    }


def draft_words(prediction: StoredPrediction) -> Json:
    """Return what is said of a model's draft."""
    numbers = numbered(prediction.layer.segments)
    return {
        "ts": seconds(prediction.made_at),
        "name": f"{prediction.case_id}{EXTENSION}",
        "client_id": "",
        "model": f"{prediction.model}@{prediction.version}",
        "label_info": [{"name": name, "idx": number} for name, number in numbers.items()],
        "params": {"label_names": numbers},
    }


def image_entry(known: KnownCase) -> Json:
    """Return the image of a case as the list of the store has it."""
    return {"ext": EXTENSION, "info": image_words(known)}


def label_entries(labels: Sequence[Label], draft: StoredPrediction | None) -> Json:
    """Return the labels of a case as the list of the store has them; they come oldest first: the newest is `final`."""
    tags = {}
    if draft is not None:
        tags[ORIGINAL] = {"ext": EXTENSION, "info": draft_words(draft)}
    for number, label in enumerate(labels, 1):
        tags[f"{VERSION}{number}"] = {"ext": LABEL_EXTENSION, "info": label_words(label)}
    if labels:
        tags[FINAL] = tags[f"{VERSION}{len(labels)}"]
    return tags


def tagged(tag: str, labels: Sequence[Label]) -> Label | None:
    """Return the label that a tag means: the newest for `final` (and none), the n-th for `version_n`."""
    if tag in ("", FINAL):
        return labels[-1] if labels else None
    number = tag.removeprefix(VERSION)
    if tag.startswith(VERSION) and number.isdecimal() and 1 <= int(number[:9]) <= len(labels):
        return labels[int(number[:9]) - 1]
    return None


def check_tag(tag: str) -> None:
    """Refuse a tag that would overwrite what a model drew, or is no word."""
    if tag == ORIGINAL:
        raise InvalidRequest("the tag `original` is a model's draft, which nobody overwrites")
    if len(tag) > 100 or not all(letter.isalnum() or letter in "_-." for letter in tag):
        raise InvalidRequest("a tag is made of letters, digits, - and _")


# What runs


def one_order(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return of jobs, newest first, those that were ordered together with the newest: of one model, close in time."""
    found: list[Job] = []
    for job in jobs:
        if found and (_model_of(job) != _model_of(found[0]) or not _are_close(job, found[-1])):
            break
        found.append(job)
    return found


def _model_of(job: Job) -> str:
    return job.order.get("model", "")


def _are_close(one: Job, other: Job) -> bool:
    return one.made_at is not None and other.made_at is not None and other.made_at - one.made_at <= _ONE_ORDER


def task_words(jobs: Sequence[Job]) -> Json:
    """Return jobs of one order, newest first, as the one task that clients know."""
    running = any(not job.has_ended for job in jobs)
    failed = any(job.state is JobState.FAILED for job in jobs)
    cancelled = any(job.state is JobState.CANCELLED for job in jobs)
    status = "RUNNING" if running else "ERROR" if failed else "STOPPED" if cancelled else "DONE"
    made = [job.made_at for job in jobs if job.made_at]
    ended = [job.ended_at for job in jobs if job.ended_at]
    words: Json = {
        "id": jobs[0].id if jobs else "",
        "status": status,
        "request": {"model": _model_of(jobs[0]) if jobs else "", "images": len(jobs)},
        "start_ts": moment(min(made)) if made else "",
        "details": [f"{job.order.get('case', '')}: {job.state} {job.message}".strip(": ") for job in jobs[:20]],
    }
    if ended and not running:
        words["end_ts"] = moment(max(ended))
    return words


def train_words(job: Job | None, points: Sequence[TrainingPoint], best: float) -> Json:
    """Return how far a training is, in steps; `total_time` is there once it has ended, by which clients see that."""
    if job is None:
        return {"best_metric": best} if best else {}
    words: Json = {"epoch": 0, "total_epochs": 1, "best_metric": best, "start_ts": seconds(job.begun_at or job.made_at)}
    if points:
        words |= {"epoch": points[-1].step, "total_epochs": max(1, points[-1].steps)}
        words["current_time"] = _duration(points[-1].elapsed_s)
    if job.has_ended:
        span_s = (job.ended_at - job.begun_at).total_seconds() if job.ended_at and job.begun_at else 0.0
        words["total_time"] = _duration(span_s)
    return words


def log_line(job: Job) -> str:
    """Return a job as a line: when, what, who ordered it, how it stands; a problem by its title alone.

    What a problem says in detail may name a file, which may name a patient.
    """
    about = " ".join(f"{key}={job.order[key]}" for key in ("model", "case", "label") if job.order.get(key))
    ended = job.problem.title if job.problem else job.message
    at = moment(job.ended_at or job.begun_at or job.made_at)
    return " ".join(
        word for word in (at, str(job.kind), str(job.state), about, f"by {job.person or '-'}", ended) if word
    )


def seconds(when: datetime | None) -> int:
    """Return a moment as clients write it."""
    return int(when.timestamp()) if when else 0


def moment(when: datetime | None) -> str:
    """Return a moment for people; nothing for none."""
    return when.strftime("%Y-%m-%d %H:%M:%S") if when else ""


def _duration(total_s: float) -> str:
    return str(timedelta(seconds=round(total_s)))
