"""One row per region: what it has, what is used, what it costs, when it was last heard."""

from collections import defaultdict
from datetime import datetime
from typing import Any

from thalweg.query.as_of import AsOf
from thalweg.query.query import query


def region_rows(warehouse: str, as_of: AsOf | None, now: datetime) -> list[dict[str, Any]]:
    """Describe every region that ever sent a sample or holds a placement, by name.

    Args:
        warehouse: folder or URI.
        as_of: the past, or None for now.
        now: the moment that `last_heard_s` counts from.
    """

    def rows(sql: str) -> list[dict[str, Any]]:
        return query(sql, warehouse, as_of).dicts()

    regions: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"nodes": 0, "gpus": 0, "used_gpus": 0.0, "assigned": 0, "running": 0, "heard": None, "prices": []}
    )
    for row in rows(
        "SELECT region, count(*) AS nodes, sum(gpus) AS gpus FROM nodes WHERE coalesce(state, 'ready') <> 'gone'"
        " GROUP BY region"
    ):
        regions[row["region"]] |= {"nodes": row["nodes"], "gpus": row["gpus"] or 0}
    for table in ("nodes", "links", "prices"):
        for row in rows(f"SELECT region, max(observed_at) AS heard FROM {table} GROUP BY region"):
            known = regions[row["region"]]
            known["heard"] = max(filter(None, (known["heard"], row["heard"])), default=None)
    for row in rows(
        "SELECT region, sum(share['gpus'] + share['gpu_milli'] / 1000.0) AS used_gpus FROM"
        " (SELECT region, unnest(nodes) AS share FROM placements WHERE state <> 'succeeded') GROUP BY region"
    ):
        regions[row["region"]]["used_gpus"] = row["used_gpus"]
    for row in rows(
        "SELECT region, sum(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS running, count(*) AS placed"
        " FROM placements WHERE state <> 'succeeded' GROUP BY region"
    ):
        regions[row["region"]] |= {"running": row["running"], "assigned": row["placed"] - row["running"]}
    for row in rows("SELECT region, gpu_model, spot, usd_per_gpu_hour FROM prices ORDER BY gpu_model, spot"):
        price = {name: row[name] for name in ("gpu_model", "spot", "usd_per_gpu_hour")}
        regions[row["region"]]["prices"].append(price)
    return [_finished(name, regions[name], now) for name in sorted(regions)]


def _finished(name: str, region: dict[str, Any], now: datetime) -> dict[str, Any]:
    heard = region.pop("heard")
    return {
        "region": name,
        **region,
        "utilisation": region["used_gpus"] / region["gpus"] if region["gpus"] else None,
        # A sample may be written after this moment was taken: that is now, not the future.
        "last_heard_s": max(0.0, round((now - heard).total_seconds(), 1)) if heard else None,
    }
