"""The jobs run with pyspark's own spark-submit, against a broker and a warehouse that are named to them."""

import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.placing import Setting
from thalweg.conf.environment import PROJECT_ROOT, SPARK_DEFAULTS, JarSet, find_java, jar_paths
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.contract.topics import TELEMETRY, topic_name

pytestmark = pytest.mark.acceptance


def python_without_the_tree(folder: Path) -> Path:
    """Make what the Python of a cluster's nodes is: every package that we call, and nothing of ours."""
    venv.create(folder, symlinks=True)
    # A folder that a .pth file adds brings no .pth files of its own: the link to the tree is one.
    (here,) = folder.glob("lib/python*/site-packages")
    (here / "packages.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import pyarrow, thalweg"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "No module named 'thalweg'" in found.stderr
    return python


@contextmanager
def submitted(job: str, setting: Setting, *options: str, master: str = "local[2]") -> Iterator[None]:
    """Run a job as an operator on a cluster would; only the master is this machine."""
    command = [
        str(Path(sys.executable).parent / "spark-submit"),
        "--master", master,
        "--driver-memory", "1g",
        "--properties-file", str(SPARK_DEFAULTS),
        "--jars", ",".join(map(str, jar_paths(JarSet.SPARK))),
        str(PROJECT_ROOT / "jobs" / f"{job}.py"),
        "--set", f"kafka.bootstrap_servers={setting.settings.kafka.bootstrap_servers}",
        "--set", f"kafka.topic_prefix={setting.prefix}",
        "--set", f"warehouse.path={setting.settings.warehouse.path}",
        "--set", f"spark.checkpoints={setting.settings.spark.checkpoints}",
        *options,
    ]  # fmt: skip
    environment = os.environ | {
        "JAVA_HOME": str(find_java().home),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYSPARK_PYTHON": str(python_without_the_tree(setting.folder / "bare")),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(setting.folder / "work"),
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
            setting.heard(lambda: "t" in setting.assigned())
    finally:
        setting.close()


def test_observe_runs_on_executors_that_know_nothing_of_ours(broker: str, tmp_path: Path) -> None:
    setting = Setting(broker, tmp_path)
    try:
        ensure_topics(setting.settings.kafka, ["new"], [TELEMETRY])
        sample = b'{"region": "new", "samples": [{"kind": "node", "node_id": "n", "gpus": 8, "gpu_model": "A100"}]}'
        with submitted("observe", setting, "--set", "observe.writer=executors", master="local-cluster[2,1,1024]"):
            setting.producer.send(topic_name(TELEMETRY, setting.prefix, "new"), sample)
            setting.producer.flush()
            setting.heard(lambda: any(row["region"] == "new" for row in setting.table("nodes")))
    finally:
        setting.close()
