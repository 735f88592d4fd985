"""The ledger: the append-only table `decisions`, its rows as transitions, and the fence between two drivers.

A micro-batch is one commit that carries (query id, batch id) as Delta application transaction, and a digest of the
batch's offsets as another. A batch that was committed is known by both, and is read back instead of being decided
again. Delta itself takes any batch for done whose id is not above the last; after a checkpoint was put back, the same
id holds other records. A driver claims the ledger with a commit of its own; from then on it commits only at exactly the
version after the one it has seen, or behind commits that change no row and claim nothing. An older driver that wakes up
finds its successor's claim in the log and stops.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.orders import read_order_row, write_order_row
from thalweg.scheduling.world.tasks import Change, Money, Share, TaskSpec, Transition
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.engine import select
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.pending import Pending
from thalweg.sync.delta.store import AnotherWriterError
from thalweg.sync.ledger.reading import LedgerVersion, rows_of_ledger
from thalweg.sync.ledger.taken import COLUMNS as TAKEN_COLUMNS
from thalweg.sync.ledger.taken import TakenRequests

DRIVER = "thalweg-place-driver"
"""Application id under which a driver's epoch is recorded."""

OFFSETS = "#offsets"
"""Ends the application id under which the digest of a query's last batch is recorded."""

COMPACT_FILES = 50
"""Merging fewer small files than this is not worth its commit."""

SpecOf = Callable[[str], TaskSpec]
"""Reads a stored request; the ledger knows nothing of messages."""

_FACTS = (
    "transition", "task_id", "copy", "epoch", "attempt", "region", "pool_id", "plan_id", "cost_usd_per_hour", "reason",
    "tenant", "priority", "content_hash", "topic", "topic_partition", "topic_offset", "topic_timestamp_ms", "name",
    "cause", "outcome", "ordered", "ends",
)  # fmt: skip
_CHANGES = {change.value: change for change in Change}
_NO_MONEY = Money()
_MONEY_COLUMNS = Money.__struct_fields__


class Ledger:
    """The ledger as one driver holds it."""

    def __init__(self, commits: LogWriter, driver_epoch: int) -> None:
        self._uri = commits.uri
        self._commits = commits
        self._transactions: dict[str, int | None] = {}
        self.driver_epoch = driver_epoch
        self.last_batch = DECISIONS.schema.empty_table()
        """Rows of the last batch before the claim, once they were read: an earlier driver may not have told them."""
        self.taken = TakenRequests(lambda: self._query(f"SELECT {', '.join(TAKEN_COLUMNS)} FROM ledger"))

    @classmethod
    def claim(cls, warehouse: str, own_epoch: int | None = None) -> "Ledger":
        """Open the ledger and become its only driver.

        Args:
            warehouse: where it lies.
            own_epoch: of this process's last claim; None for its first. Who was overtaken must not claim it again.

        Raises:
            AnotherWriterError: another driver claims it at the same moment, or has claimed it since.
        """
        commits = LogWriter(DECISIONS, warehouse)
        # Of the very version that the claim must follow: a driver between the two would be fenced by nobody.
        before = DeltaTable(commits.uri, version=commits.version)
        epoch = (before.transaction_version(DRIVER) or 0) + 1
        if own_epoch is not None and epoch != own_epoch + 1:
            raise AnotherWriterError(DECISIONS.name, commits.version)
        commits.append(DECISIONS.schema.empty_table(), {DRIVER: epoch})
        return cls(commits, epoch)

    def committed_batch(self, query_id: str) -> int | None:
        """Last batch of the query that the ledger holds."""
        return self._transaction(query_id)

    def holds(self, query_id: str, batch_id: int, offsets: int) -> bool:
        """Tell whether the ledger holds this very batch: its id, with these offsets.

        Only the last batch of a query is ever repeated. An id before it comes from a checkpoint that was put back, and
        says nothing about the records. A ledger of an older version has no digest; there the id is believed.
        """
        if self._transaction(query_id) != batch_id:
            return False
        return self._transaction(query_id + OFFSETS) in (None, offsets)

    def commit(self, rows: pa.Table, query_id: str, batch_id: int, offsets: int) -> int:
        """Append a batch's rows and return the table's version.

        Args:
            rows: of the batch.
            query_id: of the streaming query.
            batch_id: within it.
            offsets: digest of the batch's offsets.

        Raises:
            AnotherWriterError: another driver has taken over.
        """
        transactions = {query_id: batch_id, query_id + OFFSETS: offsets}
        version = self._commits.append(rows, transactions)
        self._transactions.update(transactions)
        return version

    def has_taken(self, query_id: str, batch_id: int, offsets: int) -> bool:
        """Look whether a commit that seemed to fail went through all the same: its answer may have been lost.

        Raises:
            AnotherWriterError: another driver has taken over.
        """
        self._commits.refresh()
        self._transactions.clear()
        return self._transaction(query_id) == batch_id and self._transaction(query_id + OFFSETS) == offsets

    def check_driver(self) -> None:
        """Look whether this is still the ledger's driver: what an overtaken one judges is judged by an old world.

        Raises:
            AnotherWriterError: another driver has taken over.
        """
        self._commits.check()

    def _transaction(self, name: str) -> int | None:
        if name not in self._transactions:
            self._transactions[name] = DeltaTable(self._uri).transaction_version(name)
        return self._transactions[name]

    def batch(self, query_id: str, batch_id: int) -> pa.Table:
        """Rows of one committed batch, in order."""
        text = query_id.replace("'", "''")
        of_batch = f"FROM ledger WHERE query_id = '{text}' AND batch_id = {batch_id:d}"
        # An id that was decided by two drivers, because a checkpoint was put back, is the later one's.
        last = f"(SELECT max(driver_epoch) {of_batch})"
        return self._query(f"SELECT * {of_batch} AND driver_epoch = {last} ORDER BY row").cast(DECISIONS.schema)

    def taken_before(self, query_id: str, batch_id: int) -> TakenRequests:
        """Know the requests that were taken by other batches than this; read when it is asked."""
        text = query_id.replace("'", "''")
        others = f"NOT (query_id = '{text}' AND batch_id = {batch_id:d})"
        taken = TakenRequests(lambda: self._query(f"SELECT {', '.join(TAKEN_COLUMNS)} FROM ledger WHERE {others}"))
        taken.reach = self.taken.reach
        return taken

    def requests_of(self, task_ids: Sequence[TaskId]) -> dict[TaskId, str]:
        """Read the requests that tasks were last submitted or updated with; looks through the whole ledger."""
        listed = ", ".join("'{}'".format(task_id.replace("'", "''")) for task_id in task_ids)
        found = self._query(
            f"SELECT task_id, request FROM ledger WHERE task_id IN ({listed}) "
            "AND transition IN ('submitted', 'updated') ORDER BY driver_epoch, batch_id, row"
        )
        return dict(zip(found["task_id"].to_pylist(), found["request"].to_pylist(), strict=True))

    def _query(self, statement: str) -> pa.Table:
        # Not through a pyarrow dataset: deltalake 1.6 takes a column without statistics for one that holds nothing.
        return select(DeltaTable(self._uri), "ledger", statement)

    def all_rows(self) -> Iterator[pa.Table]:
        """Every row, in the order it was decided."""
        for rows in rows_of_ledger(self._uri):
            self.taken.reach.note(rows)
            yield rows

    def now(self) -> LedgerVersion:
        """Read what is committed now."""
        return LedgerVersion(DeltaTable(self._uri))

    def is_ours(self) -> bool:
        """Tell whether no other driver has claimed the ledger since."""
        return bool(DeltaTable(self._uri).transaction_version(DRIVER) == self.driver_epoch)

    @property
    def pending(self) -> Pending:
        """Files written and not committed."""
        return self._commits.pending

    def compact(self, pause: Callable[[], bool] = lambda: False) -> int:
        """Merge the small files of the last batches, and what earlier calls have made of such; safe beside `commit`.

        Args:
            pause: called every few milliseconds of a long rewrite; True means stop.

        Returns:
            How many were merged.
        """
        merged = self._commits.compact(at_least=COMPACT_FILES)
        return merged + self._commits.merge_once_more(pause)


def to_rows(
    transitions: Sequence[Transition],
    event_ids: Sequence[str | None],
    *,
    query_id: str,
    batch_id: int,
    driver_epoch: int,
) -> pa.Table:
    """Write transitions as ledger rows, numbered in their order."""
    count = len(transitions)
    money = [row.money or _NO_MONEY for row in transitions]
    columns: dict[str, object] = {
        "query_id": [query_id] * count,
        "batch_id": [batch_id] * count,
        "row": range(count),
        "driver_epoch": [driver_epoch] * count,
        "decided_at": [row.decided_ms * 1_000 for row in transitions],
        "task_id": [row.task_id for row in transitions],
        "copy": [row.copy for row in transitions],
        "epoch": [row.epoch for row in transitions],
        "transition": [row.change.value for row in transitions],
        "attempt": [row.attempt for row in transitions],
        "event_id": event_ids,
        "region": [row.region for row in transitions],
        "pool_id": [row.pool_id for row in transitions],
        "nodes": [[_share_fields(share) for share in row.shares] if row.shares else None for row in transitions],
        "plan_id": [row.plan_id for row in transitions],
        "cost_usd_per_hour": [row.usd_per_hour for row in transitions],
        **{
            name: [getattr(usd, name) if row.money else None for usd, row in zip(money, transitions, strict=True)]
            for name in _MONEY_COLUMNS
        },
        "reason": [row.reason for row in transitions],
        "tenant": [row.tenant for row in transitions],
        "priority": [row.priority for row in transitions],
        "request": [row.request for row in transitions],
        "content_hash": [row.content_hash for row in transitions],
        "topic": [row.topic for row in transitions],
        "topic_partition": [row.topic_partition for row in transitions],
        "topic_offset": [row.topic_offset for row in transitions],
        "topic_timestamp_ms": [row.topic_timestamp_ms for row in transitions],
        "name": [row.name for row in transitions],
        "cause": [row.cause for row in transitions],
        "outcome": [row.outcome for row in transitions],
        "ordered": [None if row.ordered is None else write_order_row(row.ordered) for row in transitions],
        "ends": [row.ends for row in transitions],
    }
    return pa.table(
        [pa.array(columns[field.name], type=field.type) for field in DECISIONS.schema], schema=DECISIONS.schema
    )


def from_rows(rows: pa.Table, spec_of: SpecOf) -> list[Transition]:
    """Read ledger rows back as transitions, in order."""
    # Column by column: a dictionary for each of a million rows would cost more than all the rest.
    facts = [rows.column(name).to_pylist() for name in _FACTS]
    decided = rows.column("decided_at").cast(pa.int64()).to_pylist()
    requests = rows.column("request").to_pylist()
    nodes = rows.column("nodes").to_pylist()
    money = zip(*(rows.column(name).to_pylist() for name in _MONEY_COLUMNS), strict=True)
    return [
        Transition(
            change=_CHANGES[change],
            task_id=task_id,
            decided_ms=decided_us // 1_000,
            copy=copy,
            epoch=epoch,
            attempt=attempt or 0,
            region=region,
            pool_id=pool_id,
            shares=tuple(map(_share, listed)) if listed else (),
            plan_id=plan_id,
            usd_per_hour=usd_per_hour,
            money=None if usd[0] is None else Money(**dict(zip(_MONEY_COLUMNS, usd, strict=True))),
            reason=reason,
            tenant=tenant,
            priority=priority,
            spec=None if request is None else spec_of(request),
            request=request,
            content_hash=content_hash,
            topic=topic,
            topic_partition=partition,
            topic_offset=offset,
            topic_timestamp_ms=timestamp_ms,
            name=name,
            cause=cause,
            outcome=outcome,
            ordered=None if ordered is None else read_order_row(ordered),
            ends=bool(ends),
        )
        for (
            change, task_id, copy, epoch, attempt, region, pool_id, plan_id, usd_per_hour, reason, tenant, priority,
            content_hash, topic, partition, offset, timestamp_ms, name, cause, outcome, ordered, ends,
        ), decided_us, request, listed, usd in zip(
            zip(*facts, strict=True), decided, requests, nodes, money, strict=True
        )
    ]  # fmt: skip


def _share_fields(share: Share) -> dict[str, object]:
    return {
        "node_id": share.node_id,
        "workers": share.workers,
        "gpus": share.gpus,
        "gpu_milli": share.gpu_milli,
        "devices": share.devices,
    }


def _share(fields: dict[str, Any]) -> Share:
    return Share(
        node_id=fields["node_id"],
        workers=fields["workers"],
        gpus=fields["gpus"],
        gpu_milli=fields["gpu_milli"],
        devices=tuple(fields["devices"] or ()),
    )
