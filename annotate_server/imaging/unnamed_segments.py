"""Names and colours for segments of files that have none."""

import colorsys
from collections.abc import Collection

from annotate_server.domain.labelmap import Colour, Segment


def distinct_colour(number: int) -> Colour:
    """Return a colour that its neighbours by number do not have: hues a golden angle apart never come near again."""
    r, g, b = colorsys.hsv_to_rgb(number * 0.381966 % 1.0, 0.6, 0.9)
    return round(r * 255), round(g * 255), round(b * 255)


def unnamed_segment(index: int) -> Segment:
    """Return a segment for a value that nothing is known of."""
    return Segment(index, f"Segment {index}", distinct_colour(index))


def unused_name(name: str, used: Collection[str]) -> str:
    """Return a name that is not among the used ones."""
    number, unused = 1, name
    while unused in used:
        number += 1
        unused = f"{name} ({number})"
    return unused
