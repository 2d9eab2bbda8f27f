"""How long a folder of many studies takes to scan for the first time, again, and after one new study.

python benchmarks/folder_scan.py --studies 5000 --slices 4
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from annotate_server.imaging.isolation import Isolated
from annotate_server.stores.folder_studies import FolderStudies

SIDE = 16


def main() -> None:
    """Make the studies in a temporary folder, scan them three times, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--slices", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, index = Path(name) / "studies", Path(name) / "scan.sqlite"
        for study in range(wanted.studies):
            write_study(folder, study, wanted.slices)
        measure("first scan", folder, index)
        measure("second scan", folder, index)
        write_study(folder, wanted.studies, wanted.slices)
        measure("after one more study", folder, index)
        print(f"index: {index.stat().st_size / 1e6:.1f} MB")  # noqa: T201  a script for people


def measure(what: str, folder: Path, index: Path) -> None:
    """Scan and print how long it took, in this process and in the one that parses."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.monotonic()
    here = time.process_time()
    with Isolated() as isolated:
        volumes = sum(1 for _ in FolderStudies(folder, isolated, index).scan())
    seconds, here = time.monotonic() - started, time.process_time() - here
    there = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    line = f"{what}: {volumes} volumes in {seconds:.1f} s (CPU {here:.1f} s here, {there:.1f} s in the parser)"
    print(line, file=sys.stdout)  # noqa: T201


def write_study(folder: Path, study: int, slices: int) -> None:
    """Write a CT study with one small series."""
    place = folder / f"{study // 100:03d}" / f"study{study:05d}"
    place.mkdir(parents=True)
    voxels = np.arange(SIDE * SIDE, dtype="<i2").tobytes()
    for k in range(slices):
        dataset = Dataset()
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        dataset.SOPInstanceUID = f"1.2.3.{study}.{k + 1}"
        dataset.Modality, dataset.PatientID, dataset.SeriesDescription = "CT", f"P{study}", "scan"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.{study}", f"1.2.3.{study}"
        dataset.FrameOfReferenceUID, dataset.InstanceNumber = f"1.2.4.{study}", k + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 5 * k], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.8], 5
        dataset.Rows = dataset.Columns = SIDE
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = voxels
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(place / f"{k}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
