"""`thalweg model serve`: answer for a model, as a task that the plane placed or by hand."""

import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Final

import click

from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.reading import WrongCall
from thalweg.conf.environment import state_folder
from thalweg.conf.readiness import announce_ready
from thalweg.conf.settings import KafkaSettings, SettingsError, load_settings
from thalweg.federation.connection import placed, store_of, warehouse_of
from thalweg.jobs.runtime.job import set_up_logs
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import REPLICA, SERVERS, STATE, region_suffix, topic_name
from thalweg.sync.clock import steady_clock, system_clock

MODELS: Final = "THALWEG_MODELS"
"""Tells a task where its agent keeps versions that have served."""
MB: Final = 1_000_000
_PUBLISH_TIMEOUT_MS: Final = 5_000


@click.command("serve", short_help="Answer for a model over HTTP, by the version that is declared for the region.")
@click.argument("model")
@click.option("--region", help="Where it serves.  [default: the task's region]")
@click.option("--name", help="Of the server.  [default: the task's id]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port.  [default: a free one]")
@click.option("--url", help="Where callers reach it.  [default: http(s)://HOST:PORT]")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of what has served.  [default: the agent's]",
)
@click.option("--cache-mb", type=FiniteRange(min=0), default=16, show_default=True, help="Of repeated answers.")
@click.option("--most-body-mb", type=FiniteRange(min=0.001), default=8, show_default=True, help="Largest request.")
@click.option(
    "--most-in-flight", type=click.IntRange(min=1), default=64, show_default=True, help="Requests under way at once."
)
@click.option(
    "--linger", type=FiniteRange(min=0), default=1.0, show_default=True,
    help="Seconds that it answers on after it was told to end, while callers turn to others.",
)  # fmt: skip
@click.option("--rollouts", is_flag=True, help="Take part in roll-outs of the model, as an edge.")
@click.option("--edge", help="The edge's name, of no other server.  [default: the server's, as in names of topics]")
@click.option(
    "--report-every", "report_every_s", type=FiniteRange(min=0.1, max=3_600), default=10.0, show_default=True,
    help="Seconds between two reports of an edge: a harm is seen that much later.",
)  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def serve_model_command(
    model: str,
    region: str | None,
    name: str | None,
    host: str,
    port: int,
    url: str | None,
    keep: Path | None,
    cache_mb: float,
    most_body_mb: float,
    most_in_flight: int,
    linger: float,
    rollouts: bool,
    edge: str | None,
    report_every_s: float,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Answer for MODEL over HTTP (Open Inference Protocol, version 2) until it is told to end.

    It serves the version that the record models/MODEL/REGION declares, or else models/MODEL, and takes up a new one
    without dropping a request. What has served is kept on disk and serves while the broker or the store is away, also
    after a restart.

    With --rollouts it is an edge: what `thalweg rollout` desires of it goes before these records. While a version is
    tried, both are held, a coin drawn from the request's id says which one answers, and what comes of it is reported.

    Where others reach the address, callers need a key (serving.keys), unless serving.open is true; with
    serving.tls_certfile it speaks HTTPS. /metrics is for Prometheus.

    \b
    Examples:
      thalweg model serve digits --region bern --name here
      thalweg model serve digits --region bern --name here --port 8000 --keep /var/lib/models
      thalweg model serve digits --region bern --name edge-7 --rollouts
    """
    from thalweg.serving.callers import ServingSettingsError
    from thalweg.serving.edge_records import EdgeRecords
    from thalweg.serving.kept_model import KeptModel
    from thalweg.serving.model_server import ModelServer
    from thalweg.serving.rollout_follower import RolloutFollower
    from thalweg.serving.run_server import ModelHttp, listening_at
    from thalweg.serving.version_follower import VersionFollower, Wanted
    from thalweg.serving.version_record import key_of
    from thalweg.serving.wanted_version import WantedVersion
    from thalweg.streams.broker.publish import Publisher

    where = region or os.environ.get("THALWEG_REGION", "")
    task = os.environ.get("THALWEG_TASK_ID", "")
    if not where or not (name or task):
        raise WrongCall("who serves? Allowed are --name and --region, or that an agent starts this as a task")
    if edge is not None and not rollouts:
        raise WrongCall("--edge names who takes part in roll-outs: allowed with --rollouts")
    # A task may have a copy in each of several regions, under one id.
    called = name or f"{task}@{where}"
    try:
        key_of(model, where)
        records = EdgeRecords(model, edge or region_suffix(called)) if rollouts else None
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        settings = placed(settings, warehouse_of(settings))
        listening = listening_at(host, port)
    except (SettingsError, NoBrokerError, ValueError) as error:
        raise WrongCall(str(error)) from error
    except OSError as error:
        more = "" if isinstance(error, socket.gaierror) else "; --port 0 takes a free one"
        raise WrongCall(f"{host}:{port}: {error.strerror or error}{more}") from error
    set_up_logs(settings.logs)
    scheme = "http" if settings.serving.tls_certfile is None else "https"
    at = url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    folder = keep or Path(os.environ.get(MODELS) or state_folder() / "models")
    server = ModelServer(
        model,
        KeptModel(folder / region_suffix(model)),
        timer=time.perf_counter,
        cache_bytes=round(cache_mb * MB),
        most_in_flight=most_in_flight,
    )
    server.take_up()
    metrics = os.environ.get("THALWEG_METRICS")

    def connect() -> tuple[Wanted, Publisher]:
        reader, publisher = _connected(settings.kafka, where if rollouts else None)
        try:
            return WantedVersion(reader, model, where, records), publisher
        except BaseException:
            reader.close()
            publisher.close()
            raise

    prefix = settings.kafka.topic_prefix
    rollout = None
    if records is not None:
        rollout = RolloutFollower(
            server=server,
            records=records,
            region=where,
            prefix=prefix,
            clock=system_clock,
            new_id=lambda: uuid.uuid4().hex,
        )

    follower = VersionFollower(
        server=server,
        name=called,
        region=where,
        url=at,
        prefix=prefix,
        connect=connect,
        get=store_of(settings).get,
        clock=system_clock,
        steady=steady_clock,
        metrics=None if not metrics else Path(metrics),
        rollout=rollout,
        report_every_ms=round(report_every_s * 1_000),
    )
    stop = threading.Event()
    following = threading.Thread(target=follower.run, args=(stop,), name="follower", daemon=True)

    def ready() -> None:
        following.start()
        announce_ready()
        click.echo(f"{model} is served at {at} in {where}", err=True)

    try:
        serving = ModelHttp(
            server,
            most_body_bytes=round(most_body_mb * MB),
            linger_s=linger,
            settings=settings.serving,
            host=host,
            ready=ready,
            leave=stop.set,
        )
    except ServingSettingsError as error:
        raise WrongCall(str(error)) from error
    try:
        with listening:
            serving.serve_until_told(listening)
    finally:
        stop.set()
        if following.is_alive():
            following.join(timeout=5)


def _connected(kafka: KafkaSettings, reports_from: str | None) -> tuple[KafkaReader, KafkaPublisher]:
    """Reach the broker; the topic `state` of a region is wanted where an edge reports from it."""
    if reports_from is None:
        ensure_topics(kafka, [], [REPLICA, SERVERS])
    else:
        ensure_topics(kafka, [reports_from], [REPLICA, SERVERS, STATE])
    publisher = KafkaPublisher(kafka, timeout_ms=_PUBLISH_TIMEOUT_MS, client_id="thalweg-serving")
    try:
        topic = topic_name(REPLICA, kafka.topic_prefix)
        return KafkaReader(kafka, topics=(topic,), client_id="thalweg-serving"), publisher
    except BaseException:
        publisher.close()
        raise
