"""Durations on a machine whose wall clock may be set: a clock that begins at the wall's time and never goes back.

What an agent says of when something happened is the wall clock's, right or wrong; what it waits for is measured here.
"""

from thalweg.sync.clock import Clock


def counted_from(wall: Clock, steady: Clock) -> Clock:
    """Return a clock that starts at the wall clock's time and goes on as the steady one does."""
    offset_ms = wall() - steady()
    return lambda: steady() + offset_ms


def without_steps_back(wall: Clock) -> Clock:
    """Return a clock that advances as the wall clock does and stands still while that is set back."""
    last_ms = now_ms = wall()

    def read() -> int:
        nonlocal last_ms, now_ms
        reading_ms = wall()
        now_ms += max(reading_ms - last_ms, 0)
        last_ms = reading_ms
        return now_ms

    return read
