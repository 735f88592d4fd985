"""Spark as a standalone cluster on the loopback interface: a master and two workers, from pyspark's own package.

The local stack runs its jobs in one process each. What the pages promise of a cluster is shown with this
(`tests/acceptance`, `benchmarks/clusters`): executors that know nothing of the tree, and can be killed.
"""

import os
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from thalweg.conf.environment import SetupIncompleteError, find_java
from thalweg.processes.children import Child, ProcessSpec
from thalweg.processes.ports import LOOPBACK, accepts_connections, free_port

EXECUTOR: Final = "org.apache.spark.executor.CoarseGrainedExecutorBackend"

WORKERS: Final = 2
"""The fewest of which one may have an executor that another job's has not."""

_IDLE_JVM: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Master and workers start others and wait: compiling them well takes more than it gives."""


def python_without_the_tree(folder: Path) -> Path:
    """Make what the Python of a cluster's nodes is: every package that we call, and nothing of ours."""
    venv.create(folder, symlinks=True)
    # A folder that a .pth file adds brings no .pth files of its own: the link to the tree is one.
    (here,) = folder.glob("lib/python*/site-packages")
    (here / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkCluster:
    """A cluster that runs."""

    master: str
    daemons: tuple[Child, ...]
    """The master, then the workers."""

    def executors(self) -> list[psutil.Process]:
        """Every executor there is now; each is a child of a worker."""
        found = []
        for daemon in self.daemons:
            for child in psutil.Process(daemon.pid).children(recursive=True):
                try:
                    if EXECUTOR in child.cmdline():
                        found.append(child)
                except psutil.Error:  # it has just ended
                    continue
        return found


@contextmanager
def spark_cluster(folder: Path, *, cores: int = 2, patience_s: float = 60.0) -> Iterator[SparkCluster]:
    """Run a master and two workers that know nothing of the tree: another folder, and an environment of their own.

    Args:
        folder: for their logs and what executors write.
        cores: of each worker.
        patience_s: for the master to listen.

    Raises:
        SetupIncompleteError: there is no pyspark here.
        ChildFailedError: the master ended, or did not listen in time.
    """
    found = find_spec("pyspark")
    if found is None or found.origin is None:
        raise SetupIncompleteError("The package pyspark is not installed.", "It comes with thalweg[plane].")
    home = Path(found.origin).parent
    port = free_port()
    daemons: list[Child] = []

    def start(name: str, main_class: str, *arguments: str, is_ready: Callable[[], bool] | None = None) -> Child:
        place = folder / name
        place.mkdir(parents=True)
        environment = {
            "PATH": os.defpath,
            "JAVA_HOME": str(find_java().home),
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str(place),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": _IDLE_JVM,
            "LC_ALL": "C.UTF-8",
        }
        variables = (f"{key}={value}" for key, value in environment.items())
        # A child inherits this process's environment, which may name the tree: env begins with none of it.
        bare = ("env", "--ignore-environment", f"--chdir={place}", *variables)
        spec = ProcessSpec(
            name=name,
            argv=(*bare, str(home / "bin" / "spark-class"), main_class, "--host", LOOPBACK, *arguments),
            is_ready=is_ready,
            ready_timeout_seconds=patience_s,
        )
        daemons.append(Child(spec, place / "log"))
        return daemons[-1]

    try:
        start(
            "master", "org.apache.spark.deploy.master.Master", "--port", str(port), "--webui-port", "0",
            is_ready=lambda: accepts_connections(port),
        ).wait_ready()  # fmt: skip
        for number in range(WORKERS):
            start(
                f"worker-{number}", "org.apache.spark.deploy.worker.Worker",
                "--cores", str(cores), "--memory", "2g", "--webui-port", "0",
                "--work-dir", str(folder / f"work-{number}"), f"spark://{LOOPBACK}:{port}",
            )  # fmt: skip
        yield SparkCluster(master=f"spark://{LOOPBACK}:{port}", daemons=tuple(daemons))
    finally:
        for daemon in reversed(daemons):
            daemon.kill()  # its group: executors, too
