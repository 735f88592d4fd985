"""Take part in a run: follow a model, train on what is here, send what was learned. Nothing else leaves the region."""

import logging
import math
import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from thalweg.learning.codecs.feedback import Feedback
from thalweg.learning.rounds.said import SaidKind, Statement, signed_text
from thalweg.learning.secrecy.exchanges import ExchangeError
from thalweg.learning.secrecy.secret_terms import SecrecyTerms, round_context, secret_round
from thalweg.learning.secrecy.secure_member import SecureMember
from thalweg.learning.secrecy.secure_sum import SecureSumError
from thalweg.learning.secrecy.signatures import SigningKey
from thalweg.learning.vectors.parameters import Vector, VectorError, digest, from_bytes, to_bytes
from thalweg.streams.broker.consume import Reader
from thalweg.streams.broker.publish import Publisher
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import ModelState, ModelUpdate, Payload
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.states import STATE_DECODER
from thalweg.streams.learning.updates import inline_of, payload_of, spec_of, write_update
from thalweg.sync.clock import Clock

log: Final = logging.getLogger("thalweg.participant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training has come to."""

    parameters: Vector
    """After it, as long as the version's vector; where `is_change`, what they have changed by."""
    samples: int
    """How many it was trained on: the weight of this update."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured, such as the loss; the centre tells their means."""
    is_change: bool = False


Train = Callable[[Vector, ModelState], Trained]
"""Trains from a version. The state says which round it is for."""


class Participant:
    """One participant of one run. For one thread."""

    def __init__(
        self,
        *,
        model: str,
        name: str,
        region: str,
        train: Train,
        reader: Reader,
        publisher: Publisher,
        topic_prefix: str,
        clock: Clock,
        store: PayloadStore | None = None,
        inline_bytes: int = 524_288,
        key: SigningKey | None = None,
        life: int | None = None,
    ) -> None:
        """Prepare; `join` says it.

        Args:
            model: name of the run.
            name: its own, unique in the run.
            region: whose topic it sends by; the topic must exist.
            train: trains.
            reader: of the topic `models`, from its beginning.
            publisher: sends.
            topic_prefix: first part of the topics' names.
            clock: the wall clock; numbers its lives.
            store: where large payloads are put and found; None where all are small.
            inline_bytes: up to which an update travels in the message.
            key: signs what it says; None does not.
            life: number of this life, above that of earlier ones by more than the updates they sent; None takes the
                clock's milliseconds.
        """
        self._model = model
        self.name = name
        self._region = region
        self._train = train
        self._reader = reader
        self._publisher = publisher
        self._prefix = topic_prefix
        self._clock = clock
        self._store = store
        self._inline_bytes = inline_bytes
        self._key = key
        self._life = clock() if life is None else life
        self._turn = self._life  # higher than any turn of an earlier life
        self._feedback: Feedback | None = None
        self._answered = (0, 0)
        """Round, and where updates are secret exchanges that were over: of what it has answered last."""
        self._secret: tuple[int, SecureMember] | None = None
        """What it sends of the newest round, where updates are secret, and that round's number."""
        self._known: tuple[int, Vector] | None = None
        """The newest version that it has, and its number: changes of it can be told."""
        self.state: ModelState | None = None
        """The run as it was told last."""

    def join(self) -> None:
        """Say that it takes part; again is the same."""
        self._say("join", turn=self._life)

    def leave(self) -> None:
        """Say that it does not any more."""
        self._say("leave", turn=self._life)

    def step(self, timeout_ms: int = 100) -> ModelState | None:
        """Read what is told of the run, and answer if it is called; return the run as it is, None while unknown."""
        for record in self._reader.poll(timeout_ms):
            try:
                state = decoded(STATE_DECODER, record.value)
            except UndecodableError as error:
                log.warning("not a state of a run: %s", error)
                continue
            if state.model == self._model:
                self.state = state
                self._hear_change(state)
        if self.state is not None and self._is_called(self.state):
            self._answer(self.state)
        return self.state

    def follow(self, until: Callable[[ModelState], bool] = lambda state: bool(state.ended)) -> ModelState:
        """Take part until something is so; by default until the run has ended."""
        while True:
            state = self.step()
            if state is not None and until(state):
                return state

    def parameters(self, state: ModelState) -> Vector:
        """Give the parameters of a state's version.

        Raises:
            PayloadError: they are not there, or not what the state names.
        """
        if self._known is not None and self._known[0] == state.version:
            return self._known[1].copy()
        vector = self._whole(state)
        self._known = state.version, vector
        return vector.copy()

    def _hear_change(self, state: ModelState) -> None:
        """Bring the version that it has up to date by what changed; where that is not to be had, it gets the whole."""
        if self._known is None or state.change is None or self._known[0] + 1 != state.version:
            return
        spec, raw = spec_of(state.run), inline_of(state.change)
        try:
            vector = self._known[1] + spec.telling.decode(raw or b"", spec.size)
        except VectorError as error:
            log.warning("version %d is not told by a change that can be read: %s", state.version, error)
            return
        if digest(to_bytes(vector)) == state.payload.sha256:
            self._known = state.version, vector
        else:
            log.warning("version %d is not what the change of it says", state.version)

    def _whole(self, state: ModelState) -> Vector:
        """Get the parameters of a state's version, whole."""
        spec = spec_of(state.run)
        raw = inline_of(state.payload)
        if raw is None and self._store is None:
            raise PayloadError(f"version {state.version} of {state.model} lies in a store, and none was given")
        if raw is None and self._store is not None:
            raw = self._store.get(state.payload.sha256)
        assert raw is not None
        if digest(raw) != state.payload.sha256:
            raise PayloadError(f"version {state.version} of {state.model} is not the one that its digest names")
        try:
            return from_bytes(raw, spec.size)
        except VectorError as error:
            raise PayloadError(f"version {state.version} of {state.model}: {error}") from error

    def _is_called(self, state: ModelState) -> bool:
        if state.ended or not state.round:
            return False
        if state.run.strategy == "fedbuff":
            return True
        return self.name in state.called and (state.round, len(state.carried)) > self._answered

    def _answer(self, state: ModelState) -> None:
        spec = spec_of(state.run)
        if spec.secrecy is not None:
            self._answer_secretly(state, spec.secrecy)
            return
        if self._feedback is None:
            self._feedback = Feedback(spec.writing, spec.size)
        begin = self.parameters(state)
        trained = self._train(begin, state)
        vector = trained.parameters
        if spec.writing.delta and not trained.is_change:
            vector = vector - begin
        raw = self._feedback.encode(vector)
        self._put_large(raw)
        self._turn += 1
        self._say(
            "update",
            round_number=0 if spec.way.asynchronous else state.round,
            version=state.version,
            turn=self._turn if spec.way.asynchronous else 0,
            samples=trained.samples,
            raw=raw,
            metrics=_told(trained.metrics),
        )
        self._answered = state.round, 0

    def _answer_secretly(self, state: ModelState, secrecy: SecrecyTerms) -> None:
        """Answer an exchange of a round whose updates are secret; train before the first one."""
        exchange = len(state.carried) + 1
        self._answered = state.round, exchange - 1
        if self._secret is None or self._secret[0] != state.round:
            self._secret = state.round, self._hidden(state, secrecy)
        try:
            raw = self._secret[1].answer([self._carried(payload) for payload in state.carried])
        except (SecureSumError, ExchangeError) as error:
            log.warning("round %d of %s goes on without this participant: %s", state.round, self._model, error)
            return
        if raw is None:
            log.warning("round %d of %s goes on without this participant: it was not in time, or an earlier life "
                        "had learned something else", state.round, self._model)  # fmt: skip
            return
        self._put_large(raw)
        self._say("update", round_number=state.round, version=state.version, turn=exchange, raw=raw)

    def _hidden(self, state: ModelState, secrecy: SecrecyTerms) -> SecureMember:
        """Train, and decide under which secrets what was learned is sent."""
        begin = self.parameters(state)
        trained = self._train(begin, state)
        run = state.run
        context = round_context(self._model, state.round, state.payload.sha256)
        return SecureMember(
            self.name,
            secret_round(secrecy, context, state.called, run.quorum, run.most_samples),
            trained.parameters if trained.is_change else trained.parameters - begin,
            trained.samples,
            self._key.secret(b"thalweg secure sum") if self._key is not None else os.urandom(32),
        )

    def _carried(self, payload: Payload) -> bytes:
        raw = inline_of(payload)
        if raw is None:
            if self._store is None:
                raise PayloadError(f"what a round of {self._model} has brought lies in a store, and none was given")
            return self._store.get(payload.sha256)
        if digest(raw) != payload.sha256:
            raise PayloadError(f"what a round of {self._model} has brought is not what its digest names")
        return raw

    def _put_large(self, raw: bytes) -> None:
        """Put what is too large for a message into the store."""
        if len(raw) <= self._inline_bytes:
            return
        if self._store is None:
            raise PayloadError(f"an update of {len(raw)} bytes is too large for a message: give a store")
        self._store.put([raw])

    def _say(
        self,
        kind: SaidKind,
        *,
        round_number: int = 0,
        version: int = 0,
        turn: int = 0,
        samples: int = 0,
        raw: bytes | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        sha256 = digest(raw) if raw is not None else ""
        public_key = self._key.public_key if self._key is not None and kind == "join" else ""
        said = Statement(
            kind=kind,
            model=self._model,
            at_ms=0,
            region=self._region,
            participant=self.name,
            round_number=round_number,
            version=version,
            turn=turn,
            samples=samples,
            sha256=sha256,
            metrics=metrics or {},
            public_key=public_key,
        )
        message = ModelUpdate(
            kind=kind,
            model=said.model,
            participant=said.participant,
            round=said.round_number,
            version=said.version,
            turn=said.turn,
            samples=said.samples,
            payload=payload_of(raw, sha256, self._inline_bytes) if raw is not None else None,
            metrics=dict(said.metrics),
            public_key=public_key,
            signature=b64encode(self._key.sign(signed_text(said))).decode() if self._key is not None else "",
        )
        self._publisher.publish([write_update(message, self._prefix, self._region, self._clock())])


def _told(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out figures that no message can tell: the update itself is judged by its parameters."""
    told = {name: figure for name, figure in metrics.items() if math.isfinite(figure)}
    for name in metrics.keys() - told.keys():
        log.warning("the figure %s is %s, and not told: a message holds finite numbers", name, metrics[name])
    return told
