"""The load of `bench burst`: a trickle, a burst in the middle of it, and one consumer that stands for all regions."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer

from thalweg.streams.broker.consume import FETCH_MAX_WAIT_MS
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name

WINDOW_S: Final = 5.0
"""Latency is looked at in windows of so long, by when requests were sent."""
TICK_S: Final = 0.01
NORMAL_TIMES: Final = 1.5
"""As before the burst is what takes at most so many times as long as before it."""
LEAST_NORMAL_MS: Final = 500.0
"""Or less than this, whatever it was before: windows of a few hundred requests scatter."""
TENANTS: Final = 7
Key = TypeVar("Key", bound=int | str)


class Event(msgspec.Struct):
    """What is noted of an assignment."""

    type: str
    task_id: str
    region: str
    epoch: int


class Load:
    """What was sent, and what came back."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        """Connect, and let the regions live."""
        self.wanted, self.prefix, self.regions = wanted, wanted["prefix"], wanted["regions"]
        self.sent_at: dict[str, float] = {}
        self.received_at: dict[str, float] = {}
        self.burst_assigned: Counter[int] = Counter()
        """By second."""
        self.begun = time.time()
        self.stop = threading.Event()
        self._finishing: list[tuple[float, Event]] = []
        self._producer = KafkaProducer(bootstrap_servers=wanted["bootstrap"], acks=1, linger_ms=5)
        self._consumer = KafkaConsumer(
            *[topic_name(ASSIGNMENTS, self.prefix, region) for region in self.regions],
            bootstrap_servers=wanted["bootstrap"],
            auto_offset_reset="earliest",
            fetch_min_bytes=1,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        )
        for target in (self._receive, self._report):
            threading.Thread(target=target, daemon=True).start()

    def run(self) -> dict[str, Any]:
        """Trickle, burst, and look on until all is as before."""
        self._until_first()
        trickle = threading.Thread(target=self._trickle, daemon=True)
        trickle.start()
        time.sleep(self.wanted["warm_up_s"])
        normal_from = time.time()
        time.sleep(self.wanted["before_s"])
        burst_began = time.time()
        self._burst(self.wanted["burst"])
        burst_sent = time.time()
        taken_in = self._taken_in(burst_sent)
        time.sleep(self.wanted["after_s"])
        self.stop.set()
        trickle.join()
        asked = dict(self.sent_at)
        self._producer.flush()
        self._await(asked)
        return self._figures(asked, normal_from, burst_began, burst_sent, taken_in)

    def _until_first(self) -> None:
        number, limit = 0, time.time() + 180
        while not self.received_at:
            self._ask(f"t-first-{number}", "A100", "trickle")
            number += 1
            time.sleep(0.5)
            if time.time() > limit:
                raise SystemExit("no assignment within 180 s")

    def _trickle(self) -> None:
        begin, asked = time.time(), 0
        while not self.stop.wait(TICK_S):
            while asked < (time.time() - begin) * self.wanted["rate_per_s"]:
                self._ask(f"t-{asked}", "A100", "trickle")
                asked += 1

    def _burst(self, count: int) -> None:
        topic = topic_name(REQUESTS, self.prefix)
        for number in range(count):
            task_id = f"b-{number}"
            self._producer.send(
                topic, self._request(task_id, "H100", f"burst-{number % TENANTS}"), key=task_id.encode()
            )
        self._producer.flush()

    def _ask(self, task_id: str, model: str, tenant: str) -> None:
        self.sent_at[task_id] = time.time()
        topic = topic_name(REQUESTS, self.prefix)
        self._producer.send(topic, self._request(task_id, model, tenant), key=task_id.encode())

    @staticmethod
    def _request(task_id: str, model: str, tenant: str) -> bytes:
        request = {
            "task_id": task_id,
            "tenant": tenant,
            "per_worker": {"gpus": 1, "cpus": 4, "memory_gb": 16, "gpu_models": [model]},
            "expected_s": 600,
            "observed_at": int(time.time() * 1000),
        }
        return msgspec.json.encode(request)

    def _taken_in(self, sent: float) -> float:
        """Wait until requests sent after the burst come back, as many as there are partitions to lie behind."""
        limit = self.begun + self.wanted["timeout_s"] - self.wanted["after_s"] - 120
        while time.time() < limit:
            behind = [task for task, at in list(self.sent_at.items()) if at > sent][: 2 * self.wanted["rate_per_s"]]
            if len(behind) == 2 * self.wanted["rate_per_s"] and all(task in self.received_at for task in behind):
                return max(self.received_at[task] for task in behind)
            time.sleep(0.5)
        raise SystemExit("the burst was not taken in within its time")

    def _await(self, asked: dict[str, float]) -> None:
        limit = time.time() + 60
        while time.time() < limit and any(task not in self.received_at for task in asked if "first" not in task):
            time.sleep(0.5)

    def _figures(
        self, asked: dict[str, float], normal_from: float, began: float, sent: float, taken_in: float
    ) -> dict[str, Any]:
        steady = {task: at for task, at in asked.items() if "first" not in task}
        before = self._quantiles([task for task, at in steady.items() if normal_from <= at < began])
        windows = {}
        for number in range(int((max(steady.values()) - began) // WINDOW_S)):
            begin = began + number * WINDOW_S
            windows[round(begin - began)] = self._quantiles(
                [task for task, at in steady.items() if begin <= at < begin + WINDOW_S]
            )
        most_ms = max(NORMAL_TIMES * before["p95_ms"], LEAST_NORMAL_MS)
        late = [after for after, figures in windows.items() if figures["p95_ms"] > most_ms]
        normal_at = began + (max(late) + WINDOW_S if late else 0.0)
        seconds = range(int(began) + 5, int(taken_in))
        by_second = [self.burst_assigned[second] for second in seconds]
        return {
            "sent": {"burst": self.wanted["burst"], "trickle": len(asked)},
            "trickle_received": sum(task in self.received_at for task in asked),
            "burst_sending_s": round(sent - began, 1),
            "taken_in_after_s": round(taken_in - began, 1),
            "normal_after_taken_in_s": round(max(normal_at - taken_in, 0.0), 1),
            "before": _in_json(before),
            "after": _in_json(self._quantiles([task for task, at in steady.items() if at >= normal_at])),
            "p95_ms_by_window": _in_json({after: figures["p95_ms"] for after, figures in windows.items()}),
            "burst_assigned_meanwhile": sum(by_second),
            "longest_without_assignment_s": _longest_gap(by_second),
        }

    def _quantiles(self, tasks: list[str]) -> dict[str, float]:
        waits = [(self.received_at.get(task, np.inf) - self.sent_at[task]) * 1000 for task in tasks]
        if not waits:
            return {"p50_ms": np.nan, "p95_ms": np.nan, "p99_ms": np.nan}
        ordered = np.sort(waits)
        return {
            f"p{q}_ms": round(float(ordered[min(len(ordered) - 1, len(ordered) * q // 100)]), 1) for q in (50, 95, 99)
        }

    def _receive(self) -> None:
        decode = msgspec.json.Decoder(Event).decode
        while True:
            for records in self._consumer.poll(timeout_ms=20).values():
                now = time.time()
                for record in records:
                    event = decode(record.value)
                    if event.type != "assign":
                        continue
                    if event.task_id.startswith("b-"):
                        self.burst_assigned[int(now)] += 1
                    else:
                        self.received_at.setdefault(event.task_id, now)
                    self._finishing.append((now + self.wanted["task_seconds"], event))

    def _report(self) -> None:
        next_beat, done = 0.0, 0
        while True:
            time.sleep(0.05)
            now = time.time()
            if now >= next_beat:
                next_beat = now + 1.0
                for region in self.regions:
                    beat = {"type": "heartbeat", "region": region, "observed_at": int(now * 1000)}
                    topic = topic_name(STATUS, self.prefix, region)
                    self._producer.send(topic, json.dumps(beat).encode(), key=region.encode())
            while done < len(self._finishing) and self._finishing[done][0] <= now:
                event = self._finishing[done][1]
                done += 1
                report = {"type": "succeeded", "region": event.region, "task_id": event.task_id, "epoch": event.epoch}
                topic = topic_name(STATUS, self.prefix, event.region)
                self._producer.send(topic, json.dumps(report).encode(), key=event.task_id.encode())


def _in_json(figures: Mapping[Key, float]) -> dict[Key, float | None]:
    """None for what never came, or where nothing was sent: JSON has no infinity."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def _longest_gap(by_second: list[int]) -> int:
    longest = gap = 0
    for number in by_second:
        gap = 0 if number else gap + 1
        longest = max(longest, gap)
    return longest


if __name__ == "__main__":
    print(json.dumps(Load(json.loads(sys.argv[1])).run()))
