"""What a stack says while it starts: how far its processes are, and that its address is not the one it had."""

from collections.abc import Callable
from typing import Final

from thalweg.processes.ports import LOOPBACK

PROGRESS_EVERY_S: Final = 5.0


class Progress:
    """Passes on words of progress, at most so often of each process."""

    def __init__(self, say: Callable[[str], None], clock_seconds: Callable[[], float]) -> None:
        self._say = say
        self._clock_seconds = clock_seconds
        self._last: dict[str, float] = {}

    def told(self, name: str, words: str) -> None:
        """Take a process's new words."""
        now = self._clock_seconds()
        if words and now - self._last.get(name, -PROGRESS_EVERY_S) >= PROGRESS_EVERY_S:
            self._last[name] = now
            self._say(f"{name}: {words}")


class AddressTold:
    """Says when Kafka's port is another than what was told last; at first, than the last run's."""

    def __init__(self, last_port: int | None, say: Callable[[str], None]) -> None:
        self._port = last_port
        self._say = say

    def look(self, port: int | None) -> None:
        """Take the port as it is now."""
        before, self._port = self._port, port
        if before is not None and port is not None and port != before:
            self._say(
                f"Kafka is at {LOOPBACK}:{port} now, no more at {LOOPBACK}:{before}: somebody else listens there. What "
                f"was told the old address writes to whoever that is; tell it the new one."
            )
