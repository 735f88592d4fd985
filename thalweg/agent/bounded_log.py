"""A run's log never grows beyond its limit: its beginning and its newest lines stay, and a line says what was cut.

The task writes straight into the file, so that nothing is lost when the agent is killed. It writes at the end wherever
that is (O_APPEND), so the agent may shorten the file under it: what lies between the first quarter of the limit and the
newest half is taken out, and `[thalweg: N bytes left out here]` stands there. What the task writes in the moment of the
cut may be lost or stand before that line.

A reader who follows counts in bytes as they were written, the cut ones included, so that a cut moves nothing.
"""

import os
import re
from typing import Final

_MARK: Final = re.compile(rb"\n\[thalweg: (\d{1,18}) bytes left out here\]\n")

_TRIES: Final = 8
"""Of a task that writes all the time, something is lost anyway: amid what is left out."""

_MARK_WITHIN: Final = 1 << 26
"""Bytes: what a task writes in a moment."""


def _mark(left_out: int) -> bytes:
    return b"\n[thalweg: %d bytes left out here]\n" % left_out


def keep_short(descriptor: int, limit_bytes: int) -> None:
    """Cut a log that is longer than its limit.

    Args:
        descriptor: of the log, open for reading and appending; whatever became of its name.
        limit_bytes: at least a few hundred; afterwards it takes three quarters of it.
    """
    head, tail = limit_bytes // 4, limit_bytes // 2
    if os.fstat(descriptor).st_size <= limit_bytes:
        return
    # Right behind the head, unless the task wrote between the shortening and the mark. Looked for before anything is
    # read that is kept: a last word that comes meanwhile is often why a task ended.
    earlier = _MARK.search(os.pread(descriptor, _MARK_WITHIN, head))
    before = 0 if earlier is None else int(earlier[1]) - len(earlier[0])
    for _ in range(_TRIES):
        begins = os.fstat(descriptor).st_size - tail
        read = os.pread(descriptor, 2 * tail, begins)
        if os.fstat(descriptor).st_size == begins + len(read):
            break  # nobody has written since: what comes now is little, if anything
    os.ftruncate(descriptor, head)
    newest = _whole_lines(read[-tail:])
    left_out = begins + len(read) - len(newest) - head + before
    os.write(descriptor, _mark(left_out) + newest)


def _whole_lines(text: bytes) -> bytes:
    """Leave out the rest of a line at the beginning, if there is anything behind it."""
    return text.partition(b"\n")[2] or text


def unseen(log: bytes, seen: int) -> tuple[bytes, int]:
    """Return what a reader has not seen yet.

    Args:
        log: as it is now.
        seen: how many bytes it has seen or missed, of those that were written.

    Returns:
        What is new, with a line for what it has missed, and the new count.
    """
    cut = _MARK.search(log)
    if cut is None:
        return log[seen:], max(seen, len(log))
    newest = log[cut.end() :]
    begins = cut.start() + int(cut[1])
    ends = max(seen, begins + len(newest))
    if seen >= begins:
        return newest[seen - begins :], ends
    missed = begins - max(seen, cut.start())
    return log[seen : cut.start()] + _mark(missed) + newest, ends
