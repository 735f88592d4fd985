"""A participant as a process: it waits for its run, takes part until that ends, and leaves when it is told to go.

What the plane starts is told who it is by its task (`placed_as`). A task that is started anew, in the same region or
another, is the same participant in a later life: its number is the task's epoch, so what the earlier one may still
send is known as old.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from thalweg.federation.participant import Train, Trained
from thalweg.learning.vectors.parameters import Vector
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError
from thalweg.streams.contract.messages import ModelState

ANSWERS_OF_A_LIFE: Final = 2**24
"""Numbers between two lives: each answer of `fedbuff` takes one, and a life's first must be above all of the last."""
BROKER_AWAY: Final = (BrokerUnavailableError, NotAcknowledgedError)
AGAIN_AFTER_S: Final = 2.0
"""Pause before the broker is tried again: long enough not to spin on one that is down."""

log: Final = logging.getLogger("thalweg.participant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Who a task is as a participant."""

    name: str
    region: str
    life: int | None
    """None where it is no task: the clock numbers its lives."""


class NobodyError(Exception):
    """Nobody said who takes part; the text says how."""


def placed_as(environ: Mapping[str, str], name: str | None, region: str | None) -> Placed:
    """Say who takes part: what was said, else what the task's environment tells.

    Args:
        environ: of the process.
        name: of the participant, where it was said.
        region: whose topic it sends by, where it was said.

    Raises:
        NobodyError: neither says it.
    """
    task, where = environ.get("THALWEG_TASK_ID", ""), region or environ.get("THALWEG_REGION", "")
    if not (name or task) or not where:
        raise NobodyError("who takes part? Allowed are --name and --region, or that an agent starts this as a task")
    epoch = environ.get("THALWEG_EPOCH", "")
    life = int(epoch) * ANSWERS_OF_A_LIFE if name is None and epoch.isdecimal() else None
    return Placed(name=name or task, region=where, life=life)


class Taking(Protocol):
    """A participant (`federation.participant`)."""

    def join(self) -> None:
        """Say that it takes part."""

    def leave(self) -> None:
        """Say that it does not any more."""

    def step(self, timeout_ms: int = 100) -> ModelState | None:
        """Look at the run, and answer if it is called."""


def take_part(participant: Taking, wait: Callable[[float], object]) -> ModelState:
    """Take part until the run has ended, also while the broker is away for a time; return how it ended.

    Whatever ends this before (a signal that raises, training that fails) lets the participant leave, so that no round
    waits for it.

    Args:
        participant: who.
        wait: pauses, for seconds.
    """
    # What is said of a run that nobody knows is refused: a task may be there before its run.
    found = _patiently(participant.step, wait)
    if found.ended:
        return found
    try:
        _patiently(lambda: _joined(participant, found), wait)
        while not (found := _patiently(participant.step, wait)).ended:
            pass
        return found
    finally:
        if not found.ended:  # else the run is over, and membership with it
            participant.leave()


def _joined(participant: Taking, state: ModelState) -> ModelState:
    participant.join()
    return state


def _patiently(act: Callable[[], ModelState | None], wait: Callable[[float], object]) -> ModelState:
    """Do something until it gives a state, also while the broker is away."""
    while True:
        try:
            if (found := act()) is not None:
                return found
        except BROKER_AWAY as error:
            log.warning("waiting for the broker: %s", error)
            wait(AGAIN_AFTER_S)


@dataclass(slots=True, kw_only=True)
class TaskReport:
    """What a participant gives as a task: figures of its newest training, and in the end what it has done."""

    environ: Mapping[str, str]
    answered: int = 0
    _metrics: dict[str, float] = field(default_factory=dict)

    def told(self, train: Train) -> Train:
        """Note what training tells, each time."""

        def trained(vector: Vector, state: ModelState) -> Trained:
            found = train(vector, state)
            self.answered += 1
            self._write("THALWEG_METRICS", {**found.metrics, "round": state.round, "answered": self.answered})
            return found

        return trained

    def over(self, state: ModelState) -> None:
        """Note the end."""
        result = {"model": state.model, "answered": self.answered, "version": state.version, "ended": state.ended}
        self._write("THALWEG_RESULT", result)

    def _write(self, variable: str, content: Mapping[str, object]) -> None:
        """Write one of the task's files, whole or not at all; where there is no task, nothing."""
        place = self.environ.get(variable)
        if place:
            draft = Path(f"{place}.draft")
            draft.write_text(json.dumps(content), encoding="utf-8")
            os.replace(draft, place)
