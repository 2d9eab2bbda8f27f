"""MONAI Label itself, in an environment of its own: what the tests of this folder run against.

The folder's tests are not collected by `make test`: `make test-peer` makes the environment and runs `peer_*.py`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate_server.backends.environments.environment import READY_MARK, environments_folder, use_folder

_ROOT = Path(__file__).parents[2]
_KIND = "monailabel"


@pytest.fixture(scope="session")
def peer_environment() -> Iterator[Path]:
    """Return the folder of the environment with MONAI Label in it; backends find it there while the tests run."""
    folder = Path(os.environ.get("PEER_ENVIRONMENTS", _ROOT / ".venv-monailabel")).resolve()
    if not (folder / _KIND / READY_MARK).is_file():
        (pytest.fail if "CI" in os.environ else pytest.skip)("MONAI Label is not installed: run make test-peer")
    before = environments_folder()
    use_folder(folder)
    yield folder / _KIND
    use_folder(before)


@pytest.fixture(scope="session")
def peer_python(peer_environment: Path) -> Path:
    """Return the interpreter that can import monailabel."""
    return peer_environment / "bin" / "python"


@pytest.fixture(scope="session")
def radiology(peer_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sample app `radiology` as its wheel brings it, without weights."""
    app = tmp_path_factory.mktemp("apps") / "radiology"
    shutil.copytree(peer_environment / "monailabel" / "sample-apps" / "radiology", app)
    return app


def run_over_there(python: Path, program: str, *words: str) -> str:
    """Run a program text in the environment of MONAI Label and return what it printed last."""
    command = [str(python), "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
