"""A load of state updates from several regions, sent at a steady rate from a process of its own.

Each region is a replica over memory that writes its own keys; what it sends is made beforehand, by the product's own
code and stamped with the moment at which it will be sent, so that the load takes little of the machine it measures and
a late send counts as latency. The regions do not read the replica topic; their heartbeats acknowledge the topic's end,
as a region would that reads as fast as it can.
"""

import gc
import json
import random
import sys
import threading
import time
from dataclasses import dataclass

import click
from kafka import KafkaProducer

from thalweg.client.replica_client import packed
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.contract.topics import REPLICA, STATE, topic_name
from thalweg.sync.protocol.changes import Add, Assign
from thalweg.sync.protocol.entries import Heartbeat, Join, RegionEntry, Update, UpMessage
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica

TICK_S = 0.02  # between two sends of a region, as in the replica client
ACKNOWLEDGE_S = 0.25
_SAMPLE = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One record to send at its time."""

    due_s: float
    region: int
    value: bytes
    seq: int  # newest update in it


class Region:
    """One writing region."""

    def __init__(self, region: str, keys: int, prefix: str, seed: int) -> None:
        self.region = region
        self.topic = topic_name(STATE, prefix, region)
        self.sent_seq = 0
        self._keys = [f"dataset/{region}/{number}" for number in range(keys)]
        self._random = random.Random(seed)
        self._copies = Add("copies", (region,))
        self._replica = Replica(region, MemoryStore())

    def join(self, now_ms: int) -> Join:
        """Join without waiting for the answer: the topic's order lets the join be first."""
        message = self._replica.join(now_ms)
        answer = RegionEntry(region=message.region, epoch=message.epoch, contiguous=0, centre_ms=now_ms)
        self._replica.apply([answer], 0, now_ms)
        return message

    def write(self, at_ms: int) -> Update:
        """Write a record."""
        draw = self._random
        change = Assign("size_gb", round(draw.random() * 1000, 1))
        update = self._replica.write(self._keys[int(draw.random() * len(self._keys))], (change, self._copies), at_ms)
        self._replica.store.confirm(update.stamp.seq)  # it is not sent a second time
        return update

    def heartbeat(self, position: int) -> Heartbeat:
        """Acknowledge everything published before the position; it goes behind what was sent."""
        state, now_ms = self._replica.state, _now_ms()
        return Heartbeat(
            region=state.region,
            epoch=state.epoch,
            position=position,
            last_seq=self.sent_seq,
            sent_seq=self.sent_seq,
            at_ms=now_ms,
        )


def sendings(regions: list[Region], goal: int, rate: float, start_ms: int) -> list[Sending]:
    """Make everything that will be sent: each region its share of every tick, stamped evenly within the tick.

    Args:
        regions: that write, in turn.
        goal: updates in all.
        rate: updates a second in all; 0 makes everything due at once.
        start_ms: when the first tick begins.
    """
    found: list[Sending] = []
    per_tick = round(rate * TICK_S) if rate else 3_000
    for first in range(0, goal, per_tick):
        updates: list[list[UpMessage]] = [[] for _ in regions]
        for number in range(first, min(first + per_tick, goal)):
            at_ms = start_ms + (int(number / rate * 1000) if rate else 0)
            updates[number % len(regions)].append(regions[number % len(regions)].write(at_ms))
        due_s = (first + per_tick) / rate if rate else 0.0
        for index, messages in enumerate(updates):
            last = messages[-1].stamp.seq if messages and isinstance(messages[-1], Update) else 0
            found += [Sending(due_s=due_s, region=index, value=value, seq=last) for value in packed(messages)]
    return found


def prepared(
    names: tuple[str, ...], keys: int, prefix: str, goal: int, rate: float
) -> tuple[list[Region], list[Join], list[Sending], int]:
    """Make the load for a start in the near future; return it with that start in milliseconds."""
    sample = [Region(names[0], keys, prefix, 0)]
    began = time.monotonic()
    sample[0].join(_now_ms())
    sendings(sample, _SAMPLE, rate, _now_ms())
    needed_s = (time.monotonic() - began) / _SAMPLE * goal
    while True:
        needed_s = needed_s * 1.5 + 2
        start_ms = _now_ms() + int(needed_s * 1000)
        regions = [Region(name, keys, prefix, seed) for seed, name in enumerate(names)]
        joins = [region.join(_now_ms()) for region in regions]
        load = sendings(regions, goal, rate, start_ms)
        if not rate or _now_ms() < start_ms:
            return regions, joins, load, start_ms


@click.command()
@click.option("--bootstrap", required=True)
@click.option("--prefix", required=True)
@click.option("--region", "names", multiple=True, required=True)
@click.option("--keys", type=int, required=True, help="Per region.")
@click.option("--rate", type=float, required=True, help="Updates a second in all; 0 as fast as it goes.")
@click.option("--seconds", type=float, default=0.0)
@click.option("--count", type=int, default=0, help="With rate 0: updates in all.")
def main(
    bootstrap: str, prefix: str, names: tuple[str, ...], keys: int, rate: float, seconds: float, count: int
) -> None:
    """Send the load and print what was sent as JSON."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    goal = count or int(rate * seconds)
    gc.disable()  # it makes no cycles
    regions, joins, load, start_ms = prepared(names, keys, prefix, goal, rate)
    producer = KafkaProducer(
        acks="all",
        linger_ms=5,
        batch_size=524_288,  # five requests of a small batch each fill a long way
        compression_type="zstd",
        metrics_enabled=False,
        **connection_options(kafka),
    )
    replica_topic = topic_name(REPLICA, prefix)

    def send(region: Region, messages: list[UpMessage]) -> None:
        for value in packed(messages):
            producer.send(region.topic, value, key=b"load")

    with KafkaReader(kafka, topics=(replica_topic,), client_id="sync-load") as reader:

        def acknowledge() -> None:
            position = reader.end_offsets()[(replica_topic, 0)]
            for region in regions:
                send(region, [region.heartbeat(position)])

        def acknowledge_steadily() -> None:
            # Beside the load: asking for the end takes a round trip, and the load would be late by it.
            while not done.wait(ACKNOWLEDGE_S):
                acknowledge()

        done = threading.Event()
        acknowledging = threading.Thread(target=acknowledge_steadily, daemon=True)
        for region, join in zip(regions, joins, strict=True):
            send(region, [join])
        producer.flush(60)
        time.sleep(max(0.0, start_ms / 1000 - time.time()) if rate else 0.0)
        began, cpu_before, latest_s = time.time(), time.process_time(), 0.0
        acknowledging.start()
        origin = start_ms / 1000 if rate else began
        for one in load:
            time.sleep(max(0.0, origin + one.due_s - time.time()))
            if rate:
                latest_s = max(latest_s, time.time() - origin - one.due_s)
            producer.send(regions[one.region].topic, one.value, key=b"load")
            regions[one.region].sent_seq = one.seq
        done.set()
        acknowledging.join()
        producer.flush(60)
        took, cpu_s = time.time() - origin, time.process_time() - cpu_before
        for _ in range(3):  # so that nothing stays waiting for an acknowledgement
            time.sleep(ACKNOWLEDGE_S)
            acknowledge()
        producer.flush(60)
    document = {
        "updates": goal,
        "start_ms": start_ms,
        "seconds": took,
        "latest_send_s": latest_s,
        "bytes": sum(len(one.value) for one in load),
        "cpu_seconds": cpu_s,
    }
    json.dump(document, sys.stdout)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
