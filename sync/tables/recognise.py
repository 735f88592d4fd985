"""Recognise by position what a table already has, for a query that reads its topics anew.

A commit's application transaction tells a batch that is repeated by the same query. A query under a new id (its
checkpoint was lost, moved away or set aside) makes other batches of the same records. Those are known by where they
came from: topic, partition and offset, and the time the record carries, by which a topic made anew under its name is
told from the one before.
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from thalweg.sync.delta.contracts import QUARANTINE, TELEMETRY, TableContract
from thalweg.sync.delta.engine import select
from thalweg.sync.delta.store import table_uri

Place = tuple[str, int]

RECORD_TIME: Final[Mapping[str, str]] = {TELEMETRY.name: "received_at", QUARANTINE.name: "quarantined_at"}
"""The column that holds the record's own time, by table."""

_POSITION: Final = ("topic", "topic_partition", "topic_offset")


def known_until(warehouse: str) -> dict[Place, int]:
    """Where the rows of each partition end, in `telemetry` and `quarantine` together."""
    ends: dict[Place, int] = {}
    for contract in (TELEMETRY, QUARANTINE):
        found = _query(
            table_uri(warehouse, contract.name),
            "SELECT topic, topic_partition, max(topic_offset) + 1 AS reached FROM history "
            "WHERE topic IS NOT NULL GROUP BY topic, topic_partition",
        )
        for row in found.to_pylist() if found is not None else ():
            place = row["topic"], row["topic_partition"]
            ends[place] = max(ends.get(place, 0), row["reached"])
    return ends


class Recogniser:
    """Leaves out rows that a table had before this query, until the query is past all of them."""

    def __init__(self, until: Mapping[Place, int]) -> None:
        """Begin.

        Args:
            until: where the rows of earlier queries end, by partition.
        """
        self._until = dict(until)

    @property
    def is_done(self) -> bool:
        """Tell whether no row of an earlier query can come any more."""
        return not self._until

    def passed(self, ends: Mapping[Place, int]) -> None:
        """Note how far batches have come: what lies before is not asked for again."""
        for place, end in ends.items():
            if end >= self._until.get(place, end + 1):
                del self._until[place]

    def fresh(self, table: str, contract: TableContract, rows: pa.Table) -> pa.Table:
        """Return the rows that the table does not have, in their order.

        Args:
            table: its address.
            contract: `telemetry`'s or `quarantine`'s.
            rows: about to be appended.
        """
        time = RECORD_TIME[contract.name]
        old = self._within(rows)
        if old.num_rows == 0:
            return rows
        low, high = pc.min_max(old["topic_offset"]).values()
        first, last = (moment.cast(pa.int64()) for moment in pc.min_max(old[time]).values())
        known = _query(
            table,
            f"SELECT DISTINCT topic, topic_partition, topic_offset, {time} FROM history "
            f"WHERE topic_offset BETWEEN {low} AND {high} "
            f"AND {time} BETWEEN {_moment(first)} AND {_moment(last)}",
        )
        if known is None or known.num_rows == 0:
            return rows
        keys = [*_POSITION, time]
        numbered = rows.select(keys).append_column("number", pa.array(range(rows.num_rows), pa.int64()))
        known = known.select(keys).cast(pa.schema([rows.schema.field(name) for name in keys]))
        left = numbered.join(known, keys=keys, join_type="left anti", use_threads=False)
        return rows.take(left["number"].combine_chunks().sort())

    def _within(self, rows: pa.Table) -> pa.Table:
        """Rows from before where the earlier queries ended."""
        inside = pa.array([False] * rows.num_rows, pa.bool_())
        for (topic, partition), until in self._until.items():
            here = pc.and_(pc.equal(rows["topic"], topic), pc.equal(rows["topic_partition"], partition))
            inside = pc.or_(inside, pc.and_(here, pc.less(rows["topic_offset"], until)))
        return rows.filter(inside)


def _moment(microseconds: pa.Scalar) -> str:
    return f"to_timestamp_micros({microseconds.as_py()})"


def _query(uri: str, statement: str) -> pa.Table | None:
    try:
        table = DeltaTable(uri)
    except TableNotFoundError:
        return None
    return select(table, "history", statement)
