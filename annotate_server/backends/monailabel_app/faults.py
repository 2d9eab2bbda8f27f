"""Faults of MONAI Label 0.8.5 that reach every app, mended from outside; runs over there.

An app that brings a method of its own keeps it: only what it inherits is replaced.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any


def mend(task_class: type[Any]) -> None:
    """Replace what is wrong in MONAI Label's `BasicInferTask`."""
    task_class.inferer = inferer
    task_class.run_invert_transforms = named_inverses(task_class.run_invert_transforms)


def inferer(task: Any, data: Mapping[str, Any] | None = None) -> object:
    """Return how a network is run: window by window as soon as one axis is longer than the window.

    MONAI Label compares the axes off by one: the first axis of space is never looked at, the channels are.
    """
    from monai.inferers.inferer import SimpleInferer, SlidingWindowInferer  # noqa: PLC0415  over there only

    asked = data or {}
    window = asked.get("roi_size", task.roi_size)
    if not data or not window or not exceeds(data[task.input_key].shape, window):
        return SimpleInferer()
    return SlidingWindowInferer(
        roi_size=window,
        overlap=asked.get("sw_overlap", 0.25),
        sw_batch_size=asked.get("sw_batch_size", 1),
        sw_device=asked.get("device"),
        device=asked.get("device"),
    )


def exceeds(shape: Sequence[int], window: Sequence[int]) -> bool:
    """Say whether an array with its channels first is longer than a window along an axis of space."""
    return any(side > most for side, most in zip(shape[-len(window) :], window, strict=True))


def named_inverses(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return `run_invert_transforms` for transforms that are named: MONAI Label looks them up in a list by name.

    The named ones are handed on alone, with the order to undo all of them.
    """

    @wraps(run)
    def run_named(task: Any, data: Any, pre_transforms: Sequence[object], names: Sequence[object] | None) -> Any:
        if not names:
            return run(task, data, pre_transforms, names)
        wanted = {name if isinstance(name, str) else getattr(name, "__name__", "") for name in names}
        return run(task, data, [step for step in pre_transforms if type(step).__name__ in wanted], [])

    return run_named
