"""What a log says again and again is said once in a while."""

import logging
import re
from collections.abc import Callable
from typing import Final

_NUMBERS: Final = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


_OF_ITSELF: Final = re.compile(r"Task .* ran for|group_id is None")
"""How long its own loop took, and that readers without a group commit nothing, which is what they are for."""


def line_without_numbers(record: logging.LogRecord) -> str:
    """Return a record's words."""
    return _NUMBERS.sub("#", record.getMessage())


class Paced(logging.Filter):
    """Lets a line through at most once in so many seconds; lines that differ only in their numbers are one.

    Time is the records' own, so a filter needs no clock.
    """

    def __init__(self, every_s: float, by: Callable[[logging.LogRecord], str] = line_without_numbers) -> None:
        """Prepare.

        Args:
            every_s: between two lines that are one.
            by: what makes lines one.
        """
        super().__init__()
        self._every_s = every_s
        self._by = by
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line is due."""
        line = self._by(record)
        last = self._last.get(line)
        if last is not None and 0 <= record.created - last < self._every_s:
            return False
        self._last = {known: at for known, at in self._last.items() if 0 <= record.created - at < self._every_s}
        self._last[line] = record.created
        return True


class KafkaChatter(logging.Filter):
    """What kafka-python says of itself is left out; what it says of connections comes once in a few seconds.

    Each of a process's clients tries each broker again and again, and each says so; who reads the log needs one line.
    """

    EVERY_S: Final = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._connections = Paced(self.EVERY_S, by=lambda record: "connections")
        self._others = Paced(self.EVERY_S)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is for a reader."""
        if not record.name.startswith("kafka."):
            return True
        if _OF_ITSELF.search(record.getMessage()):
            return False
        of_connections = record.name.startswith(("kafka.net", "kafka.cluster", "kafka.producer"))
        return (self._connections if of_connections else self._others).filter(record)
