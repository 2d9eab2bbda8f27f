"""The card of an app out of a bundle's `metadata.json`: what it is for, its modality, its segments."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from annotate_server.backends.anatomy import segments_named
from annotate_server.backends.monai_bundle.answer import Answer
from annotate_server.backends.monai_bundle.config import Table
from annotate_server.backends.monai_bundle.files import BundleFiles
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.volume import Modality

_LICENCES = ("docs/LICENSE", "LICENSE", "docs/LICENSE.txt", "LICENSE.txt", "docs/license.txt")
_MODALITIES = {"CT": Modality.CT, "MR": Modality.MR, "MRI": Modality.MR, "PT": Modality.PT, "PET": Modality.PT}
_MOST_SEGMENTS = 254
"""Labels are uint8 here, and a training needs one value more, for what a label says nothing about."""
_LONGEST = 500
_NOT_FOR = "Not for diagnosis. Its authors name no other limits."


@dataclass(frozen=True)
class Description:
    """What `metadata.json` says of a bundle, read with care: every field may be missing or of another type."""

    table: Table
    label: str

    @property
    def title(self) -> str:
        """Return its name."""
        return self._text("name") or self._text("task") or self.label

    def modalities(self, asked: tuple[Modality, ...]) -> tuple[Modality, ...]:
        """Return those that a person gave, else the bundle's own; InvalidApp where neither says any."""
        own = _MODALITIES.get(str(self._image.get("modality", "")).strip().upper())
        found = asked or (() if own is None else (own,))
        if not found:
            raise InvalidApp(
                "the bundle does not say which modality it is for",
                source=self.label,
                remedy="Give --modality CT or MR.",
            )
        return found

    def segments(self, outputs: int, answer: Answer) -> tuple[Segment, ...]:
        """Return the segments of a network's channels; InvalidApp where the names are not those of its channels."""
        named = _channels(self._prediction.get("channel_def"))
        has_background = answer.threshold is None
        if not has_background and outputs > 1 and named.get(0, "").lower() == "background":
            raise InvalidApp(
                "the network gives background as one of several independent classes, which is not understood",
                source=self.label,
            )
        expected = range(1 if has_background else 0, outputs)
        strangers = sorted(set(named) - set(range(outputs)))
        unnamed = sorted(set(expected) - set(named)) if named else []
        if strangers or unnamed:
            raise InvalidApp(
                f"the network answers {outputs} channels, and channel_def of the metadata "
                + (f"names channel {strangers[0]}" if strangers else f"does not name channel {unnamed[0]}"),
                source=self.label,
                remedy="Correct configs/metadata.json.",
            )
        if not 1 <= len(expected) <= _MOST_SEGMENTS:
            raise InvalidApp(f"the network answers {len(expected)} segments; 1 to {_MOST_SEGMENTS} are possible")
        shift = 0 if has_background else 1
        return segments_named({n + shift: named.get(n, f"Segment {n + shift}") for n in expected})

    def card(self, files: BundleFiles) -> dict[str, object]:
        """Return the fields of an app that are texts."""
        licence = next((line for name in _LICENCES if (line := files.first_line(name))), "")
        references = self.table.get("references")
        sources = [str(each)[:_LONGEST] for each in references[:5]] if isinstance(references, list) else []
        parts = [self._text("authors"), self._text("copyright"), self._text("data_source"), *sources]
        return {
            "title": self.title,
            "purpose": self._text("description") or self._text("task") or self.title,
            "not_for": self._text("intended_use") or _NOT_FOR,
            "licence": licence or "not stated in the bundle",
            "attribution": " ".join(f"{part.rstrip('.')}." for part in parts if part) or "not stated in the bundle",
            "figures": self._figures(),
        }

    def _figures(self) -> list[str]:
        metrics = self.table.get("eval_metrics")
        version = self._text("version")
        if not isinstance(metrics, dict):
            return []
        numbers = [f"{name} {value}" for name, value in metrics.items() if isinstance(value, int | float)]
        told = f"as the authors of the bundle{f' (version {version})' if version else ''} state it"
        return [f"{', '.join(numbers)}: {told}; not measured here."] if numbers else []

    @property
    def _image(self) -> Table:
        return self._of("inputs", "image")

    @property
    def _prediction(self) -> Table:
        return self._of("outputs", "pred")

    def _of(self, *keys: str) -> Table:
        value: object = self.table
        for key in ("network_data_format", *keys):
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        return cast("Table", value) if isinstance(value, Mapping) else {}

    def _text(self, key: str) -> str:
        value = self.table.get(key)
        return " ".join(value.split())[:_LONGEST] if isinstance(value, str) else ""


def app_name(text: str) -> str:
    """Return a name for an app: small letters, digits and underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return (name if name[:1].isalpha() else f"bundle_{name}")[:64].rstrip("_")


def _channels(value: object) -> dict[int, str]:
    if not isinstance(value, Mapping):
        return {}
    return {int(key): str(name) for key, name in value.items() if str(key).isdigit() and len(str(key)) < 6}
