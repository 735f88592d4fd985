"""Compile a kernel with numba where that works, and run it as plain Python where it does not.

Packing looks at millions of node states a second, which plain Python cannot. But a broken LLVM, a read-only cache
folder or NUMBA_DISABLE_JIT=1 must cost speed, never an answer: every kernel is written so that it computes the same
integers both ways.

Importing numba takes longer than most questions to the tables, which need a kernel a few times for a few nodes. So
kernels begin as the Python that they are, and are compiled once that has taken `PATIENCE_S`, or once somebody asks
whether they are: a job does at its start.

Machine code is kept in the user's cache by what all of `scheduling` says: a second clone, an installed wheel and
a folder that cannot be written find what was compiled once, and no change of what a kernel calls goes unseen
(docs/decisions/0148-machine-code-by-content.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, update_wrapper
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

from thalweg.conf.environment import cache_folder

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

PATIENCE_S: Final = 0.3
"""What importing numba and loading the machine code costs: from then on compiling is the quicker way."""

_KERNELS: Final = Path(__file__).parent
"""The room whose machine code is kept by content; a kernel of another one, a test's, is kept beside its module."""
_OF_NUMBA: Final = "impl"
"""Name of what numba compiles for a call of numpy, within a kernel of ours: it says nothing."""
_VERSIONS_KEPT: Final = 8
"""Of the room's text, the youngest: a few megabytes each."""


def _plus_one(value: int) -> int:
    return value + 1


@cache
def _compiler() -> Callable[..., Any] | None:
    """Return numba's njit if it can compile and run something here and now."""
    try:
        import numba

        jit: Callable[..., Any] = numba.njit
        _keep_by_content()
        works = not getattr(numba.config, "DISABLE_JIT", 0) and _keeping(jit, _plus_one)(1) == 2
    # Whatever goes wrong inside a compiler (import, LLVM, threading layer), the answer is the same: do without.
    except Exception:
        return None
    return jit if works else None


def compiles() -> bool:
    """Tell whether kernels are compiled here; from then on they are, where it works."""
    _settle()
    return _compiler() is not None


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Have the name of each kernel told as its compiling begins: on a busy machine all of them take minutes."""
    if not compiles():
        yield
        return
    from numba.core import event

    class _Teller(event.Listener):
        def on_start(self, event: Any) -> None:
            kernel = event.data["dispatcher"].py_func
            if kernel.__name__ != _OF_NUMBA:
                tell(kernel.__name__)

        def on_end(self, event: Any) -> None:
            """Nothing: the next one's beginning says it."""

    with event.install_listener("numba:compile", _Teller()):
        yield


@cache
def _text_of_kernels() -> str:
    """Return the hash of all modules of the room: whatever a kernel may call in turn."""
    told = hashlib.sha256()
    for file in sorted(_KERNELS.rglob("*.py")):
        told.update(f"{file.relative_to(_KERNELS)}\0".encode() + file.read_bytes() + b"\0")
    return told.hexdigest()[:32]


def _keep_by_content() -> None:
    """Have numba keep the room's machine code under the hash of its text; who has told numba where to keep it wins."""
    caching: Any = import_module("numba.core.caching")  # neither has types
    config: Any = import_module("numba.core.config")
    if config.CACHE_DIR or config.CACHE_LOCATOR_CLASSES:
        return

    class ByContent(caching.InTreeCacheLocator):  # type: ignore[misc]
        def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
            super().__init__(py_func, py_file)
            self._module = Path(py_file).relative_to(_KERNELS)
            self._cache_path = str(cache_folder() / "kernels" / _text_of_kernels() / self._module.parent)

        def get_source_stamp(self) -> str:
            return _text_of_kernels()

        @classmethod
        def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Any:
            here = Path(py_file).is_file() and Path(py_file).is_relative_to(_KERNELS)
            return super().from_function(py_func, py_file) if here else None

    locators = caching.CacheImpl._locator_classes
    if not any(locator.__name__ == ByContent.__name__ for locator in locators):
        locators.insert(0, ByContent)
    _forget_old_versions(cache_folder() / "kernels" / _text_of_kernels())


def _forget_old_versions(own: Path) -> None:
    with contextlib.suppress(OSError):  # another process does the same, or it cannot be written, or is not there yet
        os.utime(own)
        versions = sorted(own.parent.iterdir(), key=lambda version: version.stat().st_mtime, reverse=True)
        for version in versions[_VERSIONS_KEPT:]:
            shutil.rmtree(version, ignore_errors=True)


def _keeping(jit: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, and keep the machine code for other processes where some folder can be written."""
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
