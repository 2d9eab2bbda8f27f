import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate_server.domain.errors import DownloadFailed, InvalidApp, UnknownModel, WeightsInvalid, WeightsMissing
from annotate_server.domain.ports import Control
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.folder_apps import FolderApps, read_app
from annotate_server.stores.model_registry import FolderModelRegistry

WEIGHTS = bytes(range(256)) * 4000
SHA = hashlib.sha256(WEIGHTS).hexdigest()


def an_app(folder: Path, name: str = "liver_ct", *, sha256: str = SHA, url: str = "", extra: str = "") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "app.toml").write_text(
        f"""
title = "Liver"
purpose = "Tests."
not_for = "Patients."
backend = "threshold"
modalities = ["CT"]
licence = "MIT"
attribution = "Nobody."
{extra}
[[segments]]
index = 1
name = "Liver"
colour = [221, 130, 101]
kind = ["10200004", "SCT", "Liver"]
[[weights]]
name = "model.bin"
sha256 = "{sha256}"
size_bytes = {len(WEIGHTS)}
url = "{url}"
[parameters]
window = 96
"""
    )


@pytest.fixture
def registry(tmp_path: Path) -> FolderModelRegistry:
    an_app(tmp_path / "apps")
    return a_registry(tmp_path)


def a_registry(tmp_path: Path) -> FolderModelRegistry:
    blobs = BlobFolder(tmp_path / "blobs")
    return FolderModelRegistry(FolderApps([tmp_path / "apps"]), blobs, tmp_path / "partial")


class Weights(http.server.BaseHTTPRequestHandler):
    """Serves WEIGHTS with ranges; cuts the first answer in the middle; keeps what was asked."""

    asked: list[str | None]
    cut = False

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        if "missing" in self.path:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = b"x" * len(WEIGHTS) if "other" in self.path else WEIGHTS[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if type(self).cut:
            type(self).cut = False
            body = body[: len(body) // 3]
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Weights.asked, Weights.cut = [], False
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Weights)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_model_without_weights_says_which_command_installs_them(registry: FolderModelRegistry) -> None:
    with pytest.raises(WeightsMissing, match="annotate models pull liver_ct"):
        registry.champion("liver_ct")


def test_weights_are_found_by_digest_whatever_their_name(registry: FolderModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "downloads" / "deep").mkdir(parents=True)
    (tmp_path / "downloads" / "deep" / "weights (1).bin").write_bytes(WEIGHTS)
    (tmp_path / "downloads" / "model.bin").write_bytes(WEIGHTS[::-1])
    version = registry.import_from("liver_ct", tmp_path / "downloads")
    assert version.files["model.bin"].read_bytes() == WEIGHTS
    assert registry.champion("liver_ct").id == version.id


def test_other_weights_are_refused_and_nothing_is_installed(registry: FolderModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(WEIGHTS[::-1])
    with pytest.raises(WeightsInvalid, match="SHA-256"):
        registry.import_from("liver_ct", tmp_path / "model.bin")
    assert registry.missing(registry.app("liver_ct"))


def test_an_unknown_model_lists_those_that_there_are(registry: FolderModelRegistry) -> None:
    with pytest.raises(UnknownModel, match="liver_ct"):
        registry.champion("../../etc")


def test_a_cut_download_goes_on_where_it_stopped(tmp_path: Path, server: str) -> None:
    an_app(tmp_path / "apps", url=f"{server}/model.bin")
    registry = a_registry(tmp_path)
    Weights.cut = True
    with pytest.raises(DownloadFailed, match=r"again|reached"):
        registry.pull("liver_ct", None, Control())
    assert registry.missing(registry.app("liver_ct"))
    registry.pull("liver_ct", None, Control())
    assert Weights.asked[0] is None
    assert Weights.asked[1] is not None
    assert registry.champion("liver_ct").files["model.bin"].read_bytes() == WEIGHTS
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_download_with_another_digest_installs_nothing(tmp_path: Path, server: str) -> None:
    an_app(tmp_path / "apps", url=f"{server}/other")
    registry = a_registry(tmp_path)
    with pytest.raises(DownloadFailed, match="Nothing was installed"):
        registry.pull("liver_ct", None, Control())
    assert registry.missing(registry.app("liver_ct"))
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_mirror_takes_the_place_of_the_public_address(tmp_path: Path, server: str) -> None:
    an_app(tmp_path / "apps", url="https://nowhere.invalid/model.bin")
    registry = a_registry(tmp_path)
    registry.pull("liver_ct", server, Control())
    assert not registry.missing(registry.app("liver_ct"))


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    an_app(tmp_path / "apps", url="http://127.0.0.1:9/model.bin")
    with pytest.raises(DownloadFailed, match="annotate models import"):
        a_registry(tmp_path).pull("liver_ct", None, Control())


def test_an_address_that_is_gone_is_named(tmp_path: Path, server: str) -> None:
    an_app(tmp_path / "apps", url=f"{server}/missing")
    with pytest.raises(DownloadFailed, match="404"):
        a_registry(tmp_path).pull("liver_ct", None, Control())


def test_only_http_addresses_are_fetched(tmp_path: Path) -> None:
    an_app(tmp_path / "apps", url="file:///etc/passwd")
    with pytest.raises(DownloadFailed, match="only http"):
        a_registry(tmp_path).pull("liver_ct", None, Control())


def test_an_app_is_read_with_its_card_and_parameters(tmp_path: Path) -> None:
    an_app(tmp_path)
    app = read_app(tmp_path / "liver_ct")
    assert app.card.segment("Liver").kind.value == "10200004"
    assert app.parameters == {"window": 96}
    assert app.weights[0].url is None


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('colour = "red"', "unknown keys colour"),
        ('prompts = ["shout"]', "shout"),
        ("drafts = 1", "'drafts' has the wrong type"),
        ("min_slices = true", "'min_slices' has the wrong type"),
        ("[", "not TOML"),
    ],
)
def test_a_wrong_app_says_what_is_wrong(tmp_path: Path, extra: str, said: str) -> None:
    an_app(tmp_path, extra=extra)
    with pytest.raises(InvalidApp, match=said):
        read_app(tmp_path / "liver_ct")


def test_a_changed_description_is_another_version(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS)
    ids = []
    for number, extra in enumerate(("", 'body_part = "abdomen"')):
        root = tmp_path / str(number)
        an_app(root / "apps", extra=extra)
        ids.append(a_registry(root).import_from("liver_ct", tmp_path / "w").id)
    assert ids[0] != ids[1]


def test_every_shipped_app_can_be_read() -> None:
    apps = FolderApps([Path(__file__).parents[3] / "apps"])
    assert {"any_structure", "hippocampus_mr", "brain_t1", "abdomen_ct", "lungs_ct"} <= set(apps.names())
    for name in apps.names():
        app = apps.get(name)
        assert app.card.licence
        assert app.card.not_for
