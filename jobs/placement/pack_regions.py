"""Pack regions as Spark tasks, one region each; the choosing itself is `scheduling.pack.regions.pack_region`.

Worth it where many regions are packed from scratch and there are cores to spread them over: a Spark task starts with
an empty memory of node states, which a live driver keeps from batch to batch (docs/measurements/packing.md has both).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thalweg.scheduling.pack.regions import RegionSlots, RegionWork, pack_region

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pack_on_spark(spark: "SparkSession", works: Sequence[RegionWork]) -> list[RegionSlots]:
    """Pack every region in a Spark task of its own and return the results in the order of `works`.

    The result is what `[pack_region(work) for work in works]` gives; a Spark task that is lost is run again by Spark
    and chooses the same.
    """
    if not works:
        return []
    return spark.sparkContext.parallelize(works, len(works)).map(pack_region).collect()
