"""The load of `bench recovery`: one process that asks at a fixed rate, and stands for all regions until told otherwise.

It writes a line for every assignment it receives, and obeys lines on its standard input: `mute REGION`, `beat REGION`.
It ends when its input ends.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer

from thalweg.streams.broker.consume import FETCH_MAX_WAIT_MS
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name


class Event(msgspec.Struct):
    """What is noted of an assignment."""

    type: str
    task_id: str
    region: str
    epoch: int
    decided_at: int = 0


def run(parameters: dict[str, Any]) -> None:
    """Ask, receive and report until the standard input ends."""
    prefix, regions = parameters["prefix"], parameters["regions"]
    stop, muted = threading.Event(), set[str]()
    producer = KafkaProducer(bootstrap_servers=parameters["bootstrap"], acks=1, linger_ms=5)
    consumer = KafkaConsumer(
        *[topic_name(ASSIGNMENTS, prefix, region) for region in regions],
        bootstrap_servers=parameters["bootstrap"],
        auto_offset_reset="earliest",
        fetch_min_bytes=1,
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
    )
    finishing: list[tuple[float, str, str, int]] = []
    decode = msgspec.json.Decoder(Event).decode

    def receive() -> None:
        with Path(parameters["out"]).open("w", encoding="utf-8", buffering=1) as out:
            while not stop.is_set():
                for records in consumer.poll(timeout_ms=20).values():
                    now_ms = int(time.time() * 1000)
                    for record in records:
                        event = decode(record.value)
                        if event.type != "assign":
                            continue
                        out.write(f"{now_ms},{event.decided_at},{event.region},{event.epoch},{event.task_id}\n")
                        if event.task_id.startswith("new-"):
                            done_at = time.time() + parameters["task_seconds"]
                            finishing.append((done_at, event.task_id, event.region, event.epoch))

    def report() -> None:
        next_beat, done = 0.0, 0
        while not stop.wait(0.05):
            now = time.time()
            if now >= next_beat:
                next_beat = now + 1.0
                for region in regions:
                    if region in muted:
                        continue
                    beat = {"type": "heartbeat", "region": region, "observed_at": int(now * 1000)}
                    producer.send(topic_name(STATUS, prefix, region), json.dumps(beat).encode(), key=region.encode())
            while done < len(finishing) and finishing[done][0] <= now:
                _, task_id, region, epoch = finishing[done]
                done += 1
                if region not in muted:
                    event = {"type": "succeeded", "region": region, "task_id": task_id, "epoch": epoch}
                    producer.send(topic_name(STATUS, prefix, region), json.dumps(event).encode(), key=task_id.encode())

    def ask() -> None:
        topic, begin, asked = topic_name(REQUESTS, prefix), time.time(), 0
        while not stop.wait(0.01):
            while asked < (time.time() - begin) * parameters["rate_per_s"]:
                task_id = f"new-{asked}"
                request = {
                    "task_id": task_id,
                    "tenant": f"tenant-{asked % 7}",
                    "per_worker": {"gpus": 1, "cpus": 4, "memory_gb": 16, "gpu_models": ["A100"]},
                    "expected_s": 600,
                    "observed_at": int(time.time() * 1000),
                }
                producer.send(topic, msgspec.json.encode(request), key=task_id.encode())
                asked += 1

    threads = [threading.Thread(target=target, daemon=True) for target in (receive, report, ask)]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        verb, _, region = line.strip().partition(" ")
        (muted.add if verb == "mute" else muted.discard)(region)
    stop.set()
    for thread in threads:
        thread.join(5)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
