"""What a runner is: it starts, stops and watches runs, and tells what they gave.

A runner knows nothing of Kafka or SQLite. The agent starts each (region, task, epoch) at most once, stops what is
revoked, and asks from time to time what has ended. Time is an argument.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.contract.messages import AssignmentEvent

RunKey = tuple[RegionId, TaskId, int]
"""Region, task and epoch."""

Cause = Literal["start", "exit", "signal", "time_limit", "memory", "agent"]
"""Why a run failed or was given back, as a report names it."""


def key_of(event: AssignmentEvent) -> RunKey:
    """Name the run that an assignment asks for."""
    return (event.region, event.task_id, event.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutputs:
    """What a run has given so far."""

    log: str | None = None
    """URI of its output."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    artefacts: Mapping[str, str] = field(default_factory=dict)
    """URIs by name."""
    checkpointed_ms: int | None = None
    """When it last made a checkpoint, milliseconds since 1970."""
    trouble: str = ""
    """What of it could not be taken, and why, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far a run is."""

    share: float | None = None
    """Share of the expected time that has passed, below 1; None where unknown."""
    outputs: RunOutputs = RunOutputs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended."""

    key: RunKey
    succeeded: bool
    exit_code: int | None = None
    detail: str = ""
    cause: Cause | None = None
    """Why it failed; None where it succeeded or was told to stop."""
    outputs: RunOutputs = RunOutputs()


class Runner(Protocol):
    """Starts, stops and watches runs."""

    name: str
    survives_restart: bool
    """Whether what runs goes on when the agent is started again."""
    needs_command: bool
    """Whether it can start nothing but a command."""
    starts_at_once: int
    """Most runs that are started in one round of the agent, whose heartbeats wait meanwhile."""

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Start a run and return its process id, where it has one.

        Raises:
            RunnerError: it cannot be started; the message is for the report.
        """

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Go on with a run that was started in an earlier life of the agent; only where `survives_restart`."""

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Stop a run; True when it is over at once, False when `ended` will tell."""

    def ended(self, now_ms: int) -> list[Ended]:
        """Return runs that ended since the last call, stopped ones included where `stop` said False."""

    def progress(self, key: RunKey, now_ms: int) -> RunProgress | None:
        """Tell how far a run is, and what it gave; None where nothing is known.

        Of one that ended with an earlier life of the agent: what it left.
        """

    def take_over(self, installation: str, regions: Collection[RegionId], now_ms: int) -> int:
        """End what runs for these regions on this machine and cannot be gone on with; return how many there were.

        To be asked, before anything is started, until there are none: what another agent started is given time.
        """

    def close(self, *, give_up_all: bool = False) -> list[Ended]:
        """Stop what does not survive the agent, and return the runs that had ended by themselves before.

        With `give_up_all` stop what would survive, too: another agent hosts the region.
        """


class RunnerError(Exception):
    """A run could not be started."""


class CommandNotFoundError(RunnerError):
    """There is no such program here: to start it again would not help, elsewhere there may be one."""

    exit_code: Final = 127
    """As a shell ends with that finds none, and as `scheduling.decisions.tries` knows it."""

    def __init__(self, command: str, own_path: str | None = None) -> None:
        """Make the error.

        Args:
            command: the program.
            own_path: where it was looked for, where the task's own env says that; None is the region's.
        """
        if own_path is None:
            super().__init__(f"command {command!r} was not found in this region")
        else:
            super().__init__(
                f"command {command!r} was not found in the task's own PATH {own_path!r:.200} (env); leave PATH out of "
                "env for the region's, or name the program by its whole path"
            )
