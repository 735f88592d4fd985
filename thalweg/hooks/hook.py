"""Tell one web address of every end of a task, in the order of the topic, each at least once.

Each address has its own place in the topic, kept in a file once an event was taken or given up, so that one that is
away holds up no other. An event that comes twice has the same id.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from thalweg.hooks.post import Delivery
from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import TaskEnd

log = logging.getLogger("thalweg.hooks")

LONGEST_PAUSE_S: Final = 300.0
_POLL_MS: Final = 500
_END: Final = msgspec.json.Decoder(TaskEnd)

Place = tuple[str, int]
"""Topic and partition."""


def pauses(give_up_after_s: float) -> Iterator[float]:
    """Give the seconds between attempts: twice as long each time, until so long has been waited in all."""
    pause, waited = 1.0, 0.0
    while waited < give_up_after_s:
        yield pause
        waited += pause
        pause = min(2 * pause, LONGEST_PAUSE_S)


class HookPosition:
    """How far one address has been told, in a file."""

    def __init__(self, folder: Path, url: str) -> None:
        """Open it; the folder is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"
        self._url = url
        self.offsets: dict[Place, int] = {}
        if self._path.is_file():
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self.offsets = {(topic, partition): offset for topic, partition, offset in stored["offsets"]}

    def save(self, offsets: dict[Place, int]) -> None:
        """Keep the next offset of each partition."""
        self.offsets = {**self.offsets, **offsets}
        told = [[topic, partition, offset] for (topic, partition), offset in sorted(self.offsets.items())]
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps({"url": self._url, "offsets": told}), encoding="utf-8")
        os.replace(beside, self._path)


class Hook:
    """Tells one address. For one thread."""

    def __init__(
        self,
        url: str,
        position: HookPosition,
        send: Callable[[bytes, str], Delivery],
        *,
        states: frozenset[str],
        give_up_after_s: float,
        stop: threading.Event,
    ) -> None:
        """Prepare.

        Args:
            url: for the log.
            position: from where it goes on.
            send: sends a body with an event's id.
            states: ends in other states are passed over.
            give_up_after_s: an event that was not taken for so long is left out, and said.
            stop: ends the pause between attempts.
        """
        self._url = url
        self._position = position
        self._send = send
        self._states = states
        self._give_up_after_s = give_up_after_s
        self._stop = stop

    def follow(self, reader: Reader) -> None:
        """Tell what comes until it is stopped."""
        if not self._position.offsets:
            self._position.save(reader.end_offsets())  # a new address hears of what comes, not of what was
        while not self._stop.is_set():
            for record in reader.poll(_POLL_MS):
                if self._stop.is_set():
                    return
                if record.offset >= self._position.offsets.get((record.topic, record.partition), 0):
                    self._tell(record)

    def _tell(self, record: IncomingRecord) -> None:
        try:
            event = decoded(_END, record.value)
        except UndecodableError as error:
            log.warning("a record of %s is no end of a task: %s", record.topic, error)
        else:
            if event.state in self._states and not self._delivered(record.value or b"", event):
                return  # stopped: it is told again at the next start
        self._position.save({(record.topic, record.partition): record.offset + 1})

    def _delivered(self, body: bytes, event: TaskEnd) -> bool:
        """Send an event until it is taken or given up; False where it was stopped before."""
        for pause_s in (0.0, *pauses(self._give_up_after_s)):
            if self._stop.wait(pause_s):
                return False
            made = self._send(body, event.event_id)
            if made.done:
                return True
            log.warning("%s did not take the end of %s: %s", self._url, event.task_id, made.words)
            if not made.again:
                return True
        log.error("%s was not told of the end of %s: given up", self._url, event.task_id)
        return True
