"""`thalweg agent`: run regional agents until stopped."""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import click

from thalweg.agent.agent import RegionalAgent
from thalweg.agent.artefacts import ArtefactError, artefacts_at
from thalweg.agent.declarations import Declarations
from thalweg.agent.figures import UnknownRegionError, load_figures
from thalweg.agent.fleet import FleetError, RegionFleet, host_fleet, read_fleet, simulated_fleet
from thalweg.agent.process_runner import RUNS, ProcessRunner
from thalweg.agent.retention import RunRetention
from thalweg.agent.runners import Runner
from thalweg.agent.secret_store import SecretStore
from thalweg.agent.simulate_runner import SimulateRunner
from thalweg.agent.spot_notice import SpotWatch
from thalweg.agent.steady import counted_from
from thalweg.agent.store import AgentStore, new_agent_id
from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FiniteRange
from thalweg.conf.environment import state_folder
from thalweg.conf.readiness import announce_ready, announce_trouble
from thalweg.conf.settings import (
    AgentSettings,
    KafkaSettings,
    Settings,
    SettingsError,
    WarehouseSettings,
    load_settings,
)
from thalweg.jobs.runtime.job import Stop, set_up_logs
from thalweg.scheduling.ids import RegionId
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.admin import bounds_now, cluster_id, ensure_topics, identities, topics_now
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import BrokerUnavailableError, StreamError
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import (
    ASSIGNMENTS,
    DEADLETTER,
    REPLICA,
    STATUS,
    TELEMETRY,
    region_suffix,
    topic_name,
)
from thalweg.sync.clock import steady_clock, system_clock

log = logging.getLogger("thalweg.agent")

PUBLISH_TIMEOUT_MS: Final = 5_000
"""Half the time after which a silent region counts as lost: a stalled request is tried again before that."""

BROKER_WAIT_S: Final = 2.0
TAIL_RECORDS: Final = 2_000
"""Newest records of each partition of a region's status topic that tell who was there: heartbeats come every second."""
MB: Final = 1_000_000
_T = TypeVar("_T")


@click.command()
@click.option("--region", "regions", multiple=True, required=True, help="Region to host; repeatable.")
@click.option(
    "--runner",
    type=click.Choice(["simulate", "process"]),
    default="simulate",
    show_default=True,
    help="Let scaled time pass, or really start each task's command on this machine.",
)
@click.option("--nodes", type=click.IntRange(min=1), help="Simulate so many nodes per region instead of the usual 14.")
@click.option("--fleet", type=click.Path(dir_okay=False, path_type=Path), help="YAML file with the region's nodes.")
@click.option("--host", is_flag=True, help="The region's one node is this machine, with its real load.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="Folder of the agent's memory.")
@click.option("--time-scale", type=FiniteRange(min=0, min_open=True), help="Simulated seconds per real second.")
@click.option(
    "--failure-share",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of simulated runs that fail.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of simulated times and failures.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def agent(
    regions: tuple[str, ...],
    runner: str,
    nodes: int | None,
    fleet: Path | None,
    host: bool,
    state: Path | None,
    time_scale: float | None,
    failure_share: float,
    seed: int,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Host one or several regions: run what is assigned to them, report, and send telemetry.

    Of what --runner process starts, the time limit is enforced (SIGTERM, then SIGKILL), the memory that was asked for
    (what all its processes take is looked at twice a second, and SIGKILL follows), and the CPUs (as many cores as were
    asked for, by affinity). The length of logs and the disk that ended runs take are bounded by settings agent.*.

    Stop it with Ctrl-C or SIGTERM. After a crash, start it again with the same --state: it goes on from what it had
    committed, and never runs a task twice in the same epoch.
    """
    try:
        settings = load_settings(config, with_bootstrap(overrides, bootstrap))
        fleets = [
            _fleet(RegionId(region), nodes, fleet, host or (runner == "process" and fleet is None))
            for region in regions
        ]
        if len(set(regions)) != len(regions) or (fleet is not None and len(regions) > 1):
            raise FleetError("give each --region once, and a --fleet to a single region")
        settings = with_broker(settings)
        folder = (state or state_folder() / "agents" / region_suffix(regions[0])).absolute()
        runs: Runner = (
            _process_runner(settings.agent, folder, tables := _tables(settings), _rounds(settings, tables))
            if runner == "process"
            else SimulateRunner(
                time_scale=time_scale or settings.agent.time_scale, failure_share=failure_share, seed=seed
            )
        )
    except (SettingsError, FleetError, UnknownRegionError, NoBrokerError, ArtefactError) as error:
        end(str(error), WRONG_CALL)
    set_up_logs(settings.logs)
    stop = Stop().on_signals()
    try:
        run_agent(fleets, settings=settings, folder=folder, runner=runs, stop=stop, seed=seed)
    except StreamError as error:
        end(str(error), FAILED)


def _tables(settings: Settings) -> str:
    """Say where the tables are, from any folder: those that the settings name, else those of the stack here.

    Nothing where the address holds a password: every task would see it.
    """
    named = settings.warehouse.path
    if named == WarehouseSettings().path:
        return str(state_folder() / "warehouse")
    if "://" in named:
        return "" if "@" in urlsplit(named).netloc else named
    return str(Path(named).absolute())


def _rounds(settings: Settings, tables: str) -> dict[str, str]:
    """Say where rounds of learning go on: this agent's broker, and the payloads beside the tables."""
    kafka = settings.kafka
    said = {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "THALWEG_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "THALWEG_KAFKA__SECURITY_PROTOCOL": kafka.security_protocol,
        "THALWEG_KAFKA__SASL_MECHANISM": kafka.sasl_mechanism,
        "THALWEG_KAFKA__SSL_CAFILE": str(Path(kafka.ssl_cafile).absolute()) if kafka.ssl_cafile else None,
        "THALWEG_FEDERATE__PAYLOADS": _payloads(settings, tables),
    }
    return {name: value for name, value in said.items() if value}


def _payloads(settings: Settings, tables: str) -> str | None:
    """Say where payloads lie, from any folder; None where the address holds a password, or the tables' does."""
    found = settings.federate.payloads_of(tables) if tables else settings.federate.payloads
    if "://" in found:
        return None if "@" in urlsplit(found).netloc else found
    return str(Path(found).absolute()) if tables else None


def _process_runner(
    settings: AgentSettings, folder: Path, warehouse: str, rounds: Mapping[str, str] | None = None
) -> ProcessRunner:
    return ProcessRunner(
        folder=folder,
        warehouse=warehouse,
        rounds=rounds or {},
        timeout_s=settings.task_timeout_s,
        kill_grace_s=settings.kill_grace_s,
        log_bytes=round(settings.log_mb * MB),
        secrets=SecretStore(Path(settings.secrets) if settings.secrets else None),
        artefacts=artefacts_at(settings.artefacts, folder / RUNS),
        retention=RunRetention(
            seconds=settings.keep_runs_s, runs=settings.keep_runs, size_bytes=round(settings.keep_runs_mb * MB)
        ),
    )


def _fleet(region: RegionId, nodes: int | None, file: Path | None, host: bool) -> RegionFleet:
    if file is not None:
        return read_fleet(file, region)
    figures = load_figures()
    return host_fleet(region, figures) if host else simulated_fleet(region, figures, nodes=nodes)


def run_agent(
    fleets: list[RegionFleet], *, settings: Settings, folder: Path, runner: Runner, stop: Stop, seed: int = 0
) -> None:
    """Connect, take up what an earlier life left, and go round until asked to stop.

    Raises:
        FenceError: the folder belongs to another installation or agent.
    """
    kafka = settings.kafka
    regions = [fleet.region for fleet in fleets]
    topics = [topic_name(ASSIGNMENTS, kafka.topic_prefix, region) for region in regions]
    store = AgentStore(folder)
    connected = _when_there(lambda: _connect(kafka, regions, topics, store), stop)
    if connected is None:
        store.close()
        return
    reader, publisher, topic_ids, read_first, installation = connected
    agent_id = new_agent_id()
    declarations = _when_there(lambda: _declarations(kafka, settings.agent.preparation), stop)
    cloud = settings.agent.spot_notices
    watch = None if cloud is None else SpotWatch(cloud, settings.agent.metadata_url, system_clock)
    regional = RegionalAgent(
        fleets,
        settings=settings.agent,
        prefix=kafka.topic_prefix,
        agent_id=agent_id,
        store=store,
        reader=reader,
        publisher=publisher,
        runner=runner,
        clock=system_clock,
        steady=counted_from(system_clock, steady_clock),
        topic_ids=topic_ids,
        installation=installation,
        read_first=read_first,
        seed=seed,
        declarations=declarations,
        taken_away_by=(lambda: None) if watch is None else watch.by_ms,
        announce=_announce,
    )
    regional.resume()
    log.info("agent runs", extra={"fields": {"agent_id": agent_id, "regions": regions}})
    regional.step(0)
    announce_ready()
    if watch is not None:
        watch.begin()
    try:
        regional.run(stop.asked)
    finally:
        if watch is not None:
            watch.end()
        reader.close()
        publisher.close()
        if declarations is not None:
            declarations.close()
    log.info("agent stopped", extra={"fields": {"agent_id": agent_id}})


def _announce(words: str) -> None:
    """Tell the supervisor what is wrong, or that nothing is any more."""
    announce_trouble(words) if words else announce_ready()


def _connect(
    kafka: KafkaSettings, regions: list[RegionId], topics: list[str], store: AgentStore
) -> tuple[KafkaReader, KafkaPublisher, dict[str, str], dict[tuple[str, int], int], str]:
    # Whose cluster it is comes first: on another's, not even a topic is made.
    cluster = cluster_id(kafka)
    store.fence.bind({"cluster": cluster, "topic prefix": kafka.topic_prefix})
    ensure_topics(kafka, regions, [ASSIGNMENTS, STATUS, TELEMETRY, DEADLETTER])
    topic_ids = identities(kafka, topics)[1]
    status = [topic_name(STATUS, kafka.topic_prefix, region) for region in regions]
    partitions = topics_now(kafka, "|".join(map(re.escape, status))).partitions
    places = [(topic, partition) for topic in status for partition in range(partitions.get(topic, 0))]
    begins, ends = bounds_now(kafka, places)
    tails = {place: max(begins[place], end - TAIL_RECORDS) for place, end in ends.items()}
    reader = KafkaReader(
        kafka,
        topics=[*topics, *status],
        start=lambda topic, partition: (
            tails[topic, partition]
            if (topic, partition) in tails
            else store.fence.next_offset(topic, partition, topic_ids.get(topic, ""))
        ),
        client_id="thalweg-agent",
    )
    publisher = KafkaPublisher(kafka, timeout_ms=PUBLISH_TIMEOUT_MS, client_id="thalweg-agent", keeps_topics=True)
    read_first = {place: end for place, end in ends.items() if tails[place] < end}
    return reader, publisher, topic_ids, read_first, f"{cluster}/{kafka.topic_prefix}"


def _declarations(kafka: KafkaSettings, key: str | None) -> Declarations | None:
    """Read what is declared for the edge, from the beginning."""
    if key is None:
        return None
    ensure_topics(kafka, [], [REPLICA])
    topic = topic_name(REPLICA, kafka.topic_prefix)
    return Declarations(KafkaReader(kafka, topics=(topic,), client_id="thalweg-agent-edge"), key)


def _when_there(connect: Callable[[], _T], stop: Stop) -> _T | None:
    """Try until the broker answers; None when asked to stop first."""
    while not stop.asked():
        try:
            return connect()
        except BrokerUnavailableError as error:
            log.warning("waiting for the broker", extra={"fields": {"error": str(error)}})
            stop.wait(BROKER_WAIT_S)
    return None
