"""What Schemathesis has to know of this API; its command line loads this file, the tests do not import it."""

import numpy as np
import schemathesis
from hypothesis import strategies as st

from annotate_server.domain.geometry import Box
from annotate_server.imaging.frame import MEDIA_TYPE, Frame, encode_frame

KEPT_USER = "root"
"""Whose token the run uses: without this user every answer would be 401, and nothing would be tested."""


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leave the user alone that the run signs in by."""
    path, body = case.path_parameters or {}, case.body
    named = body.get("name") if isinstance(body, dict) else None
    return KEPT_USER not in (path.get("name"), named)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Return a frame that lies in every sample volume, of any values; sometimes cut off."""
    shape = tuple(draw(st.integers(0, 4)) for _ in range(3))
    voxels = np.full(shape, draw(st.integers(0, 7)), np.uint8)
    content = encode_frame(Frame("", "", draw(st.integers(0, 3)), Box((0, 0, 0), shape), voxels, ""))
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


schemathesis.openapi.media_type(MEDIA_TYPE, frames())


@schemathesis.serializer(MEDIA_TYPE)
def as_it_is(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Send bytes as they are."""
    return value if isinstance(value, bytes) else str(value).encode()
