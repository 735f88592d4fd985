"""`requests` deleted and made anew while the job lags: what is in the new topic appears, all of it, and once."""

import os
import signal
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from tests.acceptance.placing import Setting, until
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.contract.topics import REQUESTS, topic_name

pytestmark = pytest.mark.acceptance


def tasks(name: str, count: int) -> list[dict[str, object]]:
    return [{"task_id": f"{name}-{index}", "per_worker": {"gpus": 1}} for index in range(count)]


def test_requests_in_a_topic_made_anew_while_the_job_sleeps_are_not_skipped(broker: str, tmp_path: Path) -> None:
    setting = Setting(broker, tmp_path)
    topic = topic_name(REQUESTS, setting.prefix)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    setting.request(*tasks("before", 8))
    process = setting.process()
    try:
        setting.heard(lambda: len(setting.assigned()) == 8)
        time.sleep(3)  # its topics have been looked at

        os.kill(process.pid, signal.SIGSTOP)  # Python, which takes the batches; the JVM waits for it
        admin.delete_topics([topic])
        until(lambda: topic not in admin.list_topics())
        ensure_topics(setting.settings.kafka, ["control"])
        setting.request(*tasks("after", 3))
        os.kill(process.pid, signal.SIGCONT)

        setting.heard(lambda: len(setting.assigned()) == 11)

        def said() -> str:
            return "".join(log.read_text(errors="replace") for log in setting.folder.glob("place-*.log"))

        # Spark may come upon the new topic before its ids are looked at: it is said within seconds all the same.
        until(lambda: f"topic {topic} was deleted and made anew" in said())
        assert (tmp_path / "checkpoints" / "set-aside" / "place-1").is_dir()
        submitted = [row["task_id"] for row in setting.ledger() if row["transition"] == "submitted"]
        assert sorted(submitted) == sorted(str(task["task_id"]) for task in (*tasks("before", 8), *tasks("after", 3)))
    finally:
        admin.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        setting.close()
