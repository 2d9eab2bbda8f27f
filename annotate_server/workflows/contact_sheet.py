"""The contact sheet of a batch: one page on which a person sees at a glance what went wrong."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from annotate_server.domain.model import ModelVersion
from annotate_server.imaging.whole_file import whole_file

NAME = "index.html"


def write_contact_sheet(folder: Path, version: ModelVersion, lines: Sequence[Mapping[str, Any]]) -> Path:
    """Write `index.html` over the lines of a manifest; failures come first, then the skipped, then the drafts.

    Every text is escaped. A volume far from the others' median is marked, because that is where a draft has failed.
    Returns the page's path.
    """
    order = {"failed": 0, "skipped": 1, "ok": 2}
    rows = sorted(lines, key=lambda line: (order.get(str(line.get("status")), 0), str(line.get("key"))))
    colours = {s.name: "#{:02x}{:02x}{:02x}".format(*s.colour) for s in version.app.card.segments}
    template = Environment(autoescape=True).from_string(
        files("annotate_server.workflows").joinpath("contact_sheet.html.jinja").read_text(encoding="utf-8")
    )
    page = template.render(
        version=version, card=version.app.card, rows=rows, colours=colours, medians=_medians(rows), counts=_counts(rows)
    )
    target = folder / NAME
    with whole_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {status: sum(row.get("status") == status for row in rows) for status in ("ok", "skipped", "failed")}


def _medians(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median volume in ml of each segment; nothing where fewer than five cases were drafted."""
    volumes: dict[str, list[float]] = {}
    for row in rows:
        for name, measured in (row.get("segments") or {}).items():
            volumes.setdefault(name, []).append(measured["volume_ml"])
    return {name: sorted(values)[len(values) // 2] for name, values in volumes.items() if len(values) >= 5}
