"""Which regions are silent, judged by what could have been heard of them.

No clock of any machine says how long a region has been silent. The job takes soundings instead: at short intervals it
looks where the topics end, and then publishes a heartbeat of its own. A sounding counts once its heartbeat was read
back by the same query that reads the regions; from then on two things are known exactly, whatever was slow on the way.
What lies before the ends of a sounding existed when it was taken, and what lies behind them did not. So a region's
last sign of life is as old as the first sounding that ends behind it, and a region is judged at a sounding only where
the query has read its topic up to that sounding's ends.

Between two soundings the *hearing clock* advances by the time that lay between them, at most by twice their interval.
While nothing can be heard (the broker is away, the job is suspended, a backlog is read, a wall clock is set) it stands
still, and nobody grows silent. After an interruption as long as the time-out, and at a start, everybody has the full
time-out again from the first sounding at which all that had piled up is read.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.liveness.patience import Patience

BEAT_MS: Final = 1_000
"""Interval of soundings."""

REMEMBERED: Final = 32
"""Soundings kept to date what is read late; what is older than all of them is not judged."""

Ends = Mapping[str, Mapping[int, int | None]]
"""Topic → partition → offset after the last record; None where the partition cannot be asked now."""

Reached = Mapping[tuple[str, int], int]
"""(topic, partition) → offset up to which the query has read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounding:
    """Where the topics ended at one moment."""

    number: int
    made_ms: int
    """On a clock that never steps."""
    ends: Ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A sounding that was read back, and when that was on the hearing clock."""

    number: int
    at_ms: int
    ends: Ends


class RecordPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True, kw_only=True)
class _Region:
    era: int = -1
    undated: dict[int, RecordPosition] = field(default_factory=dict)
    """Partition → newest sign of life since the last judgement."""
    quiet_since_ms: int = 0
    agent: str = ""
    unbroken: bool = False
    """Whether the gap that ends with the next sign of life says how regularly the region speaks."""
    patience: Patience


class Hearing:
    """See the module's words. `begin` and `sounded` belong to the thread that takes soundings, the rest to the query's.

    Heartbeats without a number (no soundings are taken) count as one interval each, and everything read is up to date.
    """

    def __init__(
        self,
        *,
        timeout_ms: int,
        life: str = "",
        start: Sounding | None = None,
        patience: Callable[[], Patience] = Patience,
    ) -> None:
        """Begin to listen.

        Args:
            timeout_ms: how long a region that spoke regularly may be silent.
            life: names this life of the job: only its own heartbeats count.
            start: taken before the query began: what lies before its ends is the past.
            patience: how a region's patience is learned.
        """
        start = start or Sounding(number=0, made_ms=0, ends={})
        self.life = life
        self.now_ms = 0
        """The hearing clock."""
        self._timeout_ms = timeout_ms
        self._patience = patience
        self._start = start.ends
        self._made = start.number
        self._read_ms = start.made_ms
        self._pending: dict[int, Sounding] = {}
        self._era = 0
        self._regions: dict[RegionId, _Region] = {}
        self._heard: deque[Heard] = deque([Heard(number=start.number, at_ms=0, ends=start.ends)], maxlen=REMEMBERED)
        self._unjudged: list[Heard] = []
        self._reached: dict[tuple[str, int], int] = {}

    @property
    def start(self) -> Ends:
        """Where the topics ended before the query began."""
        return self._start

    # The thread that takes soundings

    def begin(self) -> int:
        """Number the next sounding, before it looks: what is published now may lie before or behind its ends."""
        self._made += 1
        return self._made

    def sounded(self, sounding: Sounding) -> None:
        """Keep a sounding until its heartbeat is read back; before that is published."""
        self._pending[sounding.number] = sounding

    # The query's thread

    @property
    def latest(self) -> int:
        """Number of the newest sounding begun: what is published now lies before the ends of every later one."""
        return self._made

    def read_back(self, number: int) -> None:
        """Note that one of this life's own heartbeats was read; 0 where it carries no number."""
        if number == 0:
            sounding = Sounding(number=self.begin(), made_ms=self._read_ms + BEAT_MS, ends={})
        else:
            found = self._pending.pop(number, None)
            for older in [other for other in tuple(self._pending) if other < number]:
                self._pending.pop(older, None)  # its heartbeat was never acknowledged
            if found is None or found.number <= self._heard[-1].number:
                return
            sounding = found
        passed_ms = sounding.made_ms - self._read_ms
        self._read_ms = sounding.made_ms
        self._era += passed_ms >= self._timeout_ms
        self.now_ms += min(max(passed_ms, 0), 2 * BEAT_MS)
        heard = Heard(number=sounding.number, at_ms=self.now_ms, ends=sounding.ends)
        self._heard.append(heard)
        self._unjudged.append(heard)

    def is_past(self, record: RecordPosition) -> bool:
        """Whether a record was there before this life of the job began: it tells nothing of now."""
        end = self._start.get(record.topic, {}).get(record.partition)
        return end is not None and record.offset < end

    def hear(self, region: RegionId, record: RecordPosition, agent: str = "") -> bool:
        """Note a sign of life; False where it is of the past, and none.

        Args:
            region: whose.
            record: where it was read.
            agent: names one start of the region's agent: a silence during which it was started anew is no gap.
        """
        self._reached[record.topic, record.partition] = record.offset + 1
        if self.is_past(record):
            return False
        known = self._known(region)
        known.undated[record.partition] = record
        if agent and agent != known.agent:
            known.unbroken, known.agent = False, agent
        return True

    def silent(self, topics: Mapping[RegionId, str], reached: Callable[[], Reached]) -> dict[RegionId, int]:
        """Judge regions at the newest sounding; call it once all of a batch's records were noted.

        Args:
            topics: of each region to judge, where it reports.
            reached: tells how far the query has read; what it leaves out is known from the records heard.

        Returns:
            Regions that are silent for longer than they may, each with its silence in milliseconds, ordered.
        """
        if not self._unjudged:
            return {}
        found: dict[RegionId, int] = {}
        newest = self._unjudged[-1]
        self._reached.update(reached())
        for region, topic in sorted(topics.items()):
            known = self._known(region)
            if not _read_up_to(newest.ends.get(topic, {}), topic, self._reached):
                known.unbroken = False
                continue
            self._date(known)
            silent_ms = self.now_ms - known.quiet_since_ms
            if silent_ms > known.patience.limit_ms(self._timeout_ms):
                found[region] = silent_ms
        self._unjudged.clear()
        return found

    def read_up_to_ms(self, topic: str) -> int | None:
        """Say up to which moment on the hearing clock all that a topic held is read; None where that is not known."""
        known = (
            heard for heard in reversed(self._heard) if _read_up_to(heard.ends.get(topic, {}), topic, self._reached)
        )
        return next((heard.at_ms for heard in known), None)

    def made_after(self, record: RecordPosition) -> Heard | None:
        """Give the newest sounding of those remembered that is older than a record; None where none is."""
        return next((heard for heard in reversed(self._heard) if _lies_behind(record, heard.ends)), None)

    @property
    def oldest(self) -> Heard:
        """The oldest sounding remembered."""
        return self._heard[0]

    def first_after(self, number: int) -> Heard | None:
        """Give the oldest sounding of those remembered and read back that began after a number was given out."""
        return next((heard for heard in self._heard if heard.number > number), None)

    def _known(self, region: RegionId) -> _Region:
        known = self._regions.get(region)
        if known is None:
            known = self._regions[region] = _Region(patience=self._patience())
        return known

    def _date(self, known: _Region) -> None:
        """Bring a region's silence up to date with the soundings read back since the last judgement."""
        if known.era != self._era:
            known.era, known.quiet_since_ms, known.unbroken = self._era, self.now_ms, False
        elif known.undated:
            at_ms = max(map(self._heard_by_ms, known.undated.values()))
            # Of several soundings judged at once it is not known how many signs of life lay between them.
            if known.unbroken and len(self._unjudged) == 1 and at_ms > known.quiet_since_ms:
                known.patience.note(at_ms - known.quiet_since_ms)
            known.quiet_since_ms, known.unbroken = max(known.quiet_since_ms, at_ms), True
        known.undated.clear()

    def _heard_by_ms(self, record: RecordPosition) -> int:
        """Date a record by the first sounding that ends behind it."""
        return next((heard.at_ms for heard in self._unjudged if not _lies_behind(record, heard.ends)), self.now_ms)


def _lies_behind(record: RecordPosition, ends: Ends) -> bool:
    """Whether a record came after the sounding; with no word of its partition, in the order of reading: yes."""
    end = ends.get(record.topic, {}).get(record.partition)
    return end is None or record.offset >= end


def _read_up_to(ends: Mapping[int, int | None], topic: str, reached: Reached) -> bool:
    return all(end is not None and reached.get((topic, partition), 0) >= end for partition, end in ends.items())


def covers(position: Sequence[int], ends: Mapping[int, int | None]) -> bool:
    """Whether who has read a topic up to these offsets (by partition) has read all that lay before the ends."""
    return all(
        end is not None and (position[partition] if partition < len(position) else 0) >= end
        for partition, end in ends.items()
    )
