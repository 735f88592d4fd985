"""One life of `federate`: the state as the ledger has it, records in, facts out, and the runs told as they then are.

The steps of a batch, each of which may be the last that happens:

1. PAYLOADS  what the facts will name is written: accepted updates, new versions       may be there without a fact
2. LEDGER    the facts, which are effect and progress in one commit                    all or nothing
3. SPENT     payloads of closed rounds are deleted                                     after a crash here they stay
4. STATES    every run that has changed, whole, to the topic `models`                  the same again at every start
5. ABSENT    tasks of participants who do not take part in a run that ended are ended  the same again at every start
6. DEAD      what could not be read                                                    known by its place

What is spent goes before the next round is told: who answers that one may write the same bytes once more.
"""

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from thalweg.jobs.federation import metrics
from thalweg.jobs.federation.books import LearningBooks
from thalweg.jobs.federation.ledger import LearningLedger
from thalweg.jobs.microbatch.isolation import Indigestible, Isolation, RecordPlace
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS, BatchId, BatchOutcome, BatchStep, Seconds
from thalweg.learning.rounds.director import Director
from thalweg.learning.rounds.facts import Fact, FactKind, Place
from thalweg.learning.rounds.referee import LONGEST_REASON, RULES, Verify, judge
from thalweg.learning.rounds.run import Run, Runs, take
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.rounds.said import Statement
from thalweg.learning.vectors.parameters import digest
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.decode import UndecodableError
from thalweg.streams.learning.absent_tasks import cancel_absent
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.states import state_of, write_state
from thalweg.streams.learning.updates import read_update
from thalweg.sync.clock import Clock

FLOW_NAME: Final = "federate"
PAYLOADS: Final = "payloads"
LEDGER: Final = "ledger"
STATES: Final = "states"
SPENT: Final = "spent"
ABSENT: Final = "absent"
ORDER: Final = (PAYLOADS, LEDGER, SPENT, STATES, ABSENT, DEAD_LETTERS)


class Federator:
    """Holds every run; made anew from the ledger at each start."""

    def __init__(
        self,
        *,
        ledger: LearningLedger,
        store: PayloadStore,
        publisher: Publisher,
        topic_prefix: str,
        inline_bytes: int,
        verify: Verify,
        secret: bytes,
        clock: Clock,
        isolation: Isolation,
    ) -> None:
        """Read what was committed.

        Args:
            ledger: the facts.
            store: the payloads.
            publisher: tells how runs are.
            topic_prefix: first part of the topics' names.
            inline_bytes: up to which parameters travel in the message.
            verify: checks signatures.
            secret: of private runs; empty refuses them.
            clock: the wall clock.
            isolation: records that cannot be digested.
        """
        self._ledger = ledger
        self._store = store
        self._publisher = publisher
        self._prefix = topic_prefix
        self._inline_bytes = inline_bytes
        self._verify = verify
        self._secret = secret
        self._clock = clock
        self._isolation = isolation
        self._fresh: dict[str, bytes] = {}
        self._changes: dict[str, tuple[int, bytes]] = {}
        """By model: how its newest version differs from the last, and its number; an earlier life's are not known."""
        self._director = Director(self._load, self._keep, secret, self._announced)
        self.runs: Runs = {}
        self.books = LearningBooks()
        self._read: dict[tuple[str, int], int] = {}
        self._spent: set[str] = set()
        self._epsilon: dict[str, float | None] = {}
        self._next_number = 1
        for fact in ledger.read():
            self._take(fact)
            self._next_number += 1
        self._spent.clear()  # deleted by then, or the last step of a life that ended there

    def next_offset(self, topic: str, partition: int) -> int:
        """Return where to read on."""
        return self._read.get((topic, partition), 0)

    def deadline_ms(self) -> int | None:
        """Return the next moment at which a round is due to be closed; None for none."""
        return min(
            (run.open.deadline_ms for run in self.runs.values() if run.open is not None and run.open.deadline_ms),
            default=None,
        )

    def tell_all(self) -> None:
        """Tell how every run is, and end tasks of absent ones: an earlier life may have committed what it did not."""
        self._publisher.publish([self._state(run) for run in self.runs.values()])
        self._publisher.publish(self._ends_of_absent(list(self.runs)))

    def decide(self, records: Sequence[IncomingRecord], heard_until_ms: int, batch: BatchId) -> BatchOutcome:
        """Judge records, and let happen what is due.

        Args:
            records: in order of offset within each partition.
            heard_until_ms: all that arrived until then is among these records, or was before.
            batch: which one.
        """
        facts: list[Fact] = []
        unreadable: list[RefusedRecord] = []
        for record in records:
            if record.offset < self.next_offset(record.topic, record.partition):
                continue  # a reader that began a little earlier
            facts.append(self._judged(record, unreadable))
        for run in list(self.runs.values()):
            for fact in self._director.due(run, self._clock(), heard_until_ms):
                self._take(fact)
                facts.append(fact)
        if not facts:
            return BatchOutcome()
        first, self._next_number = self._next_number, self._next_number + len(facts)
        changed = {fact.model for fact in facts if fact.kind is not FactKind.REFUSED} & self.runs.keys()
        ended = [fact.model for fact in facts if fact.kind is FactKind.ENDED]
        return BatchOutcome(
            steps={
                PAYLOADS: BatchStep(act=lambda: self._store.put(self._fresh.values()), target="the store of payloads"),
                LEDGER: BatchStep(
                    act=lambda: self._ledger.append(facts, first),
                    done=lambda: self._ledger.holds(first + len(facts) - 1),
                    target="the ledger of learning",
                ),
                STATES: BatchStep(
                    act=lambda: self._publisher.publish([self._state(self.runs[model]) for model in sorted(changed)]),
                    target="the topic of models",
                ),
                SPENT: BatchStep(act=self._drop_spent, target="the store of payloads"),
                ABSENT: BatchStep(
                    act=lambda: self._publisher.publish(self._ends_of_absent(ended)), target="the topic of requests"
                ),
            },
            refused=unreadable,
            then=partial(self._note, facts),
        )

    def _judged(self, record: IncomingRecord, unreadable: list[RefusedRecord]) -> Fact:
        """Make the record's fact, and take it."""
        place = RecordPlace(record.topic, record.partition, record.offset)
        fact = self._isolation.judge(place, partial(self._judge, record))
        if isinstance(fact, Indigestible):
            fact = _unreadable(record, fact.reason)
        if fact.rule == "unreadable":
            unreadable.append(_letter(record, fact.reason))
        with self._isolation.applying(place):
            self._take(fact)
        return fact

    def _judge(self, record: IncomingRecord) -> Fact:
        try:
            said = read_update(record, self._prefix, self._fetch)
        except UndecodableError as error:
            return _unreadable(record, str(error))
        fact = judge(self.runs, said, self._verify, self._load)
        if fact.kind is FactKind.STARTED and said.spec is not None and (trouble := self._trouble(said.spec)):
            return _refusal(fact, "bad_run", trouble)
        if fact.kind in (FactKind.ACCEPTED, FactKind.STARTED):
            self._hold(said)
        return fact

    def _trouble(self, spec: RunSpec) -> str:
        """Say what this centre lacks for a run; empty where it has all."""
        if spec.privacy is not None and not self._secret:
            return "a private run needs the setting federate.noise_key"
        for needed, package in ((spec.privacy, "dp_accounting"), (spec.secrecy, "cryptography")):
            if needed is not None and importlib.util.find_spec(package) is None:
                return f"it needs {package}: pip install 'thalweg[learning]'"
        return ""

    def _hold(self, said: Statement) -> None:
        if said.payload is not None:
            self._fresh[said.sha256] = said.payload

    def _take(self, fact: Fact) -> None:
        if fact.kind in (FactKind.CLOSED, FactKind.MISSED) and (open_ := self.runs[fact.model].open) is not None:
            self._spent |= {*open_.carried, *(accepted.sha256 for accepted in open_.accepted.values())}
        take(self.runs, fact)
        self.books.take(fact)
        if fact.kind is FactKind.CLOSED:
            self._epsilon[fact.model] = fact.epsilon
        if fact.place is not None:
            self._read[fact.place.topic, fact.place.partition] = fact.place.offset + 1

    def _fetch(self, name: str) -> bytes | None:
        try:
            return self._store.get(name)
        except PayloadError:
            return None

    def _load(self, name: str) -> bytes:
        return self._fresh[name] if name in self._fresh else self._store.get(name)

    def _keep(self, raw: bytes) -> None:
        self._fresh[digest(raw)] = raw

    def _state(self, run: Run) -> OutgoingRecord:
        version, change = self._changes.get(run.model, (0, b""))
        state = state_of(
            run,
            self._load(run.sha256),
            self._inline_bytes,
            self._epsilon.get(run.model),
            change if version and version == run.version else None,
            [self._load(name) for name in run.open.carried] if run.open is not None else (),
        )
        return write_state(state, self._prefix, self._clock())

    def _announced(self, model: str, version: int, change: bytes) -> None:
        self._changes[model] = version, change

    def _ends_of_absent(self, models: Iterable[str]) -> list[OutgoingRecord]:
        """Ask for the end of tasks whose participants do not take part: those who do see the run's end themselves."""
        return [
            record
            for run in map(self.runs.__getitem__, models)
            if run.ended
            for record in cancel_absent(run.model, run.absent(), self._prefix, self._clock())
        ]

    def _drop_spent(self) -> None:
        """Delete the payloads of updates whose rounds are over; what is a version's, or awaited still, stays."""
        needed = {row["sha256"] for row in self.books.versions.values()}
        for open_ in (run.open for run in self.runs.values() if run.open is not None):
            needed |= {*open_.carried, *(fact.sha256 for fact in open_.accepted.values())}
        self._store.drop(sorted(self._spent - needed))
        self._spent.clear()

    def _note(self, facts: Sequence[Fact], _: Seconds) -> None:
        self._fresh.clear()
        for fact in facts:
            metrics.FACTS.labels(fact.kind.value).inc()
            if fact.kind is FactKind.REFUSED:
                metrics.REFUSED.labels(fact.rule).inc()
        for run in self.runs.values():
            metrics.MEMBERS.labels(run.model).set(len(run.members))
            metrics.VERSION.labels(run.model).set(run.version)


def _unreadable(record: IncomingRecord, reason: str) -> Fact:
    return _refusal(
        Fact(
            kind=FactKind.REFUSED,
            model="",
            at_ms=record.timestamp_ms,
            place=Place(record.topic, record.partition, record.offset),
        ),
        "unreadable",
        reason,
    )


def _refusal(fact: Fact, rule: str, detail: str) -> Fact:
    return replace(
        fact, kind=FactKind.REFUSED, rule=rule, reason=f"{RULES[rule]}: {detail}"[:LONGEST_REASON], spec=None
    )


def _letter(record: IncomingRecord, reason: str) -> RefusedRecord:
    return RefusedRecord.of(record, flow=FLOW_NAME, rule="unreadable", reason=reason)
