from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import Cancelled, NotMadeFor, WeightsMissing
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, Locator, ModelVersion, WeightFile
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Acquisition, Modality, Volume
from annotate_server.testing.fakes import InMemoryBackends, InMemoryRegistry, ThresholdBackend, threshold_app
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.suitability import check_stored, with_modality

SPOT = Segment(1, "Spot", (10, 200, 10))


def a_volume(modality: Modality | None = Modality.CT) -> Volume:
    voxels = np.full((30, 40, 50), -50, np.int16)
    voxels[5:9, 6:12, 7:10] = 300
    voxels[20:24, 25:30, 40:44] = 300
    return Volume(voxels, oblique_geometry(voxels.shape), modality)


def a_predictor(*apps: App, installed: set[str] | None = None) -> Predictor:
    registry = InMemoryRegistry({app.name: app for app in apps}, installed or set())
    return Predictor(registry, InMemoryBackends({"threshold": ThresholdBackend()}))


def test_a_draft_lies_on_the_volumes_own_grid_and_names_its_version() -> None:
    volume = a_volume()
    result = a_predictor(threshold_app()).draft("bright", {"CT": volume}, Control())
    assert result.labelmap.geometry == volume.geometry
    assert ((result.labelmap.voxels == 1) == (volume.voxels > 100)).all()
    assert result.version.model == "bright"


def test_a_model_stays_loaded_between_drafts_and_is_closed_at_the_end() -> None:
    backend = ThresholdBackend()
    registry = InMemoryRegistry({"bright": threshold_app()})
    predictor = Predictor(registry, InMemoryBackends({"threshold": backend}))
    for _ in range(2):
        predictor.draft("bright", {"CT": a_volume()}, Control())
    assert len(backend.loaded) == 1
    predictor.close()
    assert backend.loaded[0].closed


def crops_app(**changes: object) -> App:
    locator = Locator("finder", "Spot", max_extent_mm=30.0, margin_mm=2.0)
    app = threshold_app("crops")
    return replace(app, card=replace(app.card, locator=replace(locator, **changes)))


def finder_app() -> App:
    return threshold_app("finder", segments=(SPOT,))


def test_a_model_for_crops_is_run_where_the_locator_found_something() -> None:
    volume = a_volume()
    result = a_predictor(crops_app(), finder_app()).draft("crops", {"CT": volume}, Control())
    assert ((result.labelmap.voxels == 1) == (volume.voxels > 100)).all()
    assert "2 place(s)" in result.notes[0]


def test_small_specks_of_the_locator_are_not_looked_at() -> None:
    volume = a_volume()
    ml = volume.geometry.voxel_ml
    app = crops_app(min_volume_ml=75 * ml)
    result = a_predictor(app, finder_app()).draft("crops", {"CT": volume}, Control())
    assert "1 place(s)" in result.notes[0]


def test_without_the_locator_a_whole_volume_is_refused_with_what_to_install() -> None:
    finder = replace(finder_app(), weights=(WeightFile("w", "0" * 64, 1),))
    with pytest.raises(NotMadeFor, match="annotate models pull finder"):
        a_predictor(crops_app(), finder).draft("crops", {"CT": a_volume()}, Control())


def test_a_crop_is_drafted_without_asking_the_locator() -> None:
    finder = replace(finder_app(), weights=(WeightFile("w", "0" * 64, 1),))
    small = a_volume().cropped(Box((4, 5, 6), (10, 13, 12)))
    result = a_predictor(crops_app(), finder).draft("crops", {"CT": small}, Control())
    assert result.labelmap.voxels.any()


def test_nothing_found_by_the_locator_is_said() -> None:
    empty = Volume(np.zeros((30, 40, 50), np.int16), oblique_geometry((30, 40, 50)), Modality.CT)
    with pytest.raises(NotMadeFor, match="found no Spot"):
        a_predictor(crops_app(min_volume_ml=1.0), finder_app()).draft("crops", {"CT": empty}, Control())


def test_a_volume_of_another_modality_is_refused() -> None:
    with pytest.raises(NotMadeFor, match="MR"):
        a_predictor(threshold_app()).draft("bright", {"MR": a_volume(Modality.MR)}, Control())


def test_hounsfield_units_are_not_taken_for_an_mr() -> None:
    voxels = np.full((10, 20, 30), -1000, np.int16)
    voxels[:, 5:15, 5:25] = 40
    volume = Volume(voxels, oblique_geometry(voxels.shape))
    with pytest.raises(NotMadeFor, match="Hounsfield"):
        a_predictor(threshold_app(modality=Modality.MR)).draft("bright", {"MR": volume}, Control())


def test_a_model_that_only_answers_prompts_drafts_nothing() -> None:
    app = threshold_app()
    app = replace(app, card=replace(app.card, drafts=False))
    with pytest.raises(NotMadeFor, match="prompts"):
        a_predictor(app).draft("bright", {"CT": a_volume()}, Control())


def test_missing_weights_and_cancelling_come_through() -> None:
    app = replace(threshold_app(), weights=(WeightFile("w", "0" * 64, 1),))
    with pytest.raises(WeightsMissing):
        a_predictor(app).draft("bright", {"CT": a_volume()}, Control())
    with pytest.raises(Cancelled):
        a_predictor(threshold_app()).draft("bright", {"CT": a_volume()}, Control(is_cancelled=lambda: True))


def a_stored(**changes: object) -> StoredVolume:
    blank = StoredVolume("a", Format.DICOM, (Path("a"),) * 20, PatientKey("", "1"), Modality.CT, series_uid="1.2")
    return replace(blank, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modality": Modality.PT}, "PT"),
        ({"image_type": ("DERIVED", "LOCALIZER")}, "localizer"),
        ({"files": (Path("a"), Path("b"))}, "2 slices"),
    ],
)
def test_headers_alone_tell_what_a_model_is_not_made_for(changes: dict, said: str) -> None:
    check_stored(a_stored(), threshold_app())
    with pytest.raises(NotMadeFor, match=said):
        check_stored(a_stored(**changes), threshold_app())


def test_a_file_that_names_no_modality_takes_the_declared_one_then_the_models() -> None:
    card = threshold_app().card
    unknown = a_volume(None)
    assert with_modality(unknown, card, None).modality is Modality.CT
    assert with_modality(unknown, card, None).unit == "HU"
    assert with_modality(unknown, card, Modality.MR).modality is Modality.MR
    assert with_modality(a_volume(Modality.MR), card, Modality.CT).modality is Modality.MR
    assert Acquisition().warnings == ()


@dataclass
class VersionedRegistry(InMemoryRegistry):
    """A registry in which a test says which description serves; it counts how often it is asked who that is."""

    present: str = "one"
    asked: int = 0

    def champion(self, name: str) -> ModelVersion:
        self.asked += 1
        return ModelVersion(replace(self.app(name), digest=self.present))

    def version(self, name: str, version_id: str) -> ModelVersion:
        versions = [ModelVersion(replace(self.app(name), digest=digest)) for digest in ("one", "two", "three")]
        return next(version for version in versions if version.id == version_id)

    def serve(self, digest: str) -> None:
        self.present, self.changes = digest, self.changes + 1


def versioned() -> tuple[VersionedRegistry, ThresholdBackend, Predictor]:
    registry, backend = VersionedRegistry({"bright": threshold_app()}), ThresholdBackend()
    return registry, backend, Predictor(registry, InMemoryBackends({"threshold": backend}))


def test_another_champion_answers_the_next_prediction_and_the_former_one_stays_for_a_rollback() -> None:
    registry, backend, predictor = versioned()
    first = predictor.draft("bright", {"CT": a_volume()}, Control()).version.id
    registry.serve("two")
    second = predictor.draft("bright", {"CT": a_volume()}, Control()).version.id
    registry.serve("one")
    assert predictor.draft("bright", {"CT": a_volume()}, Control()).version.id == first != second
    assert len(backend.loaded) == 2
    registry.serve("three")
    predictor.draft("bright", {"CT": a_volume()}, Control())
    assert [model.closed for model in backend.loaded] == [False, True, False]


def test_who_serves_is_asked_only_where_something_changed() -> None:
    registry, _, predictor = versioned()
    for _ in range(3):
        predictor.load("bright")
    assert registry.asked == 1
    registry.changes += 1
    predictor.load("bright")
    assert registry.asked == 2


def test_a_draft_ends_with_the_version_that_it_began_with() -> None:
    registry, backend, _ = versioned()
    registry = VersionedRegistry({"crops": crops_app(), "finder": finder_app()})
    predictor = Predictor(registry, InMemoryBackends({"threshold": backend}))
    before = predictor.load("crops")[0].id

    def report(fraction: float, message: str) -> None:
        if registry.present == "one":
            registry.serve("two")

    result = predictor.draft("crops", {"CT": a_volume()}, Control(report=report))
    assert result.version.id == before
    assert predictor.load("crops")[0].id != before


def test_a_version_can_be_asked_whoever_serves() -> None:
    registry, _, predictor = versioned()
    first = predictor.load("bright")[0].id
    registry.serve("two")
    assert predictor.draft("bright", {"CT": a_volume()}, Control(), first).version.id == first
    assert predictor.load("bright")[0].id != first
