"""Which regions and nodes are drained by an order that stands, as the ledger's rows say."""

import json
from dataclasses import dataclass

from thalweg.query.sql.query import TableReader
from thalweg.sync.ledger.live_rows import ORDERS


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainedPlaces:
    """They take nothing new."""

    regions: frozenset[str]
    """Drained as a whole."""
    nodes: frozenset[tuple[str, str]]
    """Region and id of nodes that are drained by themselves."""

    def nodes_of(self, region: str) -> list[str]:
        """Ids of a region's nodes that are drained by themselves, sorted."""
        return sorted(node_id for of_region, node_id in self.nodes if of_region == region)


def drained_places(reader: TableReader) -> DrainedPlaces:
    """Read them; of two orders about one place the later counts."""
    # Read as JSON: what reads orders for the planner takes longer to load than this report takes.
    told = [json.loads(row["ordered"]) for row in reader.dicts(ORDERS)]
    last = {row["subject"]: row.get("after") for row in told}
    drains = [after for after in last.values() if after is not None and after["type"] == "drain"]
    return DrainedPlaces(
        regions=frozenset(drain["region"] for drain in drains if drain.get("node_id") is None),
        nodes=frozenset((drain["region"], drain["node_id"]) for drain in drains if drain.get("node_id") is not None),
    )
