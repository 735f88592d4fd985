"""What `sync_regions` says of a region: what its store has said, and nothing of what it has not said yet."""

from typing import Any

from thalweg.sync.centre.centre import Centre
from thalweg.sync.delta.contracts import SYNC_REGIONS
from thalweg.sync.protocol.changes import Assign
from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica
from thalweg.sync.tables.centre_row import CentreRow
from thalweg.sync.tables.replicate_tables import region_row

NOW = 1_700_000_000_000
AHEAD_MS = 7_000
SAID_BY_ITS_STORE = ("waiting", "position", "lag", "clock_offset_ms", "digest_agrees", "digest_position")


def row_of(centre: Centre, position: int = 0) -> dict[str, Any]:
    row = region_row(centre.regions["eu"], CentreRow(), position)
    assert set(row) <= set(SYNC_REGIONS.schema.names), "what no column takes nobody reads"
    return row


def joined(centre: Centre) -> Replica:
    replica = Replica("eu", MemoryStore())
    centre.merge_batch([replica.join(NOW)], NOW)
    epoch = centre.regions["eu"].epoch
    replica.apply([RegionEntry(region="eu", epoch=epoch, contiguous=0, centre_ms=NOW)], 1, NOW)
    return replica


def test_a_region_whose_store_has_not_spoken_says_nothing_of_its_clock_or_of_what_it_has_read() -> None:
    centre = Centre()
    joined(centre)
    said = row_of(centre, position=5)
    assert {name: said[name] for name in SAID_BY_ITS_STORE} == dict.fromkeys(SAID_BY_ITS_STORE)


def test_a_regions_clock_is_shown_by_how_far_it_is_ahead_or_behind_as_it_last_said() -> None:
    centre = Centre()
    replica = joined(centre)
    replica.write("k", (Assign("f", 1),), NOW)
    for ahead_ms in (AHEAD_MS, -AHEAD_MS, 0):
        centre.merge_batch([replica.heartbeat(NOW + 100 + ahead_ms)], NOW + 100)
        said = row_of(centre, position=5)
        assert said["clock_offset_ms"] == ahead_ms
        assert (said["waiting"], said["lag"]) == (1, 4), "one write is under way, and it has read the first of five"
