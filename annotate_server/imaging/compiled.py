"""How loops are compiled: kept on disk where the machine allows it, in memory where it does not."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return a function compiled on its first call.

    numba looks for a place to keep the machine code when the function is defined, and raises RuntimeError where
    neither the package's folder nor the user's can be written: then it is compiled anew in each process.
    """
    try:
        return cast("Callable[Parameters, Result]", njit(cache=True)(function))
    except RuntimeError:
        return cast("Callable[Parameters, Result]", njit(cache=False)(function))
