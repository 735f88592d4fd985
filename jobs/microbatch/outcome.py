"""What a job makes of a micro-batch: what is to be done, what is refused, and what follows when all of it is done.

A job declares once in which order its steps are done; that order is what lets a batch be killed anywhere
(docs/explanation/exactly-once.md). An outcome only says what each step does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from thalweg.streams.broker.deadletter import RefusedRecord

DEAD_LETTERS: Final = "dead letters"
"""The step that publishes what a batch refused: a job gives it a place in its order, the micro-batch does it."""

Seconds = Mapping[str, float]
"""How long each part of a batch took: `read`, `decide`, and its steps by name."""


class BatchId(NamedTuple):
    """Which micro-batch: Spark repeats one under the same id until it has ended."""

    query_id: str
    batch_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStep:
    """One commit or one publication. It is done again and again until it has succeeded, so it must bear that."""

    act: Callable[[], object]
    done: Callable[[], bool] = lambda: False
    """Asked after a try that failed: whether it went through all the same. A commit whose answer was lost may have."""
    then: Callable[[], object] = lambda: None
    """Follows once it is done, in memory only."""
    target: str = ""
    """What cannot be written when it fails, in the words of an operator; the step's name where there is no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """What a batch comes to."""

    steps: Mapping[str, BatchStep] = field(default_factory=dict)
    """By name; a step that has nothing to do is left out."""
    refused: Sequence[RefusedRecord] = ()
    then: Callable[[Seconds], None] = lambda _: None
    """Called when everything is done: counts, and what is kept beside the stream."""
