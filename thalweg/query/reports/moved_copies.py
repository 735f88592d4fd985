"""Copies that went from one region to another of late: the flows that the window's map draws."""

from datetime import datetime, timedelta
from typing import Any, Final

from thalweg.query.sql.query import TableReader, quote

LATELY: Final = timedelta(minutes=10)
MOST: Final = 50
"""Pairs of regions, those between which most went."""


def moved_copies(reader: TableReader, now: datetime) -> list[dict[str, Any]]:
    """Give `region`, `to_region` and `copies` of each pair, most copies first.

    A copy has moved where a row takes it off one region and its next row, both of them late ones, puts it into another.

    Args:
        reader: of the tables of now.
        now: the moment that "of late" ends with.
    """
    since = quote((now - LATELY).isoformat())
    return reader.dicts(
        "SELECT former AS region, region AS to_region, count(*) AS copies FROM (SELECT transition, region, lag(region)"
        " OVER (PARTITION BY task_id, copy ORDER BY driver_epoch, batch_id, row) AS former FROM decisions WHERE"
        f" decided_at >= TIMESTAMP {since} AND transition IN ('assigned', 'revoked', 'preempted', 'lost', 'evicted',"
        " 'failed')) WHERE transition = 'assigned' AND former IS NOT NULL AND former <> region GROUP BY former, region"
        f" ORDER BY count(*) DESC, former, region LIMIT {MOST}"
    )
