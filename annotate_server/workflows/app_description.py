"""An app's description as the bytes that a version is named by."""

import json

from annotate_server.domain.app_table import app_table
from annotate_server.domain.model import App


def description_bytes(app: App) -> bytes:
    """Return an app's description as the canonical JSON whose SHA-256 is its digest."""
    return json.dumps(app_table(app), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
