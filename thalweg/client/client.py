"""The client library for applications: submit, update, cancel, wait, and consume a region's assignments.

    with Client() as client:  # of the stack that runs here; Client("HOST:PORT") of any other
        task_id = client.submit({"task_id": "train-1", "per_worker": {"gpus": 2}, "expected_s": 600})
        print(client.wait(task_id, timeout_s=3600).state)

It needs kafka-python and msgspec, no JVM and no Spark. A plain Kafka producer that sends the same JSON does as well;
what this library adds is checking before sending, waiting for the broker's acknowledgement, and following a task.
One thread per client.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from thalweg.conf.settings import KafkaSettings, load_settings
from thalweg.stack.connection import NoBrokerError, with_broker
from thalweg.streams.broker.admin import identities
from thalweg.streams.broker.consume import IncomingRecord, KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract import field_words, finite, request_rules
from thalweg.streams.contract.decode import Message, UndecodableError, decoded
from thalweg.streams.contract.envelope import Envelope, content_id, write_headers
from thalweg.streams.contract.messages import Answer, Answers, AssignmentEvent, StatusEvent, TaskEnd, TaskRequest
from thalweg.streams.contract.topics import (
    ANSWERS,
    ASSIGNMENTS,
    DEADLETTER,
    REQUESTS,
    RESULTS,
    STATUS,
    topic_name,
    topic_pattern,
)
from thalweg.streams.contract.unknown_fields import unknown_fields
from thalweg.streams.placement.fence import Fence, FenceVerdict
from thalweg.sync.clock import Clock, system_clock

SOURCE: Final = "/thalweg/client"
DEFAULT_ATTEMPTS: Final = 3
"""`place.max_attempts` of an installation that did not change it."""

_ENCODER: Final = msgspec.json.Encoder()
_STATUS: Final = msgspec.json.Decoder(StatusEvent)
_EVENT: Final = msgspec.json.Decoder(AssignmentEvent)
_ANSWERS: Final = msgspec.json.Decoder(Answers)
_END: Final = msgspec.json.Decoder(TaskEnd)


class _Refused(msgspec.Struct, frozen=True):
    """What tells whose a refused request is."""

    task_id: str
    op: str = "submit"
    observed_at: int | None = None


_REFUSED: Final = msgspec.json.Decoder(_Refused)

# Clocks of producer and broker may differ a little; records are looked for from this much earlier.
_CLOCK_SLACK_MS: Final = 2_000


class ClientError(Exception):
    """Base of what this library raises itself; the broker's troubles are `streams.broker.errors`."""


class InvalidRequestError(ClientError, ValueError):
    """The request is not a valid message; nothing was sent, nor any other of the same call."""

    def __init__(self, problem: str, which: str = "") -> None:
        """Make the error.

        Args:
            problem: what was seen, and what is allowed.
            which: of many requests, the one that is wrong.
        """
        where = f"{which}: " if which else ""
        others = "; none of the others was sent either" if which else ""
        super().__init__(
            f"the request was not sent: {where}{problem}{others}. docs/reference/events.md lists the fields"
        )
        self.problem = problem


class RequestRefusedError(ClientError):
    """The place job refused the request; its words are the reason."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"task {task_id!r} was refused: {reason}")
        self.task_id = task_id
        self.reason = reason


class WaitTimeoutError(ClientError, TimeoutError):
    """The task was not seen to end in time; what is known of it is in the message."""

    def __init__(self, task_id: str, timeout_s: float, last: str) -> None:
        super().__init__(
            f"task {task_id!r} was not seen to end within {timeout_s:g} s; last seen: {last}. `thalweg explain "
            f"{task_id}` says where it stands"
        )
        self.task_id = task_id
        self.last = last


class OutcomeState(StrEnum):
    """How a task ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a task, as its region reported it; without region and epoch where it had ended or ran nowhere."""

    task_id: str
    state: OutcomeState
    region: str = ""
    epoch: int = 0
    exit_code: int | None = None
    detail: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures that its last run reported, by name."""
    result: dict[str, Any] | None = None
    """Small JSON object that it left."""
    log: str | None = None
    """Where the output of its last run lies."""
    artefacts: dict[str, str] = field(default_factory=dict)
    """Where larger results lie, by name."""


@dataclass(slots=True)
class _Followed:
    """What is known of a task that somebody waits for."""

    copies: int = 1
    cancelled: bool = False
    asked: dict[str, int | None] = field(default_factory=dict)
    """What this client asked, by operation: when, by which its answer is told from others'."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """By operation."""
    ended: Answer | None = None
    told_end: TaskEnd | None = None
    """What the place job told of its end."""
    refused: str | None = None
    last: StatusEvent | None = None
    succeeded: dict[tuple[str, int], StatusEvent] = field(default_factory=dict)
    failed: set[tuple[str, int]] = field(default_factory=set)
    revoked: set[tuple[str, int]] = field(default_factory=set)
    told: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Region → epoch and kind of the last that the ledger told it."""

    def note(self, event: StatusEvent) -> None:
        self.last = event
        if event.type == "succeeded":
            self.succeeded.setdefault((event.region, event.epoch), event)
        ended = {"failed": self.failed, "revoked": self.revoked}.get(event.type)
        if ended is not None:
            ended.add((event.region, event.epoch))

    def tell(self, event: AssignmentEvent) -> None:
        if event.epoch > self.told.get(event.region, (-1, ""))[0]:
            self.told[event.region] = (event.epoch, event.type)

    def counting(self) -> list[StatusEvent]:
        """Successes that count: a region's report of an epoch that the ledger has given up does not."""
        newest = max((epoch for epoch, kind in self.told.values() if kind == "assign"), default=0)
        return [
            event
            for (region, epoch), event in sorted(self.succeeded.items(), key=lambda item: item[0][1])
            # Regions that were told nothing since this client looks were told before.
            if self.told.get(region, (epoch, "assign")) == (epoch, "assign")
            and not (self.copies == 1 and epoch < newest)
        ]

    def hear_end(self, event: TaskEnd) -> None:
        """Note an end; one of before it was asked to run again is no end any more."""
        if event.ended_at >= (self.asked.get("rerun") or 0):
            self.told_end = event

    def earliest(self, op: str) -> int:
        """Give the first moment at which this may be asked again and be told from before."""
        return (self.asked.get(op) or -1) + 1

    def ask(self, op: str, asked_ms: int) -> None:
        """Note that something is asked anew."""
        self.asked[op] = asked_ms
        self.answers.pop(op, None)
        self.refused = self.ended = self.told_end = None

    def concerns(self, op: str, observed_at: int | None) -> bool:
        """Tell whether a request is the one that was asked here; where nothing was asked, any is."""
        return op not in self.asked or self.asked[op] == observed_at

    def hear(self, answer: Answer) -> None:
        if not self.concerns(answer.op, answer.observed_at):
            return
        self.answers[answer.op] = answer
        if answer.answer == "refused":
            self.refused = answer.reason
        elif answer.state in set(OutcomeState) and (answer.answer == "known" or not answer.copies):
            self.ended = answer

    def seen(self) -> str:
        """Say what was seen last."""
        if self.last is not None:
            return f"{self.last.type} in {self.last.region}, epoch {self.last.epoch} {self.last.detail}".rstrip()
        if self.answers:
            newest = list(self.answers.values())[-1]
            return f"{newest.op} {newest.answer}, state {newest.state} {newest.reason}".rstrip()
        return "nothing, not even an answer to the request (is the place job running?)" if self.asked else "nothing"

    def end(self, attempts: int) -> tuple[OutcomeState, StatusEvent] | None:
        """How it ended, and the report that says so; None while it goes on.

        What was asked to run again has reports of the run before, which tell nothing: its end is what `place` tells.
        """
        if "rerun" in self.asked:
            return None
        counting = self.counting()
        if len(counting) >= self.copies:
            return OutcomeState.SUCCEEDED, counting[-1]
        if self.last is None:
            return None
        if self.cancelled and self.revoked:
            return OutcomeState.CANCELLED, self.last
        return (OutcomeState.FAILED, self.last) if len(self.failed) >= attempts else None


class Client:
    """An application's connection to one installation."""

    def __init__(
        self,
        bootstrap: str | None = None,
        prefix: str | None = None,
        *,
        kafka: KafkaSettings | None = None,
        timeout_ms: int = 10_000,
        clock: Clock = system_clock,
    ) -> None:
        """Connect.

        Args:
            bootstrap: host:port of a broker, several separated by commas; None means the one that the settings name,
                or else that of the stack that runs here.
            prefix: first part of the installation's topics; None means the settings'.
            kafka: full settings (TLS, SASL), instead of the two above.
            timeout_ms: how long sending waits for the broker's acknowledgement.
            clock: milliseconds since 1970.

        Raises:
            NoBrokerError: none was named, and no stack runs here.
            BrokerUnavailableError: nobody answers.
        """
        self._kafka = kafka or _installation(bootstrap, prefix)
        self._clock = clock
        self._since_ms = clock() - _CLOCK_SLACK_MS
        self._publisher = KafkaPublisher(self._kafka, timeout_ms=timeout_ms, client_id="thalweg-client")
        self._reader: KafkaReader | None = None
        self._followed: dict[str, _Followed] = {}

    # Requests

    def submit(self, request: TaskRequest | Mapping[str, Any], *, keep_unknown: bool = False) -> str:
        """Submit a task and return its id once the broker has the request.

        Args:
            request: a TaskRequest, or a mapping with at least `task_id`. The same id with the same content again is
                nothing new, also when the task has ended; with other content it is refused (`answered`).
            keep_unknown: send fields that are no request's, too; placement does not read them.

        Raises:
            InvalidRequestError: a field is missing, unknown, of a wrong type or out of range; nothing was sent.
            MessageTooLargeError: nothing was sent.
            NotAcknowledgedError: the broker did not answer in time; submitting again is safe.
        """
        return self.submit_all([request], keep_unknown=keep_unknown)[0]

    def submit_all(
        self, requests: Sequence[TaskRequest | Mapping[str, Any]], *, keep_unknown: bool = False
    ) -> list[str]:
        """Submit many tasks at once; see `submit`."""
        return self._send(checked_requests(requests, "submit", keep_unknown))

    def update(self, request: TaskRequest | Mapping[str, Any], *, keep_unknown: bool = False) -> None:
        """Replace the request of a live task; where its needs change, it is placed again. Raises as `submit`."""
        self._send([checked_request(request, "update", keep_unknown)])

    def cancel(self, task_id: str) -> None:
        """Cancel a task: it is not placed any more, and revoked where it runs. Raises as `submit`."""
        self.cancel_all([task_id])

    def cancel_all(self, task_ids: Sequence[str]) -> None:
        """Cancel many tasks at once; see `cancel`."""
        self.change("cancel", task_ids)

    def hold(self, task_ids: Sequence[str]) -> None:
        """Hold tasks: they do not start until they are released; what runs goes on. Raises as `submit`."""
        self.change("hold", task_ids)

    def release(self, task_ids: Sequence[str]) -> None:
        """Release tasks that are held. Raises as `submit`."""
        self.change("release", task_ids)

    def rerun(self, task_ids: Sequence[str]) -> None:
        """Run tasks that have ended once more. Raises as `submit`."""
        self.change("rerun", task_ids)

    def change(self, op: str, task_ids: Sequence[str], who: str = "") -> None:
        """Ask for one operation on tasks, many in one message: cancel, hold, release or rerun. Raises as `submit`.

        Args:
            op: the operation.
            task_ids: of the tasks.
            who: wants it; what it changes is then a row of `audit`. Nobody is named by default.
        """
        if isinstance(task_ids, str | bytes):
            raise InvalidRequestError(f"task_ids: wanted is a list of ids, seen the text {task_ids!r}")
        named = {"who": who} if who else {}
        contents = ({"task_id": ids[0]} if len(ids) == 1 else {"task_ids": ids} for ids in _shares(task_ids))
        self._send([checked_request({**content, **named}, op) for content in contents])
        for task_id in task_ids:
            self._follow(task_id).cancelled = op == "cancel"

    def _send(self, checked: list[tuple[TaskRequest, dict[str, Any]]]) -> list[str]:
        now = self._clock()
        records: list[OutgoingRecord] = []
        for request, content in checked:
            asked_ms = self._ask(request, now)
            value = _ENCODER.encode(content | {"observed_at": asked_ms})
            event = Envelope(
                event_id=content_id("request", value), source=SOURCE, event_type=f"request.{request.op}", time_ms=now
            )
            records.append(
                OutgoingRecord(
                    topic=topic_name(REQUESTS, self._kafka.topic_prefix),
                    key=(request.task_id or request.task_ids[0]).encode(),
                    value=value,
                    headers=write_headers(event),
                    max_bytes=REQUESTS.max_message_bytes,
                )
            )
        self._publisher.publish(records)
        for request, _ in checked:
            if request.op in ("submit", "update"):
                self._follow(request.task_id).copies = request.replicas
        return [request.task_id for request, _ in checked]

    def _ask(self, request: TaskRequest, now_ms: int) -> int:
        """Note what a message asks of its tasks, and choose its time where it has none: a later one than before."""
        followed = [self._follow(task_id) for task_id in request.task_ids or [request.task_id]]
        asked_ms = request.observed_at
        if asked_ms is None:
            asked_ms = max(now_ms, *(one.earliest(request.op) for one in followed))
        for one in followed:
            one.ask(request.op, asked_ms)
        return asked_ms

    # Following

    def answered(self, task_ids: Sequence[str], op: str = "submit", *, timeout_s: float = 5.0) -> dict[str, Answer]:
        """Wait until each request of this client was answered, and return the answers there are, by task.

        An answer says whether a request was taken, was known already, or was refused. It is told once: one that is
        missing says nothing, only that the place job was not heard in time.

        Args:
            task_ids: what was asked about.
            op: what was asked: submit, update, cancel, hold, release or rerun.
            timeout_s: how long.
        """
        followed = {task_id: self._follow(task_id) for task_id in task_ids}
        deadline = time.monotonic() + timeout_s
        while any(op not in one.answers for one in followed.values()):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._listen(left)
        return {task_id: one.answers[op] for task_id, one in followed.items() if op in one.answers}

    def _listen(self, left_s: float) -> None:
        for record in self._following().poll(int(min(left_s, 0.2) * 1000) + 1):
            self._note(record)

    def wait(self, task_id: str, timeout_s: float, *, attempts: int = DEFAULT_ATTEMPTS) -> Outcome:
        """Wait until a task has ended.

        A failed run is no end while the place job tries again: failure is the end after `attempts` failed runs. A
        success counts where the ledger's last word about the task was to run it there, in that epoch: what a region
        reports that was given up as lost does not. (Until the ledger has placed it anew, the topics do not tell.) A
        task that had ended when it was submitted or cancelled once more has that end.

        Args:
            task_id: submitted by this client, or by anybody, a plain producer too, after this client was made.
            timeout_s: how long.
            attempts: the installation's `place.max_attempts`.

        Raises:
            RequestRefusedError: the request was refused.
            WaitTimeoutError: not in time; the message says what was seen last.
        """
        followed = self._follow(task_id)
        deadline = time.monotonic() + timeout_s
        seen_until: dict[tuple[str, int], int] | None = None
        while True:
            if followed.refused is not None:
                raise RequestRefusedError(task_id, followed.refused)
            if followed.told_end is not None:
                return outcome_of(followed.told_end)
            if followed.ended is not None:
                known = followed.ended
                return Outcome(task_id=task_id, state=OutcomeState(known.state), detail=known.reason)
            ended = followed.end(attempts)
            if ended is None:
                seen_until = None
            elif seen_until is None:
                # The ledger's word may lie in a topic that is not read as far as the report.
                seen_until = self._following().end_offsets()
            elif all(self._following().position(*place) >= end for place, end in seen_until.items()):
                state, report = ended
                return Outcome(
                    task_id=task_id,
                    state=state,
                    region=report.region,
                    epoch=report.epoch,
                    exit_code=report.exit_code,
                    detail=report.detail,
                    metrics=dict(report.metrics),
                    result=report.result,
                    log=report.log,
                    artefacts=dict(report.artefacts),
                )
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(task_id, timeout_s, followed.seen())
            self._listen(min(left, 0.2 if ended is None else 0.02))

    def _follow(self, task_id: str) -> _Followed:
        if task_id not in self._followed:
            self._followed[task_id] = _Followed()
            if self._reader is not None:
                # What was read before did not note this task: read it once more.
                self._reader.close()
                self._reader = None
        return self._followed[task_id]

    def _following(self) -> KafkaReader:
        if self._reader is None:
            prefix = self._kafka.topic_prefix
            regional = f"{topic_pattern(STATUS, prefix)}|{topic_pattern(ASSIGNMENTS, prefix)}"
            told = "|".join(re.escape(topic_name(contract, prefix)) for contract in (ANSWERS, DEADLETTER, RESULTS))
            pattern = f"{regional}|{told}"
            self._reader = KafkaReader(
                self._kafka, pattern=pattern, since_ms=self._since_ms, client_id="thalweg-client"
            )
        return self._reader

    def _note(self, record: IncomingRecord) -> None:
        if record.topic == topic_name(DEADLETTER, self._kafka.topic_prefix):
            self._note_refusal(record)
            return
        if record.topic == topic_name(ANSWERS, self._kafka.topic_prefix):
            for answer in _read(_ANSWERS, record, Answers(answers=[])).answers:
                if (asked := self._followed.get(answer.task_id)) is not None:
                    asked.hear(answer)
            return
        if record.topic == topic_name(RESULTS, self._kafka.topic_prefix):
            self._note_end(record)
            return
        if record.topic.startswith(f"{self._kafka.topic_prefix}.{ASSIGNMENTS.topic}."):
            told = self._followed.get((record.key or b"").decode(errors="replace"))
            event_told = None if told is None else _event_of(record)
            if told is not None and event_told is not None:
                told.tell(event_told)
            return
        try:
            event = decoded(_STATUS, record.value)
        except UndecodableError:
            return  # somebody else's record; the place job puts it into the dead-letter topic
        followed = self._followed.get(event.task_id or "")
        if followed is not None:
            followed.note(event)

    def _note_end(self, record: IncomingRecord) -> None:
        followed = self._followed.get((record.key or b"").decode(errors="replace"))
        if followed is None:
            return
        try:
            event = decoded(_END, record.value)
        except UndecodableError:
            return
        # A refusal is heard of by its answer, which tells whose request it was.
        if event.state != "refused":
            followed.hear_end(event)

    def _note_refusal(self, record: IncomingRecord) -> None:
        """Note a dead letter. A plain producer may set no key, or any: the request itself says whose it is."""
        headers = dict(record.headers)
        if headers.get("topic") != topic_name(REQUESTS, self._kafka.topic_prefix).encode():
            return
        keyed = _Refused(task_id=(record.key or b"").decode(errors="replace"), op="")
        request = _read(_REFUSED, record, keyed)
        followed = self._followed.get(request.task_id)
        if followed is not None and followed.concerns(request.op, request.observed_at):
            followed.refused = headers.get("reason", b"").decode(errors="replace")

    # Assignments

    def assignments(
        self, region: str, *, state: Path | None = None, idle_s: float | None = None
    ) -> Iterator[AssignmentEvent]:
        """Yield what a region is to start and stop, each event once, for an agent of your own.

        An event counts as done when the next one is asked for: a crash while it is acted upon brings it again, and an
        event done is never seen again, whatever is repeated or replayed (`streams.placement.fence`).

        Args:
            region: whose assignments.
            state: SQLite file that remembers what was done; None remembers until the iterator ends.
            idle_s: end after so long without an event; None goes on for ever.

        Raises:
            FenceError: the file belongs to another installation, or is not one.
            BrokerUnavailableError: nobody answers.
        """
        topic = topic_name(ASSIGNMENTS, self._kafka.topic_prefix, region)
        cluster, topic_ids = identities(self._kafka, [topic])
        topic_id = topic_ids.get(topic, "")
        fence = Fence(state)
        fence.bind({"cluster": cluster, "topic prefix": self._kafka.topic_prefix})
        reader = KafkaReader(
            self._kafka,
            topics=[topic],
            start=lambda name, partition: fence.next_offset(name, partition, topic_id),
            client_id="thalweg-client",
        )
        try:
            last_event = time.monotonic()
            while idle_s is None or time.monotonic() - last_event < idle_s:
                for record in reader.poll(200):
                    with fence.transaction():
                        fence.move_on(record.topic, record.partition, record.offset + 1, topic_id)
                        event = _event_of(record)
                        if event is not None and fence.admit(event) is FenceVerdict.ACCEPTED:
                            yield event
                    last_event = time.monotonic()
        finally:
            reader.close()
            fence.close()

    def close(self) -> None:
        """Close the connections."""
        self._publisher.close()
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> "Client":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def outcome_of(event: TaskEnd) -> Outcome:
    """Give what the place job told of a task's end."""
    return Outcome(
        task_id=event.task_id,
        state=OutcomeState(event.state),
        region=event.region or "",
        epoch=event.epoch,
        exit_code=event.exit_code,
        detail=event.reason,
        metrics=dict(event.metrics),
        result=event.result,
        log=event.log,
        artefacts=dict(event.artefacts),
    )


_MOST_IDS: Final = 10_000
_MOST_ID_BYTES: Final = 800_000
"""Of the ids of a message, with the quotes around them: well within what the topic takes."""


def _shares(task_ids: Sequence[str]) -> Iterator[list[str]]:
    """Deal ids out to as few messages as may be."""
    share: list[str] = []
    size = 0
    for task_id in task_ids:
        length = len(_ENCODER.encode(task_id)) + 1
        if share and (len(share) == _MOST_IDS or size + length > _MOST_ID_BYTES):
            yield share
            share, size = [], 0
        share.append(task_id)
        size += length
    if share:
        yield share


def _installation(bootstrap: str | None, prefix: str | None) -> KafkaSettings:
    """Settings from the environment and the file it names, with what the caller named over them."""
    settings = load_settings()
    named = {"bootstrap_servers": bootstrap, "topic_prefix": prefix}
    if bootstrap is None:
        settings = with_broker(settings)
    return settings.kafka.model_copy(update={name: value for name, value in named.items() if value is not None})


def checked_request(
    request: TaskRequest | Mapping[str, Any], op: str, keep_unknown: bool = False
) -> tuple[TaskRequest, dict[str, Any]]:
    """Check a request as it is checked before it is sent, and return it with its full content.

    Raises:
        InvalidRequestError: a field is missing, unknown, of a wrong type or out of range.
    """
    if not isinstance(request, TaskRequest | Mapping):
        raise InvalidRequestError(f"wanted is a TaskRequest or a mapping, seen {request!r:.100}")
    content = msgspec.to_builtins(request) if isinstance(request, TaskRequest) else dict(request)
    if content.setdefault("op", op) != op:
        raise InvalidRequestError(f"op is {content['op']!r}, but {op} was called")
    try:
        # Through JSON, because JSON is what is judged: sets and integers of a million digits end here.
        value = _ENCODER.encode(content)
        if (wrong := finite.objection(content)) is not None:
            raise InvalidRequestError(wrong)
        checked = msgspec.json.decode(value, type=TaskRequest)
    except InvalidRequestError:
        raise
    except (msgspec.MsgspecError, TypeError, OverflowError, ValueError) as error:
        # What is missing is often there under a name that is nearly right.
        words = [field_words.in_words(error, content, TaskRequest), *map(str, unknown_fields(content, TaskRequest))]
        raise InvalidRequestError("; ".join(words)) from error
    except RecursionError as error:
        raise InvalidRequestError(str(error)) from error
    if not keep_unknown and (unknown := unknown_fields(content, TaskRequest)):
        raise InvalidRequestError("; ".join(map(str, unknown)))
    if (wrong := request_rules.objection(checked, len(value))) is not None:
        raise InvalidRequestError(wrong)
    return checked, content


def checked_requests(
    requests: Sequence[TaskRequest | Mapping[str, Any]], op: str, keep_unknown: bool = False
) -> list[tuple[TaskRequest, dict[str, Any]]]:
    """Check many requests as `checked_request` does one.

    Raises:
        InvalidRequestError: one is wrong; the message says which of them, by its number and its id.
    """
    found = []
    for number, request in enumerate(requests, start=1):
        try:
            found.append(checked_request(request, op, keep_unknown))
        except InvalidRequestError as error:
            if len(requests) == 1:
                raise
            named = request.get("task_id") if isinstance(request, Mapping) else getattr(request, "task_id", None)
            which = f"{number} of {len(requests)}" + (f", task_id {named!r:.100}" if named else ", without a task_id")
            raise InvalidRequestError(error.problem, which) from error
    return found


def _read(decoder: "msgspec.json.Decoder[Message]", record: IncomingRecord, otherwise: Message) -> Message:
    """Decode what anybody may have written."""
    try:
        return decoded(decoder, record.value)
    except UndecodableError:
        return otherwise


def _event_of(record: IncomingRecord) -> AssignmentEvent | None:
    try:
        return decoded(_EVENT, record.value)
    except UndecodableError:
        return None


__all__ = [
    "Answer",
    "AssignmentEvent",
    "Client",
    "ClientError",
    "InvalidRequestError",
    "NoBrokerError",
    "Outcome",
    "OutcomeState",
    "RequestRefusedError",
    "StreamError",
    "TaskRequest",
    "WaitTimeoutError",
]
