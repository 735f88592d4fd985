"""What batching and compression save between a region and the broker: the same updates sent in three ways.

Bytes are counted where they pass, in the region's proxy, both directions together: requests, acknowledgements and all
the protocol around the updates.
"""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from kafka import KafkaProducer

from thalweg.benchmarks.sync.proxied_broker import ProxiedBroker
from thalweg.benchmarks.sync.proxy import Proxy
from thalweg.client.replica_client import packed
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.contract.state_messages import encode_batch
from thalweg.streams.contract.topics import STATE, topic_name
from thalweg.sync.protocol.changes import Add, Assign
from thalweg.sync.protocol.entries import RegionEntry, Update
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica

START_MS = 1_700_000_000_000


def transfer(links: ProxiedBroker, region: str, count: int) -> dict[str, Any]:
    """Send the updates one by one, in batches, and in compressed batches; return the bytes of each way."""
    updates = dataset_updates(region, count)
    proxy = links.proxies[region]
    delay_s, loss, proxy.delay_s, proxy.loss = proxy.delay_s, proxy.loss, 0.0, 0.0  # bytes are counted, not time
    try:
        alone = [encode_batch([update]) for update in updates]
        together = list(packed(updates))
        sent = {
            "each_alone": _bytes_per_update(links, region, alone, len(updates), batch_size=0),
            "batched": _bytes_per_update(links, region, together, len(updates)),
            "batched_and_compressed": _bytes_per_update(links, region, together, len(updates), compression_type="zstd"),
        }
    finally:
        proxy.delay_s, proxy.loss = delay_s, loss
    return {
        "updates": len(updates),
        "json_bytes_per_update": round(sum(len(msgspec.json.encode(update)) for update in updates) / len(updates), 1),
        **{f"{way}_bytes_per_update": bytes_each for way, bytes_each in sent.items()},
        "saved_share": round(1 - sent["batched_and_compressed"] / sent["each_alone"], 3),
    }


def dataset_updates(region: str, count: int) -> list[Update]:
    """Make updates as a region makes them: sizes and places of datasets."""
    replica = Replica(region, MemoryStore())
    epoch = replica.join(START_MS).epoch
    replica.apply([RegionEntry(region=region, epoch=epoch, contiguous=0, centre_ms=START_MS)], 1, START_MS)
    return [
        replica.write(
            f"dataset/{region}/{number * 7919 % 1_000}",
            (Assign("size_gb", number * 31 % 9_973 / 10), Add("copies", (region,))),
            START_MS + number,
        )
        for number in range(count)
    ]


def _bytes_per_update(
    links: ProxiedBroker, region: str, values: Sequence[bytes], updates: int, **options: object
) -> float:
    kafka = links.kafka(region, "transfer")
    ensure_topics(kafka, [region], (STATE,))
    producer = KafkaProducer(acks="all", linger_ms=0, metrics_enabled=False, **connection_options(kafka), **options)
    topic = topic_name(STATE, kafka.topic_prefix, region)
    try:
        producer.partitions_for(topic)  # the connection's own bytes are not the updates'
        before = _settled(links.proxies[region])
        for value in values:
            producer.send(topic, value, key=region.encode())
        producer.flush(120)
        return round((_settled(links.proxies[region]) - before) / updates, 1)
    finally:
        producer.close(timeout=5)


def _settled(proxy: Proxy) -> int:
    """Return the bytes once no more come."""
    seen = -1
    while seen != proxy.bytes_forwarded:
        seen = proxy.bytes_forwarded
        time.sleep(0.3)
    return seen
