"""Give memory back to the system: what was freed after much was read stays with the allocators else, and looks used."""

import ctypes
import gc
import sys

import pyarrow as pa


def give_back() -> None:
    """Free what nobody holds, and let the allocators give up what is free."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim is not None:
            trim(0)
