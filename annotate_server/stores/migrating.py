"""Alembic without its ini file and without its logging: the scripts lie in the package."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def known_revisions(migrations: Path) -> tuple[str, ...]:
    """Return every revision that the scripts lead through, newest first."""
    return tuple(script.revision for script in ScriptDirectory(str(migrations)).walk_revisions())


def upgrade(connection: Connection, migrations: Path) -> None:
    """Bring the schema to the newest revision within the connection's transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    command.upgrade(config, "head")
