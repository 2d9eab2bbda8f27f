import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Thread

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, text

from annotate_server.domain.errors import NoSpace, NotFound, StateError, StorageFailed
from annotate_server.jobs.sqlite_queue import METADATA as JOB_METADATA
from annotate_server.stores.database import MIGRATIONS, Database, open_database, revision_of
from annotate_server.stores.migrating import known_revisions
from annotate_server.stores.schema import METADATA, REVISION

ADD = (
    "INSERT INTO project (id, title, segments, apps, modalities, review) VALUES ('p', 'Old', '[]', '[]', '[]', 'none')"
)
NEXT = f'''"""Adds a column."""

from alembic import op

revision = "newer"
down_revision = "{REVISION}"


def upgrade() -> None:
    op.execute("ALTER TABLE project ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")
'''


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "annotate.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def newer_migrations(tmp_path: Path) -> Path:
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "migrations" / "versions" / "newer_colour.py").write_text(NEXT)
    return tmp_path / "migrations"


def test_the_migrations_lead_to_the_revision_and_the_tables_of_the_code(database: Database) -> None:
    both = MetaData()
    for metadata in (METADATA, JOB_METADATA):
        for table in metadata.sorted_tables:
            table.to_metadata(both)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), both) == []
    assert known_revisions(MIGRATIONS)[0] == REVISION


def test_a_connection_is_durable_and_checks_references(database: Database) -> None:
    with database.writing() as connection:
        pragmas = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 1, 10_000]


def test_the_file_is_for_its_owner_only(database: Database) -> None:
    assert database.path.stat().st_mode & 0o077 == 0


def test_a_database_of_an_older_revision_is_copied_then_migrated(database: Database, newer_migrations: Path) -> None:
    with database.writing() as connection:
        connection.execute(text(ADD))
    database.close()

    migrated = open_database(database.path, newer_migrations, "newer")

    with migrated.reading() as connection:
        assert connection.execute(text("SELECT title, colour FROM project")).all() == [("Old", "red")]
    assert revision_of(migrated._engine) == "newer"
    migrated.close()
    (copy,) = database.path.parent.glob(f"annotate-{REVISION}-*.sqlite")
    with sqlite3.connect(copy) as old:
        assert old.execute("SELECT id, title, review FROM project").fetchall() == [("p", "Old", "none")]
        assert old.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
    old.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(database: Database, newer_migrations: Path) -> None:
    script = newer_migrations / "versions" / "newer_colour.py"
    script.write_text(NEXT + '    op.execute("DROP TABLE nowhere")\n')
    database.close()
    with pytest.raises(StorageFailed):
        open_database(database.path, newer_migrations, "newer")
    again = open_database(database.path)
    with again.reading() as connection:
        assert "colour" not in {row[1] for row in connection.execute(text("PRAGMA table_info(project)"))}
    again.close()


def test_a_database_of_a_newer_version_is_refused_and_not_touched(database: Database, newer_migrations: Path) -> None:
    database.close()
    open_database(database.path, newer_migrations, "newer").close()
    before = database.path.read_bytes()
    with pytest.raises(StorageFailed, match=r"revision newer.*newer version of the program"):
        open_database(database.path)
    assert database.path.read_bytes() == before


def test_opening_again_migrates_and_copies_nothing(database: Database) -> None:
    database.close()
    open_database(database.path).close()
    assert list(database.path.parent.glob("annotate-*.sqlite")) == []


@pytest.mark.parametrize("offset", [0, 4096, 8192 + 5])
def test_a_damaged_file_is_refused_with_what_to_do(database: Database, offset: int) -> None:
    database.close()
    with database.path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 3000)
    with pytest.raises(StorageFailed, match=r"backup|check"):
        open_database(database.path)


def test_a_full_disk_is_no_space_and_leaves_nothing_half_written(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE large (content BLOB)"))
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()

    def fill() -> None:
        with database.writing() as connection:
            connection.execute(text(f"PRAGMA max_page_count = {pages + 5}"))
            connection.execute(text("INSERT INTO large VALUES (zeroblob(1000))"))
            connection.execute(text("INSERT INTO large VALUES (zeroblob(10000000))"))

    with pytest.raises(NoSpace):
        fill()
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM large")).scalar() == 0


def test_an_error_in_a_transaction_undoes_all_of_it(database: Database) -> None:
    def broken() -> None:
        with database.writing() as connection:
            connection.execute(text(ADD))
            raise NotFound("in the middle")

    with pytest.raises(NotFound):
        broken()
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM project")).scalar() == 0


def test_what_is_there_already_is_a_state_error_and_a_reference_to_nothing_not_found(database: Database) -> None:
    for expected in (nullcontext(), pytest.raises(StateError)):
        with expected, database.writing() as connection:
            connection.execute(text(ADD))
    with pytest.raises(NotFound), database.writing() as connection:
        connection.execute(text("INSERT INTO put_aside VALUES ('no', 'no', '', '', '')"))


def test_writers_take_turns_and_readers_do_not_wait(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(25):
            with database.writing() as connection:
                n = connection.execute(text("SELECT n FROM counter")).scalar_one()
                connection.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    with database.writing(), database.reading() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar_one() >= 0
    for thread in threads:
        thread.join()
    with database.reading() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar() == 100


def test_a_second_process_waits_for_the_writer(database: Database) -> None:
    other = open_database(database.path)
    with other.writing() as connection:
        connection.execute(text(ADD))
    with database.writing() as connection:
        assert connection.execute(text("SELECT count(*) FROM project")).scalar() == 1
    other.close()
