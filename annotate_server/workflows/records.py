"""The stores that annotation is written to and read from, together."""

from dataclasses import dataclass

from annotate_server.domain.store_ports import (
    Blobs,
    CaseStore,
    DraftFiles,
    LabelStore,
    PredictionStore,
    ProjectStore,
    SessionStore,
)


@dataclass(frozen=True)
class Records:
    """What a workflow of annotation keeps, and where."""

    cases: CaseStore
    projects: ProjectStore
    sessions: SessionStore
    labels: LabelStore
    predictions: PredictionStore
    blobs: Blobs
    drafts: DraftFiles
