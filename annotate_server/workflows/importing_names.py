"""Which segments the labels of another datastore speak about: what its index says, or else who imports it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from annotate_server.domain.errors import AnnotateError, InvalidLabelmap
from annotate_server.domain.labelmap import Segment
from annotate_server.imaging.foreign_datastore import ForeignLabel
from annotate_server.imaging.foreign_index import Told
from annotate_server.imaging.unnamed_segments import distinct_colour
from annotate_server.workflows.value_names import (
    Named,
    listed_names,
    listed_segments,
    names_by_number,
    names_by_rank_or_number,
)

_NAME_THEM = "Say what they are: --labels spleen=1,liver=2."


@dataclass(frozen=True)
class Naming:
    """Names the values of labels; `declared` is what who imports says of those of which nothing else does."""

    declared: tuple[Named, ...] = ()

    def of(self, told: Told, values: Sequence[int]) -> Sequence[tuple[int, str]]:
        """Return every value of a label's file and its name, where the file itself names none.

        By `label_info`, else by the names that the model's answer came with, else as declared. Raises InvalidLabelmap
        where nothing says it, or what says it fits in two ways.
        """
        try:
            if told.label_info is not None:
                return names_by_rank_or_number(listed_segments(told.label_info), values)
            if told.label_names is not None:
                return names_by_number(listed_names(told.label_names), values)
        except AnnotateError as error:
            if not self.declared:
                raise InvalidLabelmap(error.detail, remedy=_NAME_THEM) from error
        if not self.declared:
            listing = ", ".join(map(str, values[:10])) or "none"
            raise InvalidLabelmap(f"nothing says what its values mean (it holds {listing})", remedy=_NAME_THEM)
        return names_by_number(self.declared, values)

    def key(self, told: Told) -> object:
        """Return what the names of a label depend on, as JSON values: other names make another label."""
        return _listed(told) or self.declared

    def segments(self, labels: Iterable[ForeignLabel]) -> tuple[Segment, ...]:
        """Return every segment that an index names, each once, in their order."""
        names: dict[str, str] = {}
        for listed in (*(_listed(label.told) for label in labels), self.declared):
            for name, _ in listed:
                names.setdefault(name.casefold(), name)
        return tuple(Segment(index, name, distinct_colour(index)) for index, name in enumerate(names.values(), 1))


def _listed(told: Told) -> tuple[Named, ...]:
    """Return what an index names of a label; nothing where it makes no sense, which the label's own report says."""
    try:
        if told.label_info is not None:
            return listed_segments(told.label_info)
        return () if told.label_names is None else listed_names(told.label_names)
    except AnnotateError:
        return ()
