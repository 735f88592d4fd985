"""A replica's durable store: one SQLite file in WAL mode.

A transaction is on the disk when it returns (`synchronous=FULL`), so a write that was accepted survives a kill of the
process and a loss of power. One process owns a file at a time; several threads may share one store under the owner's
own lock.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from thalweg.sync.protocol.changes import Change
from thalweg.sync.protocol.digests import BUCKETS, bucket_of, encoded_hash
from thalweg.sync.protocol.entries import Update
from thalweg.sync.protocol.records import Record, decode_record, encode_record
from thalweg.sync.replica.errors import ReplicaError
from thalweg.sync.replica.state import ReplicaState
from thalweg.sync.watched_sqlite import FileFault, WatchedFile, open_file

_APPLICATION_ID: Final = 0x7468_616C  # "thal": tells our file from any other SQLite file
_VERSION: Final = 2
_BASES: Final = "CREATE TABLE bases (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, state BLOB) WITHOUT ROWID;"
_TABLES: Final = f"""
CREATE TABLE records (key TEXT PRIMARY KEY, bucket INTEGER NOT NULL, hash INTEGER NOT NULL, state BLOB NOT NULL)
    WITHOUT ROWID;
CREATE INDEX records_by_bucket ON records (bucket);
CREATE TABLE unconfirmed (seq INTEGER PRIMARY KEY, message BLOB NOT NULL, key TEXT, changes BLOB);
{_BASES}
CREATE TABLE replica (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
"""
_SCHEMA: Final = f"""{_TABLES}
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""
_FROM_1: Final = f"""
ALTER TABLE unconfirmed ADD COLUMN key TEXT;
ALTER TABLE unconfirmed ADD COLUMN changes BLOB;
{_BASES}
PRAGMA user_version = {_VERSION};
"""
# Decoded records kept for reading; a hundred thousand small records are some tens of megabytes.
_CACHED: Final = 100_000
_SIGNED: Final = 1 << 63

_IF_DAMAGED: Final = "Move it away and let a new one load a snapshot"

Kept = TypeVar("Kept")

_ENCODER: Final = msgspec.json.Encoder()
_UPDATE: Final = msgspec.json.Decoder(Update)
_STATE: Final = msgspec.json.Decoder(ReplicaState)
_CHANGES: Final = msgspec.json.Decoder(tuple[Change, ...])


class StoreUnusableError(ReplicaError):
    """The file is not a replica's store, or cannot be opened as one."""

    def __init__(self, path: Path, seen: str, remedy: str) -> None:
        super().__init__(f"replica store {path}: {seen}. {remedy}")
        self.path = path


class SqliteStore:
    """A `ReplicaStore` in a file."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            StoreUnusableError: Another process has it open, it is something else, or it is damaged. So says, then and
                later, whatever reads or writes it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _own(path)
        self._depth = 0
        self._cache: dict[str, Record] = {}
        try:
            self._db = _open(path)
            self._read_back()
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        os.close(self._lock)

    # ---- transactions --------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens inside durable as one; one within another can fail alone."""
        name = f"level_{self._depth}"
        self._db.execute(f"SAVEPOINT {name}" if self._depth else "BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
            self._db.execute(f"RELEASE {name}" if self._depth > 1 else "COMMIT")
        except BaseException:
            with suppress(StoreUnusableError):  # what failed says more than what is then tried in vain
                if self._db.in_transaction:  # a full disk ends all of it
                    self._db.execute(f"ROLLBACK TO {name}" if self._depth > 1 else "ROLLBACK")
                    if self._depth > 1:
                        self._db.execute(f"RELEASE {name}")
                self._read_back()
            raise
        finally:
            self._depth -= 1

    def _read_back(self) -> None:
        """Know again what the file holds, and nothing else."""
        self._cache.clear()
        self._buckets = self._read_digests()
        self._based = {row[0] for row in self._db.execute("SELECT key FROM bases")}

    # ---- records -------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Record | None:
        """Return a record."""
        found = self._cache.get(key)
        if found is None:
            row = self._db.execute("SELECT state FROM records WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            found = self._decoded(decode_record, row[0])
            self._remember(found)
        return found

    def put(self, record: Record) -> None:
        """Add or replace."""
        encoded = encode_record(record)
        bucket, new_hash = bucket_of(record.key), encoded_hash(encoded)
        self._buckets[bucket] ^= self._hash_of(record.key) ^ new_hash
        self._db.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, state = excluded.state",
            (record.key, bucket, new_hash - _SIGNED, encoded),
        )
        self._remember(record)

    def drop(self, key: str) -> None:
        """Remove."""
        self._buckets[bucket_of(key)] ^= self._hash_of(key)
        self._db.execute("DELETE FROM records WHERE key = ?", (key,))
        self._cache.pop(key, None)

    def keys_in(self, bucket: int) -> list[str]:
        """Return the keys of a bucket."""
        return [row[0] for row in self._db.execute("SELECT key FROM records WHERE bucket = ?", (bucket,))]

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all records, tombstones included, that start with the prefix, ascending."""
        rows = self._db.execute("SELECT key FROM records WHERE key >= ? ORDER BY key", (prefix,))
        keys = []
        for (key,) in rows:
            if not key.startswith(prefix):
                break
            keys.append(key)
        return keys

    def bucket_digests(self) -> list[int]:
        """Return the digest of every bucket."""
        return self._buckets

    def _hash_of(self, key: str) -> int:
        row = self._db.execute("SELECT hash FROM records WHERE key = ?", (key,)).fetchone()
        return int(row[0]) + _SIGNED if row else 0

    def _read_digests(self) -> list[int]:
        buckets = [0] * BUCKETS
        for bucket, signed in self._db.execute("SELECT bucket, hash FROM records"):
            if not 0 <= bucket < BUCKETS:
                raise self._db.damaged(f"a record lies in bucket {bucket} of {BUCKETS}")
            buckets[bucket] ^= signed + _SIGNED
        return buckets

    def _decoded(self, decode: Callable[[bytes], Kept], stored: bytes) -> Kept:
        try:
            return decode(stored)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._db.damaged(f"what it keeps cannot be read ({error})") from error

    def _remember(self, record: Record) -> None:
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        self._cache[record.key] = record

    # ---- own writes and state ------------------------------------------------------------------------------------

    def add_unconfirmed(self, update: Update, changes: tuple[Change, ...]) -> None:
        """Keep a write."""
        self._db.execute(
            "INSERT INTO unconfirmed VALUES (?, ?, ?, ?)",
            (update.stamp.seq, _ENCODER.encode(update), update.record.key, _ENCODER.encode(changes)),
        )

    def unconfirmed(self, after_seq: int, limit: int) -> list[Update]:
        """Return kept writes after a sequence."""
        rows = self._db.execute(
            "SELECT message FROM unconfirmed WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
        )
        return [self._decoded(_UPDATE.decode, row[0]) for row in rows]

    def changes_of(self, seq: int) -> tuple[Change, ...] | None:
        """Return what a kept write changed."""
        row = self._db.execute("SELECT changes FROM unconfirmed WHERE seq = ?", (seq,)).fetchone()
        return None if row is None or row[0] is None else self._decoded(_CHANGES.decode, row[0])

    def confirm(self, through_seq: int) -> None:
        """Stop keeping writes."""
        self._db.execute("DELETE FROM unconfirmed WHERE seq <= ?", (through_seq,))
        if self._based:
            gone = self._db.execute("DELETE FROM bases WHERE seq <= ? RETURNING key", (through_seq,))
            self._based.difference_update(row[0] for row in gone.fetchall())

    def based(self, key: str) -> bool:
        """Say whether the record has unconfirmed writes."""
        return key in self._based

    def base(self, key: str) -> Record | None:
        """Return the record without them."""
        (state,) = self._db.execute("SELECT state FROM bases WHERE key = ?", (key,)).fetchone()
        return None if state is None else self._decoded(decode_record, state)

    def keep_base(self, key: str, record: Record | None, seq: int) -> None:
        """Keep a base for a write."""
        if key in self._based:
            self._db.execute("UPDATE bases SET seq = ? WHERE key = ?", (seq, key))
            return
        state = None if record is None else encode_record(record)
        self._db.execute("INSERT INTO bases VALUES (?, ?, ?)", (key, seq, state))
        self._based.add(key)

    def put_base(self, key: str, record: Record | None) -> None:
        """Replace a base."""
        state = None if record is None else encode_record(record)
        self._db.execute("UPDATE bases SET state = ? WHERE key = ?", (state, key))

    def confirmed_below_others(self, through_seq: int) -> list[Update]:
        """Return kept writes whose records have later ones."""
        if not self._based:
            return []
        rows = self._db.execute(
            "SELECT message FROM unconfirmed JOIN bases USING (key) "
            "WHERE unconfirmed.seq <= ? AND bases.seq > ? ORDER BY unconfirmed.seq",
            (through_seq, through_seq),
        )
        return [self._decoded(_UPDATE.decode, row[0]) for row in rows]

    def load_state(self) -> ReplicaState | None:
        """Return the saved state."""
        row = self._db.execute("SELECT state FROM replica").fetchone()
        return self._decoded(_STATE.decode, row[0]) if row else None

    def save_state(self, state: ReplicaState) -> None:
        """Save the state."""
        self._db.execute("INSERT OR REPLACE INTO replica VALUES (1, ?)", (_ENCODER.encode(state),))


def _own(path: Path) -> int:
    """Take the file's lock; the kernel gives it back when the process ends, however it ends."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StoreUnusableError(
            path, "another process has it open", "Stop that process, or give this one a file of its own"
        ) from None
    return lock


def _open(path: Path) -> WatchedFile:
    def told(fault: FileFault) -> StoreUnusableError:
        return StoreUnusableError(path, f"SQLite cannot read or write it ({fault.seen})", fault.remedy(_IF_DAMAGED))

    db = open_file(path, told, isolation_level=None, check_same_thread=False)
    try:
        _set_up(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: WatchedFile, path: Path) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    ours = application == _APPLICATION_ID and version in (1, _VERSION)
    if not ours and not (empty and application == 0):
        raise StoreUnusableError(
            path,
            f"application id {application:#x}, version {version}; expected {_APPLICATION_ID:#x}, version {_VERSION}",
            "Name another file, or move this one away and let a new one load a snapshot",
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if empty:
        # executescript commits first; one BEGIN around all of it makes a half-made file impossible.
        db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
    elif version == 1:
        db.executescript(f"BEGIN;{_FROM_1}COMMIT;")
    db.check_pages()
    db.check_tables(_TABLES)
