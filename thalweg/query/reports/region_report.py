"""One row per region: what it has, what is used, what it costs, when it was last heard, what of it is drained."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

from thalweg.query.reports.drained_places import drained_places
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, quote

NODE_TIMEOUT: Final = timedelta(minutes=1)
"""`place.node_timeout_ms` of an installation that did not change it: loading settings would take longer than this."""
REGION_TIMEOUT: Final = timedelta(seconds=10)
"""`place.heartbeat_timeout_ms` of the same: how much later than another a region may have been heard."""


def of_tenant(tenant: str | None) -> str:
    """Write the condition that a placement is one tenant's; nothing for all."""
    return "" if tenant is None else f" AND task_id IN (SELECT task_id FROM tasks WHERE tenant = {quote(tenant)})"


def region_rows(warehouse: str, as_of: AsOf | None, now: datetime, tenant: str | None = None) -> list[dict[str, Any]]:
    """Describe every region that ever sent a sample or holds a placement, by name.

    Args:
        warehouse: folder or URI.
        as_of: the past, or None for now.
        now: the moment that `last_heard_s` counts from.
        tenant: whose use of them is told; None means everybody's.
    """
    with TableReader(warehouse, as_of) as reader:
        return _report(reader, now, of_tenant(tenant))


def _report(reader: TableReader, now: datetime, whose: str) -> list[dict[str, Any]]:
    rows = reader.dicts
    regions: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"nodes": 0, "gpus": 0, "used_gpus": 0.0, "assigned": 0, "running": 0, "heard": None, "prices": []}
    )
    unpriced: dict[str, set[tuple[str, bool]]] = defaultdict(set)
    for row in rows(
        "SELECT region, gpu_model, coalesce(spot, false) AS spot, count(*) AS nodes, sum(gpus) AS gpus FROM nodes"
        " JOIN (SELECT region AS of_region, max(observed_at) AS newest FROM nodes GROUP BY region)"
        f" ON region = of_region AND observed_at >= newest - INTERVAL '{NODE_TIMEOUT.seconds} seconds'"
        " WHERE coalesce(state, 'ready') <> 'gone' GROUP BY region, gpu_model, coalesce(spot, false)"
    ):
        known = regions[row["region"]]
        known["nodes"] += row["nodes"]
        known["gpus"] += row["gpus"] or 0
        if row["gpu_model"] and row["gpus"]:
            unpriced[row["region"]].add((row["gpu_model"], row["spot"]))
    for table in ("nodes", "links", "prices"):
        for row in rows(f"SELECT region, max(observed_at) AS heard FROM {table} GROUP BY region"):
            known = regions[row["region"]]
            known["heard"] = max(filter(None, (known["heard"], row["heard"])), default=None)
    for row in rows(
        "SELECT region, sum(share['gpus'] + share['gpu_milli'] / 1000.0) AS used_gpus FROM"
        f" (SELECT region, unnest(nodes) AS share FROM placements WHERE state <> 'succeeded'{whose}) GROUP BY region"
    ):
        regions[row["region"]]["used_gpus"] = row["used_gpus"]
    for row in rows(
        "SELECT region, sum(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS running, count(*) AS placed"
        f" FROM placements WHERE state <> 'succeeded'{whose} GROUP BY region"
    ):
        regions[row["region"]] |= {"running": row["running"], "assigned": row["placed"] - row["running"]}
    for row in rows("SELECT region, gpu_model, spot, usd_per_gpu_hour FROM prices ORDER BY gpu_model, spot"):
        price = {name: row[name] for name in ("gpu_model", "spot", "usd_per_gpu_hour")}
        regions[row["region"]]["prices"].append(price)
        unpriced[row["region"]].discard((row["gpu_model"], row["spot"]))
    for region, pools in unpriced.items():
        regions[region]["prices"] += [
            {"gpu_model": model, "spot": spot, "usd_per_gpu_hour": None} for model, spot in sorted(pools)
        ]
    drained = drained_places(reader)
    for region, known in regions.items():
        known |= {"drained": region in drained.regions, "drained_nodes": drained.nodes_of(region)}
    newest = max(filter(None, (known["heard"] for known in regions.values())), default=None)
    return [_finished(name, regions[name], now, newest) for name in sorted(regions)]


def _finished(name: str, region: dict[str, Any], now: datetime, newest: datetime | None) -> dict[str, Any]:
    heard = region.pop("heard")
    is_heard = heard is not None and now - heard <= NODE_TIMEOUT and (newest or heard) - heard <= REGION_TIMEOUT
    return {
        "region": name,
        "state": "heard" if is_heard else "silent",
        **region,
        "utilisation": region["used_gpus"] / region["gpus"] if region["gpus"] else None,
        # A sample may be written after this moment was taken: that is now, not the future.
        "last_heard_s": max(0.0, round((now - heard).total_seconds(), 1)) if heard else None,
    }
