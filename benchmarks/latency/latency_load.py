"""The load of `bench latency`: one process that asks at a fixed rate, and one consumer that stands for all regions."""

import json
import sys
import threading
import time
from collections import Counter
from typing import Any, Final

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer

from thalweg.streams.broker.consume import FETCH_MAX_WAIT_MS
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name

TICK_S: Final = 0.005
"""Requests leave in ticks, so that the load sleeps in between: it shares two cores with what it measures."""


class Event(msgspec.Struct):
    """What a region needs to read of an assignment."""

    event_id: str
    type: str
    task_id: str
    region: str
    epoch: int


def run(parameters: dict[str, Any]) -> dict[str, Any]:
    """Ask, receive, report, and return the figures; `from_ms` and `to_ms` are when the measured requests were sent."""
    prefix, regions = parameters["prefix"], parameters["regions"]
    sent_at: dict[str, float] = {}
    received_at: dict[str, float] = {}
    seen: set[str] = set()
    told = Counter[str]()
    stop = threading.Event()
    producer = KafkaProducer(bootstrap_servers=parameters["bootstrap"], acks=1, linger_ms=2)
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
        while not stop.is_set():
            for records in consumer.poll(timeout_ms=20).values():
                now = time.time()
                for record in records:
                    event = decode(record.value)
                    if event.event_id in seen:
                        told["duplicates"] += 1
                        continue
                    seen.add(event.event_id)
                    if event.type != "assign":
                        told["revoked"] += 1
                        continue
                    if event.task_id not in sent_at:
                        told["others"] += 1
                    elif event.task_id in received_at:
                        told["again"] += 1
                    else:
                        received_at[event.task_id] = now
                    finishing.append((now + parameters["task_seconds"], event.task_id, event.region, event.epoch))

    def report() -> None:
        next_beat = 0.0
        done = 0
        while not stop.wait(0.05):
            now = time.time()
            if now >= next_beat:
                next_beat = now + 1.0
                for region in regions:
                    beat = {"type": "heartbeat", "region": region, "observed_at": int(now * 1000)}
                    producer.send(topic_name(STATUS, prefix, region), json.dumps(beat).encode(), key=region.encode())
            while done < len(finishing) and finishing[done][0] <= now:
                _, task_id, region, epoch = finishing[done]
                done += 1
                event = {"type": "succeeded", "region": region, "task_id": task_id, "epoch": epoch}
                producer.send(topic_name(STATUS, prefix, region), json.dumps(event).encode(), key=task_id.encode())

    for target in (receive, report):
        threading.Thread(target=target, daemon=True).start()
    topic = topic_name(REQUESTS, prefix)

    def ask(task_id: str, model: str) -> None:
        now = time.time()
        request = {
            "task_id": task_id,
            "per_worker": {"gpus": 1, "cpus": 4, "memory_gb": 16, "gpu_models": [model]},
            "expected_s": 600,
            "observed_at": int(now * 1000),
        }
        value = msgspec.json.encode(request)
        sent_at[task_id] = time.time()
        producer.send(topic, value, key=task_id.encode())

    # Ready when one task comes back.
    begin = time.time()
    probes = 0
    while not received_at:
        ask(f"probe-{probes}", "A100")
        probes += 1
        time.sleep(0.5)
        if time.time() - begin > parameters["patience_s"]:
            raise SystemExit(f"no assignment within {parameters['patience_s']:.0f} s")
    for index in range(parameters["pending"]):
        ask(f"pending-{index}", "H100")
    if parameters["pending"]:
        producer.flush()
        time.sleep(parameters["pending"] / 5_000 + 2)
    rate, total_s = parameters["rate_per_s"], parameters["warm_up_s"] + parameters["seconds"]
    start = time.time()
    count = int(rate * total_s)
    asked = 0
    while asked < count:
        for index in range(asked, min(count, int((time.time() - start) * rate) + 1)):
            ask(f"task-{index}", "A100")
            asked += 1
        time.sleep(TICK_S)
    producer.flush()
    first = int(rate * parameters["warm_up_s"])
    wanted = [f"task-{index}" for index in range(first, count)]
    limit = time.time() + 30
    while time.time() < limit and sum(task in received_at for task in wanted) < len(wanted):
        time.sleep(0.2)
    stop.set()
    if received_at.keys().isdisjoint(wanted):
        raise SystemExit(f"none of {len(wanted)} measured requests was answered; {len(received_at)} before them were")
    latency = np.array([received_at[task] - sent_at[task] for task in wanted if task in received_at]) * 1000
    behind = np.array([sent_at[task] - (start + (first + i) / rate) for i, task in enumerate(wanted)]) * 1000
    return {
        "requests": len(wanted),
        "received": len(latency),
        # Told once more under the same id, which every consumer leaves out.
        "duplicates": told["duplicates"],
        # Of tasks that were there before: some that wait get room, some that run are moved, by two events.
        "revoked": told["revoked"],
        "assigned_of_others": told["others"],
        # Assigned a second time under an id of its own.
        "assigned_again": told["again"],
        "p50_ms": round(float(np.percentile(latency, 50)), 1),
        "p95_ms": round(float(np.percentile(latency, 95)), 1),
        "p99_ms": round(float(np.percentile(latency, 99)), 1),
        "max_ms": round(float(latency.max()), 1),
        "mean_ms": round(float(latency.mean()), 1),
        "producer_behind_p99_ms": round(float(np.percentile(behind, 99)), 1),
        "from_ms": round(sent_at[wanted[0]] * 1_000),
        "to_ms": round(sent_at[wanted[-1]] * 1_000),
    }


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
