"""Place tasks: requests and reports in, ledger rows and assignment events out, one plan per micro-batch.

The micro-batch (`microbatch`), which can be killed anywhere (docs/explanation/exactly-once.md):

1. Read its records, from the reader that is ahead of them or through Spark          `microbatch.reading`
2. If the ledger has it: only refuse again what it refused                           `placement.placer`
3. Fold: facts, then each record judged and applied, then the regions gone silent    `placement.fold`
4. Plan                                                                              `scheduling.live`
5. Tell what an earlier life may not have told, then commit the rows to the ledger   ORDER
6. Publish the events, the ends of tasks, and what was refused                       ORDER
7. The tables that are folds of the ledger follow beside the stream, and the answers `placement.tables`, `.answers`
"""

from functools import partial
from typing import TYPE_CHECKING, Final

from thalweg.conf.readiness import announce_progress
from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.reading import Reading
from thalweg.jobs.placement.ahead import have_compiled
from thalweg.jobs.placement.driver import Driver
from thalweg.jobs.placement.edge import input_pattern, make_topics
from thalweg.jobs.placement.placer import ORDER
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.placement.refusals import FLOW_NAME
from thalweg.jobs.placement.settings import assumed_price, tenants_of
from thalweg.jobs.placement.snapshots import SnapshotKeeper
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.background import run_in_background
from thalweg.jobs.runtime.batch_first import BatchFirst
from thalweg.jobs.runtime.job import Flow, Stop, checkpoint_for, job_main
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.scheduling.liveness.hearing import BEAT_MS
from thalweg.streams.broker.sources import read_pattern
from thalweg.sync.clock import Clock
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.lease import beat, hold_lease
from thalweg.sync.ledger.ledger import Ledger

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FLOW: Final = Flow(
    name=FLOW_NAME,
    reads_topics=("requests", "control", "status"),
    reads_tables=("nodes", "links", "prices", "records", "decisions"),
    writes_topics=("assignments", "answers", "results", "status", "deadletter"),
    writes_tables=("decisions", "tasks", "tasks_archive", "placements", "results", "plans"),
)


def start(
    spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop, host: Host | None = None
) -> "StreamingQuery":
    """Claim the ledger, rebuild the world, and start the query; the caller decides how long to wait.

    Args:
        spark: the session; several queries may share it.
        settings: everything.
        clock: the wall clock.
        stop: ends what runs beside the query, and a batch that waits.
        host: what earlier lives of the query have left; None for nothing.

    Raises:
        LeaseHeldError: another place job holds this warehouse.
        AnotherWriterError: another has claimed the ledger since the last life of this one.
    """
    place, warehouse, checkpoint = settings.place, settings.warehouse.path, checkpoint_for(settings, FLOW)
    pattern, batch_first, host = input_pattern(settings.kafka.topic_prefix), BatchFirst(), host or Host()

    # One process for each warehouse, with a checkpoint and topics that are its own; one driver for each ledger.
    if not host.without_lease:
        hold_lease(warehouse, FLOW.name)
    run_in_background("place-lease", partial(beat, warehouse, FLOW.name), every_s=BEAT_MS / 1000, stop=stop)
    have_compiled(settings)
    announce_progress("place: opening the ledger")
    watch = OriginWatch(settings, FLOW, DECISIONS, pattern)
    watch.settle()
    make_topics(settings)
    ledger = Ledger.claim(warehouse, host.driver_epoch)
    host.driver_epoch = ledger.driver_epoch
    tables = PlaceTables(
        warehouse,
        place.folds_every_ms,
        place.compact_every_s,
        stop,
        rest=batch_first.rest,
        archive_after_s=place.archive_after_s,
    )
    snapshots = SnapshotKeeper(
        warehouse, every_rows=place.snapshot_every_rows, every_s=place.snapshot_every_s, stop=stop
    )

    # The world in memory: what the ledger's rows lead to, and what the tables say of places.
    world = recover(ledger, warehouse, tenants_of(place), clock(), host.take_followed(), behind=snapshots.behind)
    world.assume_price(assumed_price(place))
    driver = Driver.of(settings, ledger, world, tables, snapshots, checkpoint=checkpoint, clock=clock, host=host)

    # One micro-batch: 1 is `read`, 2 to 4 are `decide`, 5 and 6 are the steps in their ORDER. Beside it, 7.
    batches = Microbatch(
        job=FLOW.name,
        order=ORDER,
        read=Reading(
            job=FLOW.name,
            checkpoint=checkpoint,
            ahead=driver.edge.ahead,
            made_of=lambda received: received,
            unread=watch.unread,
        ),
        decide=driver.placer.decide,
        dead_letters=driver.dead_letters(),
        stop=stop,
        pulse=host.pulse,
        around=(batch_first.batch, host.surround),
    )
    driver.run_beside(stop)
    records = read_pattern(
        spark, settings.kafka, pattern, max_records_per_batch=place.max_records_per_batch, begin_at=watch.begin_at
    )
    query = (
        records.writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime=f"{place.trigger_ms} milliseconds")
        .foreachBatch(batches)
        .start()
    )
    run_in_background("place-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
