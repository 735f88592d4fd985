from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.unit.jobs.replication.test_replicator import Stage, put
from thalweg.streams.contract.state_messages import encode_batch
from thalweg.sync.centre.centre import ReplicaSnapshot
from thalweg.sync.protocol.changes import Assign
from thalweg.sync.protocol.stamps import ZERO
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica
from thalweg.sync.tables.snapshots import ReplicaSnapshotError, read_snapshot, take_snapshot, write_snapshot

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_region_that_joins_late_starts_from_the_file_and_reads_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "warehouse")
    eu = stage.join("eu")
    for n in range(50):
        put(eu, f"k{n}", Assign("f", n))
    stage.exchange(eu)
    size = write_snapshot(tmp_path / "s.gz", take_snapshot(str(tmp_path / "warehouse")), "t", NOW)
    assert size < 5_000
    put(eu, "k0", Assign("f", "later"))
    stage.exchange(eu)
    found = read_snapshot(tmp_path / "s.gz", "t", NOW)
    late = Replica("us", MemoryStore())
    late.restore(found.records, found.position, found.clock)
    assert late.state.position == found.position > 50 and late.read("k49") == {"f": 49}
    stage.take(stage.inputs("us", [encode_batch([late.join(stage.now)])]))
    stage.read(late, eu)
    assert late.state.joined and late.read("k0") == {"f": "later"}
    assert late.store.bucket_digests() == eu.store.bucket_digests()


def test_a_snapshot_that_could_bring_back_the_forgotten_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.gz"
    write_snapshot(path, ReplicaSnapshot(records=(), position=3, clock=ZERO), "t", NOW)
    assert read_snapshot(path, "t", NOW + timedelta(hours=12)).position == 3
    with pytest.raises(ReplicaSnapshotError, match="Make a new one"):
        read_snapshot(path, "t", NOW + timedelta(hours=12, seconds=1))
    with pytest.raises(ReplicaSnapshotError, match="installation is 'other'"):
        read_snapshot(path, "other", NOW)
    path.write_bytes(b"nonsense")
    with pytest.raises(ReplicaSnapshotError, match="cannot be read"):
        read_snapshot(path, "t", NOW)


def test_there_is_no_snapshot_before_the_job_has_written(tmp_path: Path) -> None:
    Stage(tmp_path)
    with pytest.raises(ReplicaSnapshotError, match="start jobs/replicate"):
        take_snapshot(str(tmp_path))
    assert DeltaTable(str(tmp_path / "records")).version() == 0
