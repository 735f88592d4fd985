"""Whether a while has passed on a clock that people and time servers may set.

What began at a moment that is still to come began before the clock was set back, nobody knows how long ago. Where that
moment is further off than the while is long, it counts as over: whatever waits for it would otherwise wait as long as
the clock was ahead. So nothing waits for more than twice its time, and a step of some milliseconds, or the clock of
another machine, cuts no long wait short.
"""

from typing import overload

from thalweg.scheduling.arrays import BoolArray, IntArray


@overload
def has_passed(since_ms: int, now_ms: int, while_ms: float) -> bool: ...
@overload
def has_passed(since_ms: IntArray, now_ms: int, while_ms: float) -> BoolArray: ...
def has_passed(since_ms: int | IntArray, now_ms: int, while_ms: float) -> bool | BoolArray:
    """Tell whether so many milliseconds have passed since a moment, or the clock was set back by more meanwhile."""
    apart_ms = now_ms - since_ms
    return (apart_ms >= while_ms) | (-apart_ms >= while_ms)
