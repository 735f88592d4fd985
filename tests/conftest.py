"""What the tests share: a real broker and a Spark session for each process that runs them, started on first use."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.class_archive import archive_flags, with_options
from thalweg.conf.environment import JarSet, find_java, jar_paths
from thalweg.jobs.runtime.job import read_spark_defaults
from thalweg.stack.stack import scratch_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from thalweg.benchmarks.sync.proxied_broker import ProxiedBroker

if sys.modules["__main__"].__spec__ is None:  # a process of xdist, which pyspark would take for doctests, and end
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)

# How long an example takes tells of the machine, which may be busy. What may hang has pytest's time limit.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_LONG_ACCEPTANCE: Final = ("place", "observe_process", "replicate", "place_trouble", "brokers", "class_archives")
LONGEST: Final = (
    "tests/acceptance/test_chaos.py",
    "tests/acceptance/test_spark_submit.py",
    "tests/unit/thalweg/proof/test_line.py",
    "tests/acceptance/test_demo.py",
    "tests/docs/test_train_and_pick.py",
    "tests/acceptance/test_stack_commands.py",
    "tests/acceptance/test_federated_tasks.py",
    "tests/acceptance/test_vote_by_region.py",
    *(f"tests/acceptance/test_{name}.py" for name in _LONG_ACCEPTANCE),
)
"""Files that take minutes, the longest first: those that start many a JVM, and the played histories."""

SHORT_LIVED_JVM: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""A JVM that lives for a test's minute spends half of its processor on compiling what it will not run often enough."""


def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C, so that a test which is cut off takes its stack down."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files (`./run test`), begin with those that take longest: they end together."""

    def place(item: pytest.Item) -> tuple[int, int]:
        file = item.nodeid.partition("::")[0]
        if file in LONGEST:
            return 0, LONGEST.index(file)
        return (1 if file.startswith("tests/acceptance/") else 2), 0

    if hasattr(config, "workerinput"):
        items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let what the tests' processes leave, killed ones above all, lie in pytest's folder, which it clears away."""
    os.environ["SPARK_SUBMIT_OPTS"] = " ".join(filter(None, (SHORT_LIVED_JVM, os.environ.get("SPARK_SUBMIT_OPTS"))))
    os.environ |= scratch_environment(tmp_path_factory.mktemp("scratch"), os.environ)


@pytest.fixture(autouse=True)
def logs_as_found() -> Iterator[None]:
    """Put the root logger's level and outputs back: a command that a test calls sets up its process's logs."""
    root = logging.getLogger()
    outputs, level = root.handlers[:], root.level
    yield
    root.handlers[:] = outputs
    root.setLevel(level)


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator["ProxiedBroker"]:
    """Give a real Kafka broker, and two regions whose ways to it can be cut; topics are as `broker` says."""
    from thalweg.benchmarks.sync.proxied_broker import proxied_broker

    with proxied_broker(tmp_path_factory.mktemp("broker"), ("eu", "us")) as running:
        yield running


@pytest.fixture(scope="session")
def broker(links: "ProxiedBroker") -> str:
    """Give the bootstrap address of a real Kafka broker; topics are the test's own, so name them uniquely."""
    return links.bootstrap


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """Give a local session of two cores with Delta and the Kafka connector, as conf/spark-defaults.conf sets it."""
    from pyspark.sql import SparkSession

    java = find_java()
    ensure_jars(java)
    os.environ["JAVA_HOME"] = str(java.home)
    archived = archive_flags(JarSet.SPARK, java)
    os.environ["SPARK_SUBMIT_OPTS"] = with_options(archived, os.environ["SPARK_SUBMIT_OPTS"])
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else Spark's tasks run the machine's own Python
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # nothing of a test listens on the network
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for key, value in read_spark_defaults().items():
        builder = builder.config(key, value)
    session = (
        builder.config("spark.jars", ",".join(map(str, jar_paths(JarSet.SPARK))))
        .config("spark.driver.memory", "1g")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .config("spark.driver.extraJavaOptions", f"-Dderby.system.home={tmp_path_factory.mktemp('derby')}")
        .config("spark.local.dir", str(tmp_path_factory.mktemp("spark")))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
