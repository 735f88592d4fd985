"""Checkpoints on S3: Spark is told of the store what the tables are told, and nothing where it is a folder."""

from pathlib import Path

from thalweg.conf.environment import JarSet
from thalweg.conf.settings import Settings, SparkSettings
from thalweg.jobs.runtime.job import Flow, checkpoint_for
from thalweg.jobs.runtime.s3_checkpoints import jar_sets, spark_settings

OWN = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "AWS_REGION": "eu-central-1"}


def test_a_store_of_ones_own_is_named_once() -> None:
    told = spark_settings("s3://bucket/c", OWN)
    assert told["spark.hadoop.fs.s3a.endpoint"] == OWN["AWS_ENDPOINT_URL"]
    assert told["spark.hadoop.fs.s3a.endpoint.region"] == OWN["AWS_REGION"]
    assert told["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    assert told["spark.hadoop.fs.s3a.path.style.access"] == "true"
    secure = spark_settings("s3a://bucket/c", OWN | {"AWS_ENDPOINT_URL": "https://s3.example.org"})
    assert secure["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "true"


def test_amazons_own_is_left_to_its_library() -> None:
    told = spark_settings("s3://bucket/c", {})
    assert not any("endpoint" in name or "path.style" in name for name in told)
    assert "FileContextBased" in told["spark.sql.streaming.checkpointFileManagerClass"], "no manager of a local disk"


def test_a_folder_wants_nothing(tmp_path: Path) -> None:
    for place in (str(tmp_path), "hdfs://host/checkpoints"):
        assert spark_settings(place, OWN) == {} and jar_sets(place) == ()
    assert jar_sets("s3://bucket/c") == (JarSet.S3,)


def test_both_schemes_are_one_place() -> None:
    for scheme in ("s3", "s3a"):
        settings = Settings(spark=SparkSettings(checkpoints=f"{scheme}://bucket/c/"))
        assert checkpoint_for(settings, Flow(name="place")) == "s3a://bucket/c/place"
