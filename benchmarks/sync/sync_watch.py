"""A reader of the replica topic that notes how old each record's write is when it arrives."""

import json
import sys
import time
from collections import Counter

import click

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.contract.topics import REPLICA, topic_name

_WRITTEN = b'"written":['


@click.command()
@click.option("--bootstrap", required=True)
@click.option("--prefix", required=True)
@click.option("--idle", default=5.0, help="Stop after so many seconds without a record, once there was one.")
@click.option("--at-most", default=240.0, help="Stop after so many seconds in any case.")
def main(bootstrap: str, prefix: str, idle: float, at_most: float) -> None:
    """Read from now on and print the ages by the second of writing as JSON."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    topic = topic_name(REPLICA, prefix)
    ages: dict[int, Counter[int]] = {}
    with KafkaReader(kafka, topics=(topic,), since_ms=time.time_ns() // 1_000_000, max_records=20_000) as reader:
        end = time.monotonic() + at_most
        quiet_from = end
        while time.monotonic() < min(end, quiet_from + idle):
            records = reader.poll(20)
            now_ms = time.time_ns() // 1_000_000
            for record in records:
                start = record.value.find(_WRITTEN) if record.value else -1
                if start >= 0 and record.value is not None:
                    quiet_from = time.monotonic()
                    start += len(_WRITTEN)
                    written_ms = int(record.value[start : record.value.index(b",", start)])
                    ages.setdefault(written_ms // 1_000, Counter())[now_ms - written_ms] += 1
    json.dump({"ages": ages, "cpu_seconds": time.process_time()}, sys.stdout)


if __name__ == "__main__":
    main()
