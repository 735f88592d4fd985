"""The jobs run with pyspark's own spark-submit, against a broker and a warehouse that are named to them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.placing import Setting
from thalweg.conf.environment import PROJECT_ROOT, SPARK_DEFAULTS, JarSet, find_java, jar_paths

pytestmark = pytest.mark.acceptance


@contextmanager
def submitted(job: str, setting: Setting) -> Iterator[None]:
    """Run a job as an operator on a cluster would; only the master is this machine."""
    command = [
        str(Path(sys.executable).parent / "spark-submit"),
        "--master", "local[2]",
        "--driver-memory", "1g",
        "--properties-file", str(SPARK_DEFAULTS),
        "--jars", ",".join(map(str, jar_paths(JarSet.SPARK))),
        str(PROJECT_ROOT / "jobs" / f"{job}.py"),
        "--set", f"kafka.bootstrap_servers={setting.settings.kafka.bootstrap_servers}",
        "--set", f"kafka.topic_prefix={setting.prefix}",
        "--set", f"warehouse.path={setting.settings.warehouse.path}",
        "--set", f"spark.checkpoints={setting.settings.spark.checkpoints}",
    ]  # fmt: skip
    environment = os.environ | {
        "JAVA_HOME": str(find_java().home),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    log = setting.folder / f"{job}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True, cwd="/")
        try:
            yield
            assert process.poll() is None, log.read_text()[-2_000:]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_place_runs_with_spark_submit(broker: str, tmp_path: Path) -> None:
    setting = Setting(broker, tmp_path)
    try:
        with submitted("place", setting):
            setting.request({"task_id": "t", "per_worker": {"gpus": 1}})
            setting.heard(lambda: "t" in setting.assigned(), 120)
    finally:
        setting.close()


def test_observe_runs_with_spark_submit(broker: str, tmp_path: Path) -> None:
    setting = Setting(broker, tmp_path)
    try:
        from thalweg.streams.broker.admin import ensure_topics
        from thalweg.streams.contract.topics import TELEMETRY, topic_name

        ensure_topics(setting.settings.kafka, ["new"], [TELEMETRY])
        sample = b'{"region": "new", "samples": [{"kind": "node", "node_id": "n", "gpus": 8, "gpu_model": "A100"}]}'
        with submitted("observe", setting):
            setting.producer.send(topic_name(TELEMETRY, setting.prefix, "new"), sample)
            setting.producer.flush()
            setting.heard(lambda: any(row["region"] == "new" for row in setting.table("nodes")), 120)
    finally:
        setting.close()
