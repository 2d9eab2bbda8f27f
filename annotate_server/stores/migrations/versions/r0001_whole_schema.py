"""The whole schema, as the first version has it."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE audit (
        number INTEGER NOT NULL,
        at VARCHAR NOT NULL,
        person VARCHAR NOT NULL,
        verified BOOLEAN NOT NULL,
        action VARCHAR NOT NULL,
        subject VARCHAR NOT NULL,
        details VARCHAR NOT NULL,
        previous VARCHAR NOT NULL,
        hash VARCHAR NOT NULL,
        PRIMARY KEY (number),
        UNIQUE (hash)
    )
    """,
    """
    CREATE TABLE known_case (
        id VARCHAR NOT NULL,
        sort_key VARCHAR NOT NULL,
        patient_issuer VARCHAR NOT NULL,
        patient_identifier VARCHAR NOT NULL,
        patient_known BOOLEAN NOT NULL,
        modality VARCHAR,
        declared VARCHAR,
        study_uid VARCHAR,
        series_uid VARCHAR,
        volumes VARCHAR NOT NULL,
        facts VARCHAR,
        added_at VARCHAR NOT NULL,
        is_uploaded BOOLEAN NOT NULL,
        is_missing BOOLEAN NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX case_by_age ON known_case (added_at, sort_key)
    """,
    """
    CREATE INDEX case_of_study ON known_case (study_uid, series_uid)
    """,
    """
    CREATE TABLE project (
        id VARCHAR NOT NULL,
        title VARCHAR NOT NULL,
        segments VARCHAR NOT NULL,
        apps VARCHAR NOT NULL,
        modalities VARCHAR NOT NULL,
        review VARCHAR NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE user (
        name VARCHAR NOT NULL,
        role VARCHAR NOT NULL,
        token_sha256 VARCHAR NOT NULL,
        made_at VARCHAR NOT NULL,
        PRIMARY KEY (name),
        UNIQUE (token_sha256)
    )
    """,
    """
    CREATE TABLE label (
        number INTEGER NOT NULL,
        id VARCHAR NOT NULL,
        project_id VARCHAR NOT NULL,
        case_id VARCHAR NOT NULL,
        author VARCHAR NOT NULL,
        is_author_verified BOOLEAN NOT NULL,
        parent VARCHAR,
        model_version VARCHAR,
        session_id VARCHAR,
        events INTEGER NOT NULL,
        active_s FLOAT NOT NULL,
        made_at VARCHAR,
        state VARCHAR NOT NULL,
        reviewer VARCHAR,
        comment VARCHAR NOT NULL,
        reviewed_at VARCHAR,
        PRIMARY KEY (number),
        UNIQUE (id),
        FOREIGN KEY(project_id) REFERENCES project (id),
        FOREIGN KEY(case_id) REFERENCES known_case (id)
    )
    """,
    """
    CREATE INDEX label_of_case ON label (project_id, case_id, number)
    """,
    """
    CREATE TABLE prediction (
        number INTEGER NOT NULL,
        id VARCHAR NOT NULL,
        case_id VARCHAR NOT NULL,
        model VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        blob VARCHAR NOT NULL,
        geometry VARCHAR NOT NULL,
        segments VARCHAR NOT NULL,
        made_at VARCHAR NOT NULL,
        notes VARCHAR NOT NULL,
        PRIMARY KEY (number),
        UNIQUE (id),
        FOREIGN KEY(case_id) REFERENCES known_case (id)
    )
    """,
    """
    CREATE INDEX prediction_of_case ON prediction (case_id, model, number)
    """,
    """
    CREATE TABLE put_aside (
        project_id VARCHAR NOT NULL,
        case_id VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        person VARCHAR NOT NULL,
        at VARCHAR NOT NULL,
        PRIMARY KEY (project_id, case_id),
        FOREIGN KEY(project_id) REFERENCES project (id),
        FOREIGN KEY(case_id) REFERENCES known_case (id)
    )
    """,
    """
    CREATE TABLE session (
        number INTEGER NOT NULL,
        id VARCHAR NOT NULL,
        project_id VARCHAR NOT NULL,
        case_id VARCHAR NOT NULL,
        person VARCHAR NOT NULL,
        geometry VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        applied INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        start_blob VARCHAR,
        start VARCHAR,
        segments VARCHAR NOT NULL,
        locked VARCHAR NOT NULL,
        parent VARCHAR,
        layer INTEGER NOT NULL,
        model_version VARCHAR,
        opened_at VARCHAR,
        lease_until VARCHAR,
        active_s FLOAT NOT NULL,
        PRIMARY KEY (number),
        UNIQUE (id),
        FOREIGN KEY(project_id) REFERENCES project (id),
        FOREIGN KEY(case_id) REFERENCES known_case (id)
    )
    """,
    """
    CREATE UNIQUE INDEX one_open_session ON session (project_id, case_id) WHERE state = 'open'
    """,
    """
    CREATE INDEX session_of_person ON session (person, number)
    """,
    """
    CREATE TABLE event (
        number INTEGER NOT NULL,
        session_id VARCHAR NOT NULL,
        event INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        box VARCHAR NOT NULL,
        change VARCHAR,
        segments_before VARCHAR,
        segments_after VARCHAR,
        prompt VARCHAR,
        helper VARCHAR,
        model_version VARCHAR,
        at VARCHAR,
        given_up INTEGER,
        PRIMARY KEY (number),
        FOREIGN KEY(session_id) REFERENCES session (id)
    )
    """,
    """
    CREATE UNIQUE INDEX event_by_revision ON event (session_id, revision)
    """,
    """
    CREATE UNIQUE INDEX event_in_force ON event (session_id, event) WHERE given_up IS NULL
    """,
    """
    CREATE TABLE label_layer (
        label_id VARCHAR NOT NULL,
        position INTEGER NOT NULL,
        blob VARCHAR NOT NULL,
        geometry VARCHAR NOT NULL,
        segments VARCHAR NOT NULL,
        PRIMARY KEY (label_id, position),
        FOREIGN KEY(label_id) REFERENCES label (id)
    )
    """,
    """
    CREATE TABLE review (
        label_id VARCHAR NOT NULL,
        verdict VARCHAR NOT NULL,
        reviewer VARCHAR,
        comment VARCHAR NOT NULL,
        at VARCHAR,
        PRIMARY KEY (label_id),
        FOREIGN KEY(label_id) REFERENCES label (id)
    )
    """,
    """
    CREATE TABLE snapshot (
        number INTEGER NOT NULL,
        session_id VARCHAR NOT NULL,
        event INTEGER NOT NULL,
        blob VARCHAR NOT NULL,
        given_up INTEGER,
        PRIMARY KEY (number),
        FOREIGN KEY(session_id) REFERENCES session (id)
    )
    """,
    """
    CREATE INDEX snapshot_of_session ON snapshot (session_id, event)
    """,
    """
    CREATE TABLE job (
        number INTEGER NOT NULL,
        id VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        job_order VARCHAR NOT NULL,
        priority INTEGER NOT NULL,
        person VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        progress FLOAT NOT NULL,
        message VARCHAR NOT NULL,
        attempts INTEGER NOT NULL,
        result VARCHAR NOT NULL,
        problem VARCHAR,
        made_at VARCHAR,
        begun_at VARCHAR,
        ended_at VARCHAR,
        PRIMARY KEY (number),
        UNIQUE (id)
    )
    """,
    """
    CREATE INDEX job_by_state ON job (state, priority, number)
    """,
    """
    CREATE INDEX job_of_person ON job (person, begun_at)
    """,
    """
    CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END
    """,
    """
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END
    """,
    """
    CREATE TRIGGER label_no_update BEFORE UPDATE ON label
    BEGIN SELECT RAISE(ABORT, 'a label is never changed'); END
    """,
    """
    CREATE TRIGGER label_no_delete BEFORE DELETE ON label
    BEGIN SELECT RAISE(ABORT, 'a label is never changed'); END
    """,
    """
    CREATE TRIGGER label_layer_no_update BEFORE UPDATE ON label_layer
    BEGIN SELECT RAISE(ABORT, 'a label is never changed'); END
    """,
    """
    CREATE TRIGGER label_layer_no_delete BEFORE DELETE ON label_layer
    BEGIN SELECT RAISE(ABORT, 'a label is never changed'); END
    """,
    """
    CREATE TRIGGER review_no_update BEFORE UPDATE ON review
    BEGIN SELECT RAISE(ABORT, 'a review is never changed'); END
    """,
    """
    CREATE TRIGGER review_no_delete BEFORE DELETE ON review
    BEGIN SELECT RAISE(ABORT, 'a review is never changed'); END
    """,
    """
    CREATE TRIGGER event_no_update BEFORE UPDATE OF number, session_id, event, revision, kind, box,
        change, segments_before, segments_after, prompt, helper, model_version, at ON event
    BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END
    """,
    """
    CREATE TRIGGER event_no_delete BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END
    """,
    """
    CREATE TRIGGER prediction_no_update BEFORE UPDATE ON prediction
    BEGIN SELECT RAISE(ABORT, 'a prediction is never changed'); END
    """,
)


def upgrade() -> None:
    """Make every table, index and trigger."""
    for statement in _STATEMENTS:
        op.execute(statement)
