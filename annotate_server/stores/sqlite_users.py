"""Who may sign in. A token is 256 random bits, so that its SHA-256 is enough to keep: there is nothing to guess."""

import hashlib
import hmac
import secrets
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from annotate_server.domain.clock import Clock, now
from annotate_server.domain.errors import InvalidRequest, NotFound
from annotate_server.domain.person import Person, Role
from annotate_server.domain.store_ports import User
from annotate_server.stores.database import Database
from annotate_server.stores.schema import USERS
from annotate_server.stores.sqlite_audit import SERVER, Act, write_audit
from annotate_server.stores.sqlite_values import time_text

_TOKEN_BYTES = 32
_NO_DIGEST = "0" * 64


class SqliteUsers:
    """Fulfils `store_ports.UserStore`."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        """Keep users in `database`."""
        self._database = database
        self._clock = clock

    def add(self, name: str, role: Role) -> str:
        """Add a person, or give a known one a new role and token, and return the token: it is shown only once."""
        if not name.strip() or not name.isprintable() or len(name) > 100:
            raise InvalidRequest(f"{name!r} is no name to sign in by", remedy="Use up to 100 printable characters.")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        values = {"role": role.value, "token_sha256": _digest(token)}
        statement = insert(USERS).values(name=name, made_at=time_text(self._clock()), **values)
        with self._database.writing() as connection:
            connection.execute(statement.on_conflict_do_update(["name"], set_=values))
            write_audit(connection, SERVER, Act("user-added", name, {"role": role}))
        return token

    def remove(self, name: str) -> None:
        """Let nobody sign in by this name; raises NotFound."""
        with self._database.writing() as connection:
            if not connection.execute(delete(USERS).where(USERS.c.name == name)).rowcount:
                raise NotFound(f"there is no user {name}")
            write_audit(connection, SERVER, Act("user-removed", name))

    def all(self) -> tuple[User, ...]:
        """Return everybody, sorted by name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(USERS).order_by(USERS.c.name)).mappings()
            return tuple(User(r["name"], Role(r["role"]), datetime.fromisoformat(r["made_at"])) for r in rows)

    def by_token(self, token: str) -> Person | None:
        """Return whose token this is; compared in constant time.

        The look-up goes by the digest, of which nobody can choose a prefix without knowing the token.
        """
        digest = _digest(token)
        with self._database.reading() as connection:
            row = connection.execute(select(USERS).where(USERS.c.token_sha256 == digest)).mappings().first()
        is_same = hmac.compare_digest(digest, _NO_DIGEST if row is None else row["token_sha256"])
        return Person(row["name"], Role(row["role"])) if row is not None and is_same else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
