"""What can go wrong at the Kafka edge.

StreamError
├── BrokerUnavailableError     nobody answers at the bootstrap servers; try again
├── ForeignClusterError        another cluster than before answers there; the own one counts as unavailable
├── NotAcknowledgedError       records were handed over but not all were acknowledged in time; publish them again
├── MessageTooLargeError       refused before sending; make it smaller
├── UnreadableError            records lie in a topic that this client cannot read: a codec it lacks, damage
├── TopicGoneError            the topic of a log that is told from its beginning is there no more; start anew
├── TopicMismatchError         a topic exists with other partitions than its contract says
└── FenceError                 the fence's file is not one, or belongs to another consumer
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from thalweg.conf.words import cut_short
from thalweg.scheduling.counted import counted

CODECS: Final = ("gzip", "snappy", "lz4", "zstd")


class StreamError(Exception):
    """Base of what can go wrong at the Kafka edge."""


class ForeignClusterError(StreamError):
    """Another Kafka cluster than before answers at an address; nothing is read there and nothing sent."""

    def __init__(self, address: str, *, found: str, meant: str) -> None:
        super().__init__(
            f"another Kafka cluster answers at {address}: {found}, where this process began with {meant}. Nothing is "
            "read from it and nothing sent to it; this process waits for its own. If the cluster was made anew on "
            "purpose, start this process again"
        )
        self.found = found
        self.meant = meant


class BrokerUnavailableError(StreamError):
    """Nobody answers at the bootstrap servers, or not who is meant."""

    def __init__(self, bootstrap_servers: str, cause: BaseException) -> None:
        super().__init__(
            str(cause)
            if isinstance(cause, ForeignClusterError)
            else f"no Kafka broker answers at {bootstrap_servers} ({type(cause).__name__}). Start one with `thalweg "
            "up`, or name another with kafka.bootstrap_servers"
        )
        self.bootstrap_servers = bootstrap_servers


class NotAcknowledgedError(StreamError):
    """Some records were not acknowledged in time. They may or may not have been written: publish them again."""

    def __init__(self, unacknowledged: int, total: int, timeout_ms: int, topics: Sequence[str], cause: str) -> None:
        super().__init__(
            f"{unacknowledged} of {counted(total, 'record')} not acknowledged within {timeout_ms} ms (topics: "
            f"{', '.join(topics)}; {cause}). Publishing the same records again is safe: their ids are derived from "
            "their content"
        )
        self.unacknowledged = unacknowledged
        self.total = total


class MessageTooLargeError(StreamError):
    """A record is larger than its topic allows; nothing was sent."""

    def __init__(self, topic: str, key: bytes | None, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"topic {topic!r}, key {(key or b'')[:80]!r}: the record takes {size_bytes:,} bytes, allowed are "
            f"{limit_bytes:,}. Nothing was sent; keep bulk out of messages and send its address instead"
        )
        self.topic = topic
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class UnreadableError(StreamError):
    """Records that this client cannot read: they are compressed in a way it does not know, or damaged.

    Reading does not go on behind them by itself: what is passed over is lost.
    """

    def __init__(self, topics: Sequence[str], cause: BaseException) -> None:
        super().__init__(
            f"topics {cut_short(', '.join(topics))}: records that cannot be read ({type(cause).__name__}: "
            f"{cut_short(str(cause))}). Readable are uncompressed records and {', '.join(CODECS)}: install what is "
            "missing (`./run doctor` installs the locked packages), or set the topic's compression.type to one of these"
        )


class TopicGoneError(StreamError):
    """A topic of which each record has its place is there no more: what is written on would mean other places."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"topic {topic} was deleted while this job wrote to it: the job starts anew, makes it, and tells "
            "everything again"
        )
        self.topic = topic


class TopicMismatchError(StreamError):
    """A topic exists with fewer partitions than its contract says."""

    def __init__(self, topic: str, seen: int, wanted: int) -> None:
        super().__init__(
            f"topic {topic!r} has {counted(seen, 'partition')}, its contract says {wanted}. Adding partitions would "
            "move keys between them; choose another kafka.topic_prefix, or delete the topic while nothing runs"
        )


class StoreFullError(StreamError):
    """The fence's file takes no more: the disk is full, or cannot be written."""

    def __init__(self, path: Path, seen: str) -> None:
        super().__init__(
            f"{path} cannot be written ({seen}): the disk is full, or does not work. Free space where it lies; what "
            "was committed is whole"
        )
        self.path = path


class FenceError(StreamError):
    """The fence's file cannot be used as it is."""

    def __init__(self, path: Path, seen: str, remedy: str) -> None:
        super().__init__(f"fence {path}: {seen}. {remedy}")
        self.path = path
