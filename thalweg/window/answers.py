"""The place job's answers, heard by a thread and given to whoever waits for one: however many wait, it reads once."""

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

import msgspec

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import Answer, Answers
from thalweg.streams.contract.topics import ANSWERS, topic_name

log = logging.getLogger("thalweg.window")

_POLL_MS: Final = 100
_AGAIN_S: Final = 2.0
_ANSWERS: Final = msgspec.json.Decoder(Answers)

Asked = tuple[str, str]
"""Operation and task."""


class AnswerWatch:
    """See the module's words."""

    def __init__(self, kafka: KafkaSettings, since_ms: int) -> None:
        """Begin to read, from a moment of the broker's on."""
        self._kafka = kafka
        self._since_ms = since_ms
        self._lock = threading.Lock()
        self._waiting: dict[Asked, list[tuple[int, Future[Answer]]]] = defaultdict(list)
        self._stop = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="window-answers", daemon=True)
        self._thread.start()

    def wait_until_it_listens(self, timeout_s: float) -> None:
        """Wait for the connection, at most so long: the first answer may come before it stands."""
        self._listens.wait(timeout_s)

    @contextmanager
    def expected(self, asked: Asked, asked_ms: int) -> Iterator["Future[Answer]"]:
        """Give what will be the answer to a request that was made at a moment or later."""
        future: Future[Answer] = Future()
        entry = (asked_ms, future)
        with self._lock:
            self._waiting[asked].append(entry)
        try:
            yield future
        finally:
            with self._lock:
                self._waiting[asked].remove(entry)
                if not self._waiting[asked]:
                    del self._waiting[asked]

    def hear(self, answer: Answer) -> None:
        """Give an answer to those who wait for it."""
        with self._lock:
            for asked_ms, future in self._waiting.get((answer.op, answer.task_id), ()):
                if not future.done() and (answer.observed_at or 0) >= asked_ms:
                    future.set_result(answer)

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pattern = re.escape(topic_name(ANSWERS, self._kafka.topic_prefix))
        while not self._stop.is_set():
            try:
                with KafkaReader(
                    self._kafka, pattern=pattern, since_ms=self._since_ms, client_id="thalweg-window"
                ) as reader:
                    self._listens.set()
                    while not self._stop.is_set():
                        for record in reader.poll(_POLL_MS):
                            self._note(record.value)
            except StreamError as error:
                log.warning("answers cannot be heard now: %s", error)
                self._stop.wait(_AGAIN_S)

    def _note(self, value: bytes | None) -> None:
        try:
            answers = decoded(_ANSWERS, value).answers
        except UndecodableError:
            return
        for answer in answers:
            self.hear(answer)
