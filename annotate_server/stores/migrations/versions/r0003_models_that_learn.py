"""Models that learn, their versions and promotions, parts of patients, what labels took; partial labels; strategies."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = (
    """
    ALTER TABLE label ADD COLUMN is_partial BOOLEAN NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE project ADD COLUMN strategy VARCHAR NOT NULL DEFAULT 'foreground'
    """,
    """
    CREATE TABLE learned_model (
        name VARCHAR NOT NULL,
        project_id VARCHAR NOT NULL,
        origin VARCHAR,
        every_labels INTEGER NOT NULL,
        is_nightly BOOLEAN NOT NULL,
        description VARCHAR,
        made_at VARCHAR NOT NULL,
        PRIMARY KEY (name),
        FOREIGN KEY(project_id) REFERENCES project (id)
    )
    """,
    """
    CREATE TABLE model_version (
        number INTEGER NOT NULL,
        model VARCHAR NOT NULL,
        id VARCHAR NOT NULL,
        description VARCHAR NOT NULL,
        parent VARCHAR,
        training_set VARCHAR,
        recipe VARCHAR,
        job_id VARCHAR,
        seconds FLOAT NOT NULL,
        made_at VARCHAR NOT NULL,
        PRIMARY KEY (number),
        FOREIGN KEY(model) REFERENCES learned_model (name)
    )
    """,
    """
    CREATE UNIQUE INDEX version_of_model ON model_version (model, id)
    """,
    """
    CREATE TABLE version_weight (
        version INTEGER NOT NULL,
        position INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        blob VARCHAR NOT NULL,
        size_bytes INTEGER NOT NULL,
        PRIMARY KEY (version, position),
        FOREIGN KEY(version) REFERENCES model_version (number)
    )
    """,
    """
    CREATE TABLE promotion (
        number INTEGER NOT NULL,
        model VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        person VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        previous VARCHAR,
        evidence VARCHAR,
        is_provisional BOOLEAN NOT NULL,
        at VARCHAR NOT NULL,
        PRIMARY KEY (number),
        FOREIGN KEY(model) REFERENCES learned_model (name),
        FOREIGN KEY(model, version) REFERENCES model_version (model, id)
    )
    """,
    """
    CREATE INDEX promotion_of_model ON promotion (model, number)
    """,
    """
    CREATE TABLE patient_part (
        project_id VARCHAR NOT NULL,
        patient VARCHAR NOT NULL,
        part VARCHAR NOT NULL,
        drawn_at VARCHAR NOT NULL,
        PRIMARY KEY (project_id, patient),
        FOREIGN KEY(project_id) REFERENCES project (id)
    )
    """,
    """
    CREATE TABLE part_key (
        project_id VARCHAR NOT NULL,
        "key" VARCHAR NOT NULL,
        PRIMARY KEY (project_id),
        FOREIGN KEY(project_id) REFERENCES project (id)
    )
    """,
    """
    CREATE TABLE label_work (
        number INTEGER NOT NULL,
        label_id VARCHAR NOT NULL,
        project_id VARCHAR NOT NULL,
        model VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        is_champions BOOLEAN NOT NULL,
        is_shown BOOLEAN NOT NULL,
        active_s FLOAT NOT NULL,
        prompts VARCHAR NOT NULL,
        edits INTEGER NOT NULL,
        helpers VARCHAR NOT NULL,
        is_untouched BOOLEAN NOT NULL,
        dice FLOAT,
        relative_apl FLOAT,
        apl_mm FLOAT,
        segments VARCHAR NOT NULL,
        made_at VARCHAR NOT NULL,
        PRIMARY KEY (number),
        FOREIGN KEY(label_id) REFERENCES label (id),
        FOREIGN KEY(project_id) REFERENCES project (id)
    )
    """,
    """
    CREATE UNIQUE INDEX work_of_label ON label_work (label_id, model, version)
    """,
    """
    CREATE INDEX work_of_project ON label_work (project_id, made_at)
    """,
)
_NEVER_CHANGED = {
    "model_version": "a version of a model is never changed",
    "version_weight": "a version of a model is never changed",
    "promotion": "a promotion is never changed",
    "patient_part": "the part of a patient is drawn once",
    "part_key": "the key of a project is made once",
    "label_work": "what a label took is never changed",
}


def upgrade() -> None:
    """Add the column, the tables, and triggers that let nobody change what is written once."""
    for statement in _TABLES:
        op.execute(statement)
    for table, why in _NEVER_CHANGED.items():
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{why}'); END"
            )
    op.execute(
        "CREATE TRIGGER learned_model_no_delete BEFORE DELETE ON learned_model "
        "BEGIN SELECT RAISE(ABORT, 'a model that learns is never removed'); END"
    )
