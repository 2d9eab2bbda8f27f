"""Projects whose approved labels go back to the archive, and how far each label's sending is."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    ALTER TABLE project ADD COLUMN send_labels_back BOOLEAN NOT NULL DEFAULT 0
    """,
    """
    CREATE TABLE label_sending (
        label_id VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        attempts INTEGER NOT NULL,
        next_at VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        sent_at VARCHAR,
        PRIMARY KEY (label_id),
        FOREIGN KEY(label_id) REFERENCES label (id)
    )
    """,
    """
    CREATE INDEX sending_by_state ON label_sending (state, next_at)
    """,
)


def upgrade() -> None:
    """Add the column, the table and its index."""
    for statement in _STATEMENTS:
        op.execute(statement)
