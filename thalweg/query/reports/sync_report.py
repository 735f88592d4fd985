"""How far every region's replication is: lag, gaps, conflicts, clock, digests."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader
from thalweg.sync.tables.centre_row import CENTRE_ROW

_SHOWN: Final = 10


def sync_document(warehouse: str, as_of: AsOf | None, now: datetime) -> dict[str, Any]:
    """Gather what `thalweg sync --json` prints.

    Args:
        warehouse: folder or URI.
        as_of: the past, or None for now.
        now: the moment that ages count from.
    """
    with TableReader(warehouse, as_of) as reader:
        return _document(reader.dicts, now)


def _document(rows: Callable[[str], list[dict[str, Any]]], now: datetime) -> dict[str, Any]:
    gaps = rows("SELECT * FROM sync_gaps WHERE status = 'open' ORDER BY region, epoch, first_seq")
    regions = []
    for row in rows(f"SELECT * FROM sync_regions WHERE region <> '{CENTRE_ROW}' ORDER BY region"):
        regions.append(
            {
                "region": row["region"],
                "epoch": row["epoch"],
                "member": row["member"],
                "waiting": row["waiting"],
                "lag": row["lag"],
                "gaps_open": sum(gap["region"] == row["region"] for gap in gaps),
                "conflicts": row["conflicts"],
                "parked": row["parked"],
                "warned": row["warned"],
                "refused": row["refused"],
                "last_refusal": row["last_refusal"],
                "offset_ms": row["clock_offset_ms"],
                "agrees": row["digest_agrees"],
                "heard_s": None if row["heard_at"] is None else round((now - row["heard_at"]).total_seconds(), 1),
            }
        )
    counts = rows("SELECT deleted, count(*) AS n FROM records GROUP BY deleted")
    by_deleted = {row["deleted"]: row["n"] for row in counts}
    return {
        "regions": regions,
        "gaps": gaps,
        "newest_conflicts": rows(
            "SELECT conflict_id, key, policy, resolution, winner_region, left_region, left_value, left_vector, "
            "right_region, right_value, right_vector, found_at FROM conflicts "
            f"ORDER BY found_at DESC, conflict_id LIMIT {_SHOWN}"
        ),
        "newest_refusals": rows(
            f"SELECT at, region, verdict, key, reason FROM sync_refused ORDER BY at DESC LIMIT {_SHOWN}"
        ),
        "totals": {
            "records": by_deleted.get(False, 0),
            "tombstones": by_deleted.get(True, 0),
            "conflicts": rows("SELECT count(*) AS n FROM conflicts")[0]["n"],
            "gaps_open": len(gaps),
        },
    }
