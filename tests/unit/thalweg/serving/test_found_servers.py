"""Callers find servers by what those say, and keep to what they know while the broker is away."""

from typing import Any

from thalweg.client.found_servers import LOOK_EVERY_MS, FoundServers
from thalweg.scheduling.ids import RegionId
from thalweg.serving.announcements import write_gone, write_status
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.contract.messages import ServerStatus
from thalweg.streams.contract.topics import SERVERS, topic_name


class Away(MemoryReader):
    """A reader whose broker goes away when the test says so."""

    away = False

    def poll(self, timeout_ms: int) -> Any:
        if self.away:
            raise BrokerUnavailableError("h:1", OSError("nobody"))
        return super().poll(timeout_ms)


def test_servers_come_go_and_stay_while_nobody_can_be_heard() -> None:
    now = 1_000_000
    broker = MemoryBroker(clock=lambda: now)
    broker.create([topic_name(SERVERS, "t")])
    reader = Away(broker, topics=[topic_name(SERVERS, "t")])
    servers = FoundServers("m", reader, clock=lambda: now, steady=lambda: now)

    def says(name: str, version: int = 1) -> None:
        status = ServerStatus(model="m", server=name, region=RegionId("r"), url=f"http://{name}", version=version)
        broker.publish([write_status(status, "t", now)])

    assert servers() == []
    says("a")
    assert servers() == [], "the broker is asked for every request"
    now += LOOK_EVERY_MS
    assert servers() == ["http://a"]
    says("b")
    says("c", version=0)
    now += LOOK_EVERY_MS
    assert servers() == ["http://a", "http://b"]
    reader.away = True
    now += 100 * LOOK_EVERY_MS
    assert servers() == ["http://a", "http://b"], "nobody was heard, so nobody has gone"
    reader.away = False
    broker.publish([write_gone("m", "a", "t")])
    now += LOOK_EVERY_MS
    assert servers() == ["http://b"]
