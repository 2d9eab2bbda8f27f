"""The manifest of a batch: `manifest.jsonl`, a line a case, that machines read and `--resume` goes on from."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import Problem
from annotate_server.domain.geometry import Geometry
from annotate_server.imaging.measure import SegmentMeasurement

NAME = "manifest.jsonl"


class Status(StrEnum):
    """How a case ended; skipped is no failure: the model is not made for it."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class Output:
    """A file that was written, by its path below the output folder."""

    path: str
    sha256: str


@dataclass(frozen=True)
class ManifestLine:
    """What became of one case.

    `fingerprint` is over the names, sizes and times of the input files: what `--resume` compares without reading
    voxels. `digest` is over geometry and voxels; it and `geometry` are None where the volume was never read.
    """

    source: str
    key: str
    status: Status
    model: str
    version: str
    fingerprint: str
    seconds: float = 0.0
    case: str | None = None
    digest: str | None = None
    modality: str | None = None
    geometry: Geometry | None = None
    outputs: tuple[Output, ...] = ()
    segments: tuple[SegmentMeasurement, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = None

    def as_json(self) -> Mapping[str, object]:
        """Return the line as it is written."""
        return {
            "source": self.source,
            "key": self.key,
            "status": self.status,
            "model": self.model,
            "version": self.version,
            "case": self.case,
            "digest": self.digest,
            "fingerprint": self.fingerprint,
            "modality": self.modality,
            "geometry": _geometry_as_json(self.geometry),
            "outputs": [{"path": output.path, "sha256": output.sha256} for output in self.outputs],
            "segments": {m.segment.name: _measurement_as_json(m) for m in self.segments},
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "problem": None
            if self.problem is None
            else {"type": self.problem.type, "title": self.problem.title, "detail": self.problem.detail},
        }


def _measurement_as_json(measured: SegmentMeasurement) -> Mapping[str, object]:
    return {
        "volume_ml": _rounded(measured.volume_ml),
        "mean_intensity": _rounded(measured.mean_intensity),
        "diameter_mm": _rounded(measured.diameter_mm),
        "short_diameter_mm": _rounded(measured.short_diameter_mm),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _geometry_as_json(geometry: Geometry | None) -> Mapping[str, object] | None:
    if geometry is None:
        return None
    return {
        "shape": list(geometry.shape),
        "spacing_mm": list(geometry.spacing_mm),
        "direction": [list(axis) for axis in geometry.direction],
        "origin_mm": list(geometry.origin_mm),
    }


def source_of(stored: StoredVolume) -> str:
    """Return the path that a person would name: the file, or the folder of the series (and its part)."""
    place = stored.files[0] if len(stored.files) == 1 else Path(os.path.commonpath([f.parent for f in stored.files]))
    return f"{place}#{stored.part}" if stored.part else str(place)


class ManifestFile:
    """`manifest.jsonl` in an output folder; every line is on the disk before `append` returns."""

    def __init__(self, folder: Path) -> None:
        """Use `manifest.jsonl` in `folder`."""
        self._path = folder / NAME

    def earlier(self) -> dict[str, Mapping[str, Any]]:
        """Return the lines of an earlier run by source key, the last one of each; a torn last line is left out."""
        lines: dict[str, Mapping[str, Any]] = {}
        if not self._path.is_file():
            return lines
        for text in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(line, dict) and isinstance(line.get("key"), str):
                lines[line["key"]] = line
        return lines

    def begin(self, kept: list[Mapping[str, Any]]) -> None:
        """Write the manifest anew with the lines that stay; the old one is there until the new one is whole."""
        part = self._path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as stream:
            stream.writelines(_text(line) for line in kept)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self._path)

    def append(self, line: ManifestLine) -> None:
        """Add one case."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(_text(line.as_json()))
            stream.flush()
            os.fsync(stream.fileno())


def _text(line: Mapping[str, object]) -> str:
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
