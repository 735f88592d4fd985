"""Nodes, links, prices and datasets as placement reads them from their tables, beside the stream.

A table is read again only when its version has moved, so looking often costs a listing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.sync.delta.contracts import LINKS, NODES, PRICES, RECORDS, TableContract
from thalweg.sync.delta.store import table_uri
from thalweg.sync.tables.dataset_records import DATASETS_SQL, dataset_facts, read_dataset_facts

Links = dict[tuple[RegionId, RegionId], tuple[float, float, float]]
Prices = dict[tuple[RegionId, str, bool], float]

Facts = TypeVar("Facts")

_NAN = float("nan")


@dataclass(slots=True)
class WorldTables:
    """Reads the four tables and remembers which versions it has seen."""

    warehouse: str
    node_timeout_ms: int
    _tables: dict[str, DeltaTable] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)

    def read(self) -> WorldFacts:
        """Read what has changed."""
        return WorldFacts(
            nodes=self._changed(NODES, lambda table: node_facts(table.to_pyarrow_table(), self.node_timeout_ms)),
            links=self._changed(LINKS, lambda table: _links(table.to_pyarrow_table())),
            prices=self._changed(PRICES, lambda table: _prices(table.to_pyarrow_table())),
            datasets=self._changed(RECORDS, read_dataset_facts),
        )

    def _changed(self, contract: TableContract, read: Callable[[DeltaTable], Facts]) -> Facts | None:
        """Read a table if its version is another than at the last reading that succeeded."""
        try:
            table = self._tables.get(contract.name)
            if table is None:
                table = self._tables[contract.name] = DeltaTable(table_uri(self.warehouse, contract.name))
            else:
                table.update_incremental()
        except TableNotFoundError:
            return None  # nobody has written it yet
        if self._seen.get(contract.name) == table.version():
            return None
        facts = read(table)
        self._seen[contract.name] = table.version()
        return facts


def world_facts(read: Callable[[str], pa.Table], node_timeout_ms: int, *, datasets: bool = True) -> WorldFacts:
    """Read everything at once, at whatever moment the tables are read.

    Args:
        read: answers SQL over the tables.
        node_timeout_ms: see `node_facts`.
        datasets: whether it matters where datasets lie.
    """
    nodes, links, prices = (read(f"SELECT * FROM {contract.name}") for contract in (NODES, LINKS, PRICES))
    found = read(DATASETS_SQL) if datasets else None
    return WorldFacts(
        nodes=node_facts(nodes, node_timeout_ms),
        links=_links(links),
        prices=_prices(prices),
        datasets=None
        if found is None
        else dataset_facts(zip(*(found[c].to_pylist() for c in ("key", "value")), strict=True)),
    )


def node_facts(rows: pa.Table, timeout_ms: int) -> list[NodeFacts]:
    """Read the nodes. One that fell silent while others of its region still speak is gone.

    Silence is measured against the newest sample of the same region, not against our clock: where telemetry as a whole
    is late, or the job that keeps the table stands still, no node is taken for gone.
    """
    if not rows.num_rows:
        return []
    # No arithmetic, append_column or group_by: each imports pandas, to see whether it is given something of it. No cast
    # or filter either: they import pyarrow.compute, which takes longer than reading the table.
    seen_ms = [
        None if microseconds is None else microseconds // 1_000
        for chunk in rows.column("observed_at").chunks
        for microseconds in chunk.view(pa.int64()).to_pylist()
    ]
    newest_ms: dict[str, int] = {}
    for region, ms in zip(rows.column("region").to_pylist(), seen_ms, strict=True):
        newest_ms[region] = max(newest_ms.get(region, 0), ms or 0)
    names = ("region", "node_id", "gpu_model", "spot", "gpus", "cpus", "memory_gb", "state")

    def is_in_state(wanted: str, region: str, state: str | None, seen_ms: int | None) -> bool:
        return (state or "ready") == wanted and (seen_ms or 0) >= newest_ms[region] - timeout_ms

    return [
        NodeFacts(
            region=region,
            node_id=node_id,
            gpu_model=gpu_model or "",
            spot=bool(spot),
            gpus=gpus or 0,
            cpus=cpus or 0.0,
            memory_gb=memory_gb or 0.0,
            ready=is_in_state("ready", region, state, seen_ms),
            draining=is_in_state("draining", region, state, seen_ms),
        )
        for region, node_id, gpu_model, spot, gpus, cpus, memory_gb, state, seen_ms in zip(
            *(rows.column(name).to_pylist() for name in names), seen_ms, strict=True
        )
    ]


def _links(rows: pa.Table) -> Links:
    names = ("region", "dst_region", "rtt_ms", "gbps", "usd_per_gb")
    return {
        (source, target): tuple(_NAN if value is None else value for value in measured)  # type: ignore[misc]
        for source, target, *measured in zip(*(rows.column(name).to_pylist() for name in names), strict=True)
    }


def _prices(rows: pa.Table) -> Prices:
    names = ("region", "gpu_model", "spot", "usd_per_gpu_hour")
    return {
        (region, gpu_model, spot): usd
        for region, gpu_model, spot, usd in zip(*(rows.column(name).to_pylist() for name in names), strict=True)
        if usd is not None
    }
