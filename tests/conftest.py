"""What the tests share: one real broker and one Spark session for the whole run, started on first use."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conf.environment import SPARK_DEFAULTS, JarSet, find_java, jar_paths
from thalweg.bootstrap.jars import ensure_jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the bootstrap address of a real Kafka broker; topics are the test's own, so name them uniquely."""
    from thalweg.broker import Broker

    ensure_jars(find_java())
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running.bootstrap


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """Give a local session of two cores with Delta and the Kafka connector, as conf/spark-defaults.conf sets it."""
    from pyspark.sql import SparkSession

    java = find_java()
    ensure_jars(java)
    os.environ["JAVA_HOME"] = str(java.home)
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for key, value in spark_defaults().items():
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


def spark_defaults(file: Path = SPARK_DEFAULTS) -> dict[str, str]:
    """Read a properties file as spark-submit does: key, blanks, value."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return {key: value.strip() for key, value in pairs}
