"""What a replica refuses.

ReplicaError
├── NotJoinedError        the store has never met the centre
├── FencedError           the store is obsolete
├── RecordTooLargeError   a write would fit into no message
└── StoreUnusableError    the file is none of ours, or taken (`sync.replica.sqlite_store`)
"""

from thalweg.sync.protocol.records import MAX_RECORD_BYTES


class ReplicaError(Exception):
    """Base of what a replica refuses."""


class NotJoinedError(ReplicaError):
    """The store has never met the centre, so a write could bring back what was deleted and forgotten."""

    def __init__(self, region: str) -> None:
        super().__init__(f"replica of {region!r} has not joined yet; connect it to the broker once, then write offline")


class FencedError(ReplicaError):
    """A newer life of the region exists; this store is obsolete."""

    def __init__(self, region: str, epoch: int, current: int) -> None:
        super().__init__(
            f"replica of {region!r} has epoch {epoch}, but epoch {current} has joined since: this store is an old "
            "copy. Remove its file and start again; it will load a snapshot"
        )


class RecordTooLargeError(ReplicaError):
    """The record would not fit into a message."""

    def __init__(self, key: str, size_bytes: int) -> None:
        super().__init__(
            f"record {key[:80]!r} would be {size_bytes} bytes; allowed are {MAX_RECORD_BYTES}. Store the value "
            "elsewhere and replicate its address"
        )
