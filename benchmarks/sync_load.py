"""A load of state updates from several regions, sent at a steady rate from a process of its own.

Each region is a replica over memory that writes its own keys. It does not read the replica topic; its heartbeats
acknowledge the topic's end, as a region would that reads as fast as it can.
"""

import json
import random
import sys
import time

import click
from kafka import KafkaProducer

from conf.settings import Kafka
from streams.connection import connection_options
from streams.consume import KafkaReader
from streams.topics import REPLICA, STATE, topic_name
from sync.changes import Add, Assign
from sync.entries import RegionEntry, UpMessage
from sync.memory_store import MemoryStore
from sync.replica import Replica
from thalweg.replica_client import packed

TICK_S = 0.05
ACKNOWLEDGE_S = 0.25


class Region:
    """One writing region."""

    def __init__(self, region: str, keys: int, prefix: str, seed: int) -> None:
        self.replica = Replica(region, MemoryStore())
        self.topic = topic_name(STATE, prefix, region)
        self.store: MemoryStore = self.replica.store  # type: ignore[assignment]
        self._keys = keys
        self._random = random.Random(seed)

    def join(self) -> list[UpMessage]:
        """Join without waiting for the answer: the topic's order lets the join be first."""
        message = self.replica.join(_now_ms())
        answer = RegionEntry(region=message.region, epoch=message.epoch, contiguous=0, centre_ms=_now_ms())
        self.replica.apply([answer], 0, _now_ms())
        return [message]

    def write(self, count: int) -> list[UpMessage]:
        """Write as many records and return the updates."""
        region, now_ms = self.replica.state.region, _now_ms()
        for _ in range(count):
            key = f"dataset/{region}/{self._random.randrange(self._keys)}"
            changes = (Assign("size_gb", round(self._random.random() * 1000, 1)), Add("copies", (region,)))
            self.replica.write(key, changes, now_ms)
        sent: list[UpMessage] = list(self.store.updates.values())
        self.store.updates.clear()
        return sent

    def heartbeat(self, position: int) -> UpMessage:
        """Acknowledge everything published so far."""
        self.replica.apply([], position, _now_ms())
        self.replica._sent = self.replica.state.seq
        return self.replica.heartbeat(_now_ms())


@click.command()
@click.option("--bootstrap", required=True)
@click.option("--prefix", required=True)
@click.option("--region", "regions", multiple=True, required=True)
@click.option("--keys", type=int, required=True, help="Per region.")
@click.option("--rate", type=float, required=True, help="Updates a second in all; 0 as fast as it goes.")
@click.option("--seconds", type=float, default=0.0)
@click.option("--count", type=int, default=0, help="With rate 0: updates in all.")
def main(
    bootstrap: str, prefix: str, regions: tuple[str, ...], keys: int, rate: float, seconds: float, count: int
) -> None:
    """Send the load and print what was sent as JSON."""
    kafka = Kafka(bootstrap_servers=bootstrap, topic_prefix=prefix)
    producer = KafkaProducer(
        acks="all", linger_ms=5, batch_size=524_288, metrics_enabled=False, **connection_options(kafka)
    )
    replica_topic = topic_name(REPLICA, prefix)
    sources = [Region(region, keys, prefix, seed) for seed, region in enumerate(regions)]
    bytes_sent = 0

    def send(source: Region, messages: list[UpMessage]) -> None:
        nonlocal bytes_sent
        for value in packed(messages):
            bytes_sent += len(value)
            producer.send(source.topic, value, key=b"load")

    with KafkaReader(kafka, topics=(replica_topic,), client_id="sync-load") as reader:
        for source in sources:
            send(source, source.join())
        started, written, next_ack = time.monotonic(), 0, 0.0
        goal = count or int(rate * seconds)
        while written < goal:
            due = goal if not rate else min(goal, int((time.monotonic() - started) * rate))
            share = min(due - written, 3_000) // len(sources)
            for source in sources:
                send(source, source.write(share))
            written += share * len(sources)
            if goal - written < len(sources):
                break
            if time.monotonic() >= next_ack:
                next_ack = time.monotonic() + ACKNOWLEDGE_S
                position = reader.end_offsets()[(replica_topic, 0)]
                for source in sources:
                    send(source, [source.heartbeat(position)])
            if rate:
                time.sleep(max(0.0, TICK_S - (time.monotonic() - started) % TICK_S))
        producer.flush(60)
        took = time.monotonic() - started
        for _ in range(3):  # so that nothing stays waiting for an acknowledgement
            time.sleep(ACKNOWLEDGE_S)
            position = reader.end_offsets()[(replica_topic, 0)]
            for source in sources:
                send(source, [source.heartbeat(position)])
        producer.flush(60)
    json.dump(
        {"updates": written, "seconds": took, "bytes": bytes_sent, "cpu_seconds": time.process_time()}, sys.stdout
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
