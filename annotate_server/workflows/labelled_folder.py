"""Labelled cases from a folder: `images/` and `labels/` with the same file names."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import InputError, InvalidLabelmap, UnreadableFile, error_of
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.model import ModelCard
from annotate_server.domain.ports import CaseReader
from annotate_server.domain.volume import Modality, Volume
from annotate_server.workflows.evaluate import LabelledCase
from annotate_server.workflows.evaluation import CaseFailure
from annotate_server.workflows.suitability import with_modality

IMAGES, LABELS = "images", "labels"
_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".mhd", ".dcm")
Scan = Callable[[Path], Iterable[StoredVolume]]


@dataclass(frozen=True)
class LabelledFolder:
    """A folder with `images/` and `labels/`; a case is a volume and the label file of the same name.

    Names are compared without the suffix, below the two folders: `images/a/1.nii.gz` goes with `labels/a/1.seg.nrrd`.
    A folder of DICOM `images/7/` goes with `labels/7.nii.gz`. Cases are read one at a time, when they are asked for.
    """

    folder: Path
    stored: tuple[StoredVolume, ...]

    @classmethod
    def found(cls, folder: Path, scan: Scan) -> "LabelledFolder":
        """Look what volumes there are; raises UnreadableFile where the folder has not the two parts."""
        for part in (IMAGES, LABELS):
            if not (folder / part).is_dir():
                raise UnreadableFile(
                    f"it has no folder {part}/",
                    source=str(folder),
                    remedy="Put volumes into images/ and labelmaps with the same file names into labels/.",
                )
        stored = tuple(scan(folder / IMAGES))
        if not stored:
            raise UnreadableFile("no volume was found in it", source=str(folder / IMAGES))
        return cls(folder, stored)

    def __len__(self) -> int:
        """Return the number of volumes, with labels or without."""
        return len(self.stored)

    def cases(
        self, reader: CaseReader, card: ModelCard, modality: Modality | None = None
    ) -> Iterator[LabelledCase | CaseFailure]:
        """Yield every case; one that cannot be read, or that has no label, as a failure with the reason."""
        for stored in self.stored:
            try:
                if stored.problem is not None:
                    raise error_of(stored.problem)
                volume = with_modality(reader.read(stored), card, modality)
                patient = stored.patient.pseudonym() if stored.patient.known else None
                yield LabelledCase(stored.key, volume, self._truth(stored, volume, reader), patient)
            except InputError as error:
                yield CaseFailure(stored.key, error.problem())

    def _truth(self, stored: StoredVolume, volume: Volume, reader: CaseReader) -> Labelmap:
        stem = next((stored.key.removesuffix(s) for s in _SUFFIXES if stored.key.endswith(s)), stored.key)
        for suffix in _SUFFIXES:
            path = self.folder / LABELS / f"{stem}{suffix}"
            if path.is_file():
                layers = reader.read_labelmap(path, volume)
                if len(layers) != 1:
                    raise InvalidLabelmap(
                        f"its segments overlap ({len(layers)} layers), and a draft has one layer", source=str(path)
                    )
                return layers[0]
        raise UnreadableFile(
            f"there is no label {LABELS}/{stem}.nii.gz (or .seg.nrrd, .nrrd, .mha, .dcm) for it", source=stored.key
        )
