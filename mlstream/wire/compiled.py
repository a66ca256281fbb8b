"""The one way that this package compiles a loop: without the interpreter lock, and cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile `function` when it is first called.

    numba's cache notices a change of the function's own file only. So a compiled function calls no compiled function
    of another file, and constants that it uses from elsewhere are those of the wire format, which do not change.
    """
    made: Function = njit(nogil=True, cache=True)(function)
    return made
