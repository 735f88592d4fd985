"""Compile a kernel with numba where that works, and run it as plain Python where it does not.

Packing looks at millions of node states a second, which plain Python cannot. But a broken LLVM, a read-only cache
folder or NUMBA_DISABLE_JIT=1 must cost speed, never an answer: every kernel is written so that it computes the same
integers both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _plus_one(value: int) -> int:
    return value + 1


def _find_compiler() -> Callable[..., Any] | None:
    """Return numba's njit if it can compile and run something here and now."""
    try:
        import numba

        jit: Callable[..., Any] = numba.njit
        works = not getattr(numba.config, "DISABLE_JIT", 0) and jit(_plus_one)(1) == 2
    # Whatever goes wrong inside a compiler (import, LLVM, threading layer), the answer is the same: do without.
    except Exception:
        return None
    return jit if works else None


_NJIT = _find_compiler()
COMPILED = _NJIT is not None


def compiled(kernel: Kernel) -> Kernel:
    """Compile on first use, keep the machine code beside the module if that folder can be written."""
    if _NJIT is None:
        return kernel
    try:
        return _NJIT(cache=True)(kernel)  # type: ignore[no-any-return]
    except RuntimeError:  # numba found no place for its cache
        return _NJIT(kernel)  # type: ignore[no-any-return]


def inlined(kernel: Kernel) -> Kernel:
    """Compile into its callers: handing over a dozen arrays would cost a small kernel more than its own work."""
    return kernel if _NJIT is None else _NJIT(inline="always")(kernel)
