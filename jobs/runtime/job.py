"""What every job shares: its declared flow, the Spark session, logs, metrics and orderly stopping."""

import json
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from thalweg.conf import class_archive, environment
from thalweg.conf.log_pace import KafkaChatter
from thalweg.conf.settings import LogSettings, MetricSettings, Settings, SettingsError, load_settings
from thalweg.jobs.runtime import s3_checkpoints
from thalweg.jobs.runtime.package import give_to_executors
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.sync.delta.lease import LeaseHeldError
from thalweg.sync.delta.store import StoreError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What a job reads and writes, declared as data: `thalweg graph` draws it and a test checks it."""

    name: str
    reads_topics: tuple[str, ...] = ()
    reads_tables: tuple[str, ...] = ()
    writes_topics: tuple[str, ...] = ()
    writes_tables: tuple[str, ...] = ()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and whatever `extra={"fields": {...}}` carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line |= fields
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextLines(logging.Formatter):
    """One line for people, with the fields that the JSON form has."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        """Write the line and its fields."""
        fields = getattr(record, "fields", None)
        told = [f"{name}={value}" for name, value in fields.items()] if isinstance(fields, Mapping) else []
        return " ".join([super().formatMessage(record), *told])


def set_up_logs(settings: LogSettings, stream: TextIO = sys.stderr) -> None:
    """Send our logs to a stream; py4j's and kafka-python's chatter only from warnings up, and that once in a while."""
    output = logging.StreamHandler(stream)
    output.addFilter(KafkaChatter())
    output.setFormatter(JsonLines() if settings.form == "json" else TextLines())
    logging.basicConfig(level=settings.level.upper(), handlers=[output], force=True)
    for noisy in ("py4j", "kafka", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def serve_metrics(settings: MetricSettings) -> None:
    """Serve /metrics where a port is set."""
    if settings.port:
        from prometheus_client import start_http_server  # late: an agent serves none

        start_http_server(settings.port, addr=settings.host)


def read_spark_defaults(path: Path = environment.SPARK_DEFAULTS) -> dict[str, str]:
    """Read conf/spark-defaults.conf: `name value` a line, `#` starts a comment."""
    settings: dict[str, str] = {}
    for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            settings[name] = value.strip()
    return settings


def use_own_spark(environ: MutableMapping[str, str], *, local: bool) -> None:
    """Let pyspark start the Spark it brings, and this Python, whatever other installation the environment names.

    Args:
        environ: of this process; changed.
        local: whether Spark's tasks run here; elsewhere, which Python there is the cluster's affair.
    """
    for name in environment.FOREIGN_SPARK:
        environ.pop(name, None)
    if local:
        environ["PYSPARK_PYTHON"] = environ["PYSPARK_DRIVER_PYTHON"] = sys.executable


@contextmanager
def spark_session(name: str, settings: Settings) -> "Iterator[SparkSession]":
    """Give a Spark session and stop it at the end.

    Under spark-submit the session takes what spark-submit was given (master, jars, properties). Otherwise it is a
    local one with the locked jars and conf/spark-defaults.conf.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted:
        # The JVM that pyspark starts is found through JAVA_HOME; the driver's memory only through the command line.
        os.environ["JAVA_HOME"] = str(environment.find_java().home)
        use_own_spark(os.environ, local=settings.spark.master.startswith("local"))
        os.environ |= environment.utf8_locale()
        archived = class_archive.archive_flags(environment.JarSet.SPARK)
        options = class_archive.with_options(archived, os.environ.get("SPARK_SUBMIT_OPTS"))
        os.environ["SPARK_SUBMIT_OPTS"] = options
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"--driver-memory {settings.spark.driver_memory} pyspark-shell"
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession  # imported late: it costs half a second, and the command line needs none of it

    builder = SparkSession.Builder().appName(name)
    told = s3_checkpoints.spark_settings(settings.spark.checkpoints, os.environ)
    if not submitted:
        sets = [environment.JarSet.SPARK, *s3_checkpoints.jar_sets(settings.spark.checkpoints)]
        jars = ",".join(str(path) for jar_set in sets for path in environment.jar_paths(jar_set))
        builder = builder.master(settings.spark.master).config("spark.jars", jars)
        # A local application talks to itself only: loopback, whatever the machine is called.
        builder = builder.config("spark.driver.host", LOOPBACK).config("spark.driver.bindAddress", LOOPBACK)
        told = read_spark_defaults() | told | settings.spark.conf
    for key, value in told.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    try:
        s3_checkpoints.check_reachable(spark, settings.spark.checkpoints)
    except environment.SetupIncompleteError:
        spark.stop()
        raise
    with tempfile.TemporaryDirectory(prefix="thalweg-package-") as folder:
        give_to_executors(spark.sparkContext, Path(folder))
        try:
            yield spark
        finally:
            spark.stop()


def checkpoint_for(settings: Settings, flow: Flow) -> str:
    """Folder or URI of a query's checkpoint, as Spark has it."""
    return s3_checkpoints.as_spark_has_it(f"{settings.spark.checkpoints.rstrip('/')}/{flow.name}")


class Stop:
    """Asked to stop: by Ctrl-C, by SIGTERM, or by code. Waiting on it is how a job spends its life."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._beside: list[threading.Thread] = []

    def start(self, thread: threading.Thread) -> None:
        """Start a thread that ends soon after it is asked to; `finish` waits for it."""
        self._beside.append(thread)
        thread.start()

    def finish(self, seconds: float = 30.0) -> None:
        """Ask to stop, and give the threads beside the stream so long in all for their last steps."""
        self.ask()
        deadline = time.monotonic() + seconds
        for thread in self._beside:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def ask(self) -> None:
        """Ask to stop."""
        self._event.set()

    def asked(self) -> bool:
        """Tell whether stopping was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait to be asked, at most so long; True when asked."""
        return self._event.wait(seconds)

    def on_signals(self) -> "Stop":
        """Let SIGINT and SIGTERM ask; a second one ends the process at once."""
        # A handler interrupts whatever the main thread does, and that may be `wait`, which holds the lock that `ask`
        # takes: it would wait for itself for ever. A queue of this kind may be put to from a handler.
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()

        def ask(signum: int, _frame: object) -> None:
            if self.asked():
                os._exit(128 + signum)
            signals.put(signum)

        def pass_on() -> None:
            signals.get()
            self.ask()

        threading.Thread(target=pass_on, name="signals", daemon=True).start()
        signal.signal(signal.SIGINT, ask)
        signal.signal(signal.SIGTERM, ask)
        return self


Main = Callable[[Settings], None]
_FAILED: Final = 1
_WRONG_CALL: Final = 2


def job_main(main: Main, description: str, *, needs_broker: bool = True) -> None:
    """Run a job from the command line: settings in, exit code 0, 1 (the work failed) or 2 (the call is wrong) out."""

    @click.command(help=description)
    @click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
    @click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
    def command(config: Path | None, overrides: tuple[str, ...]) -> None:
        try:
            settings = load_settings(config, overrides)
        except SettingsError as error:
            click.echo(str(error), err=True)
            sys.exit(_WRONG_CALL)
        if needs_broker and not settings.kafka.is_named:
            click.echo(
                "no broker is named: --set kafka.bootstrap_servers=HOST:PORT (a local one: thalweg up)", err=True
            )
            sys.exit(_WRONG_CALL)
        set_up_logs(settings.logs)
        try:
            serve_metrics(settings.metrics)
            main(settings)
        except SettingsError as error:  # a file that they name
            click.echo(str(error), err=True)
            sys.exit(_WRONG_CALL)
        except (environment.SetupIncompleteError, BrokerUnavailableError, LeaseHeldError, StoreError) as error:
            click.echo(str(error), err=True)
            sys.exit(_FAILED)

    command()
