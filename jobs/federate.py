"""Federate: what regions have learned into new versions of models, round by round.

`updates.<region>` -> `learning` -> `models`; beside it the folds `rounds`, `participants`, `model_versions`, and
`requests` that end the tasks of participants who never came.

No Spark: a round also ends when nothing arrives any more, and a streaming query that gets no records runs no batch.
The records are read by a consumer of the job's own, from the offsets that its ledger tells; the micro-batch is the one
of all jobs (`microbatch`), and can be killed anywhere (docs/explanation/learning.md):

1. Read what arrived, from where the ledger has got to                                  this file
2. Judge it, open and close rounds                                                      `federation.federator`
3. Write payloads, commit the facts, tell how runs are                                  ORDER
4. Bring the tables that people read up to date, when there is time                     `federation.tables`
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from thalweg.conf.readiness import announce_ready, announce_trouble, keep_pulse
from thalweg.conf.settings import Settings
from thalweg.jobs.federation.federator import FLOW_NAME, ORDER, Federator
from thalweg.jobs.federation.ledger import DeltaLedger
from thalweg.jobs.federation.tables import FederationTables
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import LONGEST_ERROR, Microbatch
from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.jobs.microbatch.retry import RETRYABLE
from thalweg.jobs.runtime.job import Flow, Stop, job_main
from thalweg.learning.secrecy.signatures import verify
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import IncomingRecord, KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import DEADLETTER, MODELS, REQUESTS, UPDATES, topic_pattern
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.learning.updates import OPERATORS
from thalweg.sync.clock import Clock, system_clock
from thalweg.sync.delta.contracts import LEARNING, MODEL_VERSIONS, PARTICIPANTS, ROUNDS
from thalweg.sync.delta.lease import hold_lease
from thalweg.sync.delta.store import AnotherWriterError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FLOW: Final = Flow(
    name=FLOW_NAME,
    reads_topics=(UPDATES.topic,),
    writes_topics=(MODELS.topic, REQUESTS.topic, DEADLETTER.topic),
    writes_tables=(LEARNING.name, ROUNDS.name, PARTICIPANTS.name, MODEL_VERSIONS.name),
)

RESTART_AFTER_S: Final = 2.0
"""Pause before a life that failed is followed by another: long enough not to spin on a broker that is down."""
TIDY_EVERY: Final = 200
"""Batches between two looks at the tables' files."""

log = logging.getLogger("thalweg.federate")


class Positioned(Protocol):
    """A reader that tells how far it is."""

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Offset after the newest record, of each partition read."""

    def position(self, topic: str, partition: int) -> int:
        """Next offset to read."""


class Arrivals:
    """Tells until when everything that arrived has been read."""

    def __init__(self, reader: Positioned, clock: Clock) -> None:
        """Look at a reader's partitions."""
        self._reader = reader
        self._clock = clock
        self._until_ms = 0
        self._asked: tuple[int, dict[tuple[str, int], int]] | None = None

    def until_ms(self, deadline_ms: int | None) -> int:
        """Return that moment, as far as it is known.

        Args:
            deadline_ms: the moment that somebody waits for; the broker is asked for its ends only when it is past.
        """
        now_ms = self._clock()
        if deadline_ms is None or now_ms <= deadline_ms:
            return self._until_ms
        if self._asked is None or self._asked[0] <= deadline_ms:
            self._asked = now_ms, self._reader.end_offsets()
        asked_ms, ends = self._asked
        if all(self._reader.position(*place) >= end for place, end in ends.items()):
            self._until_ms = asked_ms
        return self._until_ms


def live(
    settings: Settings,
    clock: Clock,
    stop: Stop,
    host: Host,
    until: Callable[[Federator], bool] = lambda _: False,
) -> None:
    """Live one life: from what is committed until asked to stop.

    Args:
        settings: everything.
        clock: the wall clock.
        stop: asked to end.
        host: what earlier lives have left.
        until: ends it, too; looked at between batches.

    Raises:
        Exception: what ended it; the next one begins from what is committed.
    """
    prefix, group = settings.kafka.topic_prefix, settings.federate
    ensure_topics(settings.kafka, [OPERATORS], (UPDATES, MODELS, REQUESTS, DEADLETTER))
    ledger = DeltaLedger(settings.warehouse.path)
    ledger.claim()
    publisher = KafkaPublisher(settings.kafka, client_id="thalweg-federate", keeps_topics=True)
    dead_letters = DeadLetters(
        prefix, lambda: KafkaPublisher(settings.kafka, client_id="thalweg-federate-refused", keeps_topics=True)
    )
    federator = Federator(
        ledger=ledger,
        store=PayloadStore(group.payloads),
        publisher=publisher,
        topic_prefix=prefix,
        inline_bytes=group.inline_bytes,
        verify=verify,
        secret=group.noise_key.get_secret_value().encode() if group.noise_key is not None else b"",
        clock=clock,
        isolation=host.isolation,
    )
    reader = KafkaReader(
        settings.kafka,
        pattern=topic_pattern(UPDATES, prefix),
        start=federator.next_offset,
        max_records=group.max_records_per_batch,
        client_id="thalweg-federate",
    )
    try:
        tables = FederationTables(settings.warehouse.path, federator.books)
        federator.tell_all()
        announce_ready()
        heard = Arrivals(reader, clock)
        heard_ms = number = tidied = 0

        def read_by_us(frame: "DataFrame", batch_id: int) -> list[IncomingRecord]:
            raise NotImplementedError("no Spark query gives this job its batches")

        batches = Microbatch(
            job=FLOW.name,
            order=ORDER,
            read=read_by_us,
            decide=lambda records, batch: federator.decide(records, heard_ms, batch),
            dead_letters=dead_letters,
            stop=stop,
            pulse=host.pulse,
        )
        while not stop.asked() and not until(federator):
            records = reader.poll(group.look_every_ms)
            deadline_ms = federator.deadline_ms()
            heard_ms = heard.until_ms(deadline_ms)
            if records or number == 0 or (deadline_ms is not None and heard_ms > deadline_ms):
                number += 1
                with host.pulse.batch():
                    batches.run(records, BatchId(FLOW.name, number))
            tables.write_if_due(clock(), idle=not records)
            if number - tidied >= TIDY_EVERY:
                tidied = number
                ledger.tidy()
                tables.tidy(clock())
        tables.write_if_due(clock(), idle=True)
    finally:
        reader.close()
        dead_letters.close()
        publisher.close()


def run(settings: Settings) -> None:
    """Live, and live again after what may pass, until asked to stop."""
    hold_lease(settings.warehouse.path, FLOW.name)
    stop, host = Stop().on_signals(), Host()
    keep_pulse()
    while not stop.asked():
        try:
            live(settings, system_clock, stop, host)
        except AnotherWriterError:
            log.error("another process writes this warehouse's ledger of learning: stopping")
            raise
        except Exception as error:
            words = f"{FLOW.name}: {type(error).__name__}: {str(error)[:LONGEST_ERROR]}"
            # What a broker or a disk prevents is waited for; anything else is tried again, too, and said aloud.
            log.error("%s", words, exc_info=None if isinstance(error, RETRYABLE) else error)
            announce_trouble(words)
            stop.wait(RESTART_AFTER_S)


if __name__ == "__main__":
    job_main(run, __doc__ or "")
