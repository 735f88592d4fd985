"""Spark as a standalone cluster on the loopback interface: a master and two workers, from pyspark's own package."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.conftest import SHORT_LIVED_JVM
from tests.patience import PATIENCE_S
from thalweg.conf.environment import PROJECT_ROOT, SPARK_DEFAULTS, find_java
from thalweg.processes.ports import LOOPBACK, accepts_connections, free_port

EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkCluster:
    """A cluster that runs."""

    master: str
    processes: tuple["subprocess.Popen[bytes]", ...]

    def executors(self) -> list[psutil.Process]:
        """Every executor there is now; each is a child of a worker."""
        found = []
        for process in self.processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if EXECUTOR in child.cmdline():
                        found.append(child)
                except psutil.Error:  # it has just ended
                    continue
        return found


@contextmanager
def spark_cluster(folder: Path, cores: int = 2) -> Iterator[SparkCluster]:
    """Run a master and two workers that know nothing of the tree: another folder, and an environment of their own."""
    spec = find_spec("pyspark")
    assert spec is not None and spec.origin is not None
    home = Path(spec.origin).parent
    java = find_java()
    port = free_port()
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, main_class: str, *arguments: str) -> None:
        place = folder / name
        place.mkdir(parents=True)
        environment = {
            "PATH": os.defpath,
            "JAVA_HOME": str(java.home),
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str(place),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": SHORT_LIVED_JVM,
            "LC_ALL": "C.UTF-8",
        }
        with (place / "log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [str(home / "bin" / "spark-class"), main_class, "--host", LOOPBACK, *arguments],
                    env=environment, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip

    try:
        start("master", "org.apache.spark.deploy.master.Master", "--port", str(port), "--webui-port", "0")
        limit = time.monotonic() + PATIENCE_S
        while not accepts_connections(port):
            assert processes[0].poll() is None and time.monotonic() < limit, (folder / "master" / "log").read_text()
            time.sleep(0.1)
        for number in range(2):
            start(
                f"worker-{number}", "org.apache.spark.deploy.worker.Worker",
                "--cores", str(cores), "--memory", "2g", "--webui-port", "0",
                "--work-dir", str(folder / f"work-{number}"), f"spark://{LOOPBACK}:{port}",
            )  # fmt: skip
        yield SparkCluster(master=f"spark://{LOOPBACK}:{port}", processes=tuple(processes))
    finally:
        for process in reversed(processes):
            kill_tree(process)


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        below = []
    process.kill()
    for child in below:
        try:
            child.kill()
        except psutil.Error:
            continue
    process.wait()
    psutil.wait_procs(below, timeout=10)


@dataclass(slots=True, kw_only=True)
class Submission:
    """A job that spark-submit runs."""

    process: "subprocess.Popen[bytes]"
    log: Path

    killed: bool = False

    def said(self) -> str:
        """All it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End the driver, its JVM too, as a power cut would."""
        self.killed = True
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def submitted(
    job: str,
    folder: Path,
    python: Path,
    *options: str,
    master: str,
    jars: str,
    spark_options: tuple[str, ...] = (),
) -> Iterator[Submission]:
    """Run a job by the documented command.

    Args:
        job: its name.
        folder: for its log, which a later run goes on with.
        python: of the executors.
        options: of the job.
        master: where.
        jars: as `print_jars` prints them.
        spark_options: further ones of spark-submit.
    """
    command = [
        str(Path(sys.executable).parent / "spark-submit"),
        "--master", master,
        *spark_options,
        "--driver-memory", "1g",
        "--properties-file", str(SPARK_DEFAULTS),
        "--jars", jars,
        str(PROJECT_ROOT / "jobs" / f"{job}.py"),
        *options,
    ]  # fmt: skip
    environment = os.environ | {
        "JAVA_HOME": str(find_java().home),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_WORKER_DIR": str(folder / "work"),
    }
    log = folder / f"{job}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True, cwd="/")
        try:
            running = Submission(process=process, log=log)
            yield running
            assert running.killed or process.poll() is None, running.said()[-2_000:]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
