"""What a scan remembers in a small SQLite file: which files were there, and what their series hold.

A cache and nothing else: a damaged or outdated file is thrown away and made again. It may name patients, as the files
do, and is readable by its owner only.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from os import fsdecode, fsencode
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError, OperationalError

from annotate_server.domain.case import StoredVolume
from annotate_server.stores.folder_walk import Signature
from annotate_server.stores.stored_volume_json import stored_volume_as_json, stored_volume_of_json

VERSION = 1
"""Raise it when a header is judged otherwise than before: what was remembered is then found out again."""
BUSY_TIMEOUT_S = 30

Copies = tuple[tuple[StoredVolume, ...], ...]
"""What one series holds: the volumes of each folder that has a copy of it."""

_METADATA = MetaData()
_FILES = Table(
    "file",
    _METADATA,
    Column("root", LargeBinary, primary_key=True),
    Column("name", LargeBinary, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
    Column("series", LargeBinary, nullable=False),
)
_SERIES = Table(
    "series",
    _METADATA,
    Column("root", LargeBinary, primary_key=True),
    Column("series", LargeBinary, primary_key=True),
    Column("copies", String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file as it was when it was last looked into; `series` is empty for what is no volume."""

    signature: Signature
    series: str


@dataclass(frozen=True)
class Change:
    """What a scan found out since the last one; a series without volumes is forgotten."""

    files: Mapping[str, KnownFile] = field(default_factory=dict)
    gone: Sequence[str] = ()
    series: Mapping[str, Copies] = field(default_factory=dict)


class IndexDamaged(Exception):
    """The file is no index, or one of another version."""


class IndexUnusable(Exception):
    """The index is locked by another process, or cannot be written."""


class ScanIndex:
    """The index of the files below one root, in a SQLite file or, for None, in memory."""

    def __init__(self, path: Path | None, root: Path) -> None:
        """Open or make the file. Raises IndexDamaged or IndexUnusable."""
        self._root = fsencode(root)
        self._folder = root if root.is_dir() else root.parent
        with _translated():
            self._engine = _engine(path)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def files(self) -> dict[str, KnownFile]:
        """Return what is known of the files below the root, by name."""
        columns = (_FILES.c.name, _FILES.c.size_bytes, _FILES.c.mtime_ns, _FILES.c.inode, _FILES.c.series)
        with _translated(), self._engine.connect() as connection:
            rows = connection.execute(select(*columns).where(_FILES.c.root == self._root))
            return {
                fsdecode(name): KnownFile(Signature(*signature), fsdecode(series)) for name, *signature, series in rows
            }

    def series(self) -> Iterator[tuple[str, Copies]]:
        """Yield what is known of the series below the root."""
        with _translated(), self._engine.connect() as connection:
            rows = connection.execute(select(_SERIES.c.series, _SERIES.c.copies).where(_SERIES.c.root == self._root))
            for series, copies in rows:
                yield fsdecode(series), _copies(copies, self._folder)

    def apply(self, change: Change) -> None:
        """Remember a change, whole or not at all."""
        with _translated(), self._engine.begin() as connection:
            names = [fsencode(name) for name in (*change.gone, *change.files)]
            self._forget(connection, _FILES, "name", names)
            self._forget(connection, _SERIES, "series", [fsencode(key) for key in change.series])
            files = [self._file_row(name, known) for name, known in change.files.items()]
            series = [
                {"root": self._root, "series": fsencode(key), "copies": _text(copies, self._folder)}
                for key, copies in change.series.items()
                if copies
            ]
            for table, rows in ((_FILES, files), (_SERIES, series)):
                if rows:
                    connection.execute(insert(table), rows)

    def _forget(self, connection: Connection, table: Table, column: str, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), 500):
            some = table.c[column].in_(keys[start : start + 500])
            connection.execute(delete(table).where(table.c.root == self._root, some))

    def _file_row(self, name: str, known: KnownFile) -> Mapping[str, Any]:
        return {"root": self._root, "name": fsencode(name), **asdict(known.signature), "series": fsencode(known.series)}


def _engine(path: Path | None) -> Engine:
    engine = create_engine(
        "sqlite://" if path is None else f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    event.listen(engine, "connect", _configure)
    if path is not None:
        path.touch(mode=0o600)
    with engine.begin() as connection:
        version = connection.execute(text("PRAGMA user_version")).scalar_one()
        if version not in (0, VERSION):
            raise IndexDamaged
        _METADATA.create_all(connection)
        connection.execute(text(f"PRAGMA user_version = {VERSION}"))
    return engine


def _configure(connection: sqlite3.Connection, _: object) -> None:
    """Set up a connection: readers do not wait for a writer, and a lost commit costs no more than another look."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the errors of the database into what the caller acts upon."""
    try:
        yield
    except (OperationalError, OSError) as error:
        raise IndexUnusable(str(error)) from error
    except (DatabaseError, ValueError, KeyError, TypeError, IndexError) as error:
        raise IndexDamaged(str(error)) from error


def _text(copies: Copies, folder: Path) -> str:
    return json.dumps([[_record(stored, folder) for stored in copy] for copy in copies], separators=(",", ":"))


def _record(stored: StoredVolume, folder: Path) -> Mapping[str, object]:
    """Return a volume without key as what JSON can hold; paths relative to the folder that was scanned."""
    relative = tuple(path.relative_to(folder) for path in stored.files)
    record = stored_volume_as_json(replace(stored, files=relative))
    left_out = {"key"} if stored.problem else {"key", "problem"}
    return {name: value for name, value in record.items() if name not in left_out}


def _copies(content: str, folder: Path) -> Copies:
    return tuple(tuple(stored_volume_of_json(record, folder) for record in copy) for copy in json.loads(content))
