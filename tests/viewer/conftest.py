"""A browser for all tests of the viewer, and a server over the sample volumes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import running
from viewer_stand import CHROMIUM, NODE, ROOT, Browser, Stand

from annotate_server.api.viewer_build import BUILT, viewer_build
from annotate_server.testing.phantoms import make_sample_data


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    missing = [
        what
        for what, is_there in {
            "chromium (apt-get install chromium)": CHROMIUM is not None,
            "node (make viewer)": NODE is not None,
            "the built viewer (make viewer)": viewer_build(BUILT) is not None,
            "playwright-core (make test-plugin)": (ROOT / "viewer_plugin/ohif/node_modules/playwright-core").is_dir(),
        }.items()
        if not is_there
    ]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"there is no {' and no '.join(missing)}")
    assert not missing
    assert CHROMIUM is not None
    assert NODE is not None
    browser = Browser(NODE, CHROMIUM)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where pictures go: below the temporary folder of pytest, or VIEWER_SCREENSHOTS."""
    folder = os.environ.get("VIEWER_SCREENSHOTS")
    if folder is None:
        return tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_sample_data(folder)
    return folder


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, browser: Browser, samples: Path, shots: Path) -> Iterator[Stand]:
    with running(tmp_path_factory.mktemp("viewer") / "workspace", samples / "images") as server:
        server.wait_until_ready().wait_for_cases(3)
        yield Stand(server, browser, shots)
