"""The clocks of a process. Who needs the time is given one; who may read one is named in tests/unit/test_clocks.py."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Milliseconds: of the wall clock since 1970, UTC; of a steady one since an unknown moment."""


def system_clock() -> int:
    """Read the machine's wall clock, in milliseconds since 1970. It may be set, forward and back."""
    return time.time_ns() // 1_000_000


def steady_clock() -> int:
    """Read a clock that never steps, in milliseconds since an unknown moment: for durations."""
    return time.monotonic_ns() // 1_000_000
