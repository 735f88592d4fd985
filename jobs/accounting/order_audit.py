"""A row of `audit` for every order that the ledger has: who ordered what and when, what stood before and what since.

The rows are told by whoever reads the ledger anyway (`accounting.account`), from its beginning at each start. Each
commit says up to which of them it goes, so none is written twice.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Transaction

from thalweg.scheduling.world.orders import OrderRow, read_order_row
from thalweg.scheduling.world.tasks import Change
from thalweg.sync.ledger.reading import Position

_MARKS: Final = Position._fields

Append = Callable[[Sequence[dict[str, Any]], Sequence[Transaction]], None]
"""Writes rows of `audit`, with marks."""
MarkOf = Callable[[str], int | None]
"""Reads a mark."""


class OrderAudit:
    """For one thread."""

    def __init__(self, append: Append, mark_of: MarkOf) -> None:
        """Hold both: the table has another owner."""
        self._append = append
        self._mark_of = mark_of
        self._ledger_id = ""
        self._written: Position | None = None

    def note(self, ledger_id: str, rows: pa.Table) -> None:
        """Write down the orders among rows of the ledger, which come in its order.

        Raises:
            OSError: the disk does not take it; the same rows are to be told again.
        """
        if ledger_id != self._ledger_id:
            found = [self._mark_of(_app_id(ledger_id, name)) for name in _MARKS]
            known = [mark for mark in found if mark is not None]
            self._written = Position(*known) if len(known) == len(_MARKS) else None
            self._ledger_id = ledger_id
        ordered = rows.filter(pc.equal(rows.column("transition"), Change.ORDERED.value))
        places = [Position(*row) for row in zip(*(ordered.column(name).to_pylist() for name in _MARKS), strict=True)]
        new = [at for at, place in enumerate(places) if self._written is None or place > self._written]
        if not new:
            return
        said, at_us = ordered.column("ordered").to_pylist(), ordered.column("decided_at").cast(pa.int64()).to_pylist()
        last = places[new[-1]]
        marks = [Transaction(_app_id(ledger_id, name), int(value)) for name, value in last._asdict().items()]
        self._append([_audit_row(read_order_row(said[at]), at_us[at]) for at in new], marks)
        self._written = last


def _audit_row(row: OrderRow, at_us: int) -> dict[str, Any]:
    told = msgspec.to_builtins({"before": row.before, "after": row.after})
    return {
        "at": at_us,
        "actor": row.who or "unknown",
        "action": row.subject.partition("/")[0],
        "subject": row.subject,
        "outcome": "nothing new" if row.before == row.after else "done",
        "detail": msgspec.json.encode(told).decode(),
    }


def _app_id(ledger_id: str, name: str) -> str:
    return f"thalweg-audit-{ledger_id}-{name}"
