"""Whose volume a file without patient data is: by `patients.csv`, by the BIDS entity in its path, or unknown."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from annotate_server.domain.case import PatientKey
from annotate_server.domain.errors import UnreadableFile

TABLE = "patients.csv"
_BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[/_.])")


class FilePatients:
    """The patients of the files below one folder.

    `patients.csv` has the columns `file` (a path relative to the table, or a name) and `patient`; the one nearest to a
    file counts. Otherwise BIDS names the patient (`sub-01`), or else each file is a patient of its own.
    """

    def __init__(self, root: Path) -> None:
        """Look for tables below `root`, when they are first needed."""
        self._root = root
        self._tables: dict[PurePosixPath, Mapping[str, str]] = {}

    def of(self, name: str) -> PatientKey:
        """Return the patient of a file, `name` being its path relative to the root."""
        path = PurePosixPath(name)
        for folder in path.parents:
            table = self._table(folder)
            patient = table.get(str(path.relative_to(folder))) or table.get(path.name)
            if patient:
                return PatientKey("", patient)
        subject = _BIDS_SUBJECT.search(name)
        if subject:
            # The same `sub-01` of two data sets are two people.
            return PatientKey(str(self._root), subject.group(1))
        return PatientKey("", name, known=False)

    def _table(self, folder: PurePosixPath) -> Mapping[str, str]:
        if folder not in self._tables:
            self._tables[folder] = _read(self._root / folder / TABLE)
        return self._tables[folder]


def _read(path: Path) -> Mapping[str, str]:
    """Return patients by file; empty where there is no table. Raises UnreadableFile for one that says nothing."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile("the table of patients cannot be read", source=str(path)) from error
    if rows and not {"file", "patient"} <= set(rows[0]):
        raise UnreadableFile("the table of patients needs the columns `file` and `patient`", source=str(path))
    return {row["file"].strip(): row["patient"].strip() for row in rows if row["file"] and row["patient"]}
