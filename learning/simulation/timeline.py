"""A run on a virtual clock: the real referee and director, and participants that take as long as is drawn for them.

It tells how long rounds would take where participants are slow at times (log-normal), which waits for nobody here.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from thalweg.learning.rounds.director import Director
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.referee import judge
from thalweg.learning.rounds.run import Runs, take
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.rounds.said import Statement
from thalweg.learning.simulation.world import Learner, TrainedAnswer, answers
from thalweg.learning.vectors.parameters import Vector, digest, from_bytes, to_bytes

MODEL: Final = "model"
_REGION: Final = "here"

Corrupt = Callable[[Learner, Vector, bytes], bytes]
"""Turns what a liar has honestly written into what it sends."""
Watch = Callable[[Fact, Vector], None]
"""Told of each new version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long training and sending takes: `median_ms` × exp(spread × a normal number), drawn for every answer."""

    median_ms: float = 0.0
    spread: float = 0.0


@dataclass(slots=True, kw_only=True)
class Timeline:
    """One run."""

    spec: RunSpec
    learners: Sequence[Learner]
    initial: Vector
    seed: int
    pace: Pace = Pace()
    liars: frozenset[str] = frozenset()
    corrupt: Corrupt | None = None
    secret: bytes = b"simulated"
    facts: list[Fact] = field(default_factory=list)
    uplink_bytes: int = 0
    """Of all payloads that were sent."""
    downlink_bytes: int = 0
    """Of versions, once for each answer that was asked for; participants hear of every version."""
    asked: int = 0
    """How many answers were asked for."""
    now_ms: int = 0
    _payloads: dict[str, bytes] = field(default_factory=dict)
    _runs: Runs = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)
    _queue: list[tuple[int, int, Statement]] = field(default_factory=list)
    _watch: Watch | None = None
    _told_bytes: dict[int, int] = field(default_factory=dict)

    def run(self, watch: Watch | None = None, until_ms: int | None = None) -> Vector:
        """Carry the run out, and return the last version's parameters.

        Args:
            watch: told of each new version.
            until_ms: the virtual time at which it is broken off; None lets it end.
        """
        self._watch = watch
        by_name = {learner.name: learner for learner in self.learners}
        raw = to_bytes(self.initial)
        self._hear(
            Statement(kind="start", model=MODEL, at_ms=0, region="", sha256=digest(raw), payload=raw, spec=self.spec)
        )
        for learner in self.learners:
            self._hear(Statement(kind="join", model=MODEL, at_ms=0, region=_REGION, participant=learner.name))
        director = Director(lambda name: self._payloads[name], self._keep, self.secret, self._announced)
        while not self._runs[MODEL].ended and (until_ms is None or self.now_ms < until_ms):
            opened = self._direct(director)
            self._call(opened, by_name)
            if self._queue:
                self.now_ms, _, said = heapq.heappop(self._queue)
                self._hear(said)
                if self.spec.way.asynchronous:
                    self._call([fact for fact in self._direct(director) if fact.kind is FactKind.OPENED], by_name)
                    self._ask([by_name[said.participant]])
            elif (open_ := self._runs[MODEL].open) is not None:
                self.now_ms = open_.deadline_ms + 1
        return from_bytes(self._payloads[self._runs[MODEL].sha256], self.spec.size)

    def _keep(self, raw: bytes) -> None:
        self._payloads[digest(raw)] = raw

    def _announced(self, model: str, version: int, change: bytes) -> None:
        self._told_bytes[version] = len(change)

    def _hear(self, said: Statement) -> None:
        if said.payload is not None:
            self._keep(said.payload)
        fact = judge(self._runs, said, lambda *_: False)
        take(self._runs, fact)
        self.facts.append(fact)

    def _direct(self, director: Director) -> list[Fact]:
        opened = []
        for fact in self._due(director):
            take(self._runs, fact)
            self.facts.append(fact)
            if fact.kind is FactKind.CLOSED and self._watch is not None:
                self._watch(fact, from_bytes(self._payloads[fact.sha256], self.spec.size))
            if fact.kind in (FactKind.CLOSED, FactKind.MISSED):
                newest = self._runs[MODEL].sha256
                self._payloads = {newest: self._payloads[newest]}  # updates of a round that is over are spent
            if fact.kind is FactKind.OPENED:
                opened.append(fact)
        return opened

    def _due(self, director: Director) -> Iterator[Fact]:
        # What arrives at this very moment is heard before a deadline is held to have passed.
        return director.due(self._runs[MODEL], self.now_ms, self.now_ms)

    def _call(self, opened: Sequence[Fact], by_name: dict[str, Learner]) -> None:
        for fact in opened:
            if not self.spec.way.asynchronous:
                self._ask([by_name[name] for name in fact.called], fact.round_number)
            elif not self._turns:
                self._ask(self.learners)

    def _ask(self, learners: Sequence[Learner], number: int = 0) -> None:
        """Let participants train from the newest version; the answer of each arrives when it is done."""
        run = self._runs[MODEL]
        if run.ended or not learners:
            return
        for learner in learners:
            self._turns[learner.name] = self._turns.get(learner.name, 0) + 1
        vector = from_bytes(self._payloads[run.sha256], self.spec.size)
        found = answers([(learner, number or self._turns[learner.name]) for learner in learners], vector)
        for learner, sent in zip(learners, found, strict=True):
            self._send(learner, sent, vector, number, run.version)

    def _send(self, learner: Learner, sent: TrainedAnswer, vector: Vector, number: int, version: int) -> None:
        turn, payload = self._turns[learner.name], sent.payload
        if self.corrupt is not None and learner.name in self.liars:
            payload = self.corrupt(learner, vector, payload)
        self.uplink_bytes += len(payload)
        said = Statement(
            kind="update",
            model=MODEL,
            at_ms=self.now_ms + self._takes(learner.name, number or turn),
            region=_REGION,
            participant=learner.name,
            round_number=number,
            version=version,
            turn=0 if number else turn,
            samples=sent.samples,
            sha256=digest(payload),
            payload=payload,
            metrics={"loss": sent.loss},
        )
        self.asked += 1
        self.downlink_bytes += self._told_bytes.get(version, 4 * self.spec.size)
        heapq.heappush(self._queue, (said.at_ms, self.asked, said))

    def _takes(self, name: str, number: int) -> int:
        """Milliseconds of one answer."""
        if not self.pace.median_ms:
            return 0
        seed = int(digest(f"{self.seed}\0pace\0{name}\0{number}".encode())[:16], 16)
        drawn = np.random.default_rng(seed).standard_normal()
        return max(1, round(self.pace.median_ms * float(np.exp(self.pace.spread * drawn))))
