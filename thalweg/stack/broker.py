"""A real Apache Kafka broker as a child process, from the locked jars: a node and its own controller."""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from thalweg.conf.class_archive import archive_flags
from thalweg.conf.environment import CONF, JarSet, Java, find_java, jar_paths, utf8_locale
from thalweg.processes.children import Child, ChildFailedError, NeverReadyError, ProcessSpec, RestartPolicy
from thalweg.processes.ports import LOOPBACK, accepts_connections, free_port, keep, let_go

SERVER_PROPERTIES = CONF / "broker" / "server.properties"
LOG4J_PROPERTIES = CONF / "broker" / "log4j2.properties"

# Takes a second on an idle machine; a disk that others write to at full rate can hold it up for a minute.
FORMAT_SECONDS = 180.0

JVM_FLAGS = (
    # A quiet broker lives in 220 MB; 512 MB of heap carry the rates of two cores, the page cache does the rest.
    "-Xms256m",
    "-Xmx512m",
    # On two cores a concurrent collector competes with Spark; a serial pause over so small a heap is a few ms.
    "-XX:+UseSerialGC",
    # The optimising compiler costs more CPU in a stack's first minutes than it saves: the kernel does the work.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # a broker that lost a thread answers strangely; a dead one is started again
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={LOG4J_PROPERTIES}",
)


CLUSTER_ID = "cluster.id"
"""A file in a broker's folder: the cluster id that its storage is made with, where that is not a new one."""


class BrokerSetupError(Exception):
    """The broker's storage could not be made; the message carries Kafka's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPorts:
    """Where the broker listens: for clients, and for its own controller."""

    clients: int
    controller: int

    @property
    def bootstrap(self) -> str:
        """Return the address clients connect to first."""
        return f"{LOOPBACK}:{self.clients}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerDoor:
    """One more way in, for clients that reach the broker through something that listens elsewhere."""

    name: str
    """Letters and digits."""
    listens: int
    told: int
    """The port that the broker tells its clients to use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which of some nodes a broker is that keep copies of each other's records (`thalweg.stack.brokers`)."""

    number: int
    """From 1 on."""
    controllers: Mapping[int, int]
    """Port of every node's controller, by its number: all of them vote."""
    cluster: str
    """Their cluster's id."""

    @property
    def copies(self) -> int:
        """Return how many copies there are of what the brokers keep for themselves."""
        return len(self.controllers)


def choose_ports(preferred: BrokerPorts | None = None) -> BrokerPorts:
    """Return two free ports, the preferred ones where they still are."""
    clients = free_port(preferred=preferred.clients if preferred else None)
    controller = free_port(preferred=preferred.controller if preferred else None, taken=[clients])
    return BrokerPorts(clients=clients, controller=controller)


def broker_spec(
    folder: Path,
    ports: BrokerPorts,
    *,
    java: Java,
    jars: list[Path],
    doors: Sequence[BrokerDoor] = (),
    archived: bool = True,
    member: Membership | None = None,
) -> ProcessSpec:
    """Prepare a broker's folder and return the process to run.

    What an earlier broker wrote in the folder is kept: topics, records, group offsets. The ports may differ.

    Args:
        folder: The broker's own: settings and records.
        ports: Where to listen.
        java: The runtime.
        jars: The whole class path.
        doors: Further ways in.
        archived: Map its classes from their archive, where there is one; False for who makes that archive, as a JVM
            that maps one cannot write another.
        member: Which of several it is; None for one that is alone.

    Raises:
        BrokerSetupError: Kafka refused to make its storage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "records"
    scratch = folder / "scratch"  # for the libraries that a JVM unpacks, and leaves when it is killed
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    properties = folder / "server.properties"
    properties.write_text(server_properties(ports, records, doors, member), encoding="utf-8")
    mapped = archive_flags(JarSet.BROKER, java) if archived else ()
    flags = (*JVM_FLAGS, *mapped, f"-Djava.io.tmpdir={scratch}")
    command = (str(java.executable), *flags, "-cp", ":".join(map(str, jars)))
    if not (records / "meta.properties").exists():
        _format_storage(command, ports, records, member)
    number = member.number if member is not None else None
    return ProcessSpec(
        name="broker" if number is None else f"broker-{number}",
        argv=(*command, "kafka.Kafka", str(properties)),
        env=utf8_locale(),
        ports={"kafka": ports.clients, "controller": ports.controller},
        is_ready=lambda: answers(ports, cluster_id(folder), number),
        # A port that another process took first is the one failure that starting again, elsewhere, mends.
        restart=RestartPolicy(max_restarts_before_ready=3),
    )


def cluster_id(folder: Path) -> str | None:
    """Return the cluster id of the broker whose folder this is, as its storage has it; None before it was made."""
    try:
        text = (folder / "records" / "meta.properties").read_text(encoding="utf-8")
    except OSError:
        return _told_cluster_id(folder)
    lines = (line.partition("=") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "cluster.id"), None)


def _told_cluster_id(folder: Path) -> str | None:
    """Read which cluster a broker is to be that has no storage yet: one whose records were not restored."""
    try:
        return (folder / CLUSTER_ID).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def server_properties(
    ports: BrokerPorts, records: Path, doors: Sequence[BrokerDoor] = (), member: Membership | None = None
) -> str:
    """Return the broker's settings: the project's, and where this one listens and writes."""
    listens = {"LOCAL": ports.clients, **{door.name: door.listens for door in doors}}
    told = {"LOCAL": ports.clients, **{door.name: door.told for door in doors}}
    return (
        SERVER_PROPERTIES.read_text(encoding="utf-8")
        + (
            "\n# Chosen at start.\n"
            f"listeners={_addresses({**listens, 'CONTROLLER': ports.controller})}\n"
            f"advertised.listeners={_addresses(told)}\n"
            f"listener.security.protocol.map={','.join(f'{name}:PLAINTEXT' for name in ('CONTROLLER', *listens))}\n"
            f"controller.quorum.voters={_voters(member.controllers if member is not None else {1: ports.controller})}\n"
            f"log.dirs={_property(records)}\n"
        )
        + ("" if member is None else _among_several(member))
    )


def _voters(controllers: Mapping[int, int]) -> str:
    return ",".join(f"{number}@{LOOPBACK}:{port}" for number, port in sorted(controllers.items()))


def _among_several(member: Membership) -> str:
    """Settings of one of several: what the brokers keep for themselves has a copy on each, and outlives one of them."""
    enough = member.copies // 2 + 1
    copied = ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return (
        f"node.id={member.number}\n"
        + "".join(f"{name}.replication.factor={member.copies}\n" for name in copied)
        + f"transaction.state.log.min.isr={enough}\nshare.coordinator.state.topic.min.isr={enough}\n"
    )


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


def _property(path: Path) -> str:
    """Write a path as a value of a Java properties file, which is Latin-1 and has escapes."""
    text = str(path).replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    units = [text[at : at + 2] for at in range(0, len(text), 2)]
    return "".join(chr(unit[1]) if unit < b"\0\x7f" else f"\\u{unit.hex()}" for unit in units)


def _format_storage(
    command: tuple[str, ...], ports: BrokerPorts, records: Path, member: Membership | None = None
) -> None:
    # Made beside and moved into place, so that a kill in the middle leaves nothing that looks finished.
    fresh = records.with_name("records.new")
    shutil.rmtree(fresh, ignore_errors=True)
    properties = records.with_name("format.properties")
    properties.write_text(server_properties(ports, fresh, (), member), encoding="utf-8")
    own_id = member.cluster if member is not None else _told_cluster_id(records.parent) or new_cluster_id()
    try:
        made = subprocess.run(
            [*command, "kafka.tools.StorageTool", "format", "-t", own_id, "-c", str(properties)],
            env={**os.environ, **utf8_locale()},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: what was begun is finished or, at a second one, left
            capture_output=True,
            text=True,
            timeout=FORMAT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerSetupError(
            f"Kafka did not make its storage in {records} within {FORMAT_SECONDS:.0f} s; is the disk or the machine"
            " very busy? Try again."
        ) from error
    if made.returncode != 0:
        raise BrokerSetupError(f"Kafka could not make its storage in {records}: {made.stderr or made.stdout}")
    properties.unlink()
    if records.exists():  # without meta.properties it is no broker's: empty, or somebody else's
        if any(records.iterdir()):
            raise BrokerSetupError(
                f"{records} holds files but no meta.properties, so no broker wrote them. Move the folder away."
            )
        records.rmdir()
    fresh.rename(records)


def new_cluster_id(draw: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """Return an id as Kafka wants it: 16 bytes in base64, and never one that a command would take for an option."""
    while (candidate := base64.urlsafe_b64encode(draw().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return candidate


def answers(ports: BrokerPorts, own_cluster: str | None, number: int | None = None) -> bool:
    """Tell whether the broker serves clients now; listening alone comes a little earlier.

    Args:
        ports: Where it listens.
        own_cluster: Whose it is.
        number: Its own among several; None for one that is alone.

    Raises:
        NeverReadyError: Another cluster's broker answers there.
    """
    if not accepts_connections(ports.clients):
        return False
    # Imported late: it costs a third of a second, and every command that looks for a running stack imports this module.
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    from thalweg.streams.broker.home import HOMES

    try:
        admin = KafkaAdminClient(bootstrap_servers=ports.bootstrap, bootstrap_timeout_ms=2000, request_timeout_ms=2000)
    except KafkaError:
        return False
    try:
        described = admin.describe_cluster()
    except KafkaError:
        return False
    finally:
        admin.close()
    if described["cluster_id"] != own_cluster:
        raise NeverReadyError(
            f"{ports.bootstrap} is answered by cluster {described['cluster_id']}, not by this stack's {own_cluster}"
        )
    HOMES.settle(ports.bootstrap, described["cluster_id"])
    own = [broker for broker in described["brokers"] if number is None or broker["broker_id"] == number]
    return any(not broker["is_fenced"] for broker in own)


class Broker:
    """A broker for the length of a ``with``; its records stay in the folder and are there again the next time."""

    def __init__(
        self,
        folder: Path,
        *,
        java: Java | None = None,
        jars: list[Path] | None = None,
        doors: Sequence[BrokerDoor] = (),
    ) -> None:
        """Remember where; nothing starts yet. Java and the jars default to the environment's."""
        self._doors = doors
        self._folder = folder
        self._java = java or find_java()
        self._jars = jars if jars is not None else jar_paths(JarSet.BROKER)
        self._ports: BrokerPorts | None = None
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """Return the address clients connect to; it stays the same over restarts."""
        if self._ports is None:
            raise RuntimeError("The broker was never started; call start() first.")
        return self._ports.bootstrap

    @property
    def pid(self) -> int:
        """Return the process id."""
        if self._child is None:
            raise RuntimeError("The broker does not run; call start() first.")
        return self._child.pid

    def start(self) -> None:
        """Start and wait until clients are served; on other ports where somebody else took the chosen ones first.

        Raises:
            ChildFailedError: It ended or was not ready in time.
            BrokerSetupError: Its storage could not be made.
        """
        ports = choose_ports(self._ports)
        while True:
            self._ports = ports
            keep(ports.clients, ports.controller)
            spec = broker_spec(self._folder, ports, java=self._java, jars=self._jars, doors=self._doors)
            self._child = Child(spec, self._folder / "broker.log")
            try:
                self._child.wait_ready()
                return
            except ChildFailedError:
                self.stop()
                ports = choose_ports(self._ports)
                if ports == self._ports:  # nobody took them, so they were not what failed
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the broker in order; it keeps its records."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End the broker as a power cut would, for tests of recovery."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._ports is not None:
            let_go(self._ports.clients, self._ports.controller)
