"""What the jobs refused within a day, followed in the dead-letter topic from the first question on.

Letters come from anywhere and may be many: the newest are kept up to a length, of the others their number by hour.
"""

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from thalweg.conf.settings import KafkaSettings
from thalweg.stack.connection import NoBrokerError
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.deadletter import RefusedRecord, read_letter
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.topics import DEADLETTER, topic_name
from thalweg.sync.clock import Clock

log = logging.getLogger("thalweg.window")

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_NEWEST: Final = 50
_BYTES: Final = 2_000
_SEEN: Final = 20_000
"""Letters that are known again: a job that starts without its checkpoint refuses the same records once more."""
_RULES: Final = 200
_POLL_MS: Final = 500
_AGAIN_S: Final = 5.0
_LAST_MS: Final = 253_402_300_799_000  # the end of the year 9999: a record's time may be anything


@dataclass(frozen=True, slots=True)
class _Cut:
    """A letter, with so much of its bytes as is shown."""

    letter: RefusedRecord
    shown: bytes
    size: int


class RefusedTally:
    """Counts letters and keeps the newest; asked and told by different threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._newest: deque[_Cut] = deque(maxlen=_NEWEST)
        self._by_hour: dict[int, Counter[tuple[str, str]]] = {}
        self._latest: dict[tuple[str, str], int] = {}
        self._seen: OrderedDict[object, None] = OrderedDict()

    def note(self, letter: RefusedRecord) -> None:
        """Take a letter in; one that is known, or older than a day before the newest, counts no more."""
        value = letter.value or b""
        mark = (letter.flow, letter.topic, letter.partition, letter.offset, hash(value))
        with self._lock:
            if letter.offset >= 0 and mark in self._seen:
                return
            self._seen[mark] = None
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
            hour, kind = letter.received_ms // _HOUR_MS, (letter.flow, letter.rule)
            self._by_hour.setdefault(hour, Counter())[kind] += 1
            self._latest[kind] = max(self._latest.get(kind, 0), letter.received_ms)
            for old in [one for one in self._by_hour if one < hour - 48]:
                del self._by_hour[old]
            while len(self._latest) > _RULES:
                del self._latest[min(self._latest, key=lambda one: self._latest[one])]
            self._newest.append(_Cut(letter, value[:_BYTES], len(value)))

    def document(self, now_ms: int) -> dict[str, Any]:
        """Tell how many were refused within a day, by rule, and the newest with their bytes."""
        with self._lock:
            counts: Counter[tuple[str, str]] = Counter()
            for hour, of_hour in self._by_hour.items():
                if hour >= (now_ms - _DAY_MS) // _HOUR_MS:
                    counts.update(of_hour)
            latest, newest = dict(self._latest), list(self._newest)
        return {
            "rules": [
                {"flow": flow, "rule": rule, "rows": rows, "newest": _moment(latest.get((flow, rule), 0))}
                for (flow, rule), rows in counts.most_common(_RULES)
            ],
            "newest": [_row(one) for one in reversed(newest)],
        }


def _row(cut: _Cut) -> dict[str, Any]:
    letter = cut.letter
    return {
        "at": _moment(letter.received_ms),
        "flow": letter.flow,
        "rule": letter.rule,
        "reason": letter.reason,
        "topic": letter.topic,
        "topic_partition": letter.partition,
        "topic_offset": letter.offset,
        "key": (letter.key or b"")[:_BYTES].decode(errors="replace"),
        "raw": cut.shown.decode(errors="backslashreplace"),
        "bytes": cut.size,
    }


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(ms, 0), _LAST_MS) / 1_000, UTC)


class RefusedWatch:
    """See the module's words."""

    def __init__(self, connect: Callable[[], KafkaSettings], clock: Clock) -> None:
        """Prepare; the connection is made when somebody asks.

        Args:
            connect: finds the broker.
            clock: milliseconds since 1970.
        """
        self._connect, self._clock = connect, clock
        self._tally = RefusedTally()
        self._trouble = ""
        self._stop, self._is_read = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="window-refused", daemon=True)
        self._starting, self._is_started = threading.Lock(), False

    def document(self, patience_s: float) -> dict[str, Any]:
        """Tell what is known; the first time, wait at most so long for what there is to be read."""
        with self._starting:
            if not self._is_started:
                self._is_started = True
                self._thread.start()
        self._is_read.wait(patience_s)
        read = self._is_read.is_set() and not self._trouble
        return {**self._tally.document(self._clock()), "is_read": read, "trouble": self._trouble or None}

    def close(self) -> None:
        """End."""
        self._stop.set()
        with self._starting:
            was_started, self._is_started = self._is_started, True
        if was_started:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow(self._connect())
            except (StreamError, NoBrokerError) as error:
                self._trouble = str(error)
                self._is_read.set()
                self._stop.wait(_AGAIN_S)

    def _follow(self, kafka: KafkaSettings) -> None:
        topic = topic_name(DEADLETTER, kafka.topic_prefix)
        since_ms = self._clock() - _DAY_MS
        with KafkaReader(kafka, topics=[topic], since_ms=since_ms, client_id="thalweg-window-refused") as reader:
            ends = reader.end_offsets()
            while not self._stop.is_set():
                for record in reader.poll(_POLL_MS):
                    self._tally.note(read_letter(record))
                if all(reader.position(*place) >= end for place, end in ends.items()):
                    self._trouble = ""
                    self._is_read.set()
