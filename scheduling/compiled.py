"""Compile a kernel with numba where that works, and run it as plain Python where it does not.

Packing looks at millions of node states a second, which plain Python cannot. But a broken LLVM, a read-only cache
folder or NUMBA_DISABLE_JIT=1 must cost speed, never an answer: every kernel is written so that it computes the same
integers both ways.

Importing numba takes longer than most questions to the tables, which need a kernel a few times for a few nodes. So
kernels begin as the Python that they are, and are compiled once that has taken `PATIENCE_S`, or once somebody asks
whether they are: a job does at its start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, update_wrapper
from typing import Any, ClassVar, Final, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

PATIENCE_S: Final = 0.3
"""What importing numba and loading the machine code costs: from then on compiling is the quicker way."""


def _plus_one(value: int) -> int:
    return value + 1


@cache
def _compiler() -> Callable[..., Any] | None:
    """Return numba's njit if it can compile and run something here and now."""
    try:
        import numba

        jit: Callable[..., Any] = numba.njit
        works = not getattr(numba.config, "DISABLE_JIT", 0) and _keeping(jit, _plus_one)(1) == 2
    # Whatever goes wrong inside a compiler (import, LLVM, threading layer), the answer is the same: do without.
    except Exception:
        return None
    return jit if works else None


def compiles() -> bool:
    """Tell whether kernels are compiled here; from then on they are, where it works."""
    _settle()
    return _compiler() is not None


def _keeping(jit: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, keep the machine code beside the module if that folder can be written."""
    try:
        kept = jit(cache=True)(kernel)
    except RuntimeError:  # numba found no place for its cache
        return cast(Callable[..., Any], jit(kernel))
    try:
        kept._cache._cache_file._load_index()
    # Kept by an earlier version, it may name a type that is gone; numba reads it before it looks at its age.
    except Exception:
        kept._cache.flush()
    return cast(Callable[..., Any], kept)


class _Later:
    """A kernel until one is called; then every module's kernels become what numba makes of them, or stay Python."""

    waiting: ClassVar[list[_Later]] = []
    spent_s: ClassVar[float] = 0.0

    def __init__(self, kernel: Callable[..., Any], *, inline: bool) -> None:
        self.kernel = kernel
        self.inline = inline
        self.ready: Callable[..., Any] | None = None
        update_wrapper(self, kernel)
        _Later.waiting.append(self)

    def __call__(self, *arguments: Any) -> Any:
        if self.ready is None:
            if _compiler.cache_info().currsize == 0 and _Later.spent_s < PATIENCE_S:
                return self._interpreted(*arguments)
            _settle()
        assert self.ready is not None
        return self.ready(*arguments)

    def _interpreted(self, *arguments: Any) -> Any:
        started, before = time.perf_counter(), _Later.spent_s
        try:
            return self.kernel(*arguments)
        finally:
            # Kernels that it called in turn have counted their part already.
            _Later.spent_s = before + time.perf_counter() - started


def _settle() -> None:
    """Give every kernel its form, and put it into its module: kernels call each other by their modules' names."""
    jit = _compiler()
    settled, _Later.waiting = _Later.waiting, []
    for later in settled:
        if jit is None:
            later.ready = later.kernel
        else:
            later.ready = jit(inline="always")(later.kernel) if later.inline else _keeping(jit, later.kernel)
    for names in {id(later.kernel.__globals__): later.kernel.__globals__ for later in settled}.values():
        for name, value in list(names.items()):
            if isinstance(value, _Later):
                names[name] = value.ready


def compiled(kernel: Kernel) -> Kernel:
    """Have a kernel compiled when it is first called."""
    return cast(Kernel, _Later(kernel, inline=False))


def inlined(kernel: Kernel) -> Kernel:
    """Compile into its callers: handing over a dozen arrays would cost a small kernel more than its own work."""
    return cast(Kernel, _Later(kernel, inline=True))
