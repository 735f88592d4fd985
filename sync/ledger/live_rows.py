"""What is read of the tables to make a world for one question (`live_columns`, `world_tables`).

Texts alone, so that reading can begin before numpy is there. Numbers come whole and never null: what Arrow would be
asked to convert has the engine converted already.
"""

from typing import Final

_FIRST: Final = (1 << 63) - 1
LIVE_TASKS: Final = (
    "SELECT task_id, COALESCE(epoch, 0) AS epoch, COALESCE(attempt, 0) AS attempt, reason, state,"
    " COALESCE(CAST(submitted_at AS BIGINT), 0) AS submitted_us, request, held,"
    " CAST(COALESCE(held, false) AS INT) AS is_held, CAST(state = 'waiting' AS INT) AS waits,"
    # One that is not known comes first, as it does where SQL puts rows in order.
    f" COALESCE(CAST(priority AS BIGINT), {_FIRST}) AS urgency"
    # The shorter id first: so elements of an array, which come at one moment, stand by their numbers.
    " FROM tasks WHERE state IN ('waiting', 'assigned', 'running') ORDER BY submitted_at, length(task_id), task_id"
)
PLACEMENTS: Final = (
    "SELECT task_id, copy, epoch, state, region, pool_id, nodes,"
    " COALESCE(cost_usd_per_hour, 0.0) AS cost_usd_per_hour,"
    " COALESCE(CAST(assigned_at AS BIGINT), 0) AS assigned_us, COALESCE(CAST(changed_at AS BIGINT), 0) AS changed_us,"
    " CAST(state IN ('assigned', 'accepted', 'running') AS INT) AS is_placed FROM placements"
)
FACTS: Final = tuple(f"SELECT * FROM {name}" for name in ("nodes", "links", "prices"))
NEWEST_SAMPLES: Final = "SELECT region, max(observed_at) AS seen FROM nodes GROUP BY region"
ORDERS: Final = "SELECT ordered FROM decisions WHERE transition = 'ordered' ORDER BY driver_epoch, batch_id, row"
"""Rows of orders; the last about a subject stands."""
