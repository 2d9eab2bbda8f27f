"""What an archive answers to a search and to instances that were sent: identifiers and numbers, nothing else."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from annotate_server.domain.dicom_uids import is_uid
from annotate_server.domain.volume import Modality
from annotate_server.stores.dicomweb_line import ArchiveLine

MODALITIES = (Modality.CT, Modality.MR)
"""What volumes are looked for in an archive."""
_STUDY, _SERIES, _INSTANCES = "0020000D", "0020000E", "00201209"
_FAILED, _REASON = "00081198", "00081197"
_PAGE = 100


@dataclass(frozen=True)
class FoundSeries:
    """A series of the archive; `instances` is how many it has, as far as the archive says (else 0)."""

    study: str
    series: str
    modality: Modality
    instances: int = 0


def searched(line: ArchiveLine) -> Iterator[FoundSeries]:
    """Yield the CT and MR series of an archive, page by page; one that does not know pages ends with the first.

    Raises the errors of `ArchiveLine.rows`.
    """
    for modality in MODALITIES:
        seen: set[str] = set()
        offset = 0
        while True:
            query = [("Modality", str(modality)), ("limit", str(_PAGE)), ("offset", str(offset))]
            rows = line.rows("/series", [*query, ("includefield", _STUDY), ("includefield", _INSTANCES)])
            fresh = [each for row in rows if (each := _found(row, modality)) and each.series not in seen]
            yield from fresh
            if not fresh:
                break
            seen.update(each.series for each in fresh)
            offset += len(rows)


def _found(row: Mapping[str, Any], modality: Modality) -> FoundSeries | None:
    """Return a row of a search; None for one without the identifiers of a series."""
    study, series = _word(row, _STUDY), _word(row, _SERIES)
    if not (is_uid(study) and is_uid(series)):
        return None
    count = _word(row, _INSTANCES)
    return FoundSeries(study, series, modality, int(count) if count.isdecimal() and len(count) < 9 else 0)


def _word(row: Mapping[str, Any], tag: str) -> str:
    attribute = row.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def failure_of(content: bytes) -> str | None:
    """Return why an archive did not keep an instance, as it says (PS3.18 table I.2-2); None where it does not."""
    try:
        said = json.loads(content[: 1 << 20])
    except (ValueError, RecursionError):
        return None
    failed = said.get(_FAILED, {}) if isinstance(said, dict) else {}
    values = failed.get("Value") if isinstance(failed, dict) else None
    if not isinstance(values, list) or not values:
        return None
    code = _word(values[0], _REASON) if isinstance(values[0], dict) else ""
    return f"{int(code):04X}" if code.isdecimal() and len(code) < 9 else "unknown"
