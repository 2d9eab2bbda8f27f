"""The models that learned in a workspace, looked up only when somebody asks, and only where there is a database."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from annotate_server.stores.database import Database, open_database
from annotate_server.stores.sqlite_models import SqliteModels


@dataclass
class LearnedModels:
    """Gives the store of models; who has the database open already says so by `use`.

    A command that only lists models leaves no database behind, and none that is in use is opened twice.
    """

    path: Path
    opened: Callable[[Path], Database] = open_database
    _store: SqliteModels | None = field(default=None, init=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    def use(self, database: Database) -> None:
        """Take the models from a database that is open."""
        with self._turn:
            self._store = SqliteModels(database)

    def __call__(self) -> SqliteModels | None:
        """Return the store; None where the workspace has no database yet."""
        with self._turn:
            if self._store is None and self.path.is_file():
                self._store = SqliteModels(self.opened(self.path))
            return self._store
