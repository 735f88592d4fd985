"""What a class archive spares: `python -m thalweg.benchmarks.startup.jvm`.

The broker until it answers, and a Spark session until it has answered once, in turns with and without an archive.
Processor time of the JVM and what started it; the wall clock tells of the machine's other work, too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click
import psutil

from thalweg.conf.environment import cache_folder
from thalweg.stack.broker import Broker
from thalweg.stack.rehearsal import ensure_archives

SESSION: Final = """
import psutil
from thalweg.conf.settings import load_settings
from thalweg.jobs.runtime.job import spark_session
with spark_session("startup", load_settings()) as spark:
    spark.range(10).toArrow()
    children = psutil.Process().children(recursive=True)
    print(sum(sum(child.cpu_times()[:2]) for child in children))
"""


def broker_cpu_s(_environ: Mapping[str, str]) -> float:
    """Start a broker with a new storage; return what its JVM used until it answered."""
    with tempfile.TemporaryDirectory(prefix="startup-") as folder, Broker(Path(folder) / "broker") as broker:
        return sum(psutil.Process(broker.pid).cpu_times()[:2])


def spark_cpu_s(environ: Mapping[str, str]) -> float:
    """Start a session and ask it something; return what its JVM used."""
    told = subprocess.run(
        [sys.executable, "-c", SESSION], env=environ, capture_output=True, text=True, check=True
    ).stdout
    return float(told.splitlines()[-1])


STARTS: Final[Mapping[str, Callable[[Mapping[str, str]], float]]] = {"broker": broker_cpu_s, "spark": spark_cpu_s}


@click.command()
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, help="How often each start is made.")
def main(runs: int) -> None:
    """Measure, and print processor and wall seconds: minimum, median, maximum."""
    ensure_archives(lambda words: print(words, file=sys.stderr))
    own = str(cache_folder())
    with tempfile.TemporaryDirectory(prefix="startup-") as cache:
        (Path(cache) / "jars").symlink_to(Path(own) / "jars")  # and no archives
        print(f"load {os.getloadavg()[0]:.1f}")
        for name, start in STARTS.items():
            found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
            for _ in range(runs):
                for how, folder in (("with", own), ("without", cache)):
                    os.environ["THALWEG_CACHE"] = folder  # of this process and no other
                    began = time.perf_counter()
                    cpu_s = start({**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"})
                    found[how].append((cpu_s, time.perf_counter() - began))
            for how, pairs in found.items():
                told = "  ".join(
                    f"{unit} {min(column):.1f} {statistics.median(column):.1f} {max(column):.1f}"
                    for unit, column in zip(("cpu s", "wall s"), zip(*pairs, strict=True), strict=True)
                )
                print(f"{name:8}{how:9}{told}")


if __name__ == "__main__":
    main()
