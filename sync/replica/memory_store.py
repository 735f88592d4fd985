"""A replica's store in memory, for the simulator and the tests: what SQLite does, without the disk."""

from contextlib import AbstractContextManager, nullcontext

from thalweg.sync.protocol.digests import bucket_of, digests_of
from thalweg.sync.protocol.entries import Update
from thalweg.sync.protocol.records import Record
from thalweg.sync.replica.replica import ReplicaState

_AT_ONCE = nullcontext()


class MemoryStore:
    """A `ReplicaStore` of dicts."""

    __slots__ = ("records", "state", "updates")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.updates: dict[int, Update] = {}  # by sequence, ascending
        self.state: ReplicaState | None = None

    def transaction(self) -> AbstractContextManager[object]:
        """Nothing can fail between two statements here."""
        return _AT_ONCE

    def load_state(self) -> ReplicaState | None:
        """Return the saved state."""
        return self.state

    def save_state(self, state: ReplicaState) -> None:
        """Save the state."""
        self.state = state

    def get(self, key: str) -> Record | None:
        """Return a record."""
        return self.records.get(key)

    def put(self, record: Record) -> None:
        """Add or replace."""
        self.records[record.key] = record

    def drop(self, key: str) -> None:
        """Remove."""
        self.records.pop(key, None)

    def keys_in(self, bucket: int) -> list[str]:
        """Return the keys of a bucket."""
        return [key for key in self.records if bucket_of(key) == bucket]

    def bucket_digests(self) -> list[int]:
        """Return the digest of every bucket."""
        return digests_of(self.records.values())

    def add_unconfirmed(self, update: Update) -> None:
        """Keep a write."""
        self.updates[update.stamp.seq] = update

    def unconfirmed(self, after_seq: int, limit: int) -> list[Update]:
        """Return kept writes after a sequence."""
        return [update for seq, update in self.updates.items() if seq > after_seq][:limit]

    def confirm(self, through_seq: int) -> None:
        """Stop keeping writes."""
        for seq in [seq for seq in self.updates if seq <= through_seq]:
            del self.updates[seq]
