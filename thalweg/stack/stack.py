"""The local stack, supervised in one state folder: a broker, the streaming queries in one Spark, the tables' upkeep."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thalweg.conf.environment import JarSet, find_java, jar_paths
from thalweg.conf.readiness import beating
from thalweg.conf.settings import Settings
from thalweg.processes.children import ProcessSpec
from thalweg.processes.identity import ProcessIdentity
from thalweg.processes.ports import LOOPBACK, free_port
from thalweg.processes.supervisor import ProcessState, Supervisor
from thalweg.stack.broker import BrokerDoor, BrokerPorts, broker_spec, choose_ports
from thalweg.stack.leftovers import SUPERVISED_IN, end_leftovers
from thalweg.stack.process_table import supervisor_pulse, supervisor_trouble
from thalweg.stack.state import StateFolder, identity_in
from thalweg.stack.telling import AddressTold, Progress, StackFile, disk_told
from thalweg.sync.ledger.put_back import put_back_in

# Kafka's own port, where it is free: what has no word of the stack, such as a plain producer, tries it first.
KAFKA_PORTS = BrokerPorts(clients=9092, controller=9093)
# One JVM start, a warehouse to open, the queries: a fraction of this on an idle machine, much of it on a crowded one.
JOBS_READY_SECONDS = 180.0
# A micro-batch in flight may finish, then Spark stops.
JOBS_STOP_SECONDS = 30.0
# Most stacks have ended by then; who waits longer wants to know for what.
DOWN_SILENT_SECONDS = 5.0
_KNOWN_PORTS = (
    "kafka",
    "controller",
    "metrics",
    "metrics-place-1",
    "metrics-place-2",
    "metrics-centre",
    "metrics-rollouts",
)


def local_specs(
    folder: StateFolder, settings: Settings, overrides: Sequence[str], config: Path | None
) -> list[ProcessSpec]:
    """Prepare the broker's folder, choose ports, and return the stack's processes.

    Args:
        folder: Where everything of the stack lies.
        settings: As read; where they keep a default path, the path is put into the state folder.
        overrides: The ``--set`` items given, handed on to the jobs.
        config: The settings file given, handed on too.
    """
    drivers = ("place-1", "place-2") if settings.place.standby else ()
    return [
        local_broker(folder),
        local_jobs(folder, settings, overrides, config),
        *(local_jobs(folder, settings, overrides, config, name=name, module="place") for name in drivers),
        local_maintenance(folder, settings, overrides, config),
        *([local_centre(folder, settings, overrides, config)] if settings.federate.enabled else []),
        *(
            [local_jobs(folder, settings, overrides, config, name="rollouts", module="roll_out")]
            if settings.rollout.enabled
            else []
        ),
        *([local_window(folder, settings, overrides, config)] if settings.window.enabled else []),
    ]


def local_broker(folder: StateFolder, doors: Sequence[BrokerDoor] = ()) -> ProcessSpec:
    """Prepare the broker's folder and choose its ports: those it had, else Kafka's own, else others that are free.

    It has more ways in where `doors` are given. Free is what they are now. Whoever is faster to bind them has them, and
    this broker, which then ends, is made anew.
    """
    match folder.port("kafka"), folder.port("controller"):
        case int(clients), int(controller):
            ports = choose_ports(BrokerPorts(clients=clients, controller=controller))
        case _:
            ports = choose_ports(KAFKA_PORTS)
    folder.remember_ports({"kafka": ports.clients, "controller": ports.controller})
    spec = broker_spec(folder.path / "broker", ports, java=find_java(), jars=jar_paths(JarSet.BROKER), doors=doors)
    return replace(spec, again=lambda: local_broker(folder, doors))


def local_bootstrap(folder: StateFolder) -> str:
    """Return the address that the folder's broker was last given."""
    return f"{LOOPBACK}:{folder.port('kafka')}"


def local_jobs(
    folder: StateFolder,
    settings: Settings,
    overrides: Sequence[str],
    config: Path | None,
    *,
    name: str = "jobs",
    module: str = "local",
) -> ProcessSpec:
    """Return a process of jobs, which speaks to the broker where that is now; see `local_specs`.

    Args:
        folder: see there, as for the next three.
        settings: see there.
        overrides: see there.
        config: see there.
        name: of the process.
        module: its entry in `thalweg.jobs`.
    """
    metrics = "metrics" if name == "jobs" else f"metrics-{name}"
    taken = [port for other in _KNOWN_PORTS if other != metrics and (port := folder.port(other)) is not None]
    wanted = settings.metrics.port if name == "jobs" else 0
    metrics_port = wanted or free_port(preferred=folder.port(metrics), taken=taken)
    folder.remember_ports({metrics: metrics_port})
    return ProcessSpec(
        name=name,
        argv=_job(module, folder, settings, [*overrides, f"metrics.port={metrics_port}"], config),
        # Spark would listen on the machine's first network address; nothing local should be seen from outside.
        env={"SPARK_LOCAL_IP": LOOPBACK, "PYTHONUNBUFFERED": "1"},
        needs=("broker",),
        ports={metrics: metrics_port},
        announces_ready=True,
        ready_timeout_seconds=JOBS_READY_SECONDS,
        stop_timeout_seconds=JOBS_STOP_SECONDS,
        again=lambda: local_jobs(folder, settings, overrides, config, name=name, module=module),
    )


def local_maintenance(
    folder: StateFolder, settings: Settings, overrides: Sequence[str], config: Path | None
) -> ProcessSpec:
    """Return the process that looks after the tables; see `local_specs`.

    A process and no thread of the jobs': what it computes would hold up the queries' threads, and it needs no JVM.
    """
    return ProcessSpec(
        name="maintain",
        argv=_job("maintain", folder, settings, [*overrides, "metrics.port=0"], config),
        env={"PYTHONUNBUFFERED": "1"},
        needs=("jobs",),
        announces_ready=True,
    )


def local_centre(folder: StateFolder, settings: Settings, overrides: Sequence[str], config: Path | None) -> ProcessSpec:
    """Return the process that is the centre of learning; see `local_specs`. It needs no JVM."""
    named = settings.warehouse.path
    warehouse = str(folder.path / "warehouse") if named == Settings().warehouse.path else named
    payloads = settings.federate.payloads_of(warehouse)
    chosen = [*overrides, f"federate.payloads={payloads}"]
    return local_jobs(folder, settings, chosen, config, name="centre", module="federate")


def local_window(folder: StateFolder, settings: Settings, overrides: Sequence[str], config: Path | None) -> ProcessSpec:
    """Return the process of the page and the HTTP door, which the stack does without; see `local_specs`."""
    taken = [port for other in _KNOWN_PORTS if (port := folder.port(other)) is not None]
    port = settings.window.port or free_port(preferred=folder.port("window"), taken=taken)
    folder.remember_ports({"window": port})
    chosen = _chosen(folder, settings, [*overrides, f"window.port={port}"], config)
    return ProcessSpec(
        name="window",
        argv=(sys.executable, "-P", "-m", "thalweg.cli.main", "serve", *chosen),
        env={"PYTHONUNBUFFERED": "1"},
        needs=("broker",),
        ports={"window": port},
        announces_ready=True,
        may_fail=True,
        again=lambda: local_window(folder, settings, overrides, config),
    )


def _job(
    name: str, folder: StateFolder, settings: Settings, overrides: Sequence[str], config: Path | None
) -> tuple[str, ...]:
    """Write the command of a job that speaks to the folder's broker and keeps its things in the folder."""
    return (sys.executable, "-P", "-m", f"thalweg.jobs.{name}", *_chosen(folder, settings, overrides, config))


def _chosen(folder: StateFolder, settings: Settings, overrides: Sequence[str], config: Path | None) -> list[str]:
    chosen = [f"kafka.bootstrap_servers={local_bootstrap(folder)}"]
    defaults = Settings()
    if settings.warehouse.path == defaults.warehouse.path:
        chosen.append(f"warehouse.path={folder.path / 'warehouse'}")
    if settings.spark.checkpoints == defaults.spark.checkpoints:
        chosen.append(f"spark.checkpoints={folder.path / 'checkpoints'}")
    arguments = ["--config", str(config.absolute())] if config else []
    for item in [*overrides, *chosen]:
        arguments += ["--set", item]
    return arguments


@contextlib.contextmanager
def running(
    folder: StateFolder,
    make_specs: Callable[[], Sequence[ProcessSpec]],
    *,
    say: Callable[[str], None],
) -> Iterator[Supervisor]:
    """Be the folder's supervisor for the length of a ``with``; at the end everything is stopped in order.

    The caller ticks. Nothing is started before the first tick.

    Args:
        folder: Whose stack it is.
        make_specs: Called once the folder is ours and nothing of an earlier stack runs any more.
        say: Told what a person should know.

    Raises:
        StateFolderError: Another supervisor runs in this folder.
    """
    with folder.held():
        folder.check_whole(folder.path)
        if put_back := put_back_in(folder.path / "warehouse"):
            say(f"Restored: {put_back.sentence}.")
        if ended := end_leftovers(folder):
            say(f"The last stack in {folder.path} was cut off; ended what was left of it: {', '.join(ended)}.")
        scratch = folder.path / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        shared = {"THALWEG_STATE": str(folder.path), **scratch_environment(scratch, os.environ)}
        shared[SUPERVISED_IN] = str(folder.path)
        last_port = folder.port("kafka")
        with folder.usable():
            scratch.mkdir()
            specs = [_with_environment(spec, shared) for spec in make_specs()]
        supervisor = Supervisor(specs, folder.path / "logs")
        address = AddressTold(last_port, say)

        def changed() -> None:
            folder.write_stack(record_of(supervisor))
            address.look(folder.port("kafka"))

        supervisor.on_change = StackFile(changed, say).write
        supervisor.on_disk = disk_told(say)
        supervisor.on_change()
        with beating(supervisor_pulse(folder.path)):
            try:
                yield supervisor
            finally:
                if killed := supervisor.stop():
                    say(f"Did not end when asked and were killed: {', '.join(killed)}.")
                shutil.rmtree(scratch, ignore_errors=True)


def _with_environment(spec: ProcessSpec, shared: Mapping[str, str]) -> ProcessSpec:
    again = spec.again
    return replace(
        spec,
        env={**shared, **spec.env},
        again=None if again is None else lambda: _with_environment(again(), shared),
    )


def scratch_environment(scratch: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what sends the temporary files of Python, Spark and its JVM into a folder.

    A JVM leaves what it unpacked and Spark its working folders when they are killed, and some of it always: here the
    supervisor clears it away.
    """
    options = (environ.get("SPARK_SUBMIT_OPTS"), f'-Djava.io.tmpdir="{scratch}"', f'-Dspark.local.dir="{scratch}"')
    return {"TMPDIR": str(scratch), "SPARK_SUBMIT_OPTS": " ".join(filter(None, options))}


def record_of(supervisor: Supervisor) -> dict[str, object]:
    """Return what stack.json says of a supervisor and its processes."""
    own = ProcessIdentity.own()
    return {
        "supervisor": {"pid": own.pid, "started": own.started},
        "processes": [
            {
                "name": process.spec.name,
                "state": process.state,
                "pid": process.identity.pid if process.identity else None,
                "started": process.identity.started if process.identity else None,
                "ports": dict(process.spec.ports),
                "restarts": process.restarts,
                "may_fail": process.spec.may_fail,
                "last_failure": process.last_failure,
                "log": str(process.log),
            }
            for process in supervisor.processes.values()
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """Asked to stop from outside: by Ctrl-C, a signal, or a closed terminal."""

    signals: list[int]

    @classmethod
    def on_signals(cls) -> "Interruption":
        """Let SIGINT, SIGTERM and SIGHUP ask; asked again, the process ends at once, and its children with it."""
        interruption = cls(signals=[])

        def ask(signum: int, _frame: object) -> None:
            interruption.signals.append(signum)
            if len(interruption.signals) > 1:
                if os.isatty(sys.stderr.fileno()):
                    os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the cursor, which a live picture had hidden
                os._exit(128 + signum)

        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, ask)
        return interruption

    def asked(self) -> bool:
        """Tell whether somebody asked."""
        return bool(self.signals)


class UnwellError(Exception):
    """The stack was stopped as asked, and was not well."""

    def __init__(self, unwell: Sequence[str]) -> None:
        super().__init__(f"when it was stopped, this did not do its work: {'; '.join(unwell)}")


def up(
    folder: StateFolder,
    make_specs: Callable[[], Sequence[ProcessSpec]],
    *,
    say: Callable[[str], None],
    interruption: Interruption,
) -> None:
    """Run a stack until asked to stop.

    Raises:
        ChildFailedError: A process was given up; the rest was stopped.
        UnwellError: When it was asked to stop, a process ran and did not do its work.
        StateFolderError: Another stack runs in this folder.
    """
    started = time.monotonic()
    with running(folder, make_specs, say=say) as supervisor:
        supervisor.on_progress = Progress(say, time.monotonic).told
        say(f"Starting {', '.join(supervisor.processes)}; the first time takes minutes.")
        if supervisor.wait_ready(interrupted=interruption.asked):
            ports = {name: port for child in supervisor.processes.values() for name, port in child.spec.ports.items()}
            told = ", ".join(f"{name} {LOOPBACK}:{port}" for name, port in ports.items())
            say(f"Ready after {time.monotonic() - started:.1f} s: {told}. Logs: {folder.path / 'logs'}")
        while not interruption.asked():
            supervisor.tick()
            supervisor.raise_if_failed()
            time.sleep(0.2)
        unwell = [
            f"{name} ({one.last_failure})"
            for name, one in supervisor.processes.items()
            if one.is_failing and not one.spec.may_fail
        ]
        say("Stopping.")
    say("Stopped.")
    if unwell:
        raise UnwellError(unwell)


def up_in_background(
    command: Sequence[str], folder: StateFolder, *, timeout_seconds: float, say: Callable[[str], None]
) -> str | None:
    """Start a stack in a process of its own, pass on what it says, and wait until it is ready.

    Args:
        command: The command that runs it in the foreground.
        folder: Where it will run.
        timeout_seconds: How long to wait.
        say: Told what a person should know.

    Returns:
        None when it is ready, else what happened instead.
    """
    log = folder.path / "logs" / "supervisor.log"
    # Another one may begin, or run, at the same time: the log is the one's that holds the folder.
    own = log.with_name(f"{log.name}.{uuid.uuid4().hex[:8]}")
    with folder.usable():
        log.parent.mkdir(parents=True, exist_ok=True)
        with own.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
    try:
        return _until_ready(process, folder, own, timeout_seconds=timeout_seconds, say=say)
    finally:
        if process.poll() is None:
            own.replace(log)
        else:
            own.unlink()


def _until_ready(
    process: subprocess.Popen[bytes],
    folder: StateFolder,
    own: Path,
    *,
    timeout_seconds: float,
    say: Callable[[str], None],
) -> str | None:
    told, deadline, last = 0, time.monotonic() + timeout_seconds, ""
    while time.monotonic() < deadline:
        ended, text = process.poll() is not None, own.read_bytes()[told:]
        # What it ends with is said by who called it, once.
        news, *error = re.split(rb"^Error: ", text, maxsplit=1, flags=re.MULTILINE)
        if ended:  # its last words may have been read while it was still about to end
            *lines, end = news.decode(errors="replace").splitlines() or [""]
            if error:
                lines, end = [*lines, end] if end else lines, error[0].decode(errors="replace")
            for line in lines:
                say(line)
            return end.strip() or last or f"it ended with {process.returncode} and said nothing"
        whole = news[: news.rfind(b"\n") + 1]
        told += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            say(line)
            last = line
        supervisor = folder.supervisor()
        processes = folder.stack().get("processes", [])
        states = [process["state"] for process in processes if not process.get("may_fail")]
        if supervisor is not None and supervisor.pid == process.pid and states and set(states) == {"ready"}:
            return None
        time.sleep(0.1)
    unwell = ", ".join(
        f"{process['name']} is {process['state']}" + (f" ({told})" if (told := process.get("last_failure")) else "")
        for process in folder.stack().get("processes", [])
        if process["state"] != ProcessState.READY and not process.get("may_fail")
    )
    seen = f": {unwell}" if unwell else ""
    return f"Not ready after {timeout_seconds:.0f} s{seen}; it goes on trying. See: thalweg ps, {folder.path / 'logs'}"


def down(folder: StateFolder, *, timeout_seconds: float, say: Callable[[str], None]) -> list[str]:
    """End the folder's stack, in order if it can be had, else hard.

    Args:
        folder: Whose stack.
        timeout_seconds: How long it may take to end in order.
        say: Told what is waited for, where that takes a while.

    Returns:
        What was done, in words; empty if nothing ran.
    """
    done = []
    supervisor = folder.supervisor()
    if folder.is_held() and supervisor is not None and supervisor.is_alive():
        os.kill(supervisor.pid, signal.SIGTERM)
        asked, told = time.monotonic(), False
        while folder.is_held() and (waited := time.monotonic() - asked) < timeout_seconds:
            if waited >= DOWN_SILENT_SECONDS and not told:
                told = True
                trouble = supervisor_trouble(folder)
                why = f" The {trouble.what}: {trouble.seen}." if trouble else ""
                say(
                    f"Waiting for supervisor {supervisor.pid} to end its processes in order; after"
                    f" {timeout_seconds:.0f} s they are killed.{why}"
                )
            time.sleep(0.1)
        if folder.is_held():
            os.kill(supervisor.pid, signal.SIGKILL)
            done.append(f"the supervisor ({supervisor.pid}) did not end within {timeout_seconds:.0f} s and was killed")
        else:
            done.append(f"ended the stack of supervisor {supervisor.pid} in order")
    if not folder.is_held() and (ended := end_leftovers(folder)):
        done.append(f"killed what a cut-off stack had left: {', '.join(ended)}")
    return done


def running_bootstrap(folder: Path) -> str | None:
    """Return the address of the broker that runs in a state folder now, or None.

    One that was not ready yet does not count: until then its port may be another's.
    """
    if not (folder / "stack.json").exists():
        return None
    for process in StateFolder(folder, only_look=True).stack().get("processes", []):
        identity = identity_in(process)
        was_ready = process.get("state") in (ProcessState.READY, ProcessState.FAILING)
        if process.get("name") == "broker" and was_ready and identity is not None and identity.is_alive():
            return f"{LOOPBACK}:{process['ports']['kafka']}"
    return None
