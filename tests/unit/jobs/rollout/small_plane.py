"""A sync plane of one line: what is written plainly is merged by the real merge code and told on the topic `replica`.

Edges run the real reporter. Deaths of the conductor come where a test plans them.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from thalweg.jobs.rollout.conductor import Conductor
from thalweg.learning.rollout.facts import RolloutFact
from thalweg.learning.rollout.records import RolloutWish, value_of, wish_key
from thalweg.learning.rollout.reporter import Reporter
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.learning.rollout_writes import state_record
from thalweg.streams.replication.replica_log import record_entry
from thalweg.sync.protocol.changes import changed_record, changes_from_value
from thalweg.sync.protocol.records import Record, encode_record, view
from thalweg.sync.protocol.stamps import Hlc

PREFIX: Final = "t"
MODEL: Final = "digits"


class DiedError(Exception):
    """The conductor's process was killed here."""


@dataclass(slots=True)
class MemoryFacts:
    """A ledger in memory, which may be the last thing that happens."""

    facts: list[RolloutFact] = field(default_factory=list)
    deaths: set[int] = field(default_factory=set)
    """Points at which somebody dies, counted over all lives."""
    passed: int = 0

    def read(self) -> list[RolloutFact]:
        return list(self.facts)

    def append(self, facts: Sequence[RolloutFact], first_number: int) -> None:
        assert first_number == len(self.facts) + 1
        self.point()
        self.facts += facts
        self.point()

    def holds(self, number: int) -> bool:
        return number <= len(self.facts)

    def tidy(self) -> None:
        return None

    def point(self) -> None:
        self.passed += 1
        if self.passed in self.deaths:
            raise DiedError


@dataclass(slots=True)
class SmallPlane:
    """Records, the topic `replica`, and the one conductor."""

    ledger: MemoryFacts = field(default_factory=MemoryFacts)
    records: dict[str, Record] = field(default_factory=dict)
    log: list[IncomingRecord] = field(default_factory=list)
    now_ms: int = 1_000_000_000
    heard: int = 0
    lives: int = 0
    conductor: Conductor | None = None
    _seq: int = 0

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Take plain writes, as `replicate` would."""
        for record in records:
            self.ledger.point()
            assert record.value is not None
            said = json.loads(record.value)
            known = self.records.get(said["key"])
            assert known is None or said["stamp"]["ms"] > known.written.ms, "of two writes the newer stamp counts"
            self.write(said["key"], said["value"], said["stamp"]["ms"])
        if records:
            self.ledger.point()

    def close(self) -> None:
        """Nothing is open."""

    def write(self, key: str, value: Mapping[str, Any], at_ms: int | None = None) -> None:
        self._seq += 1
        at = Hlc(self.now_ms if at_ms is None else at_ms, self._seq, "r")
        changes = changes_from_value(json.loads(json.dumps(value)), {})
        merged = changed_record(key, self.records.get(key), changes, "r#1", self._seq, at)
        self.records[key] = merged
        entry = record_entry(key, encode_record(merged))
        self.log.append(
            IncomingRecord(
                topic=f"{PREFIX}.replica", partition=0, offset=len(self.log), timestamp_ms=self.now_ms,
                key=entry.key, value=entry.value,
            )
        )  # fmt: skip

    def read(self, key: str) -> dict[str, Any] | None:
        return view(self.records.get(key))

    def wish(self, wish: RolloutWish) -> None:
        record = state_record(wish_key(MODEL), value_of(wish), self.now_ms, PREFIX)
        assert record.value is not None
        said = json.loads(record.value)
        self.write(said["key"], said["value"], said["stamp"]["ms"])

    def look(self) -> None:
        """Let the conductor look once; where it dies, another one begins and looks at the same time."""
        while True:
            try:
                if self.conductor is None:
                    self.lives += 1
                    self.heard = 0
                    self.conductor = Conductor(
                        ledger=self.ledger, publisher=self, topic_prefix=PREFIX, clock=lambda: self.now_ms
                    )
                self.conductor.hear(self.log[self.heard :])
                self.heard = len(self.log)
                self.conductor.look()
                return
            except DiedError:
                self.conductor = None


@dataclass(slots=True)
class SmallEdge:
    """An edge with the real reporter: serves so many requests a tick, by what it was last told."""

    name: str
    plane: SmallPlane
    slow: Mapping[str, float]
    """By version, share of its answers that are slow."""
    reporter: Reporter = field(init=False)
    served: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start, or start again: with what the records say."""
        self.reporter = Reporter(MODEL, self.name, read=self.plane.read, write=self.plane.write)

    def tick(self, requests: int, *, online: bool = True) -> None:
        wanted = self.reporter.desired() if online else None
        held = wanted or self.reporter._wanted
        for _ in range(requests if held is not None else 0):
            assert held is not None
            self.served += 1
            arm = self.reporter.arm(f"request-{self.served}")
            version = held.beside.version if arm == "new" and held.beside is not None else held.serve.version
            drawn = random.Random(f"{self.name} {self.served}").random()
            self.reporter.answered(arm, latency_ms=2_000.0 if drawn < self.slow[version] else 1.0)
        if online:
            serve = held.serve if held is not None else None
            self.reporter.reported(
                self.plane.now_ms,
                version=serve.version if serve is not None else "",
                sha256=serve.sha256 if serve is not None else "",
            )
