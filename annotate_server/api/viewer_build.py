"""The built viewer: which files there are, as its manifest says. Nothing is served that the manifest does not name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUILT = Path(__file__).parents[1] / "viewer_build"
"""Where `make viewer` puts the viewer, and where a wheel brings it."""
HOW_TO_BUILD = "Run: make viewer"
_FORMAT = 1


@dataclass(frozen=True)
class ViewerFile:
    """A file of the viewer; `path` is as stored, which may be gzip. `is_immutable`: its name says its content."""

    path: Path
    media_type: str
    is_gzip: bool
    sha256: str
    is_immutable: bool


@dataclass(frozen=True)
class ViewerBuild:
    """A built viewer: what it is made from, and its files by the name below /viewer/."""

    made_from: str
    files: Mapping[str, ViewerFile]
    stored_bytes: int


def viewer_build(folder: Path) -> ViewerBuild | None:
    """Return the viewer that was built into a folder; None where there is none that this version can serve."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format"] != _FORMAT:
            return None
        files = {name: _file(folder, name, entry) for name, entry in manifest["files"].items()}
        stored = sum(int(entry["stored_bytes"]) for entry in manifest["files"].values())
        return ViewerBuild(str(manifest["viewer"]), files, stored) if "index.html" in files else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _file(folder: Path, name: str, entry: Mapping[str, object]) -> ViewerFile:
    is_gzip = entry["is_gzip"] is True
    return ViewerFile(
        path=folder / f"{name}.gz" if is_gzip else folder / name,
        media_type=str(entry["type"]),
        is_gzip=is_gzip,
        sha256=str(entry["sha256"]),
        is_immutable=entry["is_immutable"] is True,
    )
