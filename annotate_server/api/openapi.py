"""The description of the HTTP interface as a file: `python -m annotate_server.api.openapi FILE`."""

import json
import sys
from pathlib import Path

from annotate_server.api.app import description, routed

PLACE = Path("viewer_plugin") / "openapi.json"


def openapi_text() -> str:
    """Return the description as JSON, the same bytes for the same code."""
    return json.dumps(description(routed()), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_openapi(place: Path) -> None:
    """Write the description."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(openapi_text(), encoding="utf-8")


if __name__ == "__main__":
    write_openapi(Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE)
