"""Labels on their way back to the archive: when they are due, what became of each try, and what is kept of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from api_server import ROOT, Site, make_site

from annotate_server.domain.annotation import Label, LabelState, Sending, SendingState
from annotate_server.domain.case import Format, StoredVolume
from annotate_server.domain.errors import (
    AnnotateError,
    ArchiveRefused,
    ArchiveTooSlow,
    ArchiveUnreachable,
    InvalidLabelmap,
)
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import Project, ReviewPolicy
from annotate_server.stores.sqlite_sendings import SqliteSendings
from annotate_server.workflows.sending_back import SendingBack

BELA = Person("bela", Role.REVIEWER)


@dataclass
class FakeArchive:
    """Takes labels of DICOM cases, or fails with `failure`."""

    failure: AnnotateError | None = None
    stored: list[str] = field(default_factory=list)
    held_now: int = 0
    names: list[str] = field(default_factory=list)

    def has(self, stored: StoredVolume) -> bool:
        return stored.format is Format.DICOM

    @contextmanager
    def held(self, stored: StoredVolume) -> Iterator[None]:
        self.held_now += 1
        yield
        self.held_now -= 1

    def store(self, file: Path) -> None:
        if self.failure is not None:
            raise self.failure
        self.stored.append(file.read_text())


@dataclass
class Stand:
    """A site with a project whose labels go back."""

    site: Site
    archive: FakeArchive
    sendings: SqliteSendings
    back: SendingBack

    def add(self, name: str, case_id: str = "case1", state: LabelState = LabelState.APPROVED) -> str:
        records = self.site.records
        layer = records.predictions.newest("case1")
        assert layer is not None
        label = Label(
            name, "back", case_id, "ann", (layer.layer,), state=state, made_at=records.cases.get("case1").added_at
        )
        records.labels.accept(label, None, ROOT)
        return name

    def sending(self, name: str) -> Sending:
        found = self.site.records.labels.get(name).sending
        assert found is not None
        return found


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    site, archive = make_site(tmp_path), FakeArchive()
    site.add_prediction("case1")
    project = Project("back", "Back", review=ReviewPolicy.OTHER_PERSON, send_labels_back=True)
    site.records.projects.add(project, ROOT)
    sendings = SqliteSendings(site.records.cases._database)  # type: ignore[attr-defined]
    files = replace(site.services.downloads, archive=archive)
    back = SendingBack(site.records, sendings, files, archive, archive, site.watch)
    return Stand(site, archive, sendings, back)


def test_a_label_waits_from_its_approval_on_and_is_sent_once(stand: Stand) -> None:
    labels = stand.site.records.labels
    stand.add("l1", state=LabelState.SUBMITTED)
    assert labels.get("l1").sending is None
    labels.review(labels.get("l1").reviewed("bela", LabelState.APPROVED), BELA)
    assert stand.sending("l1").state is SendingState.PENDING
    assert stand.back.send_due() == 1
    assert stand.back.send_due() == 0
    assert stand.archive.stored == ["dicom-seg: Bright"]
    sent = stand.sending("l1")
    assert (sent.state, sent.attempts, sent.reason) == (SendingState.SENT, 1, "")
    assert sent.sent_at is not None
    assert stand.sendings.counts() == {SendingState.PENDING: 0, SendingState.SENT: 1, SendingState.IMPOSSIBLE: 0}


def test_a_returned_label_and_one_of_another_project_stay(stand: Stand) -> None:
    labels = stand.site.records.labels
    stand.add("l1", state=LabelState.SUBMITTED)
    labels.review(labels.get("l1").reviewed("bela", LabelState.RETURNED, "no"), BELA)
    labels.accept(replace(labels.get("l1"), id="l2", project_id="bright", state=LabelState.APPROVED), None, ROOT)
    assert (labels.get("l1").sending, labels.get("l2").sending) == (None, None)
    assert stand.back.send_due() == 0


def test_tries_come_ever_later_and_say_why(stand: Stand) -> None:
    stand.add("l1")
    stand.archive.failure = ArchiveRefused("the archive did not keep the label (the reason 0110)")
    waits = []
    for attempt in range(1, 16):
        began: datetime = stand.site.watch()
        assert stand.back.send_due() == 0
        now = stand.sending("l1")
        assert (now.state, now.attempts) == (SendingState.PENDING, attempt)
        assert "0110" in now.reason
        assert now.next_at is not None
        waits.append(round((now.next_at - began).total_seconds()))
        assert stand.back.send_due() == 0
        assert stand.sending("l1").attempts == attempt
        stand.site.watch.skip(waits[-1] + 1)
    assert waits[:5] == [2, 4, 8, 16, 32]
    assert waits[-1] == 3600
    stand.archive.failure = None
    assert stand.back.send_due() == 1
    assert stand.sending("l1").state is SendingState.SENT


@pytest.mark.parametrize("failure", [ArchiveUnreachable("gone"), ArchiveTooSlow("slow")])
def test_an_archive_that_is_silent_is_asked_once_a_round(stand: Stand, failure: AnnotateError) -> None:
    for name in ("l1", "l2", "l3"):
        stand.add(name)
    stand.archive.failure = failure
    stand.back.send_due()
    assert [stand.sending(name).attempts for name in ("l1", "l2", "l3")] == [1, 0, 0]
    stand.archive.failure = None
    stand.site.watch.skip(10)
    assert stand.back.send_due() == 3


def test_what_can_never_be_sent_is_not_tried_again(stand: Stand) -> None:
    stand.add("l1", case_id="case2")
    stand.add("l2")
    stand.archive.failure = InvalidLabelmap("it does not lie on the series")
    assert stand.back.send_due() == 0
    first, second = stand.sending("l1"), stand.sending("l2")
    assert (first.state, second.state) == (SendingState.IMPOSSIBLE, SendingState.IMPOSSIBLE)
    assert "did not come from the archive" in first.reason
    assert "does not lie on the series" in second.reason
    stand.site.watch.skip(timedelta(days=1).total_seconds())
    assert stand.sendings.due(stand.site.watch()) == ()


def test_a_partial_label_stays_because_it_would_be_read_as_a_whole_one(stand: Stand) -> None:
    labels = stand.site.records.labels
    stand.add("whole")
    labels.accept(replace(labels.get("whole"), id="partial", is_partial=True, sending=None), None, ROOT)
    assert stand.back.send_due() == 1
    assert stand.sending("partial").state is SendingState.IMPOSSIBLE
    assert "some slices only" in stand.sending("partial").reason


def test_the_files_of_the_series_are_held_while_the_label_is_written(stand: Stand) -> None:
    held: list[int] = []
    writer = stand.site.services.downloads.parser
    stand.add("l1")

    class Watching:
        def read_labelmap(self, path: Path, reference: object) -> tuple[Labelmap, ...]:
            raise NotImplementedError

        def write_stored(self, writing: object) -> None:
            held.append(stand.archive.held_now)
            writer.write_stored(writing)  # type: ignore[arg-type]

    files = replace(stand.back.files, parser=Watching())
    assert replace(stand.back, files=files).send_due() == 1
    assert (held, stand.archive.held_now) == ([1], 0)


def test_a_server_that_stops_leaves_the_rest_for_its_next_start(stand: Stand) -> None:
    stand.add("l1")
    assert stand.back.send_due(is_stopping=lambda: True) == 0
    assert stand.sending("l1").attempts == 0


def test_a_policy_of_a_project_survives_and_changes(stand: Stand) -> None:
    projects = stand.site.records.projects
    assert projects.get("back").send_labels_back
    assert not projects.get("bright").send_labels_back
    projects.change(replace(projects.get("back"), send_labels_back=False), ROOT)
    stand.add("l1")
    assert stand.site.records.labels.get("l1").sending is None
