"""Processes stay small: none loads a library that computes or parses before it needs it."""

import subprocess
import sys

import pytest

COMPUTING = ("torch", "SimpleITK", "numba", "skimage", "matplotlib", "monai")
PARSING = ("nibabel", "highdicom")


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("annotate_server.bootstrap.server, annotate_server.api.app", (*COMPUTING, *PARSING, "scipy", "cc3d")),
        ("annotate_server.bootstrap.workers", (*COMPUTING, *PARSING, "pydicom")),
    ],
    ids=["server", "worker"],
)
def test_a_process_loads_no_heavy_library_at_its_start(modules: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {modules}\nprint(sorted(set({heavy!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert loaded.stdout.strip() == "[]"
