"""Export: approved labels with their volumes, in a layout that others train from.

A case is there whole or not at all, and the manifest says so only then: an export that was stopped goes on where it
was, and one that is repeated writes only what is new and takes away what is no longer approved. The files hold voxels,
grids and pseudonyms; the manifest names cases and labels by the server's own ids, which mean nothing outside.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from annotate_server.domain.errors import AnnotateError, Cancelled, NoSpace, StateError, StorageFailed
from annotate_server.domain.labelmap import LabelVoxels
from annotate_server.domain.learning_ports import PartStore
from annotate_server.domain.ports import Control
from annotate_server.domain.training import IGNORED, Example
from annotate_server.imaging.nifti_writing import write_nifti
from annotate_server.imaging.whole_file import digest_of, whole_file
from annotate_server.workflows.export_layouts import Layout, Place, layout_of
from annotate_server.workflows.export_plan import ExportCase, ExportOrder, ExportPlan, planned
from annotate_server.workflows.records import Records
from annotate_server.workflows.training_examples import StoredExamples

log = logging.getLogger(__name__)

MANIFEST = "export_manifest.jsonl"


@dataclass(frozen=True)
class ExportedCase:
    """What became of one case: written, kept from an earlier run, or not exported and why."""

    case: ExportCase
    is_new: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Exported:
    """What an export made: the data set's folder, its cases, and what a person should know."""

    folder: Path
    plan: ExportPlan
    cases: tuple[ExportedCase, ...]

    @property
    def failed(self) -> tuple[ExportedCase, ...]:
        """Return the cases that are not in the data set."""
        return tuple(case for case in self.cases if case.problem)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a person should know."""
        held = sum(each.case.is_held_back for each in self.cases)
        notes = list(self.plan.notes)
        if held:
            notes.append(f"{held} cases are of patients who must not be learned from: they lie apart.")
        silent = sum(not each.case.speaks_fully for each in self.cases)
        if silent:
            notes.append(f"{silent} labels do not speak about every segment and slice: what they leave open is marked.")
        return tuple(notes)


@dataclass(frozen=True)
class Exporter:
    """Exports projects of a workspace."""

    records: Records
    parts: PartStore
    examples: StoredExamples

    def export(self, order: ExportOrder, out: Path, control: Control) -> Exported:
        """Write a project's approved labels below `out`.

        A case that cannot be exported is told and never stops the rest. Raises StateError where nothing is approved or
        the folder holds something else, NoSpace where the disk is full.
        """
        plan, layout = planned(order, self.records, self.parts), layout_of(order.format)
        folder = layout.folder(out, plan)
        manifest = _Manifest.of(folder)
        done = []
        for number, case in enumerate(plan.cases):
            control.check()
            control.report(number / len(plan.cases), f"Case {number + 1} of {len(plan.cases)}")
            done.append(self._exported(case, plan, layout, manifest))
        there = [each.case for each in done if not each.problem]
        if there:
            for path, content in layout.tables(there, plan).items():
                _write(folder / path, content)
        manifest.keep_only({case.label.id for case in there})
        return Exported(folder, plan, tuple(done))

    def _exported(self, case: ExportCase, plan: ExportPlan, layout: Layout, manifest: "_Manifest") -> ExportedCase:
        try:
            place = layout.place(case, plan)
            if manifest.has(case, place, plan):
                return ExportedCase(case)
            self._write(case, place, plan, manifest)
        except (Cancelled, NoSpace):
            raise
        except AnnotateError as error:
            log.warning("label %s is not exported: %s", case.label.id, error.type, extra={"action": "export"})
            return ExportedCase(case, problem=str(error))
        return ExportedCase(case, is_new=True)

    def _write(self, case: ExportCase, place: Place, plan: ExportPlan, manifest: "_Manifest") -> None:
        example = self.examples.open(plan.entry(case), plan.training_set)
        geometry = example.volume.geometry
        for path, voxels in ((place.volume, example.volume.voxels), (place.label, numbered(example, plan))):
            with whole_file(manifest.folder / path) as temporary:
                write_nifti(voxels, geometry, temporary)
        for path, content in place.beside.items():
            _write(manifest.folder / path, content)
        manifest.add(case, place, plan)


def numbered(example: Example, plan: ExportPlan) -> LabelVoxels:
    """Return the label's voxels (k, j, i) in the plan's numbers.

    Where a label does not list every segment, its background may be any of the others: it says nothing there.
    """
    silent = example.target == IGNORED
    if len(example.known) < len(plan.segments):
        silent |= example.target == 0
    voxels = np.where(silent, plan.silent_value, example.target)
    return voxels.astype(np.uint8) if plan.silent_value <= np.iinfo(np.uint8).max else voxels.astype(np.uint16)


@dataclass
class _Manifest:
    """Which label's files lie in a data set, a line each; the newest line of a label counts."""

    folder: Path
    lines: dict[str, Mapping[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> "_Manifest":
        """Return the manifest of a folder; raises StateError where something else lies in it."""
        path = folder / MANIFEST
        if not path.is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise StateError(
                    "the folder is not empty and no export is in it",
                    source=str(folder),
                    remedy="Name another with --out.",
                )
            return cls(folder, {})
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            return cls(folder, {line["label"]: line for line in lines})
        except (OSError, ValueError, KeyError) as error:
            raise StorageFailed("the manifest of the export cannot be read", source=str(path)) from error

    def has(self, case: ExportCase, place: Place, plan: ExportPlan) -> bool:
        """Say whether a label's files are there as they were written."""
        line = self.lines.get(case.label.id)
        if line is None or line["meaning"] != plan.fingerprint:
            return False
        files: Mapping[str, str] = line["files"]
        wanted = {place.volume, place.label, *place.beside}
        return set(files) == wanted and all(digest_of(self.folder / path) == sha for path, sha in files.items())

    def add(self, case: ExportCase, place: Place, plan: ExportPlan) -> None:
        """Say that a label's files are there."""
        paths = (place.volume, place.label, *place.beside)
        line = {
            "label": case.label.id,
            "case": case.case.id,
            "patient": case.patient,
            "part": str(case.part),
            "meaning": plan.fingerprint,
            "files": {path: digest_of(self.folder / path) for path in paths},
        }
        self.lines[case.label.id] = line
        with (self.folder / MANIFEST).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def keep_only(self, labels: set[str]) -> None:
        """Take the files of other labels away, and write the manifest anew."""
        kept = {label: line for label, line in self.lines.items() if label in labels}
        wanted = set(_paths(kept))
        for path in set(_paths(self.lines)) - wanted:
            (self.folder / path).unlink(missing_ok=True)
        self.lines = kept
        if self.folder.is_dir():
            text = "".join(json.dumps(line) + "\n" for line in kept.values())
            _write(self.folder / MANIFEST, text.encode())


def _paths(lines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the files that lines name; one that leads out of the folder is none of ours."""
    for line in lines.values():
        yield from (path for path in line["files"] if not {"..", "/"} & set(PurePosixPath(path).parts))


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
