"""How fast a backlog is taken in, beside a bare Spark query that only reads the same topics, in one Spark application.

Each is run twice over the whole backlog and the second run counts: the first pays for what the JVM has to compile.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from deltalake import DeltaTable

from thalweg.conf.settings import Settings, load_settings
from thalweg.jobs import observe
from thalweg.jobs.runtime.job import Stop, spark_session
from thalweg.streams.broker.sources import read_regions
from thalweg.streams.contract import topics
from thalweg.sync.clock import system_clock

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def bare_seconds(spark: "SparkSession", settings: Settings, folder: Path) -> float:
    """Read every record with the job's own source options and do nothing with it."""
    source = read_regions(
        spark, settings.kafka, topics.TELEMETRY, max_records_per_batch=settings.observe.max_records_per_batch
    )
    began = time.perf_counter()
    query = (
        source.writeStream.format("noop").option("checkpointLocation", str(folder)).trigger(availableNow=True).start()
    )
    query.awaitTermination()
    return time.perf_counter() - began


def ingest_seconds(spark: "SparkSession", settings: Settings, folder: Path) -> tuple[float, int]:
    """Take everything in with the job as it is; returns the time until the last commit, and the rows."""
    own = settings.model_copy(
        update={
            "warehouse": settings.warehouse.model_copy(update={"path": str(folder / "warehouse")}),
            "spark": settings.spark.model_copy(update={"checkpoints": str(folder / "checkpoints")}),
        }
    )
    stop = Stop()
    began = time.perf_counter()
    query = observe.start(spark, own, system_clock, stop)
    query.processAllAvailable()
    seconds = time.perf_counter() - began
    stop.ask()
    query.stop()
    return seconds, int(DeltaTable(str(folder / "warehouse" / "telemetry")).count())


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--set", "overrides", multiple=True)
def main(folder: Path, overrides: tuple[str, ...]) -> None:
    """Measure both and print the seconds of the second run of each."""
    settings = load_settings(None, overrides)
    document: dict[str, Any] = {}
    with spark_session("bench-backlog", settings) as spark:
        for turn in ("first", "second"):
            document[f"bare_{turn}_s"] = bare_seconds(spark, settings, folder / f"bare-{turn}")
            document[f"ingest_{turn}_s"], document["rows"] = ingest_seconds(spark, settings, folder / f"ingest-{turn}")
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
