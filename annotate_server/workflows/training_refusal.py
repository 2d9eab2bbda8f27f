"""Whether a training can begin: what is missing is said before anything is computed."""

from annotate_server.domain.training import Part, TrainingSet

FEWEST_FOR_NEW = 5
"""Labels of a new model, or of a segment that the champion does not have."""


def training_refusal(
    training_set: TrainingSet, *, is_new_model: bool = False, known_segments: frozenset[str] | None = None
) -> str | None:
    """Return why nothing can be learned from a set, as sentences for a person; None where training can begin.

    `known_segments` are the names of those that the champion has; None takes all of them for known.
    """
    entries = training_set.of(Part.TRAIN)
    if not entries:
        return "No label is approved yet that may be trained on: approve labels first."
    if is_new_model and len(entries) < FEWEST_FOR_NEW:
        return f"A new model needs {FEWEST_FOR_NEW} approved labels: {FEWEST_FOR_NEW - len(entries)} are missing."
    if len({entry.patient for entry in entries}) < 2:
        return "All approved labels are of one patient: a network would learn that patient by heart. Label another."
    for segment in training_set.segments:
        count = sum(any(each.name == segment.name for each in entry.segments) for entry in entries)
        is_known = not is_new_model and (known_segments is None or segment.name in known_segments)
        if count == 0:
            return f"No approved label speaks about the segment {segment.name!r}: label it, or take it out."
        if not is_known and count < FEWEST_FOR_NEW:
            missing = FEWEST_FOR_NEW - count
            return f"The new segment {segment.name!r} needs {FEWEST_FOR_NEW} approved labels: {missing} are missing."
    return None
