"""The web process stays small: no library that computes or parses is loaded for it."""

import subprocess
import sys

HEAVY = ("torch", "scipy", "SimpleITK", "numba", "nibabel", "highdicom", "skimage", "cc3d", "matplotlib", "monai")


def test_the_server_loads_no_heavy_library() -> None:
    program = (
        "import sys, annotate_server.bootstrap.server, annotate_server.api.app\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert loaded.stdout.strip() == "[]"
