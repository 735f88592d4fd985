"""What servers say of themselves, and who is there by it: records of the topic `servers`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.broker.publish import OutgoingRecord, outgoing
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import ServerStatus
from thalweg.streams.contract.topics import SERVERS, topic_name

GONE_AFTER_MS: Final = 30_000
"""A server says something every few seconds; one that was not heard for so long has been killed or cut off."""
_STATUS: Final = msgspec.json.Decoder(ServerStatus)


def key_of_server(model: str, server: str) -> str:
    """Name a server's record."""
    return f"{model}/{server}"


def write_status(status: ServerStatus, prefix: str, now_ms: int) -> OutgoingRecord:
    """Make the record of a server's status."""
    event = Envelope(
        event_id=content_id("server", status.model, status.server, now_ms),
        source=f"/thalweg/serving/{status.region}",
        event_type="serving.status",
        time_ms=now_ms,
    )
    return outgoing(SERVERS, prefix, status, key=key_of_server(status.model, status.server), event=event)


def write_gone(model: str, server: str, prefix: str) -> OutgoingRecord:
    """Make the record that says that a server has gone."""
    return OutgoingRecord(topic=topic_name(SERVERS, prefix), key=key_of_server(model, server).encode(), value=None)


@dataclass(slots=True)
class Announced:
    """Servers, as far as has been read."""

    reader: Reader
    """Of the topic `servers`, from its beginning."""
    _heard: dict[bytes, tuple[int, ServerStatus]] = field(default_factory=dict)
    """By key: the broker's time, and the newest status."""

    def refresh(self, timeout_ms: int = 0) -> None:
        """Read what has arrived; what is no status is passed over.

        Raises:
            BrokerUnavailableError: nobody answers; what was read stays.
        """
        for record in self.reader.poll(timeout_ms):
            self._take(record)

    def of(self, model: str, now_ms: int) -> list[ServerStatus]:
        """Return the servers of a model that answer, by name.

        Args:
            model: name of the model.
            now_ms: milliseconds since 1970; who was not heard lately is left out, unless nobody was: then the broker
                has been away, or the clock is wrong, and the servers may well be there.
        """
        own = {key: (at, status) for key, (at, status) in self._heard.items() if status.model == model}
        fresh = {key: found for key, found in own.items() if now_ms - found[0] <= GONE_AFTER_MS}
        return [status for _, (_, status) in sorted((fresh or own).items()) if status.version]

    def all(self) -> Mapping[str, tuple[int, ServerStatus]]:
        """Return every server that has not said that it has gone, with the broker's time of its last word."""
        return {key.decode(errors="replace"): found for key, found in sorted(self._heard.items())}

    def _take(self, record: IncomingRecord) -> None:
        if record.key is None:
            return
        if record.value is None:
            self._heard.pop(record.key, None)
            return
        try:
            self._heard[record.key] = (record.timestamp_ms, decoded(_STATUS, record.value))
        except UndecodableError:
            return
