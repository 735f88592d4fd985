"""Regions packed in Spark tasks: the slots that one process chooses."""

from typing import TYPE_CHECKING

from tests.unit.scheduling.pack.test_regions import a_world, counted, some_requests
from thalweg.jobs.placement.pack_regions import pack_on_spark
from thalweg.scheduling.pack.regions import pack_region, region_work, requests_by_region

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_spark_tasks_choose_what_one_process_chooses(spark: "SparkSession") -> None:
    nodes = a_world(regions=5)
    requests = some_requests(nodes, 90, seed=4)
    positions = requests_by_region(nodes, requests)
    works = [
        region_work(nodes, region, [requests[at] for at in places], counted(requests))
        for region, places in positions.items()
    ]
    spread = pack_on_spark(spark, works)
    assert spread == [pack_region(work) for work in works]
    assert [one.region for one in spread] == [work.region for work in works]
    assert sum(slot is None for one in spread for slot in one.slots) > 0  # it was tight, so the choice mattered


def test_nothing_to_pack_starts_no_spark_task(spark: "SparkSession") -> None:
    assert pack_on_spark(spark, []) == []
