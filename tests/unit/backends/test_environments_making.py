"""Making an environment with the real pip, from a folder of packages in place of the internet."""

import fcntl
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from annotate_server.backends.environments.environment import Environment, environments_folder, use_folder
from annotate_server.backends.environments.making import EnvironmentOrder, make_environment, state_of
from annotate_server.backends.environments.recipes import RECIPES, EnvironmentRecipe, PipStep, recipe_of
from annotate_server.domain.errors import BackendUnavailable, Cancelled, NotFound, StateError
from annotate_server.domain.ports import Control

RECIPE = EnvironmentRecipe(
    kind="toy",
    purpose="tests",
    steps=(PipStep(("first_toy==1.0",)), PipStep(("second_toy==2.0",), alone=True)),
    modules=("first_toy", "second_toy", "stand_in.names"),
    gigabytes=0.1,
    stand_ins={"stand_in/__init__.py": "", "stand_in/names.py": "x = 1\n", "first_toy/extra.py": "no"},
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = environments_folder()
    use_folder(tmp_path / "environments")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()
    yield tmp_path
    use_folder(before)


def package(place: Path, name: str, version: str, requires: str = "") -> None:
    """Put a package with one empty module where pip looks."""
    path = place / "links" / f"{name}-{version}-py3-none-any.whl"
    folder = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{folder}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else ""))
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")


@pytest.mark.slow
def test_an_environment_is_made_and_an_attempt_that_failed_goes_on_where_it_stopped(place: Path) -> None:
    assert state_of(RECIPE).state == "not made (0.1 GB)"
    package(place, "first_toy", "1.0")
    with pytest.raises(BackendUnavailable, match=r"second_toy==2\.0"):
        make_environment(EnvironmentOrder(RECIPE), Control())
    assert (state_of(RECIPE).state, state_of(RECIPE).remedy) == ("not finished", "annotate models env toy")
    with pytest.raises(BackendUnavailable, match="is not finished"):
        Environment.named("toy")

    package(place, "second_toy", "2.0", requires="not_to_be_had")
    package(place, "third_toy", "3.0")
    said: list[str] = []
    control = Control(report=lambda part, text: said.append(text))
    environment = make_environment(EnvironmentOrder(RECIPE, extra=("third_toy",)), control)
    assert environment == Environment.named("toy")
    assert "Making the virtual environment" not in said, "what was made before is used"
    assert any("already satisfied: first_toy" in text for text in said)
    state = state_of(RECIPE)
    assert state.is_ready
    assert state.packages is not None
    assert {"second_toy": "2.0", "third_toy": "3.0"}.items() <= dict(state.packages).items()
    assert state.python == ".".join(map(str, sys.version_info[:3]))
    (packages,) = (environment.python.parents[1] / "lib").glob("python*/site-packages")
    assert (packages / "stand_in" / "names.py").read_text() == "x = 1\n"
    assert not (packages / "first_toy" / "extra.py").exists(), "a package that is there gets no stand-in"

    newer = replace(RECIPE, steps=(), modules=("first_toy", "not_there"))
    assert state_of(newer).state == "ready, of an older recipe"
    with pytest.raises(Cancelled):
        make_environment(EnvironmentOrder(newer), Control(is_cancelled=lambda: True))
    with pytest.raises(BackendUnavailable, match="No module named 'not_there'"):
        make_environment(EnvironmentOrder(newer), Control())
    assert not state_of(newer).is_ready


def test_only_one_process_makes_an_environment(place: Path) -> None:
    folder = environments_folder()
    folder.mkdir()
    with (folder / "toy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="another process"):
            make_environment(EnvironmentOrder(RECIPE), Control())


def test_an_interpreter_that_cannot_make_one_is_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="cannot be run"):
        make_environment(EnvironmentOrder(RECIPE, python=tmp_path / "python9"), Control())
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'Error: ensurepip is not available'\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(BackendUnavailable, match="ensurepip is not available"):
        make_environment(EnvironmentOrder(RECIPE, python=broken), Control())


def test_an_interpreter_that_is_too_old_is_refused_before_anything_is_installed(place: Path) -> None:
    python = environments_folder() / "toy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3.9.2\n")
    python.chmod(0o755)
    with pytest.raises(BackendUnavailable, match=r"Python 3\.9\.2 is too old: 3\.11"):
        make_environment(EnvironmentOrder(RECIPE), Control())


def test_every_recipe_names_exact_versions_of_what_it_is_about() -> None:
    for kind, recipe in RECIPES.items():
        assert kind == recipe.kind
        requirements = [each for step in recipe.steps for each in step.requirements]
        assert any(each.lower().startswith(f"{kind}==") for each in requirements)
        assert len(recipe.digest) == 12
    assert RECIPES["monailabel"].digest != RECIPES["nninteractive"].digest
    with pytest.raises(NotFound, match="monailabel, nninteractive"):
        recipe_of("totalsegmentator")
