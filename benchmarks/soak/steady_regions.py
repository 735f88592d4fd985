"""Regions in a steady state: what is assigned is accepted and runs, for so many batches, and then ends."""

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa

from thalweg.scheduling.liveness.hearing import Ends
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, RESULTS, STATUS, topic_name

PREFIX: Final = "thalweg"
REGIONS: Final = tuple(f"region-{index}" for index in range(8))
NODES_PER_REGION: Final = 20
GPUS_PER_NODE: Final = 8
FAILS_EVERY: Final = 20
"""One task in so many fails the first time, and is tried again."""
NONSENSE_EVERY: Final = 10
"""In one batch of so many a record is no request."""
CANCELS_EVERY: Final = 5
"""In one batch of so many a task is cancelled that runs."""

_ASSIGNED: Final = f"{PREFIX}.{ASSIGNMENTS.topic}."
_Record = tuple[str, bytes | None, bytes]
"""Topic, key and value of a record that is to be read."""


class _Told(msgspec.Struct):
    """What is read of an assignment event."""

    type: str
    task_id: str
    region: str
    epoch: int


@dataclass(frozen=True, slots=True)
class _Run:
    task_id: str
    region: str
    epoch: int


class SteadyRegions:
    """In the place of the broker and of all regions; forgets each record once it was read."""

    def __init__(self, requests: int, runs_batches: int) -> None:
        """Begin with nothing.

        Args:
            requests: in each batch.
            runs_batches: how many batches a task runs.
        """
        self._requests, self._runs_batches = requests, runs_batches
        self._decode = msgspec.json.Decoder(_Told).decode
        self._asked = 0
        self._batches = 0
        self._begun: list[_Run] = []
        self._ends: deque[list[_Run]] = deque([[] for _ in range(runs_batches)], maxlen=runs_batches)
        self._stopped: set[_Run] = set()
        self._said: list[_Record] = []
        self._offsets: defaultdict[str, int] = defaultdict(int)
        self.ends_told = 0
        """Ends of tasks that were told."""
        self.refused = 0
        """Records in the dead-letter topic."""

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Take what the job says; its own heartbeat is read with the next batch."""
        for record in records:
            if record.topic.startswith(_ASSIGNED):
                event = self._decode(record.value or b"")
                run = _Run(event.task_id, event.region, event.epoch)
                if event.type == "assign":
                    self._begun.append(run)
                else:
                    self._stops(run)
            elif record.topic == topic_name(RESULTS, PREFIX):
                self.ends_told += 1
            elif record.topic == topic_name(STATUS, PREFIX, "control"):
                self._said.append((record.topic, record.key, record.value or b""))
            elif record.topic.endswith(".deadletter"):
                self.refused += 1

    def close(self) -> None:
        """Nothing is open."""

    def _stops(self, order: _Run) -> None:
        """Stop a task that is to be stopped; the order has the next epoch, the report the run's own."""
        for run in [*self._begun, *(run for runs in self._ends for run in runs)]:
            if run.task_id == order.task_id and run.region == order.region and run not in self._stopped:
                self._stopped.add(run)
                self._say(run, "revoked", {})

    def ends(self) -> Ends:
        """Say where the topics end."""
        return {topic: {0: offset} for topic, offset in self._offsets.items()}

    def next_batch(self, now_ms: int) -> pa.Table:
        """Give the records of the next batch: requests, and what the regions have to say."""
        self._batches += 1
        for region in REGIONS:
            self._add(topic_name(STATUS, PREFIX, region), {"type": "heartbeat", "region": region})
        self._runs_end()
        begun, self._begun = self._begun, []
        for run in (run for run in begun if run not in self._stopped):
            self._say(run, "accepted", {})
            self._say(run, "running", {"started_at": now_ms})
        self._ends.append(begun)
        self._ask()
        said, self._said = self._said, []
        return self._read(said, now_ms)

    def _runs_end(self) -> None:
        for run in self._ends[0]:
            if run in self._stopped:
                self._stopped.discard(run)
                continue
            number = int(run.task_id.partition("-")[2])
            if run.epoch == 1 and number % FAILS_EVERY == 0:
                self._say(run, "failed", {"exit_code": 1, "cause": "exit", "detail": "as it was asked to"})
            else:
                given = {"metrics": {"loss": 1 / (number + 1)}, "result": {"seed": number, "words": run.task_id * 8}}
                self._say(run, "succeeded", {"exit_code": 0, **given})

    def _ask(self) -> None:
        topic = topic_name(REQUESTS, PREFIX)
        for _ in range(self._requests):
            self._asked += 1
            self._add(topic, _request(self._asked))
        self._add(topic, _request(self._asked))  # a producer that sends once more
        if self._batches % CANCELS_EVERY == 0 and (running := self._ends[-2]):
            self._add(topic, {"task_id": running[0].task_id, "op": "cancel"})
        if self._batches % NONSENSE_EVERY == 0:
            self._said.append((topic, None, b'{"task_id": 7'))

    def _say(self, run: _Run, kind: str, more: dict[str, Any]) -> None:
        said = {"type": kind, "region": run.region, "task_id": run.task_id, "epoch": run.epoch, **more}
        self._add(topic_name(STATUS, PREFIX, run.region), said)

    def _add(self, topic: str, value: dict[str, Any]) -> None:
        self._said.append((topic, None, json.dumps(value).encode()))

    def _read(self, said: Sequence[_Record], now_ms: int) -> pa.Table:
        rows = []
        for topic, key, value in said:
            rows.append((topic, 0, self._offsets[topic], now_ms, key, value))
            self._offsets[topic] += 1
        columns = [list(column) for column in zip(*rows, strict=True)]
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _request(number: int) -> dict[str, Any]:
    return {
        "task_id": f"task-{number}",
        "tenant": f"tenant-{number % 7}",
        "priority": 300 + number % 3 * 100,
        "per_worker": {"gpus": 1, "cpus": 4, "memory_gb": 16},
        "expected_s": 2_400,
        "command": ["python", "-m", "train", "--config", f"s3://lab/configs/{number % 50}.yaml"],
    }


def fleet() -> WorldFacts:
    """Give the machines and their prices."""
    nodes = [
        NodeFacts(
            region=region,  # type: ignore[arg-type]
            node_id=f"node-{index:03d}",  # type: ignore[arg-type]
            gpu_model="A100",
            spot=False,
            gpus=GPUS_PER_NODE,
            cpus=96.0,
            memory_gb=512.0,
            ready=True,
        )
        for region in REGIONS
        for index in range(NODES_PER_REGION)
    ]
    return WorldFacts(nodes=nodes, links={}, prices=prices(0))


def prices(turn: int) -> dict[Any, float]:
    """Give the prices of a time: the regions take turns at being the cheapest."""
    return {(region, "A100", False): 2.0 + (index + turn) % len(REGIONS) / 10 for index, region in enumerate(REGIONS)}
