"""Data gravity live: a region writes that a dataset has moved, and the next plan follows it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.placing import Setting, until
from thalweg.client.replica_client import ReplicaClient
from thalweg.jobs import place, replicate
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.clock import system_clock
from thalweg.sync.protocol.changes import Add, Assign, Remove

pytestmark = pytest.mark.acceptance

CHEAP, DEAR = "aws:eu-west-1", "gcp:us-central1"  # 2 and 3 USD a GPU hour


def test_a_dataset_that_moves_changes_the_next_plan(spark: Any, broker: str, tmp_path: Path) -> None:
    setting = Setting(broker, tmp_path)
    stop = Stop()
    queries = [job.start(spark, setting.settings, system_clock, stop) for job in (replicate, place)]
    try:
        with ReplicaClient(DEAR, tmp_path / "us.db", setting.settings.kafka) as region:
            assert region.wait_joined()
            region.put("dataset/corpus", Assign("size_gb", 500.0), Assign("version", 1), Add("copies", (CHEAP,)))
            until(lambda: facts(setting) == {"copies": [CHEAP], "size_gb": 500.0, "version": 1})
            time.sleep(1)  # five times what placement takes to read its facts again
            # 8 GPU hours cost 16 USD in the cheap region, 24 in the dear one; moving 500 GB costs 25.
            needs = {"per_worker": {"gpus": 8}, "expected_s": 3600, "data": [{"dataset": "corpus"}]}
            setting.request({"task_id": "before", **needs})
            setting.heard(lambda: "before" in setting.assigned())
            assert setting.assigned()["before"][0]["region"] == CHEAP

            region.put("dataset/corpus", Assign("version", 2), Add("copies", (DEAR,)), Remove("copies", (CHEAP,)))
            until(lambda: facts(setting) == {"copies": [DEAR], "size_gb": 500.0, "version": 2})
            time.sleep(1)
            setting.request({"task_id": "after", **needs})
            setting.heard(lambda: "after" in setting.assigned())
            assert setting.assigned()["after"][0]["region"] == DEAR
    finally:
        for query in queries:
            query.stop()
        stop.finish()
        setting.close()


def facts(setting: Setting) -> dict[str, Any] | None:
    """What the table `records` says of the dataset."""
    found = [row for row in setting.table("records") if row["key"] == "dataset/corpus"]
    return json.loads(found[0]["value"]) if found else None
