"""A job by the documented command, spark-submit (docs/how-to/operations.md), as a process that can be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.conf.environment import PROJECT_ROOT, SPARK_DEFAULTS, find_java
from thalweg.processes import leash
from thalweg.processes.children import ChildFailedError, kill_group
from thalweg.processes.ports import LOOPBACK

STOPS_IN_S: Final = 30.0
"""The jobs end within a batch, and the JVM after them."""


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
        kill_group(self.process.pid)
        self.process.wait()


def printed_jars(*sets: str) -> str:
    """Return what spark-submit is told of jars, by the documented command; fetches them first if need be."""
    command = [sys.executable, "-m", "thalweg.bootstrap.print_jars", *sets]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextmanager
def submitted(
    job: str,
    folder: Path,
    python: Path,
    *options: str,
    master: str,
    jars: str,
    spark_options: Sequence[str] = (),
) -> Iterator[Submission]:
    """Run a job for a while, and end it in order.

    Args:
        job: its name.
        folder: for its log, which a later run goes on with.
        python: of the executors.
        options: of the job.
        master: where.
        jars: as `print_jars` prints them.
        spark_options: further ones of spark-submit.

    Raises:
        ChildFailedError: it ended by itself.
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
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command],
            env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/",
        )  # fmt: skip
        try:
            running = Submission(process=process, log=log)
            yield running
            if not running.killed and process.poll() is not None:
                raise ChildFailedError(job, f"ended with code {process.returncode}", log)
        finally:
            if process.poll() is None:
                # The whole group at once: spark-submit alone would take the JVM away from under the driver.
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(STOPS_IN_S)
                except subprocess.TimeoutExpired:
                    kill_group(process.pid)
                    process.wait()
