"""What of a replica is durable: its state, and the store in which it rests with records and unconfirmed writes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from thalweg.sync.protocol.changes import Change
from thalweg.sync.protocol.entries import Update
from thalweg.sync.protocol.openings import Opening
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.stamps import ZERO, Hlc


class ReplicaState(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica must not forget about itself."""

    region: str
    epoch: int = 0
    seq: int = 0  # newest write
    confirmed: int = 0  # every write up to here is durable at the centre
    clock: Hlc = ZERO
    position: int = 0  # everything published before this position is applied
    joined: bool = False
    current_epoch: int = 0  # of the region, as the centre last said; above `epoch` we are fenced
    topic: str = ""  # id of the replica topic that `position` lies in
    openings: tuple[Opening, ...] = ()  # of this file, in which the newest writes were made; ascending
    moving_from: int = 0  # writes from this sequence on go into a new life; 0: none
    copied: bool = False  # why: the centre has writes of this life that this store did not make
    reading_again: bool = False  # all there is, before the new life begins: this store was put back from a copy
    announced: bool = True  # False: the centre has not spoken of this life yet
    built_on: int | None = None  # position that the first writes of a life not announced build on
    ahead_ms: int = 0  # how far our wall clock was ahead when the centre last refused a stamp for it


class ReplicaStore(Protocol):
    """Where a replica's records, its unconfirmed writes and its state rest."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside durable as one, or not at all."""

    def load_state(self) -> ReplicaState | None:
        """Return the saved state; None for a new store."""

    def save_state(self, state: ReplicaState) -> None:
        """Save the state."""

    def get(self, key: str) -> Record | None:
        """Return a record, tombstones included."""

    def put(self, record: Record) -> None:
        """Add a record or replace it."""

    def drop(self, key: str) -> None:
        """Remove a record."""

    def keys_in(self, bucket: int) -> list[str]:
        """Return the keys of a bucket."""

    def bucket_digests(self) -> Sequence[int]:
        """Return the digest of every bucket."""

    def keys(self) -> list[str]:
        """Return the keys of all records, tombstones included, ascending."""

    def add_unconfirmed(self, update: Update, changes: tuple[Change, ...]) -> None:
        """Keep a write until the centre has it, and what it changed."""

    def unconfirmed(self, after_seq: int, limit: int) -> list[Update]:
        """Return kept writes after a sequence, ascending."""

    def changes_of(self, seq: int) -> tuple[Change, ...] | None:
        """Return what a kept write changed; None for one that an older version of the store has kept."""

    def confirm(self, through_seq: int) -> None:
        """Stop keeping writes up to this sequence, and the bases of records without later ones."""

    def based(self, key: str) -> bool:
        """Say whether the record has a base: it has unconfirmed writes."""

    def base(self, key: str) -> Record | None:
        """Return what the record is without the unconfirmed writes."""

    def keep_base(self, key: str, record: Record | None, seq: int) -> None:
        """Keep a record's base for an unconfirmed write; of one that has a base, only the newest write is noted."""

    def put_base(self, key: str, record: Record | None) -> None:
        """Replace a base."""

    def confirmed_below_others(self, through_seq: int) -> list[Update]:
        """Return the kept writes up to this sequence whose records have later ones, ascending."""
