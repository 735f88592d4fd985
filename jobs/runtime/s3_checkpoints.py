"""Checkpoints on S3: the store is named once, by the AWS_ variables that the tables use, and Spark is told the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from thalweg.conf.environment import JarSet, SetupIncompleteError
from thalweg.conf.words import cut_short

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PLAIN: Final = "s3://"
_SPARK: Final = "s3a://"
"""The scheme under which Hadoop has S3."""

_MANAGER: Final = "org.apache.spark.sql.execution.streaming.checkpointing.FileContextBasedCheckpointFileManager"
"""Spark's own. The one of conf/spark-defaults.conf is for a local disk."""


def on_s3(checkpoints: str) -> bool:
    """Tell whether checkpoints lie on S3."""
    return checkpoints.startswith((_PLAIN, _SPARK))


def as_spark_has_it(place: str) -> str:
    """Write a place as Spark's Hadoop does: people and the tables' library say s3."""
    return f"{_SPARK}{place.removeprefix(_PLAIN)}" if place.startswith(_PLAIN) else place


def jar_sets(checkpoints: str) -> tuple[JarSet, ...]:
    """Return what an application of our own needs beside Spark's jars."""
    return (JarSet.S3,) if on_s3(checkpoints) else ()


def spark_settings(checkpoints: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what Spark is told; nothing where checkpoints do not lie on S3.

    Args:
        checkpoints: folder or URI.
        environ: AWS_ENDPOINT_URL, AWS_REGION. Spark finds the keys there by itself.
    """
    if not on_s3(checkpoints):
        return {}
    settings = {
        "spark.sql.streaming.checkpointFileManagerClass": _MANAGER,
        # Hadoop's newest way to read is for Parquet, and wants more jars; a checkpoint's files are a few hundred bytes.
        # What is uploaded would lie on this disk first, by a file system that conf/spark-defaults.conf replaces; in
        # memory each file takes the size of a part, of which this is the least.
        "spark.hadoop.fs.s3a.fast.upload.buffer": "array",
        "spark.hadoop.fs.s3a.multipart.size": "5M",
        "spark.hadoop.fs.s3a.input.stream.type": "classic",
    }
    if region := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        settings["spark.hadoop.fs.s3a.endpoint.region"] = region
    if endpoint := environ.get("AWS_ENDPOINT_URL"):
        settings |= {
            "spark.hadoop.fs.s3a.endpoint": endpoint,
            "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https")).lower(),
            # A store of one's own rarely has a name for each bucket.
            "spark.hadoop.fs.s3a.path.style.access": "true",
        }
    return settings


def check_reachable(spark: "SparkSession", checkpoints: str) -> None:
    """Refuse before anything is begun what would fail in the middle: no classes for S3, no way to the bucket.

    Raises:
        SetupIncompleteError: with the command that brings what is missing.
    """
    if not on_s3(checkpoints):
        return
    from py4j.protocol import Py4JJavaError

    jvm = spark._jvm
    assert jvm is not None
    place = as_spark_has_it(checkpoints)
    try:
        path = jvm.org.apache.hadoop.fs.Path(place)
        path.getFileSystem(spark._jsc.hadoopConfiguration()).exists(path)
    except Py4JJavaError as error:
        told = str(error.java_exception.toString())
        if "ClassNotFound" in told or "NoClassDefFound" in told:
            raise SetupIncompleteError(
                f"Checkpoints are to lie at {checkpoints}, and this Spark has no classes for S3 ({cut_short(told)}).",
                'Give spark-submit their jars: --jars "$(python -m thalweg.bootstrap.print_jars s3)"',
            ) from error
        raise SetupIncompleteError(
            f"Checkpoints are to lie at {checkpoints}, which cannot be opened ({cut_short(told)}).",
            "The store is named by AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, one of your own, "
            "AWS_ENDPOINT_URL.",
        ) from error
