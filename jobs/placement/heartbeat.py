"""This job's own heartbeats: they make batches come when every region is silent, and tell that regions could be heard.

See `thalweg.scheduling.liveness.hearing`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.liveness.hearing import Ends, Hearing, Sounding
from thalweg.streams.broker.publish import OutgoingRecord, Publisher, outgoing
from thalweg.streams.broker.soundings import TopicEnds
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import MessageStamp, StatusEvent
from thalweg.streams.contract.topics import STATUS
from thalweg.sync.clock import steady_clock

CONTROL_REGION: Final = RegionId("control")
"""Where this job itself runs."""


def heartbeat(prefix: str, now_ms: int, life: str = "", number: int = 0) -> OutgoingRecord:
    """Make this job's own heartbeat: of the sounding of this number in this life of the job."""
    beat = StatusEvent(
        type="heartbeat",
        region=CONTROL_REGION,
        agent_id=life,
        observed_at=now_ms,
        stamp=MessageStamp(ms=now_ms, seq=number) if number else None,
    )
    event = Envelope(
        event_id=content_id("heartbeat", CONTROL_REGION, now_ms),
        source="/thalweg/place",
        event_type="status.heartbeat",
        time_ms=now_ms,
    )
    return outgoing(STATUS, prefix, beat, key=CONTROL_REGION, region=CONTROL_REGION, event=event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """Beats beside the stream, and looks each time where the regions' topics end: a sounding."""

    hearing: Hearing
    ends: TopicEnds
    publisher: Publisher
    prefix: str
    clock: Callable[[], int]
    keep: Callable[[Ends], None] = lambda _: None
    """Told what was seen of the topics, so that those that this job reads are there."""

    def step(self) -> None:
        """Look, then say that it was looked; in this order, so that whoever reads the beat has read up to the look."""
        number = self.hearing.begin()
        ends = self.ends.look()
        self.hearing.sounded(Sounding(number=number, made_ms=steady_clock(), ends=ends))
        self.keep(ends)
        self.publisher.publish([heartbeat(self.prefix, self.clock(), self.hearing.life, number)])

    def close(self) -> None:
        """Give up the connections."""
        self.ends.close()
        self.publisher.close()
