"""What a stack says: how far its processes are, that its address is not the one it had, what its disk does not take."""

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


class StackFile:
    """Writes down what runs, as well as it goes: a disk that takes nothing is no reason to end what runs."""

    def __init__(self, write: Callable[[], None], say: Callable[[str], None]) -> None:
        self._write = write
        self._say = say
        self._is_written = True

    def write(self) -> bool:
        """Write it, and tell whether that went well; that it did not is said once."""
        before = self._is_written
        try:
            self._write()
            self._is_written = True
        except OSError as error:
            self._is_written = False
            if before:
                why = error.strerror or str(error)
                self._say(f"What runs cannot be written down ({why}); until it can, `thalweg ps` shows what was.")
        return self._is_written


def disk_told(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what says that the disk is full, or with "" that there is room again."""

    def told(words: str) -> None:
        if words:
            say(f"{words[0].upper()}{words[1:]}. Free space there: what runs goes on, what ends waits for room.")
        else:
            say("There is room on the disk again: what has ended is started.")

    return told
