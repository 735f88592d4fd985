"""Compile a kernel where that works; where it does not, say so instead of failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile with numba, cached on disk where the folder can be written; the plain function without numba."""
    try:
        import numba
    except ImportError:
        return kernel
    try:
        return cast(Kernel, numba.njit(cache=True)(kernel))
    except RuntimeError:  # numba found no folder it may write its cache to
        return cast(Kernel, numba.njit(kernel))


def compiles(kernel: Callable[..., Any], *trial: Any) -> bool:
    """Whether the kernel is compiled code, tried on small arguments; an interpreted kernel is too slow to be of use."""
    try:
        from numba.core.errors import NumbaError
    except ImportError:
        return False
    if not hasattr(kernel, "py_func"):
        return False
    try:
        kernel(*trial)
    except (NumbaError, OSError):
        return False
    return True
