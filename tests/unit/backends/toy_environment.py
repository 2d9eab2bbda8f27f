"""A tiny environment of another interpreter: numpy and one module, nothing else."""

import shutil
import venv
from pathlib import Path

import numpy as np

from annotate_server.backends.environments.environment import READY_MARK

KIND = "toy"


def toy_environment(folder: Path, *, with_numpy: bool = True) -> Path:
    """Make `folder`/toy with the module `toy_desk` in it and return the folder of its packages."""
    venv.create(folder / KIND, with_pip=False, symlinks=True)
    packages = next((folder / KIND / "lib").glob("python*/site-packages"))
    installed = Path(np.__file__).parent
    for name in ("numpy", "numpy.libs") if with_numpy else ():
        if (installed.parent / name).is_dir():
            (packages / name).symlink_to(installed.parent / name)
    shutil.copy(Path(__file__).with_name("toy_desk.py"), packages)
    (folder / KIND / READY_MARK).write_text("{}")
    return packages
