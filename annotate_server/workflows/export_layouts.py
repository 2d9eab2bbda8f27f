"""The layouts of exports: which file lies where, and the tables beside them.

nnU-Net v2: its `documentation/dataset_format.md` and `ignore_label.md`. Medical Segmentation Decathlon: the
`dataset.json` of its tasks. BIDS: specification 1.10, imaging derivatives (discrete segmentations, `dseg.tsv`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from annotate_server import __version__
from annotate_server.domain.errors import InvalidRequest, StateError
from annotate_server.domain.volume import Modality
from annotate_server.workflows.export_plan import ExportCase, ExportFormat, ExportPlan

_SUFFIX = ".nii.gz"
_PIPELINE = "derivatives/annotate-server"
_CHANNEL: Mapping[Modality | None, str] = {
    Modality.CT: "CT",
    Modality.MR: "MRI",
    Modality.PT: "PET",
    Modality.OTHER: "other",
    None: "unknown",
}
"""nnU-Net normalises `CT` by the intensities in the foreground and everything else by z-score."""
_CONTRASTS = (("FLAIR", r"flair"), ("T1w", r"\bt1(?!\d)"), ("T2w", r"\bt2(?!\d)"), ("PDw", r"\bpd\b"))


@dataclass(frozen=True)
class Place:
    """Where volume and label of a case lie below the dataset's folder, and what is written beside them."""

    volume: str
    label: str
    beside: Mapping[str, bytes]


class Layout(Protocol):
    """A form of data set."""

    def folder(self, out: Path, plan: ExportPlan) -> Path:
        """Return the data set's folder: `out`, or the one below it with the name that the form asks for."""
        ...

    def place(self, case: ExportCase, plan: ExportPlan) -> Place:
        """Return where a case lies; raises InvalidRequest where its name cannot be told."""
        ...

    def tables(self, cases: Sequence[ExportCase], plan: ExportPlan) -> Mapping[str, bytes]:
        """Return the files that describe the whole, by their paths."""
        ...


def layout_of(kind: ExportFormat) -> Layout:
    """Return the layout of a format."""
    layouts: Mapping[ExportFormat, Layout] = {
        ExportFormat.NNUNET: NnunetLayout(),
        ExportFormat.MSD: MsdLayout(),
        ExportFormat.BIDS: BidsLayout(),
    }
    return layouts[kind]


@dataclass(frozen=True)
class NnunetLayout:
    """`DatasetXXX_Name` with imagesTr and labelsTr; what may not be learned from is in imagesTs and labelsTs."""

    def folder(self, out: Path, plan: ExportPlan) -> Path:
        """Return the folder, which has to be called so."""
        return _named(out, r"Dataset\d{3}_\w+", f"Dataset{plan.order.number:03}_{plan.name}")

    def place(self, case: ExportCase, plan: ExportPlan) -> Place:
        """Return the place: the channel's number ends the volume's name."""
        part, name = _part(case), _name(case, plan)
        return Place(f"images{part}/{name}_0000{_SUFFIX}", f"labels{part}/{name}{_SUFFIX}", {})

    def tables(self, cases: Sequence[ExportCase], plan: ExportPlan) -> Mapping[str, bytes]:
        """Return `dataset.json`; the ignore label is the highest number."""
        labels = {"background": 0, **{segment.name: segment.index for segment in plan.segments}}
        if plan.has_silence:
            labels["ignore"] = plan.silent_value
        table = {
            "channel_names": {"0": _CHANNEL[plan.modality]},
            "labels": labels,
            "numTraining": sum(not case.is_held_back for case in cases),
            "file_ending": _SUFFIX,
            "name": plan.name,
            "description": plan.project.title,
        }
        return {"dataset.json": _json(table)}


@dataclass(frozen=True)
class MsdLayout:
    """A task of the Medical Segmentation Decathlon; labels that are silent about some voxels cannot be told in it."""

    def folder(self, out: Path, plan: ExportPlan) -> Path:
        """Return the folder."""
        return _named(out, r"Task\d+_\w+", f"Task{plan.order.number:02}_{plan.name}")

    def place(self, case: ExportCase, plan: ExportPlan) -> Place:
        """Return the place: volume and label have one name."""
        if not case.speaks_fully:
            raise StateError(
                "the label does not speak about every segment and slice, which this format cannot say",
                remedy="Export as nnunet, or finish the label.",
            )
        part, name = _part(case), _name(case, plan)
        return Place(f"images{part}/{name}{_SUFFIX}", f"labels{part}/{name}{_SUFFIX}", {})

    def tables(self, cases: Sequence[ExportCase], plan: ExportPlan) -> Mapping[str, bytes]:
        """Return `dataset.json`."""
        places = [(case, self.place(case, plan)) for case in cases]
        training = [place for case, place in places if not case.is_held_back]
        test = [place for case, place in places if case.is_held_back]
        table = {
            "name": plan.name,
            "description": plan.project.title,
            "reference": "",
            "licence": "",
            "release": "",
            "tensorImageSize": "3D",
            "modality": {"0": _CHANNEL[plan.modality]},
            "labels": {"0": "background", **{str(s.index): s.name for s in plan.segments}},
            "numTraining": len(training),
            "numTest": len(test),
            "training": [{"image": f"./{place.volume}", "label": f"./{place.label}"} for place in training],
            "test": [f"./{place.volume}" for place in test],
        }
        return {"dataset.json": _json(table)}


@dataclass(frozen=True)
class BidsLayout:
    """A BIDS data set of the volumes, with the labels as a derivative: `_dseg.nii.gz` and one `dseg.tsv` for all."""

    def folder(self, out: Path, plan: ExportPlan) -> Path:
        """Return the folder as it was named."""
        return out

    def place(self, case: ExportCase, plan: ExportPlan) -> Place:
        """Return the place: a patient is a subject, a case a session."""
        kind, suffix = _bids_kind(case, plan)
        below, name = f"sub-{case.patient}/ses-{case.scan}/{kind}", f"sub-{case.patient}_ses-{case.scan}"
        volume = f"{below}/{name}_{suffix}{_SUFFIX}"
        label = f"{_PIPELINE}/{below}/{name}_space-orig_dseg"
        sidecar = {"Manual": True, "Sources": [f"bids:raw:{volume}"], "SpatialReference": "orig"}
        return Place(volume, f"{label}{_SUFFIX}", {f"{label}.json": _json(sidecar)})

    def tables(self, cases: Sequence[ExportCase], plan: ExportPlan) -> Mapping[str, bytes]:
        """Return the descriptions, the participants and the table of segments."""
        generated = {"Name": "annotate-server", "Version": __version__}
        raw = {"Name": plan.project.title, "BIDSVersion": "1.10.0", "DatasetType": "raw"}
        derived = {
            "Name": f"{plan.project.title}: approved labels",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [generated],
            "DatasetLinks": {"raw": "../.."},
        }
        files = {
            "dataset_description.json": _json({**raw, "GeneratedBy": [generated]}),
            "README": f"{plan.project.title}\n\nVolumes, and approved labels of them below {_PIPELINE}.\n".encode(),
            "participants.tsv": _participants(cases),
            "participants.json": _json({"part": {"Description": "train, or held back from training: gate, test"}}),
            f"{_PIPELINE}/dataset_description.json": _json(derived),
            f"{_PIPELINE}/dseg.tsv": _segments_table(plan),
        }
        if plan.modality is Modality.CT:
            files[".bidsignore"] = b"**/ct/\n"  # BIDS has no CT yet (BEP 24 is a proposal)
        return files


def _part(case: ExportCase) -> str:
    return "Ts" if case.is_held_back else "Tr"


def _name(case: ExportCase, plan: ExportPlan) -> str:
    return f"{plan.name}_{case.patient}_{case.scan}"


def _named(out: Path, pattern: str, name: str) -> Path:
    return out if re.fullmatch(pattern, out.name) else out / name


def _bids_kind(case: ExportCase, plan: ExportPlan) -> tuple[str, str]:
    """Return data type and suffix of a volume: BIDS has none that leaves the contrast of an MR open."""
    if plan.order.suffix is not None:
        return ("ct" if plan.modality is Modality.CT else "anat"), plan.order.suffix
    if plan.modality is Modality.CT:
        return "ct", "ct"
    description = case.case.case.reference.description
    for suffix, pattern in _CONTRASTS:
        if re.search(pattern, description.replace("_", " "), re.IGNORECASE):
            return "anat", suffix
    raise InvalidRequest("its description does not say which contrast it has", remedy="Name it: --suffix T1w.")


def _participants(cases: Sequence[ExportCase]) -> bytes:
    rows = sorted({(f"sub-{case.patient}", str(case.part)) for case in cases})
    return "".join(f"{subject}\t{part}\n" for subject, part in [("participant_id", "part"), *rows]).encode()


def _segments_table(plan: ExportPlan) -> bytes:
    """Return `dseg.tsv`: index, name and colour; what stands where a label says nothing is `unlabelled`."""
    rows = [("0", "Background", "#000000")]
    rows += [(str(s.index), s.name.replace("\t", " "), "#{:02x}{:02x}{:02x}".format(*s.colour)) for s in plan.segments]
    if plan.has_silence:
        rows.append((str(plan.silent_value), "unlabelled", "#7f7f7f"))
    return "".join("\t".join(row) + "\n" for row in [("index", "name", "color"), *rows]).encode()


def _json(table: Mapping[str, object]) -> bytes:
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()
