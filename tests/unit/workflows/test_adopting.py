"""Who takes a model over that was made elsewhere, under which name, and what is refused."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import (
    BackendUnavailable,
    InvalidApp,
    InvalidRequest,
    StateError,
    UnreadableFile,
    UnsupportedInput,
)
from annotate_server.domain.model import App, ModelCard
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality
from annotate_server.workflows.adopting import AdoptionTools, adopt


class Reading:
    """A backend that takes folders over that hold one kind of file; each of its lines is an app."""

    def __init__(self, name: str, sign: str) -> None:
        self.name = name
        self._sign = sign

    def recognises(self, source: Path) -> bool:
        return (source / self._sign).is_file()

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        (scratch / "converted").write_bytes(b"weights")
        lines = (order.source / self._sign).read_text().split()
        names = [order.name] if order.name else lines
        if "broken" in lines:
            raise InvalidApp("its description is broken", source=order.source.name)
        table = {"backend": self.name, "modalities": order.modalities}
        return tuple(AdoptedApp(name, table, {"model": scratch / "converted"}) for name in names)

    def load(self, version: object, device: str) -> object:
        raise NotImplementedError


class Other:
    """A backend that takes nothing over."""

    name = "other"

    def load(self, version: object, device: str) -> object:
        raise NotImplementedError


class Installed:
    """Fulfils `adopting.Backends`."""

    def __init__(self, *backends: Reading | Other) -> None:
        self._backends = {backend.name: backend for backend in backends}

    def names(self) -> tuple[str, ...]:
        return (*self._backends, "missing")

    def get(self, name: str) -> Reading | Other:
        if name not in self._backends:
            raise BackendUnavailable(f"{name} cannot be imported")
        return self._backends[name]


class Shelf:
    """Fulfils `adopting.AppShelf` and remembers what it was given, files read."""

    def __init__(self) -> None:
        self.kept: dict[str, Mapping[str, bytes]] = {}

    def keep(self, app: AdoptedApp) -> App:
        self.kept[app.name] = {name: path.read_bytes() for name, path in app.files.items()}
        card = ModelCard("T", "P", "N", (Modality.CT,), (), "L", "A")
        return App(app.name, Path(app.name), str(app.table["backend"]), card, (), {}, "")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def tools(tmp_path: Path, shelf: Shelf) -> AdoptionTools:
    backends = Installed(Reading("bundles", "metadata"), Reading("plans", "plans"), Other())
    return AdoptionTools(backends, shelf, lambda: ("lungs_ct",), tmp_path / "partial")  # type: ignore[arg-type]


def source(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_the_backend_that_recognises_a_source_makes_its_apps(
    tmp_path: Path, tools: AdoptionTools, shelf: Shelf
) -> None:
    apps = adopt(AdoptionOrder(source(tmp_path / "s", plans="liver spleen")), None, tools, Control())
    assert [(app.name, app.backend) for app in apps] == [("liver", "plans"), ("spleen", "plans")]
    assert shelf.kept == {"liver": {"model": b"weights"}, "spleen": {"model": b"weights"}}
    assert list((tmp_path / "partial").iterdir()) == []


def test_an_archive_is_unpacked_and_the_folder_in_it_is_found(
    tmp_path: Path, tools: AdoptionTools, shelf: Shelf
) -> None:
    path = tmp_path / "release.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("release-1.0/Dataset003/metadata", "pancreas")
        archive.writestr("__MACOSX/x", "")
    adopt(AdoptionOrder(path), None, tools, Control())
    assert set(shelf.kept) == {"pancreas"}
    assert list((tmp_path / "partial").iterdir()) == []


def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path: Path, tools: AdoptionTools) -> None:
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../metadata", "x")
    with pytest.raises(UnsupportedInput, match="leads out"):
        adopt(AdoptionOrder(path), None, tools, Control())
    assert not (tmp_path / "metadata").exists()


def test_a_source_that_several_could_take_asks_for_the_backend(
    tmp_path: Path, tools: AdoptionTools, shelf: Shelf
) -> None:
    both = source(tmp_path / "s", plans="a", metadata="b")
    with pytest.raises(InvalidRequest, match=r"bundles, plans.*--backend"):
        adopt(AdoptionOrder(both), None, tools, Control())
    adopt(AdoptionOrder(both), "plans", tools, Control())
    assert set(shelf.kept) == {"a"}
    with pytest.raises(InvalidRequest, match="takes nothing over"):
        adopt(AdoptionOrder(both), "other", tools, Control())
    with pytest.raises(BackendUnavailable):
        adopt(AdoptionOrder(both), "missing", tools, Control())


def test_what_nobody_takes_over_says_who_could_and_what_was_not_asked(tmp_path: Path, tools: AdoptionTools) -> None:
    with pytest.raises(UnsupportedInput, match=r"bundles, plans\. Not asked.*missing"):
        adopt(AdoptionOrder(source(tmp_path / "s", readme="x")), None, tools, Control())
    with pytest.raises(UnreadableFile, match="no such file"):
        adopt(AdoptionOrder(tmp_path / "gone"), None, tools, Control())


def test_volumes_are_no_model(tmp_path: Path, tools: AdoptionTools) -> None:
    folder = source(tmp_path / "s", **{"a.nii.gz": "", "a.json": ""})
    for each in (folder, folder / "a.nii.gz"):
        with pytest.raises(UnsupportedInput, match="volumes, not a model"):
            adopt(AdoptionOrder(each), None, tools, Control())


def test_a_folder_of_models_names_them(tmp_path: Path, tools: AdoptionTools) -> None:
    inner = source(tmp_path / "results" / "Dataset1" / "Trainer", plans="liver")
    with pytest.raises(UnsupportedInput) as caught:
        adopt(AdoptionOrder(tmp_path / "results"), None, tools, Control())
    assert str(inner) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "lines", "error"),
    [
        ("lungs_ct", "x", StateError),
        (None, "lungs_ct", StateError),
        (None, "liver liver", StateError),
        (None, "Liver-CT", InvalidRequest),
        ("../up", "x", InvalidRequest),
        (None, "liver broken", InvalidApp),
    ],
)
def test_a_name_that_cannot_be_had_stores_nothing(
    tmp_path: Path, tools: AdoptionTools, shelf: Shelf, name: str | None, lines: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        adopt(AdoptionOrder(source(tmp_path / "s", plans=lines), name), None, tools, Control())
    assert shelf.kept == {}
