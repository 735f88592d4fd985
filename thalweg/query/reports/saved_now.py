"""What the placement of this moment saves: what runs, against the same GPUs spread evenly over who has them.

Evenly means that each GPU costs the mean of its model and kind (spot or not) over all regions, weighted by how many
each has: what they pay who take regions in turn, without a look at prices. Tasks without GPUs, and GPUs of which nobody
names a price, are left out of both.
"""

from dataclasses import dataclass

from thalweg.query.sql.query import TableReader, quote

_HELD = (
    "SELECT p.task_id, p.region, p.cost_usd_per_hour AS rate, unnest(p.nodes) AS share, p.copy FROM placements p"
    " JOIN tasks t ON t.task_id = p.task_id WHERE p.state <> 'succeeded' AND p.cost_usd_per_hour IS NOT NULL"
)
_SAVED = """
WITH fleet AS (SELECT region, gpu_model, spot, sum(gpus) AS gpus FROM nodes WHERE gpus > 0 GROUP BY ALL),
even AS (
  SELECT f.gpu_model, f.spot, sum(f.gpus * p.usd_per_gpu_hour) / sum(f.gpus) AS usd
  FROM fleet f JOIN prices p ON p.region = f.region AND p.gpu_model = f.gpu_model AND p.spot = f.spot
  GROUP BY f.gpu_model, f.spot
),
copies AS (
  SELECT h.task_id, h.copy, any_value(h.rate) AS rate,
    sum((h.share['gpus'] + h.share['gpu_milli'] / 1000.0) * e.usd) AS evenly, count(e.usd) = count(*) AS priced
  FROM ({held}) h
  LEFT JOIN nodes n ON n.region = h.region AND n.node_id = h.share['node_id']
  LEFT JOIN even e ON e.gpu_model = n.gpu_model AND e.spot = n.spot
  GROUP BY h.task_id, h.copy
)
SELECT coalesce(sum(rate), 0.0) AS usd, coalesce(sum(evenly), 0.0) AS evenly FROM copies WHERE priced AND evenly > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNow:
    """US dollars an hour."""

    usd_per_hour: float
    """What runs costs, as far as it can be compared."""
    evenly_usd_per_hour: float
    """What the same GPUs would cost, spread evenly."""

    @property
    def saved_usd_per_hour(self) -> float:
        """What is saved; negative where they cost more."""
        return self.evenly_usd_per_hour - self.usd_per_hour


def saved_now(reader: TableReader, *, tenant: str | None = None) -> SavedNow:
    """Compare what runs with the same GPUs spread evenly.

    Args:
        reader: of the tables of now.
        tenant: only this one's tasks; None means all.
    """
    held = _HELD if tenant is None else f"{_HELD} AND t.tenant = {quote(tenant)}"
    (row,) = reader.dicts(_SAVED.format(held=held))
    return SavedNow(usd_per_hour=row["usd"], evenly_usd_per_hour=row["evenly"])
