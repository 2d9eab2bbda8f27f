"""The tables. Times are UTC ISO text, values with parts are JSON text, `number` counts in the order of writing.

What is true of the data is said here where SQLite can hold it: one open session a case, one review a label, labels and
the audit trail that nothing changes (triggers, in the migration).
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    text,
)

REVISION = "0003"
"""The newest revision of the migrations: what this code reads and writes."""

METADATA = MetaData()


def _number() -> Column[int]:
    return Column("number", Integer, primary_key=True)


def _text(name: str, *, optional: bool = False) -> Column[str]:
    return Column(name, String, nullable=optional)


def _of_case() -> tuple[Column[str], Column[str]]:
    return (
        Column("project_id", String, ForeignKey("project.id"), nullable=False),
        Column("case_id", String, ForeignKey("known_case.id"), nullable=False),
    )


CASES = Table(
    "known_case",
    METADATA,
    Column("id", String, primary_key=True),
    _text("sort_key"),
    _text("patient_issuer"),
    _text("patient_identifier"),
    Column("patient_known", Boolean, nullable=False),
    _text("modality", optional=True),
    _text("declared", optional=True),
    _text("study_uid", optional=True),
    _text("series_uid", optional=True),
    _text("volumes"),
    _text("facts", optional=True),
    _text("added_at"),
    Column("is_uploaded", Boolean, nullable=False),
    Column("is_missing", Boolean, nullable=False),
    Index("case_by_age", "added_at", "sort_key"),
    Index("case_of_study", "study_uid", "series_uid"),
)
PROJECTS = Table(
    "project",
    METADATA,
    Column("id", String, primary_key=True),
    _text("title"),
    _text("segments"),
    _text("apps"),
    _text("modalities"),
    _text("review"),
    Column("send_labels_back", Boolean, nullable=False, server_default=text("0")),
    Column("strategy", String, nullable=False, server_default=text("'foreground'")),
)
PUT_ASIDE = Table(
    "put_aside",
    METADATA,
    Column("project_id", String, ForeignKey("project.id"), primary_key=True),
    Column("case_id", String, ForeignKey("known_case.id"), primary_key=True),
    _text("reason"),
    _text("person"),
    _text("at"),
)
SESSIONS = Table(
    "session",
    METADATA,
    _number(),
    Column("id", String, nullable=False, unique=True),
    *_of_case(),
    _text("person"),
    _text("geometry"),
    _text("state"),
    Column("applied", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    _text("start_blob", optional=True),
    _text("start", optional=True),
    _text("segments"),
    _text("locked"),
    _text("parent", optional=True),
    Column("layer", Integer, nullable=False),
    _text("model_version", optional=True),
    _text("opened_at", optional=True),
    _text("lease_until", optional=True),
    Column("active_s", Float, nullable=False),
    Index("session_of_person", "person", "number"),
    Index("one_open_session", "project_id", "case_id", unique=True, sqlite_where=text("state = 'open'")),
)
EVENTS = Table(
    "event",
    METADATA,
    _number(),
    Column("session_id", String, ForeignKey("session.id"), nullable=False),
    Column("event", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    _text("kind"),
    _text("box"),
    _text("change", optional=True),
    _text("segments_before", optional=True),
    _text("segments_after", optional=True),
    _text("prompt", optional=True),
    _text("helper", optional=True),
    _text("model_version", optional=True),
    _text("at", optional=True),
    Column("given_up", Integer, nullable=True),
    Index("event_in_force", "session_id", "event", unique=True, sqlite_where=text("given_up IS NULL")),
    Index("event_by_revision", "session_id", "revision", unique=True),
)
SNAPSHOTS = Table(
    "snapshot",
    METADATA,
    _number(),
    Column("session_id", String, ForeignKey("session.id"), nullable=False),
    Column("event", Integer, nullable=False),
    _text("blob"),
    Column("given_up", Integer, nullable=True),
    Index("snapshot_of_session", "session_id", "event"),
)
LABELS = Table(
    "label",
    METADATA,
    _number(),
    Column("id", String, nullable=False, unique=True),
    *_of_case(),
    _text("author"),
    Column("is_author_verified", Boolean, nullable=False),
    _text("parent", optional=True),
    _text("model_version", optional=True),
    _text("session_id", optional=True),
    Column("events", Integer, nullable=False),
    Column("active_s", Float, nullable=False),
    _text("made_at", optional=True),
    _text("state"),
    _text("reviewer", optional=True),
    _text("comment"),
    _text("reviewed_at", optional=True),
    Column("is_partial", Boolean, nullable=False, server_default=text("0")),
    Index("label_of_case", "project_id", "case_id", "number"),
)
LAYERS = Table(
    "label_layer",
    METADATA,
    Column("label_id", String, ForeignKey("label.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    _text("blob"),
    _text("geometry"),
    _text("segments"),
)
REVIEWS = Table(
    "review",
    METADATA,
    Column("label_id", String, ForeignKey("label.id"), primary_key=True),
    _text("verdict"),
    _text("reviewer", optional=True),
    _text("comment"),
    _text("at", optional=True),
)
SENDINGS = Table(
    "label_sending",
    METADATA,
    Column("label_id", String, ForeignKey("label.id"), primary_key=True),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    _text("next_at"),
    _text("reason"),
    _text("sent_at", optional=True),
    Index("sending_by_state", "state", "next_at"),
)
PREDICTIONS = Table(
    "prediction",
    METADATA,
    _number(),
    Column("id", String, nullable=False, unique=True),
    Column("case_id", String, ForeignKey("known_case.id"), nullable=False),
    _text("model"),
    _text("version"),
    _text("blob"),
    _text("geometry"),
    _text("segments"),
    _text("made_at"),
    _text("notes"),
    Index("prediction_of_case", "case_id", "model", "number"),
)
MODELS = Table(
    "learned_model",
    METADATA,
    Column("name", String, primary_key=True),
    Column("project_id", String, ForeignKey("project.id"), nullable=False),
    _text("origin", optional=True),
    Column("every_labels", Integer, nullable=False),
    Column("is_nightly", Boolean, nullable=False),
    _text("description", optional=True),
    _text("made_at"),
)
VERSIONS = Table(
    "model_version",
    METADATA,
    _number(),
    Column("model", String, ForeignKey("learned_model.name"), nullable=False),
    _text("id"),
    _text("description"),
    _text("parent", optional=True),
    _text("training_set", optional=True),
    _text("recipe", optional=True),
    _text("job_id", optional=True),
    Column("seconds", Float, nullable=False),
    _text("made_at"),
    Index("version_of_model", "model", "id", unique=True),
)
VERSION_WEIGHTS = Table(
    "version_weight",
    METADATA,
    Column("version", Integer, ForeignKey("model_version.number"), primary_key=True),
    Column("position", Integer, primary_key=True),
    _text("name"),
    _text("blob"),
    Column("size_bytes", Integer, nullable=False),
)
PROMOTIONS = Table(
    "promotion",
    METADATA,
    _number(),
    Column("model", String, ForeignKey("learned_model.name"), nullable=False),
    _text("version"),
    _text("kind"),
    _text("person"),
    _text("reason"),
    _text("previous", optional=True),
    _text("evidence", optional=True),
    Column("is_provisional", Boolean, nullable=False),
    _text("at"),
    ForeignKeyConstraint(["model", "version"], ["model_version.model", "model_version.id"]),
    Index("promotion_of_model", "model", "number"),
)
PATIENT_PARTS = Table(
    "patient_part",
    METADATA,
    Column("project_id", String, ForeignKey("project.id"), primary_key=True),
    Column("patient", String, primary_key=True),
    _text("part"),
    _text("drawn_at"),
)
PART_KEYS = Table(
    "part_key",
    METADATA,
    Column("project_id", String, ForeignKey("project.id"), primary_key=True),
    _text("key"),
)
WORKS = Table(
    "label_work",
    METADATA,
    _number(),
    Column("label_id", String, ForeignKey("label.id"), nullable=False),
    Column("project_id", String, ForeignKey("project.id"), nullable=False),
    _text("model"),
    _text("version"),
    Column("is_champions", Boolean, nullable=False),
    Column("is_shown", Boolean, nullable=False),
    Column("active_s", Float, nullable=False),
    _text("prompts"),
    Column("edits", Integer, nullable=False),
    _text("helpers"),
    Column("is_untouched", Boolean, nullable=False),
    Column("dice", Float, nullable=True),
    Column("relative_apl", Float, nullable=True),
    Column("apl_mm", Float, nullable=True),
    _text("segments"),
    _text("made_at"),
    Index("work_of_label", "label_id", "model", "version", unique=True),
    Index("work_of_project", "project_id", "made_at"),
)
USERS = Table(
    "user",
    METADATA,
    Column("name", String, primary_key=True),
    _text("role"),
    Column("token_sha256", String, nullable=False, unique=True),
    _text("made_at"),
)
AUDIT = Table(
    "audit",
    METADATA,
    _number(),
    _text("at"),
    _text("person"),
    Column("verified", Boolean, nullable=False),
    _text("action"),
    _text("subject"),
    _text("details"),
    _text("previous"),
    Column("hash", String, nullable=False, unique=True),
)
