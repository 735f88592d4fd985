"""Every streaming query in one Spark application: the local stack's way, for machines with two cores.

On a cluster each job is an application of its own (`spark-submit jobs/place.py`); here they share a JVM.
"""

import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from deltalake.exceptions import DeltaError

from thalweg.conf.readiness import announce_progress, announce_ready, announce_trouble, keep_pulse
from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.runtime import query_metrics as metrics
from thalweg.jobs.runtime.background import failing_beside
from thalweg.jobs.runtime.garbage import Garbage
from thalweg.jobs.runtime.health import BlockedStarts, CrashLoops
from thalweg.jobs.runtime.job import Stop, job_main, spark_session
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.sync.clock import Clock, system_clock
from thalweg.sync.delta.store import AnotherWriterError, DamagedTableError, TableRefusedError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

Start = Callable[["SparkSession", Settings, Clock, Stop, Host], "StreamingQuery"]

JOBS: Final = ("place", "observe", "replicate")
"""In this order: placement is ready to serve first."""

LAST_STEPS_S: Final = 5.0
"""What threads beside a query that failed get to end: a broker that is away would hold them for longer."""

RESTART_AFTER_S: Final = 2.0
"""Pause before a query that failed is started again: long enough not to spin on a broker that is down."""

STORE_WORDS: Final = (
    "an S3 store is reached with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, one of your own also with "
    "AWS_ENDPOINT_URL and, without TLS, AWS_ALLOW_HTTP=true"
)

SWITCH_INTERVAL_S: Final = 0.001
"""How long a thread may keep the interpreter from a micro-batch's. Python's 5 ms were paid at every wait of a batch
(file, broker, Arrow) while the threads beside it fold the ledger."""

log = logging.getLogger("thalweg.local")


def run(settings: Settings, jobs: Sequence[str] | None = None) -> None:
    """Start the jobs' queries, and start a failed one again until asked to stop.

    Args:
        settings: everything.
        jobs: which; None for all, but for the one of which two processes of their own stand by for each other.
    """
    jobs = jobs or [name for name in JOBS if not (settings.place.standby and name == "place")]
    stop = Stop().on_signals()
    keep_pulse()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    hosts = {name: Host(surround=Garbage(stop).batch) for name in jobs}
    preparing = threading.Thread(target=_prepare, args=(jobs, settings, hosts), daemon=True)
    preparing.start()
    with spark_session("-".join(("thalweg", *jobs)), settings) as spark:
        preparing.join()
        _stand_by(spark, jobs, settings, hosts, stop)
        running: dict[str, tuple[StreamingQuery, Stop]] = {}
        loops, waits, said = CrashLoops(), BlockedStarts(), None
        while not stop.asked():
            for name in jobs:
                query, own_stop = running.get(name, (None, None))
                if query is not None and query.isActive:
                    continue
                if query is not None and own_stop is not None:
                    own_stop.finish(LAST_STEPS_S)
                    if query.exception() is None:
                        log.info("query stopped, and starts anew", extra={"fields": {"job": name}})
                        running.pop(name)
                        continue
                    metrics.FAILURES.labels(name).inc()
                    error = str(query.exception())
                    loops.note(name, error, time.monotonic())
                    log.error("query ended", extra={"fields": {"job": name, "error": error[:2_000]}})
                    if _taken_over(error):
                        log.error("another process writes this warehouse: stopping")
                        sys.exit(1)
                    running.pop(name)  # noted once, however long it takes until the next life begins
                    stop.wait(RESTART_AFTER_S)
                started = _start(spark, name, settings, hosts[name])
                waits.note(name, started if isinstance(started, str) else None, time.monotonic())
                if not isinstance(started, str):
                    running[name] = started
            now_s = time.monotonic()
            failing = loops.failing(now_s) | waits.failing(now_s)
            failing |= {job: trouble for job in jobs if (trouble := hosts[job].pulse.trouble(job)) is not None}
            if len(running) == len(jobs) or said is not None:
                said = _say_how_it_is(failing, jobs, said, failing_beside(now_s))
            stop.wait(0.5)
        for name, (query, own_stop) in running.items():
            log.info("stopping", extra={"fields": {"job": name}})
            query.stop()
            own_stop.finish()


def _say_how_it_is(
    failing: Mapping[str, str], jobs: Sequence[str], said: str | None, beside: Mapping[str, str] | None = None
) -> str:
    """Tell the supervisor and Prometheus, where that changes; return what was said.

    Args:
        failing: jobs that do not do their work, with words.
        jobs: all.
        said: last; None before the first time.
        beside: threads beside the streams that do not do theirs; they have a metric of their own.
    """
    for name in jobs:
        metrics.FAILING.labels(name).set(name in failing)
    words = "; ".join([*failing.values(), *(beside or {}).values()])
    if words != said:
        announce_trouble(words) if words else announce_ready()
    return words


def _prepare(jobs: Sequence[str], settings: Settings, hosts: Mapping[str, Host]) -> None:
    """Import the jobs while the JVM starts on the other core, which takes as long, and make ready what needs no JVM."""
    for name in jobs:
        importlib.import_module(f"thalweg.jobs.{name}")
    if "place" in jobs:
        importlib.import_module("thalweg.jobs.placement.ahead").prepare(settings, system_clock, hosts["place"])


def _stand_by(
    spark: "SparkSession", jobs: Sequence[str], settings: Settings, hosts: Mapping[str, Host], stop: Stop
) -> None:
    """Wait until it is this process's turn, where two of them do the same."""
    if settings.place.standby and "place" in jobs:
        importlib.import_module("thalweg.jobs.placement.ahead").stand_by(
            spark, settings, system_clock, stop, hosts["place"]
        )


def _start(spark: "SparkSession", name: str, settings: Settings, host: Host) -> "tuple[StreamingQuery, Stop] | str":
    """Start a query, or say what it waits for."""
    own_stop = Stop()
    start: Start = importlib.import_module(f"thalweg.jobs.{name}").start
    try:
        query = start(spark, settings, system_clock, own_stop, host)
    except BrokerUnavailableError as error:
        own_stop.finish(LAST_STEPS_S)
        log.error("waiting for the broker", extra={"fields": {"job": name, "error": str(error)}})
        return str(error)
    except (OSError, DeltaError, DamagedTableError, TableRefusedError) as error:
        own_stop.finish(LAST_STEPS_S)
        words = _with_store_words(str(error), settings.warehouse.path)
        log.error("waiting for the warehouse", extra={"fields": {"job": name, "error": words}})
        return words
    log.info("started", extra={"fields": {"job": name}})
    announce_progress(f"{name}: started")
    return query, own_stop


def _with_store_words(error: str, warehouse: str) -> str:
    """Add to an error how an object store is reached: its own words rarely say what is missing."""
    return f"{error} ({STORE_WORDS})" if warehouse.startswith("s3") else error


def _taken_over(error: str) -> bool:
    return AnotherWriterError.__name__ in error


if __name__ == "__main__":
    job_main(run, __doc__ or "")
