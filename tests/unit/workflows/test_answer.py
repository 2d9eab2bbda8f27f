"""Answering orders: what a worker does, without a process and without a disk but for the draft."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from numpy.typing import NDArray

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.compute import DraftOrder, DraftPlace, HelpOrder, PromptOrder, VolumePlace
from annotate_server.domain.errors import (
    Cancelled,
    InvalidPrompt,
    LockedSegment,
    NoSpace,
    NotMadeFor,
    StorageFailed,
    UnreadableFile,
)
from annotate_server.domain.geometry import Box
from annotate_server.domain.helper import Combination, HelperKind, HelperOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import Prediction
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Acquisition, Modality, Volume
from annotate_server.stores.blobs import BlobFolder
from annotate_server.testing.fakes import (
    InMemoryBackends,
    InMemoryReader,
    InMemoryRegistry,
    ThresholdBackend,
    threshold_app,
)
from annotate_server.workflows.answer import MOST_MAPPED, Answerer, OpenVolumes, mapped_draft, suited, trimmed
from annotate_server.workflows.layers import read_layer
from annotate_server.workflows.predict import Predictor

LIVER, SPLEEN, CYST = (Segment(n, name, (n, n, n)) for n, name in ((1, "Liver"), (2, "Spleen"), (3, "Cyst")))
SHAPE = (9, 14, 11)
BRIGHT = Box((2, 3, 4), (5, 8, 9))


def a_volume(modality: Modality | None = Modality.CT, background: int = -50) -> Volume:
    voxels = np.full(SHAPE, background, np.int16)
    voxels[BRIGHT.slices] = 300
    warnings = Acquisition(warnings=("The slices are 2.9 to 3.1 mm apart.",))
    return Volume(voxels, oblique_geometry(SHAPE), modality, acquisition=warnings)


def stored(key: str) -> StoredVolume:
    return StoredVolume(key, Format.NIFTI, (Path(key),), PatientKey("", "P"))


@dataclass
class InMemoryCache:
    """Keeps volumes, unless the disk is full."""

    volumes: dict[str, Volume] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_full: bool = False

    def get(self, digest: str) -> Volume | None:
        self.asked.append(digest)
        return self.volumes.get(digest)

    def put(self, volume: Volume) -> None:
        if self.is_full:
            raise NoSpace("the disk is full")
        self.volumes[volume.digest] = volume


@dataclass
class Room:
    """An answerer and what it works with."""

    folder: Path
    volume: Volume = field(default_factory=a_volume)
    others: dict[str, Volume] = field(default_factory=dict)
    cache: InMemoryCache = field(default_factory=InMemoryCache)
    backend: ThresholdBackend = field(default_factory=ThresholdBackend)

    def __post_init__(self) -> None:
        self.reader = InMemoryReader({"ct": self.volume, **self.others})
        card = replace(threshold_app().card, modalities=(Modality.CT, Modality.MR))
        apps = {"bright": threshold_app(), "any": replace(threshold_app("any"), card=card)}
        predictor = Predictor(InMemoryRegistry(apps), InMemoryBackends({"threshold": self.backend}))
        self.blobs = BlobFolder(self.folder / "blobs")
        self.answerer = Answerer(predictor, OpenVolumes(self.reader, self.cache), self.blobs)

    @property
    def place(self) -> VolumePlace:
        return VolumePlace(stored("ct"))

    def draft(self, voxels: NDArray[np.uint8], locked: frozenset[int] = frozenset()) -> DraftPlace:
        path = self.folder / "draft.raw"
        path.write_bytes(voxels.tobytes())
        return DraftPlace(path, voxels.dtype.name, (LIVER, SPLEEN, CYST), locked)

    def prompt(
        self, voxels: NDArray[np.uint8], kind: PromptKind = PromptKind.POINT, model: str = "bright"
    ) -> Prediction:
        at = tuple(self.volume.geometry.world([(3, 4, 5)])[0].tolist())
        prompt = Prompt(kind, (at,) * {"point": 1, "box": 2}.get(kind, 3), SPLEEN.index)
        order = PromptOrder(model, self.place, self.draft(voxels), SPLEEN, (prompt,))
        answered = self.answerer.prompt(order, Control())
        assert answered.model_version.startswith(f"{model}@")
        return answered.prediction


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def empty() -> NDArray[np.uint8]:
    return np.zeros(SHAPE, np.uint8)


def test_facts_are_what_the_reader_told(room: Room) -> None:
    facts = room.answerer.facts(room.place)
    assert (facts.digest, facts.geometry) == (room.volume.digest, room.volume.geometry)
    assert (facts.modality, facts.unit, facts.warnings) == (Modality.CT, "1", room.volume.acquisition.warnings)


def test_a_known_volume_is_not_read_again(room: Room, tmp_path: Path) -> None:
    digest = room.answerer.facts(room.place).digest
    assert room.reader.read_keys == ["ct"]
    known = VolumePlace(stored("gone"), digest=digest)
    assert room.answerer.facts(known).digest == digest
    later = Room(tmp_path / "later", cache=room.cache)
    assert later.answerer.facts(known).digest == digest
    assert later.reader.read_keys == []


def test_a_volume_that_left_the_cache_is_read_again(room: Room) -> None:
    known = replace(room.place, digest=room.volume.digest)
    assert room.answerer.facts(known).digest == room.volume.digest
    assert room.reader.read_keys == ["ct"]
    assert room.volume.digest in room.cache.volumes


def test_another_file_under_the_same_name_is_refused(room: Room) -> None:
    with pytest.raises(UnreadableFile, match="ct: its voxels are no longer those"):
        room.answerer.facts(replace(room.place, digest="0" * 64))


def test_a_full_cache_stops_nobody(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.cache.is_full = True
    with caplog.at_level(logging.WARNING):
        assert room.answerer.facts(room.place).digest == room.volume.digest
    assert "could not be kept in the cache" in caplog.text


def test_the_last_few_volumes_stay_mapped_and_no_more(tmp_path: Path) -> None:
    others = {str(n): a_volume(background=n) for n in range(MOST_MAPPED)}
    room = Room(tmp_path, others=others)
    digests = [room.answerer.facts(VolumePlace(stored(key))).digest for key in ("ct", *others)]
    room.cache.asked.clear()
    for digest in digests[1:]:
        room.answerer.facts(VolumePlace(stored("x"), digest=digest))
    assert room.cache.asked == []
    room.answerer.facts(VolumePlace(stored("x"), digest=digests[0]))
    assert room.cache.asked == [digests[0]]


def test_a_prompt_is_answered_with_the_box_that_changes(room: Room) -> None:
    draft = empty()
    draft[2, 3:8, 4:9] = SPLEEN.index
    prediction = room.prompt(draft)
    assert prediction.box == Box((3, 3, 4), (5, 8, 9))
    assert (prediction.labels == SPLEEN.index).all()
    assert prediction.labels.dtype == np.uint8
    assert prediction.segments == (SPLEEN,)


def test_what_a_prompt_takes_back_is_in_the_box() -> None:
    draft = empty()
    draft[BRIGHT.slices] = SPLEEN.index
    labels = np.full(BRIGHT.shape, SPLEEN.index, np.uint8)
    labels[:, :, 0] = 0
    prediction = trimmed(Prediction(BRIGHT, labels, (SPLEEN,)), draft, SPLEEN)
    assert prediction.box == Box((2, 3, 4), (5, 8, 5))
    assert not prediction.labels.any()


def test_other_segments_are_never_taken(room: Room) -> None:
    draft = empty()
    draft[2:4, 3:8, 4:9] = LIVER.index
    prediction = room.prompt(draft)
    assert prediction.box == Box((4, 3, 4), (5, 8, 9))
    assert set(np.unique(prediction.labels)) == {SPLEEN.index}


def test_an_answer_that_changes_nothing_has_an_empty_box(room: Room) -> None:
    draft = empty()
    draft[BRIGHT.slices] = SPLEEN.index
    prediction = room.prompt(draft)
    assert prediction.box.is_empty
    assert prediction.labels.shape == (0, 0, 0)


def test_uncertainty_is_cut_with_the_labels() -> None:
    labels = np.zeros((3, 5, 5), np.uint8)
    labels[1, 2, 3] = SPLEEN.index
    uncertainty = np.arange(75, dtype=np.float32).reshape(3, 5, 5)
    prediction = trimmed(Prediction(BRIGHT, labels, (SPLEEN,), uncertainty, ("cut off",)), empty(), SPLEEN)
    assert prediction.box == Box((3, 5, 7), (4, 6, 8))
    assert prediction.uncertainty is not None
    assert prediction.uncertainty.tolist() == [[[uncertainty[1, 2, 3]]]]
    assert prediction.notes == ("cut off",)


def test_a_draft_of_many_segments_is_answered_in_its_own_type(room: Room) -> None:
    prediction = room.prompt(empty().astype(np.uint16))  # type: ignore[arg-type]  wider on purpose
    assert prediction.labels.dtype == np.uint16


def test_the_volumes_digest_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = a_volume(None)
    digest = volume.digest
    monkeypatch.setattr("annotate_server.domain.volume.hashlib.sha256", None)
    declared = suited(volume, threshold_app().card, Modality.CT)
    assert (declared.modality, declared.digest) == (Modality.CT, digest)


def test_a_prompt_that_the_model_does_not_take_is_refused(room: Room) -> None:
    with pytest.raises(InvalidPrompt, match=r"bright takes no box \(prompts that it takes: point\)"):
        room.prompt(empty(), PromptKind.BOX)
    order = PromptOrder("bright", room.place, room.draft(empty()), SPLEEN, ())
    with pytest.raises(InvalidPrompt, match="there is no prompt"):
        room.answerer.prompt(order, Control())


def test_a_model_for_another_modality_is_refused_and_a_declared_one_is_taken(tmp_path: Path) -> None:
    with pytest.raises(NotMadeFor, match="modality is MR"):
        Room(tmp_path, a_volume(Modality.MR)).prompt(empty())
    room = Room(tmp_path, a_volume(None))
    order = DraftOrder("any", replace(room.place, modality=Modality.MR))
    assert room.answerer.draft(order, Control()).facts.modality is None


def test_a_cancelled_prompt_stops(room: Room) -> None:
    prompt = Prompt(PromptKind.POINT, ((0.0, 0.0, 0.0),), SPLEEN.index)
    order = PromptOrder("bright", room.place, room.draft(empty()), SPLEEN, (prompt,))
    with pytest.raises(Cancelled):
        room.answerer.prompt(order, Control(is_cancelled=lambda: True))


def test_a_draft_of_another_size_is_refused(room: Room) -> None:
    place = room.draft(empty()[:-1])
    with pytest.raises(StorageFailed, match="another size"):
        mapped_draft(place, room.volume.geometry)
    with pytest.raises(StorageFailed, match="cannot be opened"):
        mapped_draft(replace(place, path=room.folder / "gone.raw"), room.volume.geometry)


def test_a_draft_is_mapped_and_cannot_be_written_to(room: Room) -> None:
    place = room.draft(empty())
    labelmap = mapped_draft(place, room.volume.geometry)
    with place.path.open("r+b") as file:
        file.write(b"\x03")
    assert labelmap.voxels[0, 0, 0] == CYST.index
    with pytest.raises(ValueError, match="read-only"):
        labelmap.voxels[0, 0, 0] = 1


def test_a_helper_is_carried_out_on_the_draft(room: Room) -> None:
    draft = empty()
    draft[3, 4:8, 5:9] = SPLEEN.index
    draft[3, 5:7, 6:8] = 0
    order = HelpOrder(room.place, room.draft(draft), SPLEEN, HelperOrder(HelperKind.FILL_HOLES, by_slice=True))
    answered = room.answerer.help(order, Control())
    after = draft.copy()
    inside = after[answered.prediction.box.slices]
    inside[answered.prediction.labels == SPLEEN.index] = SPLEEN.index
    assert (after[3, 4:8, 5:9] == SPLEEN.index).all()
    assert answered.model_version == ""


def test_a_helper_does_not_change_a_locked_segment(room: Room) -> None:
    draft = empty()
    draft[3, 4:8, 5:9] = LIVER.index
    combine = HelperOrder(HelperKind.COMBINE, combination=Combination.UNION, other=LIVER.index)
    order = HelpOrder(room.place, room.draft(draft, frozenset({LIVER.index})), SPLEEN, combine)
    with pytest.raises(LockedSegment):
        room.answerer.help(order, Control())


def test_a_whole_draft_is_stored_and_only_named(room: Room) -> None:
    heard: list[tuple[float, str]] = []
    control = Control(report=lambda fraction, message: heard.append((fraction, message)))
    drafted = room.answerer.draft(DraftOrder("bright", room.place), control)
    assert drafted.model == "bright"
    assert drafted.facts.digest == room.volume.digest
    labelmap = read_layer(room.blobs, drafted.layer)
    assert labelmap.geometry == room.volume.geometry
    assert ((labelmap.voxels == 1) == (room.volume.voxels > 100)).all()
    assert [segment.name for segment in labelmap.segments] == ["Bright"]
    assert heard[-1] == (1.0, "Storing the draft")


def test_a_volume_that_was_drafted_is_mapped_no_longer(room: Room) -> None:
    digest = room.answerer.draft(DraftOrder("bright", room.place), Control()).facts.digest
    room.cache.asked.clear()
    room.answerer.facts(replace(room.place, digest=digest))
    assert room.cache.asked == [digest]


def test_a_draft_that_was_cancelled_is_not_stored(room: Room) -> None:
    asked = iter([False, True, True])
    with pytest.raises(Cancelled):
        room.answerer.draft(DraftOrder("bright", room.place), Control(is_cancelled=lambda: next(asked)))
    assert not list(room.folder.rglob("blobs/*/*"))


def test_warming_up_loads_models_and_stops_at_none(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        room.answerer.warm_up(("missing", "bright"))
    assert "missing could not be loaded ahead" in caplog.text
    assert len(room.backend.loaded) == 1
    room.prompt(empty())
    assert len(room.backend.loaded) == 1


def test_every_function_is_named(room: Room) -> None:
    functions = room.answerer.functions()
    assert set(functions) == {"facts", "prompt", "help", "draft", "warm_up"}
    assert functions["facts"](room.place, Control()) == room.answerer.facts(room.place)
    assert functions["warm_up"](("bright",), Control()) is None
