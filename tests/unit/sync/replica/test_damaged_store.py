"""A damaged file of a replica: it is met with words that say what to do, or the replica works."""

import random
import sqlite3
from pathlib import Path

import pytest

from tests.damage import overwrite
from tests.unit.sync.replica.test_sqlite_store import NOW, joined
from thalweg.sync.protocol.changes import Assign
from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.replica.replica import Replica
from thalweg.sync.replica.sqlite_store import SqliteStore, StoreUnusableError

SEEDS = 250


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store of some dozen pages."""
    store = SqliteStore(tmp_path / "r.db")
    replica = joined(store)
    for number in range(120):
        replica.write(f"k{number % 90}", (Assign("f", "x" * 200),), NOW)
    store.close()
    return tmp_path / "r.db"


def start_and_work(file: Path) -> None:
    """Begin on the file, read all of it, write, and hear what has arrived."""
    store = SqliteStore(file)
    try:
        replica = Replica("eu", store)
        for key in store.keys("k"):
            replica.read(key)
        replica.outgoing()
        state = replica.state
        if state.joined:
            replica.write("k1", (Assign("f", 1),), NOW + 1)
            entry = RegionEntry(region="eu", epoch=state.epoch, contiguous=min(3, state.seq), centre_ms=NOW)
            replica.apply([entry], state.position + 1, NOW)
    finally:
        store.close()


def test_whatever_is_damaged_is_told_in_words_or_the_replica_works(file: Path) -> None:
    whole, told = file.read_bytes(), 0
    for seed in range(SEEDS):
        overwrite(file, whole, random.Random(seed))
        try:
            start_and_work(file)
        except StoreUnusableError as error:
            told += 1
            assert "ove" in str(error) and "away" in str(error) and str(file) in str(error), seed
    assert told > SEEDS // 3


@pytest.mark.parametrize(
    "how",
    [
        "DROP TABLE bases",
        "ALTER TABLE unconfirmed DROP COLUMN changes",
        "UPDATE records SET bucket = 70000",
        "UPDATE records SET hash = 'text'",
        "UPDATE records SET state = x'7b'",
        "UPDATE replica SET state = x'ff'",
        "UPDATE unconfirmed SET message = x'7b7d'",
        "PRAGMA user_version = 99",
    ],
)
def test_a_file_of_another_kind_is_told_as_a_damaged_one(file: Path, how: str) -> None:
    with sqlite3.connect(file) as db:
        db.executescript(how)
    db.close()
    with pytest.raises(StoreUnusableError, match="away"):
        start_and_work(file)


def test_damage_while_it_runs_is_told_in_words(file: Path) -> None:
    store = SqliteStore(file)
    replica = Replica("eu", store)
    store._db.execute("PRAGMA cache_size = 1")
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(StoreUnusableError, match="Move it away"):
        [replica.read(key) for key in store.keys("k")]
    with pytest.raises(StoreUnusableError, match="Move it away"):
        replica.write("k1", (Assign("f", 2),), NOW)
    store.close()
