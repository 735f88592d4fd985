"""A replica's store in memory, for the simulator and the tests: what SQLite does, without the disk."""

from contextlib import AbstractContextManager, nullcontext

from thalweg.sync.protocol.changes import Change
from thalweg.sync.protocol.digests import bucket_of, digests_of
from thalweg.sync.protocol.entries import Update
from thalweg.sync.protocol.records import Record
from thalweg.sync.replica.state import ReplicaState

_AT_ONCE = nullcontext()


class MemoryStore:
    """A `ReplicaStore` of dicts."""

    __slots__ = ("bases", "changes", "records", "state", "updates")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.updates: dict[int, Update] = {}  # by sequence, ascending
        self.changes: dict[int, tuple[Change, ...]] = {}  # of the updates
        self.bases: dict[str, tuple[Record | None, int]] = {}  # by key: the base, the newest unconfirmed write
        self.state: ReplicaState | None = None

    def copy(self) -> "MemoryStore":
        """Return what a backup of the file would hold."""
        other = MemoryStore()
        other.records, other.updates, other.changes = dict(self.records), dict(self.updates), dict(self.changes)
        other.bases, other.state = dict(self.bases), self.state
        return other

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

    def keys(self) -> list[str]:
        """Return all keys."""
        return sorted(self.records)

    def add_unconfirmed(self, update: Update, changes: tuple[Change, ...]) -> None:
        """Keep a write."""
        self.updates[update.stamp.seq] = update
        self.changes[update.stamp.seq] = changes

    def unconfirmed(self, after_seq: int, limit: int) -> list[Update]:
        """Return kept writes after a sequence."""
        return [update for seq, update in self.updates.items() if seq > after_seq][:limit]

    def changes_of(self, seq: int) -> tuple[Change, ...] | None:
        """Return what a kept write changed."""
        return self.changes.get(seq)

    def confirm(self, through_seq: int) -> None:
        """Stop keeping writes."""
        for seq in [seq for seq in self.updates if seq <= through_seq]:
            del self.updates[seq], self.changes[seq]
        for key in [key for key, (_, seq) in self.bases.items() if seq <= through_seq]:
            del self.bases[key]

    def based(self, key: str) -> bool:
        """Say whether the record has unconfirmed writes."""
        return key in self.bases

    def base(self, key: str) -> Record | None:
        """Return the record without them."""
        return self.bases[key][0]

    def keep_base(self, key: str, record: Record | None, seq: int) -> None:
        """Keep a base for a write."""
        self.bases[key] = (self.bases[key][0] if key in self.bases else record, seq)

    def put_base(self, key: str, record: Record | None) -> None:
        """Replace a base."""
        self.bases[key] = (record, self.bases[key][1])

    def confirmed_below_others(self, through_seq: int) -> list[Update]:
        """Return kept writes whose records have later ones."""
        if not self.bases:
            return []
        return [u for seq, u in self.updates.items() if seq <= through_seq < self.bases[u.record.key][1]]
