"""The documentation names every setting and every command."""

from pathlib import Path

import pytest

from annotate_server.cli.main import COMMANDS, GROUPS
from annotate_server.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/running-a-server.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_guide(name: str) -> None:
    assert f"| `{PREFIX}{name.upper()}` |" in GUIDE


def test_the_guide_names_no_setting_that_is_not_there() -> None:
    named = {line.split("`")[1] for line in GUIDE.splitlines() if line.startswith(f"| `{PREFIX}")}
    assert named == {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"annotate {command}" in README or f"make {command}" in README
