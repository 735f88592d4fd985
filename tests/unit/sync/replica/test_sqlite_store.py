"""The file a region trusts: the same as memory, through restarts, kills and foreign files."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.sync.protocol.changes import Assign
from thalweg.sync.protocol.digests import digests_of
from thalweg.sync.protocol.entries import RecordEntry, RegionEntry, Update
from thalweg.sync.protocol.openings import Opening
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.stamps import Hlc, Stamp
from thalweg.sync.replica import sqlite_store
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica, ReplicaError
from thalweg.sync.replica.sqlite_store import SqliteStore, StoreUnusableError

NOW = 1_700_000_000_000


def joined(store: SqliteStore | MemoryStore, region: str = "eu") -> Replica:
    replica = Replica(region, store)
    epoch = replica.join(NOW).epoch
    replica.apply([RegionEntry(region=region, epoch=epoch, contiguous=replica.state.confirmed, centre_ms=NOW)], 1, NOW)
    return replica


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "drop", "base", "confirm", "fail", "reopen"]),
            st.text(min_size=1, max_size=2),
            st.integers(0, 9),
        ),
        max_size=25,
    )
)
def test_the_file_holds_what_memory_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "replica.db"
    disk, memory = SqliteStore(path), MemoryStore()
    for seq, (kind, key, number) in enumerate(steps, start=1):
        if kind == "put":
            record = Record(key=key, written=Hlc(number, 0, "eu"), vector={"eu@1": number})
            stamp = Stamp(ms=number, counter=0, region="eu", epoch=1_000_000, seq=seq)
            for store in (disk, memory):
                with store.transaction():
                    store.keep_base(key, store.get(key), seq)
                    store.put(record)
                    store.add_unconfirmed(Update(record, stamp, ()), (Assign("f", number),))
        elif kind == "drop":
            for store in (disk, memory):
                store.drop(key)
        elif kind == "base":
            for store in (disk, memory):
                if store.based(key):
                    store.put_base(key, store.get(key))
        elif kind == "confirm":
            for store in (disk, memory):
                store.confirm(seq - number)
        elif kind == "fail":
            # Half of an inner transaction fails alone, the outer one with what was before it stands.
            with disk.transaction():
                disk.drop("outer")
                with pytest.raises(ZeroDivisionError), disk.transaction():
                    disk.put(Record(key=key, written=Hlc(0, 0, "x"), vector={"x@1": 1}))
                    disk.keep_base(key + "?", None, seq)
                    disk.confirm(seq)
                    raise ZeroDivisionError
        elif kind == "reopen":
            disk.close()
            disk = SqliteStore(path)
        assert list(disk.bucket_digests()) == memory.bucket_digests()
        assert disk.get(key) == memory.get(key)
        assert disk.unconfirmed(number, 5) == memory.unconfirmed(number, 5)
        assert disk.changes_of(seq) == memory.changes_of(seq)
        assert disk.confirmed_below_others(number) == memory.confirmed_below_others(number)
        assert disk.based(key) == memory.based(key) and (not disk.based(key) or disk.base(key) == memory.base(key))
    assert disk.keys() == sorted(memory.records)
    disk.close()


def test_so_many_records_are_kept_in_memory_and_the_file_answers_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_CACHED", 3)
    store = SqliteStore(tmp_path / "r.db")
    records = [Record(key=f"k{n}", written=Hlc(n, 0, "eu"), vector={"eu@1": n}) for n in range(1, 9)]
    for record in records:
        store.put(record)
        assert len(store._cache) <= 3
    for record in reversed(records):
        assert store.get(record.key) == record
        assert len(store._cache) <= 3
    store.close()


def test_writes_survive_a_restart_and_the_clock_does_not_go_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "r.db")
    replica = joined(store)
    last = [replica.write(f"k{n}", (Assign("f", n),), NOW) for n in range(5)][-1]
    store.close()
    again = Replica("eu", SqliteStore(tmp_path / "r.db"))
    assert again.read("k3") == {"f": 3}
    assert [update.stamp.seq for update in again.outgoing()] == [1, 2, 3, 4, 5]
    next_write = again.write("k9", (Assign("f", 9),), NOW - 3_600_000)
    assert next_write.stamp.seq == 6 and next_write.stamp.hlc > last.stamp.hlc


def test_what_fails_half_way_never_happened(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "r.db")
    replica = joined(store)
    replica.write("k", (Assign("f", 1),), NOW)
    before, digests = replica.state, list(store.bucket_digests())
    record = Record(key="other", written=Hlc(NOW, 0, "us"), vector={"us@1": 1})
    with pytest.raises(AttributeError):
        replica.apply([RecordEntry(record), RecordEntry(None)], 9, NOW)  # type: ignore[arg-type]
    assert replica.state == before == store.load_state()
    assert store.get("other") is None and list(store.bucket_digests()) == digests == digests_of([store.get("k")])  # type: ignore[list-item]


def test_a_block_of_writes_that_fails_leaves_nothing_and_the_next_write_is_dense(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "r.db")
    replica = joined(store)
    replica.write("a", (Assign("x", 1),), NOW)
    with pytest.raises(ZeroDivisionError), replica.together():
        replica.write("b", (Assign("x", 1),), NOW)
        replica.write("c", (Assign("x", 1),), NOW)
        raise ZeroDivisionError
    replica.write("d", (Assign("x", 1),), NOW)
    assert [update.stamp.seq for update in store.unconfirmed(0, 9)] == [1, 2]
    assert replica.state == store.load_state() and replica.state.seq == 2
    assert replica.read("b") is None and store.keys() == ["a", "d"]


def test_a_file_of_the_first_version_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    store = SqliteStore(path)
    replica = joined(store)
    replica.write("k", (Assign("f", 1),), NOW)
    store.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE old AS SELECT seq, message FROM unconfirmed; DROP TABLE unconfirmed; DROP TABLE bases;"
            "CREATE TABLE unconfirmed (seq INTEGER PRIMARY KEY, message BLOB NOT NULL);"
            "INSERT INTO unconfirmed SELECT * FROM old; DROP TABLE old; PRAGMA user_version = 1;"
        )
    store = SqliteStore(path)
    again = Replica("eu", store)
    assert [update.stamp.seq for update in again.outgoing()] == [1] and store.changes_of(1) is None
    assert again.write("k", (Assign("f", 2),), NOW + 1).stamp.seq == 2
    # What an old version kept cannot be made again in another life, so such a store is told that it is obsolete.
    other = RegionEntry(
        region="eu", epoch=again.state.epoch, contiguous=5, centre_ms=NOW, openings=(Opening(0, 77),), newest=5
    )
    again = Replica("eu", store, token=5)
    again.apply([other], 2, NOW)
    assert again.settle(2, NOW) and not again.settle(2, NOW)
    again.apply([other], 2, NOW)
    again.settle(2, NOW)
    assert again.fenced and len(store.unconfirmed(0, 9)) == 2


def test_a_second_process_is_told_that_the_file_is_taken(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "r.db")
    with pytest.raises(StoreUnusableError, match="another process"):
        SqliteStore(tmp_path / "r.db")
    store.close()
    SqliteStore(tmp_path / "r.db").close()


def test_a_foreign_or_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnusableError, match="cannot read"):
        SqliteStore(damaged)
    assert damaged.read_bytes().startswith(b"this is no database")
    with sqlite3.connect(tmp_path / "foreign.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreUnusableError, match="application id 0x0"):
        SqliteStore(tmp_path / "foreign.db")


def test_a_store_belongs_to_one_region(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "r.db")
    joined(store)
    with pytest.raises(ReplicaError, match="'eu', not to 'us'"):
        Replica("us", store)


WRITER = """
import sys
from pathlib import Path
from thalweg.sync.protocol.changes import Assign
from thalweg.sync.replica.replica import Replica
from thalweg.sync.replica.sqlite_store import SqliteStore
replica = Replica("eu", SqliteStore(Path(sys.argv[1])))
number = replica.state.seq
while True:
    number += 1
    replica.write(f"k{number % 50}", (Assign("f", number),), 1_700_000_000_000)
    print(number, flush=True)
"""


def test_no_accepted_write_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    store = SqliteStore(path)
    joined(store)
    store.close()
    accepted = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.15)
        os.kill(process.pid, signal.SIGKILL)
        printed = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        accepted = max([accepted, *(int(word) for word in printed if word.isdigit())])
        store = SqliteStore(path)
        replica = Replica("eu", store)
        # One more than was printed may be durable: killed between the commit and the print.
        assert accepted <= replica.state.seq <= accepted + 1
        updates = replica.outgoing(1_000_000)
        assert [update.stamp.seq for update in updates] == list(range(1, replica.state.seq + 1))
        assert replica.read(f"k{replica.state.seq % 50}") == {"f": replica.state.seq}
        stamps = [update.stamp.hlc for update in updates]
        assert stamps == sorted(set(stamps))
        accepted = replica.state.seq
        store.close()
    assert accepted > 3
