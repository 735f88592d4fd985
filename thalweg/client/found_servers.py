"""The servers of a model, as they say themselves: what `ModelClient` takes in the place of a list.

kafka = with_broker(load_settings()).kafka
reader = KafkaReader(kafka, topics=(topic_name(SERVERS, kafka.topic_prefix),))
servers = FoundServers("digits", reader, clock=system_clock, steady=steady_clock)
with ModelClient("digits", servers) as model:
    ...
"""

import logging
import threading
from typing import Final

from thalweg.serving.announcements import Announced
from thalweg.streams.broker.consume import Reader
from thalweg.streams.broker.errors import StreamError
from thalweg.sync.clock import Clock

log: Final = logging.getLogger("thalweg.client")

LOOK_EVERY_MS: Final = 500
"""A server that goes answers for a second after it has said so."""


class FoundServers:
    """Of one model. Threads may share it; while the broker is away, those that were found last stay."""

    def __init__(self, model: str, reader: Reader, *, clock: Clock, steady: Clock) -> None:
        """Know nobody yet.

        Args:
            model: its name.
            reader: of the topic `servers`, from its beginning.
            clock: milliseconds since 1970, for who has not been heard lately.
            steady: milliseconds, for when to look again.
        """
        self._model = model
        self._announced = Announced(reader)
        self._clock, self._steady = clock, steady
        self._lock = threading.Lock()
        self._look_at: int | None = None

    def __call__(self) -> list[str]:
        """Return their addresses."""
        with self._lock:
            now = self._steady()
            if self._look_at is None or now >= self._look_at:
                self._look_at = now + LOOK_EVERY_MS
                self._look()
            return [status.url for status in self._announced.of(self._model, self._clock())]

    def _look(self) -> None:
        try:
            self._announced.refresh()
        except StreamError as error:
            log.warning("the servers of %s stay those that were found last: %s", self._model, error)
