"""Reading a bundle's `inferer`."""

from annotate_server.backends.monai_bundle.arguments import Arguments, component_of
from annotate_server.backends.monai_bundle.expressions import Value
from annotate_server.backends.monai_bundle.parameters import Padding, Window
from annotate_server.domain.errors import InvalidApp


def window_from(value: Value, key: str) -> Window:
    """Return how the network is run; InvalidApp names what is not understood."""
    name = component_of(value, key)
    if not isinstance(value, dict) or name not in (
        "SlidingWindowInferer",
        "SlidingWindowInfererAdapt",
        "SimpleInferer",
    ):
        raise InvalidApp(f"{key!r}: {name} is not known here; SlidingWindowInferer and SimpleInferer are")
    given = Arguments(value, f"{key} ({name})")
    if name == "SimpleInferer":
        given.finish()
        return Window(size=None)
    given.ignore("sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh")
    given.ignore("buffer_steps", "buffer_dim")
    given.only("sigma_scale", 0.125)
    given.only("with_coord", False)
    outside = given.number("cval", 0.0)
    a, b, c = given.sides("roi_size", 0)
    window = Window(
        size=(max(0, a), max(0, b), max(0, c)),
        overlap=_overlap(given),
        uniform=given.only("mode", "constant", "gaussian") == "constant",
        padding=Padding(str(given.only("padding_mode", *map(str, Padding)))),
        outside=0.0 if outside is None else outside,
    )
    given.finish()
    return window


def _overlap(given: Arguments) -> float:
    value = given.take("overlap", 0.25)
    asked = value if isinstance(value, list) else [value]
    shares = [n for n in asked if isinstance(n, int | float) and 0 <= n < 1 and n == asked[0]]
    if not shares or len(shares) != len(asked):
        given.refuse(f"overlap = {value!r} is not one share below 1")
    return float(shares[0])
