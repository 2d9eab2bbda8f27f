"""The SQLite file of a workspace: how it is opened, checked, migrated and written to."""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, IntegrityError

from annotate_server.domain.errors import AnnotateError, NoSpace, NotFound, StateError, StorageFailed, TooBusy
from annotate_server.imaging.whole_file import make_folder, part_file, refused_by_disk, settle, sync_folder
from annotate_server.stores.schema import REVISION

FILE_NAME = "annotate.sqlite"
BUSY_TIMEOUT_S = 10
SYNCHRONOUS = "FULL"
"""NORMAL would keep the file whole through a power cut and lose what was acknowledged last."""
MIGRATIONS = Path(__file__).parent / "migrations"
_HARDLY_ANY_BYTES = 1 << 20
_WRITING = "annotate_writing"
_log = logging.getLogger(__name__)


class Database:
    """Transactions on one file, from any thread; writers take turns."""

    def __init__(self, engine: Engine, path: Path) -> None:
        """Use an engine of `_engine`."""
        self._engine = engine
        self.path = path
        self._turn = threading.RLock()
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Return why nothing is written any more, None while all is well.

        After a sync that failed, what the kernel holds is not what the disk holds, and a second sync would lie.
        """
        return self._failure

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and holds up no writer."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the one connection that may write; on a clean exit all of it is on the disk, else none.

        Raises NoSpace, NotFound for a reference to nothing, StateError for what is there already, StorageFailed.
        """
        with self._turn, self._translated():
            if self._failure:
                raise StorageFailed(self._failure, source=str(self.path), remedy="Check the disk and start again.")
            with self._engine.connect().execution_options(**{_WRITING: True}) as connection, connection.begin():
                yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with translated(self.path):
                yield
        except StorageFailed as error:
            cause = error.__cause__
            if isinstance(cause, DatabaseError) and _name(cause).startswith("SQLITE_IOERR"):
                if "FSYNC" in _name(cause):
                    self._failure = "a sync of the database failed earlier, so that nothing more is written"
                _log.exception("the database refused", extra={"action": "database-failed"})
            raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite into those of the domain."""
    try:
        yield
    except IntegrityError as error:
        raise _constraint(error) from error
    except DatabaseError as error:
        if _is_for_want_of_space(_name(error), path):
            raise NoSpace("the disk is full", source=str(path), remedy="Free space on it and try again.") from error
        if _name(error) == "SQLITE_BUSY":
            raise TooBusy("another process is writing to the database", source=str(path)) from error
        raise StorageFailed(f"the database refused ({error.orig})", source=str(path), remedy=_REPAIR) from error


def open_database(path: Path, migrations: Path = MIGRATIONS, revision: str = REVISION) -> Database:
    """Open the database at `path`, or make it; one of an older revision is copied, then migrated.

    The copy lies beside it as `annotate-<revision>-<time>.sqlite`. Raises StorageFailed where the file is damaged or
    of a newer version of the program.
    """
    with refused_by_disk(path):
        make_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        sync_folder(path.parent)
    engine = _engine(path)
    try:
        with translated(path):
            _check(engine, path)
            found = revision_of(engine)
            if found != revision:
                _migrate(engine, path, found, migrations)
    except AnnotateError:
        engine.dispose()
        raise
    return Database(engine, path)


def join_database(path: Path) -> Database:
    """Open the database of a workspace whose server has checked and migrated it already: quick, for its workers.

    Raises StorageFailed where it is of another revision.
    """
    engine = _engine(path)
    try:
        with translated(path):
            found = revision_of(engine)
        if found != REVISION:
            raise StorageFailed(f"the database is of revision {found}, not {REVISION}", source=str(path))
    except AnnotateError:
        engine.dispose()
        raise
    return Database(engine, path)


def revision_of(engine: Engine) -> str | None:
    """Return the revision of a database's schema; None for an empty database."""
    with engine.connect() as connection:
        known = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).first()
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first() if known else None
    return str(row[0]) if row else None


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that may be in use, one state of it, to `target`, whole and on the disk."""
    with refused_by_disk(target), translated(source), part_file(target.parent, target.name) as temporary:
        try:
            _copy(source, temporary)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
                raise NoSpace("the disk is full", source=str(target), remedy="Free space on it.") from error
            raise StorageFailed(f"it could not be copied ({error})", source=str(source)) from error
        settle(temporary, target)
        target.chmod(0o600)


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=40, max_overflow=40)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _: object) -> None:
    """Set up a connection; transactions are begun by `_begin`, since sqlite3 would begin them late."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", f"synchronous = {SYNCHRONOUS}", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")


def _begin(connection: Connection) -> None:
    """Begin; a writer takes the lock at once, so that what it read cannot have changed when it writes."""
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _check(engine: Engine, path: Path) -> None:
    with engine.connect() as connection:
        found = [str(row[0]) for row in connection.execute(text("PRAGMA quick_check(5)"))]
    if found != ["ok"]:
        raise StorageFailed(f"the database is damaged ({'; '.join(found)})", source=str(path), remedy=_REPAIR)


def _migrate(engine: Engine, path: Path, found: str | None, migrations: Path) -> None:
    """Bring the schema to the newest revision, in one transaction; alembic is loaded only for this."""
    from annotate_server.stores.migrating import known_revisions, upgrade  # noqa: PLC0415  slow, and rarely needed

    if found is not None and found not in known_revisions(migrations):
        raise StorageFailed(
            f"the database is of revision {found}, which this version of the program does not know",
            source=str(path),
            remedy="Use the newer version of the program that made it, or another workspace.",
        )
    if found is not None:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        copy_database(path, path.with_name(f"{path.stem}-{found}-{now}{path.suffix}"))
        _log.info("migrating the database from revision %s", found, extra={"action": "database-migrated"})
    with engine.connect().execution_options(**{_WRITING: True}) as connection, connection.begin():
        upgrade(connection, migrations)


def _is_for_want_of_space(name: str, path: Path) -> bool:
    """Say whether a full disk is behind an error: SQLite says so only of the files that it writes by itself."""
    if name.startswith("SQLITE_IOERR"):
        with suppress(OSError):
            disk = os.statvfs(path.parent)
            return name == "SQLITE_IOERR_SHMSIZE" or disk.f_bavail * disk.f_frsize < _HARDLY_ANY_BYTES
    return name == "SQLITE_FULL"


def _constraint(error: IntegrityError) -> AnnotateError:
    name = _name(error)
    if "FOREIGNKEY" in name:
        return NotFound("it belongs to a case, project or session that is not known")
    if "UNIQUE" in name or "PRIMARYKEY" in name:
        return StateError("it is there already")
    return StorageFailed(f"the database refused ({error.orig})")


def _name(error: DatabaseError) -> str:
    with suppress(AttributeError):
        return str(error.orig.sqlite_errorname)  # type: ignore[union-attr]  # sqlite3's own attribute
    return ""


_REPAIR = "Run `annotate workspace check`; a backup can be used in its place."
