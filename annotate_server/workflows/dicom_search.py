"""Searching for studies, series and instances by their attributes (QIDO-RS, PS3.18 section 10.6; PS3.4 C.2.2.2)."""

import fnmatch
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from annotate_server.domain.errors import AnnotateError, TooLarge
from annotate_server.workflows.dicom_serving import DicomServing
from annotate_server.workflows.dicom_shelf import ShelvedSeries

Json = dict[str, Any]
STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"
_MODALITY, _MODALITIES = "00080060", "00080061"
_MOST_OPENED = 500
_LIST_VRS = frozenset({"UI", "CS"})


class Level(StrEnum):
    """What is searched for."""

    STUDIES = "studies"
    SERIES = "series"
    INSTANCES = "instances"


def _words_of(text: str) -> list[str]:
    return text.split()


_OF_STUDY = frozenset(
    _words_of(
        "00080005 00080020 00080030 00080050 00080056 00080061 00080090 00081030 00100010 00100020 00100030 "
        "00100040 0020000D 00200010 00201206 00201208"
    )
)
_OF_SERIES = frozenset(
    _words_of(
        "00080005 00080021 00080031 00080056 00080060 0008103E 00180015 0020000D 0020000E 00200011 00201209 "
        "00400244 00400245"
    )
)
_OF_INSTANCE = frozenset(
    _words_of(
        "00080005 00080016 00080018 00080056 00083002 0020000D 0020000E 00200013 00280008 00280010 00280011 00280100"
    )
)
ALWAYS: Mapping[Level, frozenset[str]] = {
    Level.STUDIES: _OF_STUDY,
    Level.SERIES: _OF_SERIES,
    Level.INSTANCES: _OF_INSTANCE,
}
"""What every answer of a level has (PS3.18 tables 10.6.3-3 to 10.6.3-5)."""

_VR_OF_DATES = frozenset({"DA", "TM", "DT"})


@dataclass(frozen=True)
class Search:
    """What is looked for: a pattern for each tag, and which tags the answer has beside the usual ones.

    `included` may hold `all`. The study and series of the address are patterns like any other.
    """

    level: Level
    patterns: Mapping[str, str] = field(default_factory=dict)
    included: frozenset[str] = frozenset()
    limit: int = 1000
    offset: int = 0


@dataclass(frozen=True)
class Findings:
    """The rows of a page, as DICOM JSON, and whether there are more."""

    rows: tuple[Json, ...]
    has_more: bool = False


def found(search: Search, serving: DicomServing) -> Findings:
    """Return what fits a search; raises TooLarge for one that would open too many series."""
    rows: list[Json] = []
    for number, row in enumerate(_rows(search, serving), 1):
        if number > search.offset + search.limit:
            return Findings(tuple(rows), has_more=True)
        if number > search.offset:
            rows.append(_shown(row, search))
    return Findings(tuple(rows))


def _rows(search: Search, serving: DicomServing) -> Iterator[Json]:
    """Yield whole rows that fit: studies newest first, their series by number, instances as they are ordered."""
    studies = [(group, list(serving.heads(group))) for group in _groups(search, serving)]
    studies.sort(key=lambda study: _newest([head for _, head in study[1]]), reverse=True)
    chosen: list[tuple[ShelvedSeries, Mapping[str, str]]] = []
    for _, heads in studies:
        of_study = _study_row([head for _, head in heads])
        if search.level is Level.STUDIES:
            if _fits_study(search.patterns, of_study, [head for _, head in heads]):
                yield of_study
            continue
        for shelved, head in sorted(heads, key=lambda pair: _number(pair[1], "00200011")):
            row = {**of_study, **head}
            if search.level is Level.SERIES:
                if _fits(search.patterns, row):
                    yield row
            elif _fits({tag: p for tag, p in search.patterns.items() if tag in row}, row):
                chosen.append((shelved, {tag: p for tag, p in search.patterns.items() if tag not in row}))
    yield from _instances(serving, chosen)


def _groups(search: Search, serving: DicomServing) -> Iterable[tuple[ShelvedSeries, ...]]:
    """Return the series of the studies that can fit at all: identifiers are looked up, not searched for."""
    named = search.patterns.get(STUDY)
    if named is None or "*" in named or "?" in named:
        return serving.shelf.studies()
    found_here = []
    for uid in re.split(r"[,\\]", named):
        try:
            found_here.append(serving.shelf.study(uid.strip()))
        except AnnotateError:
            continue
    return found_here


def _instances(serving: DicomServing, chosen: Sequence[tuple[ShelvedSeries, Mapping[str, str]]]) -> Iterator[Json]:
    """Yield the instances of series that fit what is still to be looked at in them."""
    if len(chosen) > _MOST_OPENED:
        raise TooLarge(
            f"the instances of {len(chosen)} series would have to be looked at, and the limit is {_MOST_OPENED}",
            remedy="Name a study.",
        )
    for shelved, patterns in chosen:
        try:
            metadata = serving.series(shelved.study, shelved.series).metadata()
        except AnnotateError:
            continue  # its files are gone or damaged: it is found again with the next scan
        for row in json.loads(gzip.decompress(metadata)):
            if _fits(patterns, row):
                yield row


def _study_row(heads: Sequence[Json]) -> Json:
    """Return what a study says: the words of its first series, the modalities and numbers of all."""
    if not heads:
        return {}
    first = min(heads, key=lambda head: _number(head, "00200011"))
    modalities = sorted({word for head in heads for word in _words(head.get(_MODALITY))})
    counts = [_number(head, "00201209") for head in heads]
    return {
        **{tag: value for tag, value in first.items() if tag not in _OF_SERIES or tag in _OF_STUDY},
        _MODALITIES: {"vr": "CS", "Value": modalities},
        "00201206": {"vr": "IS", "Value": [len(heads)]},
        "00201208": {"vr": "IS", "Value": [int(sum(counts))]},
    }


def _fits_study(patterns: Mapping[str, str], row: Json, heads: Sequence[Json]) -> bool:
    """Say whether a study fits; what only its series have must fit one of them."""
    if not row:
        return False
    own = {tag: pattern for tag, pattern in patterns.items() if tag in _OF_STUDY or tag not in _OF_SERIES}
    rest = {tag: pattern for tag, pattern in patterns.items() if tag not in own}
    return _fits(own, row) and (not rest or any(_fits(rest, head) for head in heads))


def _fits(patterns: Mapping[str, str], row: Json) -> bool:
    return all(_fits_pattern(pattern, row.get(tag)) for tag, pattern in patterns.items())


def _fits_pattern(pattern: str, attribute: Json | None) -> bool:
    """Say whether an attribute fits; an empty pattern, or `*`, fits everything, also what is not there."""
    if pattern.strip() in ("", "*"):
        return True
    vr = attribute.get("vr", "") if attribute else ""
    words = _words(attribute)
    if vr in _VR_OF_DATES:
        return any(_fits_range(pattern, word) for word in words)
    choices = re.split(r"[,\\]", pattern) if vr in _LIST_VRS else [pattern]
    flags = re.IGNORECASE | re.DOTALL if vr == "PN" else re.DOTALL
    # `fnmatch` makes expressions that cannot be made to search for ever; only * and ? are wildcards in DICOM
    expressions = [re.compile(fnmatch.translate(choice.strip().replace("[", "[[]")), flags) for choice in choices]
    return any(expression.match(word) for expression in expressions for word in words)


def _fits_range(pattern: str, word: str) -> bool:
    """Say whether a date or time lies within `a-b`, `a-`, `-b`, or is the one that is named."""
    value = word.replace(":", "").split(".")[0]
    first, dash, last = pattern.replace(":", "").partition("-")
    if not dash:
        return value.startswith(first.split(".")[0])
    length = max(len(value), 6)
    lowest, highest = first.split(".")[0], last.split(".")[0]
    return value.ljust(length, "0") >= lowest.ljust(length, "0") and (
        not highest or value.ljust(length, "0") <= highest.ljust(length, "9")
    )


def _words(attribute: Json | None) -> list[str]:
    """Return the values of an attribute as texts; a person's name in all its writings."""
    words: list[str] = []
    for value in (attribute or {}).get("Value", []):
        if isinstance(value, dict):
            words += [str(part) for part in value.values()]
        elif value is not None:
            words.append(str(value))
    return words


def _number(row: Json, tag: str) -> float:
    values = _words(row.get(tag))
    try:
        return float(values[0]) if values else 0.0
    except ValueError:
        return 0.0


def _newest(heads: Sequence[Json]) -> tuple[str, str]:
    first = heads[0] if heads else {}
    return ("".join(_words(first.get("00080020"))), "".join(_words(first.get("00080030"))))


def _shown(row: Json, search: Search) -> Json:
    """Return the part of a row that is answered with."""
    usual = ALWAYS[search.level] | ({"0020000D", "0020000E"} if search.level is not Level.STUDIES else frozenset())
    if not {STUDY, SERIES} & search.patterns.keys() and search.level is not Level.STUDIES:
        usual |= _OF_STUDY - {"00201206", "00201208"}
    wanted = row if "all" in search.included else usual | search.included | search.patterns.keys()
    kept = {
        tag: value for tag, value in row.items() if tag in wanted and (search.level is Level.INSTANCES or tag != SOP)
    }
    return dict(sorted({"00080056": {"vr": "CS", "Value": ["ONLINE"]}, **kept}.items()))
