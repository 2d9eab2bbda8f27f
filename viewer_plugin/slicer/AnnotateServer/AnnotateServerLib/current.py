"""Which workplace is the module's: Slicer makes effects itself, and gives them nothing to reach the module by."""

from __future__ import annotations

from AnnotateServerLib.workplace import Workplace

_current: Workplace | None = None


def current() -> Workplace | None:
    """Return the workplace of the module, for the effect in the Segment Editor; None until the module was entered."""
    return _current


def make_current(workplace: Workplace | None) -> None:
    """Say which workplace is the module's."""
    global _current  # noqa: PLW0603  there is one module
    _current = workplace
