"""What MONAI Label's clients say and hear of what there is: labels, their tags, verdicts, tasks; pure functions."""

from collections.abc import Sequence
from datetime import datetime

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

# What is handed in


def names_of_values(params: Json, model: ModelCard | None, values: Sequence[int]) -> Sequence[tuple[int, str]]:
    """Return every value that a file of labels can hold and its name.

    Slicer exports its segments as 1 to N in their order, whatever `idx` in `label_info` says: with a segment
    `background`, which it leaves out, the two disagree. Other clients mean `idx`. Where the values that occur fit
    only one of both, that one is taken; InvalidLabelmap where they fit neither, or both and these differ.
    """
    listed = _label_info(params)
    if not listed and model is not None:
        listed = [(name, number) for name, number in numbered(model.segments).items()]
    if not listed:
        raise InvalidLabelmap(
            "nothing says what the values of the label mean", remedy="Send label_info, or a .seg.nrrd with names."
        )
    by_rank = [(rank, name) for rank, (name, _) in enumerate(listed, 1)]
    by_index = [(index, name) for name, index in listed]
    is_as_slicer_counts = sorted(index for _, index in listed) == [index for _, index in listed]
    readings = (by_rank, by_index) if is_as_slicer_counts else (by_index,)
    fitting = [pairs for pairs in readings if set(values) <= {value for value, _ in pairs}]
    if not fitting:
        missing = sorted(set(values) - {value for value, _ in by_index})[:10]
        raise InvalidLabelmap(f"the label holds the values {missing}, which label_info does not name")
    if len(fitting) == 2 and any(dict(by_rank)[v] != dict(by_index)[v] for v in values):
        raise InvalidLabelmap(
            "label_info numbers the segments otherwise than 1 to N, and the values fit both",
            remedy="Remove the segment `background`, or send a .seg.nrrd.",
        )
    return fitting[0]


def _label_info(params: Json) -> list[tuple[str, int]]:
    entries = params.get("label_info") or []
    if not isinstance(entries, list) or len(entries) > 65535:
        raise InvalidRequest("label_info is no list")
    found, names = [], set[str]()
    for rank, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not named_words(entry.get("name")):
            raise InvalidRequest("label_info holds an entry without a name")
        name, index = named_words(entry["name"]), entry.get("idx", entry.get("id", rank))
        if index == 0 and name.lower() == "background":
            continue
        if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= 65535:
            raise InvalidRequest(f"label_info gives {name!r} no number from 1 to 65535")
        if name in names:  # one name would then mean two sets of voxels
            raise InvalidRequest(f"label_info names {name!r} twice")
        names.add(name)
        found.append((name, index))
    if len({index for _, index in found}) < len(found):
        raise InvalidRequest("label_info gives two segments one number")
    return found


def verdict_of(params: Json) -> tuple[LabelState, str]:
    """Return what Slicer's reviewer module says of a label: the verdict and the comment."""
    said = params.get("segmentationMeta")
    meta = said if isinstance(said, dict) else params
    verdicts = {"approved": LabelState.APPROVED, "flagged": LabelState.RETURNED}
    verdict = verdicts.get(str(meta.get("status", "")).lower())
    if verdict is None:
        raise InvalidRequest("only the status `approved` or `flagged` is kept of a label")
    return verdict, named_words(meta.get("comment"))


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


def task_words(jobs: Sequence[Job]) -> Json:
    """Return jobs of one order as the one task that clients know."""
    running = any(not job.has_ended for job in jobs)
    failed = any(job.state is JobState.FAILED for job in jobs)
    cancelled = any(job.state is JobState.CANCELLED for job in jobs)
    status = "RUNNING" if running else "ERROR" if failed else "STOPPED" if cancelled else "DONE"
    made = [job.made_at for job in jobs if job.made_at]
    ended = [job.ended_at for job in jobs if job.ended_at]
    words: Json = {
        "id": jobs[0].id if jobs else "",
        "status": status,
        "request": {"model": jobs[0].order.get("model", "") if jobs else "", "images": len(jobs)},
        "start_ts": _moment(min(made)) if made else "",
        "details": [f"{job.order.get('case', '')}: {job.state} {job.message}".strip() for job in jobs[:20]],
    }
    if ended and not running:
        words["end_ts"] = _moment(max(ended))
    return words


def seconds(moment: datetime | None) -> int:
    """Return a moment as clients write it."""
    return int(moment.timestamp()) if moment else 0


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
