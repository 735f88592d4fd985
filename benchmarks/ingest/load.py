"""A load of telemetry, sent at a steady rate from a process of its own; every record carries the clock before send."""

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click
from kafka import KafkaProducer

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.contract import topics

TICK_S: Final = 0.01
_STAMP_MS: Final = 1_234_567_890_123  # placeholder with as many digits as the clock has


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A record in two halves; the clock goes between them."""

    topic: str
    before: bytes
    after: bytes

    def at(self, now_ms: int) -> bytes:
        """Return the record's value as of now."""
        return b"%s%d%s" % (self.before, now_ms, self.after)


def templates(
    prefix: str, regions: Sequence[str], *, nodes: int, samples_per_record: int, record_bytes: int, seed: int
) -> list[Template]:
    """Make records that together sample every node once, regions taking turns.

    Args:
        prefix: first part of the topics' names.
        regions: where the nodes are.
        nodes: in all, rounded up to whole records for each region.
        samples_per_record: 1 is what a plain application sends; an agent sends many.
        record_bytes: records shorter than this are padded with a field of no meaning; 0 pads none.
        seed: of the figures in the samples.
    """
    chance = random.Random(seed)
    # Whole records only, so that records sent times samples a record is the number of samples sent.
    per_region = -(-nodes // (len(regions) * samples_per_record)) * samples_per_record
    made: list[list[Template]] = []
    for region in regions:
        topic = topics.topic_name(topics.TELEMETRY, prefix, region)
        samples = [_sample(f"{region}-{number:05d}", chance, samples_per_record > 1) for number in range(per_region)]
        chunks = [samples[first : first + samples_per_record] for first in range(0, per_region, samples_per_record)]
        made.append([_template(topic, region, chunk, record_bytes) for chunk in chunks])
    return [template for turn in zip(*made, strict=True) for template in turn]


def _sample(node_id: str, chance: random.Random, whole: bool) -> dict[str, object]:
    busy = round(chance.random(), 3)
    if not whole:
        return {"kind": "node", "node_id": node_id, "gpus": 8, "gpu_utilisation": busy}
    return {
        "kind": "node",
        "node_id": node_id,
        "gpu_model": "A100",
        "gpus": 8,
        "cpus": 96.0,
        "memory_gb": 768.0,
        "gpu_utilisation": busy,
        "cpu_utilisation": round(chance.random(), 3),
        "memory_used_gb": round(chance.random() * 768, 1),
        "state": "ready",
    }


def _template(topic: str, region: str, samples: list[dict[str, object]], record_bytes: int) -> Template:
    record: dict[str, object] = {"region": region, "stamp": {"ms": _STAMP_MS}, "samples": samples}
    missing = record_bytes - len(json.dumps(record, separators=(",", ":")))
    if missing > len(',"pad":""'):
        record["pad"] = "x" * (missing - len(',"pad":""'))
    before, after = json.dumps(record, separators=(",", ":")).encode().split(b"%d" % _STAMP_MS)
    return Template(topic=topic, before=before, after=after)


def send(kafka: KafkaSettings, records: Sequence[Template], *, per_second: float, seconds: float) -> int:
    """Send at a steady rate and return the number of records; falling behind is caught up, never skipped."""
    producer = KafkaProducer(
        acks=1, linger_ms=5, batch_size=262_144, metrics_enabled=False, client_id="load", **connection_options(kafka)
    )
    started = time.monotonic()
    total = int(per_second * seconds)
    sent = 0
    while sent < total:
        due = min(total, int((time.monotonic() - started) * per_second) + 1)
        now_ms = time.time_ns() // 1_000_000
        for number in range(sent, due):
            record = records[number % len(records)]
            producer.send(record.topic, record.at(now_ms))
        sent = max(sent, due)
        time.sleep(TICK_S)
    producer.flush()
    producer.close()
    return sent


@click.command()
@click.option("--bootstrap", required=True)
@click.option("--prefix", required=True)
@click.option("--region", "regions", multiple=True, required=True)
@click.option("--nodes", type=int, required=True)
@click.option("--rate", type=float, required=True, help="Samples a second.")
@click.option("--seconds", type=float, required=True)
@click.option("--samples-per-record", type=int, required=True)
@click.option("--record-bytes", type=int, required=True)
def main(
    bootstrap: str,
    prefix: str,
    regions: tuple[str, ...],
    nodes: int,
    rate: float,
    seconds: float,
    samples_per_record: int,
    record_bytes: int,
) -> None:
    """Send telemetry and print how many records and samples were sent and how much processor time it took."""
    records = templates(
        prefix, regions, nodes=nodes, samples_per_record=samples_per_record, record_bytes=record_bytes, seed=1
    )
    kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    sent = send(kafka, records, per_second=rate / samples_per_record, seconds=seconds)
    size = sum(len(record.at(_STAMP_MS)) for record in records) / len(records)
    document = {
        "records": sent,
        "samples": sent * samples_per_record,
        "mean_record_bytes": size,
        "cpu_seconds": time.process_time(),
    }
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
