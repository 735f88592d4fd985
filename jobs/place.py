"""Place tasks: requests and reports in, ledger rows and assignment events out, one plan per micro-batch.

The micro-batch (`microbatch`), which can be killed anywhere (docs/explanation/exactly-once.md):

1. Read its records, from the reader that is ahead of them or through Spark          `microbatch.reading`
2. If the ledger has it: say again what was committed                                `placement.placer`
3. Fold: facts, then each record judged and applied, then the regions gone silent    `placement.fold`
4. Plan                                                                              `scheduling.live`
5. Commit the rows to the ledger                                                     ORDER
6. Publish the events and what was refused                                           ORDER
7. `tasks`, `placements` and `plans` follow beside the stream, and the answers       `placement.tables`, `.answers`
"""

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from thalweg.conf.readiness import announce_progress
from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.reading import Reading
from thalweg.jobs.placement.driver import Driver
from thalweg.jobs.placement.edge import input_pattern, make_topics
from thalweg.jobs.placement.placer import ORDER
from thalweg.jobs.placement.refusals import FLOW_NAME
from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.beside import run_beside
from thalweg.jobs.runtime.courtesy import Courtesy
from thalweg.jobs.runtime.job import Flow, Stop, checkpoint_for, job_main
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.scheduling.live.warm_up import warm_up
from thalweg.scheduling.world.facts import Tenant, WorldFacts
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.sources import read_pattern
from thalweg.streams.placement.requests import read_spec
from thalweg.sync.clock import Clock
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.lease import hold_lease
from thalweg.sync.ledger.ledger import Ledger, from_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FLOW: Final = Flow(
    name=FLOW_NAME,
    reads_topics=("requests", "status"),
    reads_tables=("nodes", "links", "prices", "records", "decisions"),
    writes_topics=("assignments", "answers", "status", "deadletter"),
    writes_tables=("decisions", "tasks", "placements", "plans"),
)

log = logging.getLogger("thalweg.place")


def rebuild(ledger: Ledger, tables: PlaceTables, tenants: Mapping[str, Tenant], now_ms: int) -> World:
    """Make the world that the ledger's rows lead to; what the tables say of places is learned by the first batch."""

    def history() -> Iterator[Transition]:
        read = 0
        for rows in ledger.all_rows():
            read += rows.num_rows
            announce_progress(f"place: {read:,} rows of the ledger read")
            tables.put(rows)
            yield from from_rows(rows, read_spec)

    return world_from(WorldFacts(), history(), now_ms, tenants=tenants)


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
    """
    place, warehouse, checkpoint = settings.place, settings.warehouse.path, checkpoint_for(settings, FLOW)
    pattern, courtesy, host = input_pattern(settings.kafka.topic_prefix), Courtesy(), host or Host()

    # One process for each warehouse, with a checkpoint and topics that are its own; one driver for each ledger.
    hold_lease(warehouse, FLOW.name)
    announce_progress("place: compiling what a plan calls")  # a minute or more where no cache is
    warm_up(plan_settings(place))
    announce_progress("place: opening the ledger")
    watch = OriginWatch(settings, FLOW, DECISIONS, pattern)
    watch.settle()
    make_topics(settings)
    ledger = Ledger.claim(warehouse)
    tables = PlaceTables(warehouse, place.folds_every_ms, place.compact_every_s, stop, rest=courtesy.rest)

    # The world in memory: what the ledger's rows lead to, and what the tables say of places.
    began = time.perf_counter()
    world = rebuild(ledger, tables, tenants_of(place), clock())
    world.assume_price(assumed_price(place))
    rebuilt = {"tasks": len(world.tasks), "seconds": round(time.perf_counter() - began, 2)}
    log.info("world rebuilt", extra={"fields": rebuilt})
    driver = Driver.of(settings, ledger, world, tables, checkpoint=checkpoint, clock=clock, host=host)

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
        around=(courtesy.batch, host.surround, host.pulse.batch),
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
    run_beside("place-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
