"""One life of `roll_out`: the state as the ledger has it, records in, facts out, and what is desired told.

A look does, in this order, and each may be the last that happens:

1. facts are committed            all of a look or none
2. what is desired is written     what the records do not say yet; the same again at every look until they do

Nothing else is kept: reports and wishes are read from the beginning of the topic `replica` at every start.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from thalweg.jobs.runtime.fact_ledger import FactLedger
from thalweg.learning.rollout.facts import RolloutFact
from thalweg.learning.rollout.records import (
    PREFIX,
    RolloutRecordError,
    RolloutWish,
    desired_key,
    read_wish,
    value_of,
    wish_key,
)
from thalweg.learning.rollout.reports import EdgeReports, desired, refusal
from thalweg.learning.rollout.rollout import Rollouts, decide, take
from thalweg.learning.rollout.wishes import obey
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.publish import Publisher
from thalweg.streams.learning.rollout_writes import state_record
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.clock import Clock
from thalweg.sync.protocol.entries import ForgetEntry, RecordEntry
from thalweg.sync.protocol.records import Record, view

AGAIN_MS: Final = 5_000
"""What was written and is not told by the topic `replica` after this long is written again."""

log: Final = logging.getLogger("thalweg.roll_out")


class Conductor:
    """Holds every roll-out; made anew from the ledger at each start."""

    def __init__(
        self, *, ledger: FactLedger[RolloutFact], publisher: Publisher, topic_prefix: str, clock: Clock
    ) -> None:
        """Read what was committed.

        Args:
            ledger: the facts.
            publisher: takes what is desired.
            topic_prefix: first part of the topics' names.
            clock: the wall clock.
        """
        self._ledger = ledger
        self._publisher = publisher
        self._prefix = topic_prefix
        self._clock = clock
        self.rollouts = Rollouts()
        self._next_number = 1
        for fact in ledger.read():
            take(self.rollouts, fact)
            self._next_number += 1
        self._reports: dict[str, EdgeReports] = {}
        self._wishes: dict[str, RolloutWish] = {}
        self._reported: dict[tuple[str, str], Any] = {}
        """Values of reports that have arrived and were not judged yet."""
        self._told: dict[str, tuple[Any, int]] = {}
        """What the records of desired models say, and the time of that write."""
        self._sent: dict[str, tuple[Any, int]] = {}
        """What was written, and when."""

    def hear(self, records: Sequence[IncomingRecord]) -> None:
        """Take records of the topic `replica`."""
        for one in records:
            entry = read_entry(one.key, one.value, one.headers)
            if isinstance(entry, RecordEntry) and entry.record.key.startswith(PREFIX):
                self._hear(entry.record.key, entry.record)
            elif isinstance(entry, ForgetEntry) and entry.key.startswith(PREFIX):
                self._hear(entry.key, None)

    def look(self) -> list[RolloutFact]:
        """Let happen what is due, commit it, tell what is desired, and return what has happened.

        Raises:
            AnotherWriterError: somebody else writes the ledger.
            StreamError: the broker does not take what is desired; the next look writes it again.
        """
        now_ms = self._clock()
        facts = [*self._obeyed(now_ms), *self._judged(now_ms)]
        for model, run in sorted(self.rollouts.newest.items()):
            reports = self._reports_of(model)
            # A first version goes to all edges at once: where there is none yet, it waits for one as a wave does.
            while reports.of and run.end is None and (fact := decide(run, reports.seen(run), now_ms)) is not None:
                take(self.rollouts, fact)
                facts.append(fact)
        if facts:
            self._ledger.append(facts, self._next_number)
            self._next_number += len(facts)
        self._tell(now_ms)
        return facts

    def _obeyed(self, now_ms: int) -> list[RolloutFact]:
        facts = []
        for model, wish in sorted(self._wishes.items()):
            if (fact := obey(self.rollouts, model, wish, now_ms)) is not None:
                take(self.rollouts, fact)
                facts.append(fact)
        return facts

    def _judged(self, now_ms: int) -> list[RolloutFact]:
        """Judge what has arrived; a refusal is a row once for each edge and rule of a roll-out."""
        facts = []
        for (model, edge), value in sorted(self._reported.items(), key=lambda item: item[0]):
            run = self.rollouts.newest.get(model)
            refused = self._reports_of(model).take(run, edge, value, now_ms)
            if refused is None:
                continue
            if run is None:
                log.warning("a report of %s on %s is refused: %s %s", edge, model, refused.rule, refused.detail)
            elif (edge, refused.rule) not in run.refused:
                fact = refusal(run, edge, refused, now_ms)
                take(self.rollouts, fact)
                facts.append(fact)
        self._reported.clear()
        return facts

    def _hear(self, key: str, record: Record | None) -> None:
        value = view(record) if record is not None else None
        model, _, rest = key[len(PREFIX) :].partition("/")
        kind, _, edge = rest.partition("/")
        if key == wish_key(model):
            self._hear_wish(model, value)
        elif kind == "reported" and edge and "/" not in edge:
            self._reported[model, edge] = value
        elif kind == "desired" and record is not None:
            self._told[key] = value, record.written.ms

    def _hear_wish(self, model: str, value: Any) -> None:
        self._wishes.pop(model, None)
        if value is not None:
            try:
                self._wishes[model] = read_wish(value)
            except RolloutRecordError as error:
                log.warning("what is wished for %s cannot be read: %s", model, error)

    def _reports_of(self, model: str) -> EdgeReports:
        return self._reports.setdefault(model, EdgeReports(model))

    def _tell(self, now_ms: int) -> None:
        """Write what is desired where the records say something else."""
        records = []
        for model, run in self.rollouts.newest.items():
            reports = self._reports_of(model)
            for edge in sorted(reports.of):
                wanted = desired(run, reports.position(run.plan, edge))
                key = desired_key(model, edge)
                if wanted is None or self._is_told(key, value := value_of(wanted), now_ms):
                    continue
                # A write counts against an older one: a clock that was set back must not make it lose for ever.
                stamp_ms = max(now_ms, self._told.get(key, (None, 0))[1] + 1)
                records.append(state_record(key, value, stamp_ms, self._prefix))
                self._sent[key] = value, now_ms
        if records:
            self._publisher.publish(records)

    def _is_told(self, key: str, value: Any, now_ms: int) -> bool:
        if self._told.get(key, (None, 0))[0] == value:
            return True
        sent, at_ms = self._sent.get(key, (None, 0))
        return sent == value and 0 <= now_ms - at_ms < AGAIN_MS
