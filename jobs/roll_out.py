"""Roll out: versions of models to edges, wave by wave, as the outcomes that edges report allow.

`replica` -> `rollouts` -> `state.rollouts`, which `replicate` merges into `replica` for every region.

No Spark: a wave also ends when nothing arrives, and what is read is one compacted topic, from its beginning at every
start. Can be killed anywhere (docs/explanation/rollout.md).
"""

import logging
from collections.abc import Callable
from typing import Final

from thalweg.conf.readiness import announce_ready, announce_trouble, keep_pulse
from thalweg.conf.settings import Settings
from thalweg.jobs.rollout.conductor import Conductor
from thalweg.jobs.rollout.rollout_rows import facts_of, rows_of
from thalweg.jobs.runtime.fact_ledger import DeltaFacts
from thalweg.jobs.runtime.job import Flow, Stop, job_main
from thalweg.learning.rollout.facts import RolloutFact
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import REPLICA, STATE, topic_name
from thalweg.streams.learning.rollout_writes import REGION
from thalweg.sync.clock import Clock, system_clock
from thalweg.sync.delta.contracts import ROLLOUTS
from thalweg.sync.delta.lease import hold_lease
from thalweg.sync.delta.store import AnotherWriterError

FLOW: Final = Flow(
    name="roll_out",
    reads_topics=(REPLICA.topic,),
    writes_topics=(STATE.topic,),
    writes_tables=(ROLLOUTS.name,),
)
APPLICATION: Final = "thalweg-roll-out"
"""Application id under which the number of the last fact is recorded."""
RESTART_AFTER_S: Final = 2.0
"""Pause before a life that failed is followed by another: long enough not to spin on a broker that is down."""
TIDY_EVERY: Final = 200
"""Facts between two looks at the table's files."""
LONGEST_ERROR: Final = 500

log = logging.getLogger("thalweg.roll_out")


def live(settings: Settings, clock: Clock, stop: Stop, until: Callable[[Conductor], bool] = lambda _: False) -> None:
    """Live one life: from what is committed until asked to stop.

    Args:
        settings: everything.
        clock: the wall clock.
        stop: asked to end.
        until: ends it, too; asked after each look.

    Raises:
        Exception: what ended it; the next one begins from what is committed.
    """
    ensure_topics(settings.kafka, [REGION], (STATE, REPLICA))
    ledger = DeltaFacts[RolloutFact](
        ROLLOUTS, settings.warehouse.path, application=APPLICATION, rows_of=rows_of, facts_of=facts_of
    )
    ledger.claim()
    publisher = KafkaPublisher(settings.kafka, client_id="thalweg-roll-out", keeps_topics=True)
    try:
        prefix, every_ms = settings.kafka.topic_prefix, settings.rollout.look_every_ms
        conductor = Conductor(ledger=ledger, publisher=publisher, topic_prefix=prefix, clock=clock)
        replica = topic_name(REPLICA, prefix)
        reader = KafkaReader(settings.kafka, topics=(replica,), client_id="thalweg-roll-out")
        try:
            end = reader.end_offsets().get((replica, 0), 0)
            while reader.position(replica, 0) < end and not stop.asked():
                conductor.hear(reader.poll(every_ms))
            announce_ready()
            facts, looked_ms = 0, -every_ms
            while not stop.asked() and not until(conductor):
                conductor.hear(reader.poll(every_ms))
                if 0 <= clock() - looked_ms < every_ms:
                    continue  # many edges speak: they are heard together
                looked_ms = clock()
                facts += len(conductor.look())
                if facts >= TIDY_EVERY:
                    facts = 0
                    ledger.tidy()
        finally:
            reader.close()
    finally:
        publisher.close()


def run(settings: Settings) -> None:
    """Live, and live again after what may pass, until asked to stop."""
    hold_lease(settings.warehouse.path, FLOW.name)
    stop = Stop().on_signals()
    keep_pulse()
    while not stop.asked():
        try:
            live(settings, system_clock, stop)
        except AnotherWriterError:
            log.error("another process writes this warehouse's roll-outs: stopping")
            raise
        except Exception as error:
            words = f"{FLOW.name}: {type(error).__name__}: {str(error)[:LONGEST_ERROR]}"
            # What a broker or a disk prevents is waited for; anything else is tried again, too, and said aloud.
            log.error("%s", words, exc_info=None if isinstance(error, StreamError | OSError) else error)
            announce_trouble(words)
            stop.wait(RESTART_AFTER_S)


if __name__ == "__main__":
    job_main(run, __doc__ or "")
