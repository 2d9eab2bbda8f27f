"""Digests of voxels by the fingerprint of their files, so that a NIfTI file is read once and not at every start."""

import logging
import sqlite3
import threading
from pathlib import Path

log = logging.getLogger(__name__)


class IdentityFile:
    """Fulfils `store_ports.Identities` in a SQLite file of its own; a damaged one is made again."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._turn = threading.Lock()
        try:
            self._connection = _opened(path)
        except sqlite3.DatabaseError:
            log.warning("the file of identities was damaged and is made again", extra={"action": "scan"})
            path.unlink(missing_ok=True)
            self._connection = _opened(path)

    def digest(self, fingerprint: str) -> str | None:
        """Return the digest of the voxels of files with this fingerprint."""
        with self._turn:
            row = self._connection.execute("SELECT digest FROM voxels WHERE files = ?", (fingerprint,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, fingerprint: str, digest: str) -> None:
        """Keep a digest."""
        with self._turn, self._connection:
            self._connection.execute("INSERT OR REPLACE INTO voxels VALUES (?, ?)", (fingerprint, digest))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes is read again
    connection.execute("CREATE TABLE IF NOT EXISTS voxels (files TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID")
    return connection
