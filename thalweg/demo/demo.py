"""The demo: the whole system on one machine, fed with published figures, counted by a bystander, ended in order.

Broker, jobs and agents are the real ones, as supervised processes in a state folder of the demo's own, which is made
anew each time. The demo itself only sends messages and reads topics, tables and the agents' files.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from thalweg.agent.figures import Figures
from thalweg.agent.fleet import NodeSpec, RegionFleet, simulated_fleet
from thalweg.audit.accounts import AgentBooks, Books, SentRequests, balance, read_agents, replay
from thalweg.audit.watch import Watcher, requested_tasks
from thalweg.conf.settings import KafkaSettings, Settings
from thalweg.demo.load import Message, MessageKind
from thalweg.processes.children import ProcessSpec
from thalweg.processes.supervisor import ProcessState, Supervisor
from thalweg.query.sql.query import query
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import RegionId
from thalweg.stack import stack
from thalweg.stack.logs import newest_error
from thalweg.stack.state import StateFolder
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, Publisher
from thalweg.streams.contract.envelope import Envelope, content_id, write_headers
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, topic_name

TICK_S: Final = 0.02
FIRST_TASKS: Final = 8
"""Sent before placement is ready, so that there is something to assign at once; the rest begins with the first
assignment, from which the demo's time is counted."""

PUBLISH_TIMEOUT_MS: Final = 4_000
"""Short, because the thread that publishes supervises too: a broker that died is started again after that."""

START_LIMIT_S: Final = 240.0
DRAIN_LIMIT_S: Final = 60.0


class DemoFailedError(Exception):
    """The demo could not do what it is there for; the message says where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """What to show."""

    seconds: float
    """From the first assignment; infinite goes on until interrupted."""
    regions: Sequence[str]
    messages: Iterator[Message]
    source: str
    """Where the demand comes from, in words."""
    time_scale: float
    """Simulated seconds per real second."""
    nodes: int | None = None
    failure_share: float = 0.01
    seed: int = 0
    agent_processes: int = 2
    overrides: Sequence[str] = ()
    """`--set` items for the jobs and the agents."""
    config: Path | None = None
    """Settings file for them."""


class Screen(Protocol):
    """Where the demo is shown."""

    def say(self, message: str) -> None:
        """Show one line of progress."""

    def show(self, demo: "Demo") -> None:
        """Draw the present state, if it is time."""


@dataclass(slots=True, kw_only=True)
class Sent:
    """What was sent."""

    tasks: set[str] = field(default_factory=set)
    malformed: set[str] = field(default_factory=set)
    cancels: int = 0
    repeated: int = 0


class Demo:
    """One run."""

    def __init__(
        self,
        plan: DemoPlan,
        *,
        folder: StateFolder,
        settings: Settings,
        figures: Figures,
        screen: Screen,
        clock: Callable[[], int],
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.settings = settings
        self.screen = screen
        self.clock = clock
        self.sent = Sent()
        self.fleets: dict[str, RegionFleet] = {
            region: simulated_fleet(RegionId(region), figures, nodes=plan.nodes) for region in plan.regions
        }
        self.started_s = time.monotonic()
        self.streaming_since_s: float | None = None
        self.streamed_s = 0.0
        self.watcher: Watcher | None = None
        self._unsent: list[OutgoingRecord] = []
        self._progress: dict[str, str] = {}

    # Set-up

    def specs(self) -> list[ProcessSpec]:
        """Clear the folder, which is ours and in which nothing runs, and say what is to run."""
        for name in ("broker", "warehouse", "checkpoints", "agents", "logs"):
            shutil.rmtree(self.folder.path / name, ignore_errors=True)
        specs = stack.local_specs(self.folder, self.settings, self.plan.overrides, self.plan.config)
        return [*specs, *(self._agent_spec(number) for number in range(self.plan.agent_processes))]

    def _agent_spec(self, number: int) -> ProcessSpec:
        argv = [sys.executable, "-P", "-m", "thalweg.cli.main", "agent"]
        for region in self.plan.regions[number :: self.plan.agent_processes]:
            argv += ["--region", region]
        argv += ["--state", str(self.agent_folder(number)), "--time-scale", str(self.plan.time_scale)]
        argv += ["--failure-share", str(self.plan.failure_share), "--seed", str(self.plan.seed)]
        argv += ["--nodes", str(self.plan.nodes)] if self.plan.nodes else []
        argv += ["--config", str(self.plan.config.absolute())] if self.plan.config else []
        for item in (*self.plan.overrides, f"kafka.bootstrap_servers={self.kafka.bootstrap_servers}"):
            argv += ["--set", item]
        return ProcessSpec(
            name=f"agents-{number + 1}",
            argv=tuple(argv),
            needs=("broker",),
            announces_ready=True,
            again=lambda: self._agent_spec(number),
        )

    def agent_folder(self, number: int) -> Path:
        """Folder of one agent process."""
        return self.folder.path / "agents" / str(number + 1)

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach the broker, at the address it was last given."""
        return self.settings.kafka.model_copy(update={"bootstrap_servers": stack.local_bootstrap(self.folder)})

    @property
    def warehouse(self) -> str:
        """Where the tables are."""
        return str(self.folder.path / "warehouse")

    def elapsed_s(self) -> float:
        """Seconds since the demo was called."""
        return time.monotonic() - self.started_s

    # The run

    def run(self, supervisor: Supervisor, interrupted: Callable[[], bool]) -> dict[str, Any]:
        """Start, stream, drain, and return the document.

        Raises:
            DemoFailedError: no assignment arrived in time.
            ChildFailedError: a process was given up.
        """
        self._wait_for_broker(supervisor, interrupted)
        made = ensure_topics(self.kafka, self.plan.regions)
        self._say(f"broker ready on {self.kafka.bootstrap_servers}, {counted(len(made), 'topic')} made")
        self.watcher = Watcher(self.kafka, self.clock)
        self.watcher.start()
        with KafkaPublisher(self.kafka, timeout_ms=PUBLISH_TIMEOUT_MS, client_id="thalweg-demo") as publisher:
            first = list(islice(self.plan.messages, FIRST_TASKS))
            self._send(publisher, first)
            self._until_first_assignment(supervisor, interrupted)
            self._stream(supervisor, publisher, interrupted)
            self._say("asked to stop, again to stop at once: draining" if interrupted() else "time is over: draining")
            drained = self._drain(supervisor, publisher)
        self.watcher.stop()
        return self._document(drained)

    def _wait_for_broker(self, supervisor: Supervisor, interrupted: Callable[[], bool]) -> None:
        self._say("starting the broker, the jobs and the agents")
        while supervisor.processes["broker"].state is not ProcessState.READY:
            _go_on_unless(interrupted)
            supervisor.tick()
            supervisor.raise_if_failed()
            time.sleep(TICK_S)

    def _until_first_assignment(self, supervisor: Supervisor, interrupted: Callable[[], bool]) -> None:
        told: set[str] = {"broker"}
        while self.watching.first_assignment_s is None:
            _go_on_unless(interrupted)
            supervisor.tick()
            supervisor.raise_if_failed()
            for process in supervisor.processes.values():
                if process.state is ProcessState.READY and process.spec.name not in told:
                    told.add(process.spec.name)
                    self._say(f"{process.spec.name} ready")
            self._say_progress(supervisor)
            if time.monotonic() - supervisor.moved_seconds() > START_LIMIT_S:
                raise DemoFailedError(self._standing_still(supervisor))
            self.screen.show(self)
            time.sleep(TICK_S)
        self.streaming_since_s = self.watching.first_assignment_s
        self._say(f"first assignment {self.streaming_since_s - self.started_s:.1f} s after the command")

    def _say_progress(self, supervisor: Supervisor) -> None:
        for name, process in supervisor.processes.items():
            if process.progress != self._progress.get(name, ""):
                self._progress[name] = process.progress
                if process.progress:  # else it is over
                    self._say(f"{name}: {process.progress}")

    def _standing_still(self, supervisor: Supervisor) -> str:
        """Say what was waited for, and where to look."""
        states = ", ".join(f"{name} {process.state}" for name, process in supervisor.processes.items())
        logs = self.folder.path / "logs"
        newest = newest_error(logs)
        error = f"the newest error is: {newest}" if newest else "no log has an error"
        return (
            f"no assignment came, and nothing has moved for {START_LIMIT_S:.0f} s ({states}); {error}. Look into "
            f"{logs}, give the machine a core to spare, and start again: what is compiled stays"
        )

    def _stream(self, supervisor: Supervisor, publisher: Publisher, interrupted: Callable[[], bool]) -> None:
        """Send what is due until the time is over, or somebody wants to stop."""
        assert self.streaming_since_s is not None
        begin = time.monotonic()
        offset_s: float | None = None
        upcoming = next(self.plan.messages, None)
        while (now := time.monotonic()) - self.streaming_since_s < self.plan.seconds and not interrupted():
            supervisor.tick()
            supervisor.raise_if_failed()
            due: list[Message] = []
            while upcoming is not None:
                offset_s = upcoming.due_s if offset_s is None else offset_s
                if upcoming.due_s - offset_s > now - begin:
                    break
                due.append(upcoming)
                upcoming = next(self.plan.messages, None)
            self._send(publisher, due)
            self.screen.show(self)
            time.sleep(max(0.0, TICK_S - (time.monotonic() - now)))
        self.streamed_s = time.monotonic() - self.streaming_since_s

    def _send(self, publisher: Publisher, messages: Sequence[Message]) -> None:
        now_ms = self.clock()
        topic = topic_name(REQUESTS, self.kafka.topic_prefix)
        for message in messages:
            value = message.value(now_ms)
            event = Envelope(
                event_id=content_id("request", value), source="/thalweg/demo", event_type="request", time_ms=now_ms
            )
            self._unsent.append(
                OutgoingRecord(topic=topic, key=message.task_id.encode(), value=value, headers=write_headers(event))
            )
            match message.kind:
                case MessageKind.TASK:
                    self.sent.tasks.add(message.task_id)
                case MessageKind.MALFORMED:
                    self.sent.malformed.add(message.task_id)
                case MessageKind.CANCEL:
                    self.sent.cancels += 1
                case MessageKind.REPEATED:
                    self.sent.repeated += 1
        try:
            publisher.publish(self._unsent)
            self._unsent.clear()
        except NotAcknowledgedError as error:
            # Sent again with the next ones: the place job knows a request that it has already.
            self._say(f"the broker does not answer: {counted(error.unacknowledged, 'request waits', 'requests wait')}")

    # The end

    def _drain(self, supervisor: Supervisor, publisher: Publisher) -> bool:
        """Let the ledger take in every request, stop the jobs, let the agents read every event; False if too slow."""
        done = self._within(supervisor, lambda: self._all_requests_sent(publisher) and self._all_requests_taken())
        jobs = supervisor.processes["jobs"]
        if jobs.child is not None:
            jobs.child.stop()
            jobs.child, jobs.identity, jobs.state = None, None, ProcessState.STOPPED
        self._say("jobs stopped; the agents read what is left")
        return self._within(supervisor, self._all_events_read) and done

    def _within(self, supervisor: Supervisor, condition: Callable[[], bool]) -> bool:
        left_s = DRAIN_LIMIT_S
        last_s = time.monotonic()
        while not condition():
            supervisor.tick()
            supervisor.raise_if_failed()
            now_s = time.monotonic()
            # A process that was killed meanwhile is given the time it needs to be back.
            if all(
                process.state in (ProcessState.READY, ProcessState.FAILING, ProcessState.STOPPED)
                or process.spec.may_fail
                for process in supervisor.processes.values()
            ):
                left_s -= now_s - last_s
            if left_s <= 0:
                return False
            last_s = now_s
            self.screen.show(self)
            time.sleep(0.3)
        return True

    def _all_requests_sent(self, publisher: Publisher) -> bool:
        self._send(publisher, [])  # what a broker that was away has not acknowledged
        return not self._unsent

    def _all_requests_taken(self) -> bool:
        taken = query("SELECT task_id FROM decisions WHERE transition = 'submitted'", self.warehouse).rows
        with self.watching.lock:
            refused = {key for key, _ in self.watching.refused_requests}
        return self.sent.tasks <= set(taken.column("task_id").to_pylist()) and self.sent.malformed <= refused

    def _all_events_read(self) -> bool:
        ends = self.assignment_records()
        books = self.agent_books()
        with self.watching.lock:
            watched = {
                region: self.watching.regions[region].records for region in ends if region in self.watching.regions
            }
        return (
            books.unsent == 0
            and all(books.read.get(region, 0) == count for region, count in ends.items())
            and all(watched.get(region, 0) == count for region, count in ends.items())
        )

    def assignment_records(self) -> dict[str, int]:
        """Records on each region's assignments topic, as the broker counts them."""
        topics = {topic_name(ASSIGNMENTS, self.kafka.topic_prefix, region): region for region in self.plan.regions}
        with KafkaReader(self.kafka, topics=topics) as reader:
            return {topics[topic]: end for (topic, _), end in reader.end_offsets().items()}

    def agent_books(self) -> AgentBooks:
        """What the agents' files say now."""
        return read_agents(self.agent_folder(number) for number in range(self.plan.agent_processes))

    def _document(self, drained: bool) -> dict[str, Any]:
        agents = self.agent_books()
        watcher = self.watching
        nodes: dict[tuple[str, str], NodeSpec] = {
            (region, node_id): node for region, fleet in self.fleets.items() for node_id, node in fleet.nodes.items()
        }
        records = self.assignment_records()
        ledger = replay(self.warehouse, nodes)
        of_others = ledger.states.keys() - self.sent.tasks
        books = balance(
            earlier=ledger,
            topic_event_ids=watcher.event_ids,
            topic_records=records,
            agents=agents,
            later=ledger,
            asked=SentRequests(
                tasks=self.sent.tasks,
                malformed=self.sent.malformed,
                refused={key for key, _ in watcher.refused_requests},
                of_others=of_others & requested_tasks(self.kafka) if of_others else set(),
            ),
        )
        return document(self, books, agents, sum(records.values()), len(of_others), drained)

    @property
    def watching(self) -> Watcher:
        """The bystander; there is one from the moment the broker is ready."""
        assert self.watcher is not None
        return self.watcher

    def _say(self, message: str) -> None:
        self.screen.say(f"[{self.elapsed_s():6.1f} s] {message}")


def _go_on_unless(interrupted: Callable[[], bool]) -> None:
    if interrupted():
        raise DemoFailedError("interrupted before the first assignment")


def document(
    demo: Demo, books: Books, agents: AgentBooks, events_sent: int, of_others: int, drained: bool
) -> dict[str, Any]:
    """Say in figures what happened (formats.md, `thalweg demo`)."""
    since = demo.streaming_since_s
    assert since is not None
    plans = query("SELECT count(*) AS made, max(gap) AS worst FROM plans", demo.warehouse).dicts()[0]
    violations = [*books.violations, *([] if drained else [f"not drained within {DRAIN_LIMIT_S:.0f} s"])]
    # The first tasks were sent before placement was ready: their time is the start's, not the stream's. A task that
    # finds no capacity waits for other tasks to end; that is its queue, counted beside, not the pipeline's latency.
    latencies = sorted(
        first.latency_ms
        for first in demo.watching.latencies[FIRST_TASKS:]
        if first.task_id not in books.waited and first.epoch == 1 and first.task_id in demo.sent.tasks
    )
    states = books.by_state
    return {
        "source": demo.plan.source,
        "seconds": round(demo.streamed_s, 1),
        "regions": len(demo.plan.regions),
        "nodes": sum(len(fleet.nodes) for fleet in demo.fleets.values()),
        "gpus": sum(node.gpus for fleet in demo.fleets.values() for node in fleet.nodes.values()),
        "first_assignment_s": round(since - demo.started_s, 2),
        "tasks_submitted": len(demo.sent.tasks),
        "tasks_of_others": of_others,
        "tasks_placed": books.placed,
        "tasks_running": states.get("running", 0) + states.get("assigned", 0),
        "tasks_waiting": states.get("waiting", 0),
        "tasks_finished": states.get("succeeded", 0),
        "tasks_failed": states.get("failed", 0),
        "tasks_cancelled": states.get("cancelled", 0),
        "tasks_replaced": books.replaced,
        "tasks_waited_for_capacity": len(books.waited),
        "assignments_refused_by_agents": books.refused_by_agents,
        "requests_repeated": demo.sent.repeated,
        "requests_cancelling": demo.sent.cancels,
        "requests_malformed": len(demo.sent.malformed),
        "events_sent": events_sent,
        "events_received": sum(agents.read.values()),
        "duplicates_ignored": agents.ignored,
        "latency_p50_ms": _quantile(latencies, 0.50),
        "latency_p95_ms": _quantile(latencies, 0.95),
        "latency_p99_ms": _quantile(latencies, 0.99),
        "plans_made": plans["made"],
        "worst_gap": plans["worst"],
        "telemetry_rows": _count("telemetry", demo.warehouse),
        "rows_quarantined": _count("quarantine", demo.warehouse),
        "conflicts": _count("conflicts", demo.warehouse),
        "violations": violations,
        "ok": not violations,
    }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank; None of nothing."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _count(table: str, warehouse: str) -> int:
    (row,) = query(f"SELECT count(*) AS n FROM {table}", warehouse).dicts()
    return int(row["n"])


def run_demo(
    plan: DemoPlan,
    *,
    folder: StateFolder,
    settings: Settings,
    figures: Figures,
    screen: Screen,
    clock: Callable[[], int],
    interrupted: Callable[[], bool],
) -> dict[str, Any]:
    """Run a demo from nothing to its document.

    Raises:
        DemoFailedError, ChildFailedError, StateFolderError, StreamError: it could not be shown.
    """
    demo = Demo(plan, folder=folder, settings=settings, figures=figures, screen=screen, clock=clock)
    with stack.running(folder, demo.specs, say=screen.say) as supervisor:
        return demo.run(supervisor, interrupted)
