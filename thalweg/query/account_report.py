"""What tasks have cost: sums over the table `account`, with what is held and waited for at this moment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from thalweg.query.query import TableReader, quote
from thalweg.sync.ledger.asked_data import moved_gb


class AccountBy(StrEnum):
    """What is summed together."""

    TENANT = "tenant"
    REGION = "region"
    TASK = "task"
    DAY = "day"


_KEY: Final = {AccountBy.TENANT: "tenant", AccountBy.REGION: "region", AccountBy.TASK: "task_id", AccountBy.DAY: "day"}
SUMS: Final = ("gpu_hours", "usd", "egress_gb", "egress_usd", "waited_h")
"""The figures of a row, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """Sums, the dearest first (days in their order), and all together."""

    rows: list[dict[str, Any]]
    total: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenStretch:
    """Something that is held or waited for and has not ended, from a moment within the report's time."""

    key: str | None
    hours: float
    gpus: float
    usd_per_hour: float
    is_held: bool
    egress_gb: float = 0.0
    egress_usd: float = 0.0
    """What was moved and paid once, at its beginning."""


def account_report(
    reader: TableReader, by: AccountBy, since: datetime, now: datetime, *, tenant: str | None = None
) -> AccountReport:
    """Sum what was held, paid, moved and waited for since a moment.

    Args:
        reader: of the tables of now.
        by: what is summed together.
        since: a stretch counts from here; what began before is cut.
        now: what has not ended counts up to here.
        tenant: only this one's; None means all.
    """
    sums: dict[str | None, dict[str, float]] = {}
    for row in reader.dicts(_booked(by, since, tenant)):
        sums[_shown(row["key"])] = {name: row[name] or 0.0 for name in SUMS}
    for stretch in _open(reader, by, since, now, tenant):
        found = sums.setdefault(stretch.key, dict.fromkeys(SUMS, 0.0))
        if stretch.is_held:
            found["gpu_hours"] += stretch.hours * stretch.gpus
            found["usd"] += stretch.hours * stretch.usd_per_hour
            found["egress_gb"] += stretch.egress_gb
            found["egress_usd"] += stretch.egress_usd
        else:
            found["waited_h"] += stretch.hours
    rows: list[dict[str, Any]] = [{by.value: key, **values} for key, values in sums.items() if any(values.values())]
    total = {name: sum((row[name] for row in rows), 0.0) for name in SUMS}
    return AccountReport(rows=sorted(rows, key=lambda row: _place(by, row)), total=total)


def _place(by: AccountBy, row: Mapping[str, Any]) -> tuple[Any, ...]:
    key = str(row[by.value] or "")
    return (key,) if by is AccountBy.DAY else (-row["usd"], -row["gpu_hours"], -row["waited_h"], key)


def _booked(by: AccountBy, since: datetime, tenant: str | None) -> str:
    """Sum the stretches that have ended; of one that began before, the share that lies behind."""
    moment = f"TIMESTAMP {quote(since.astimezone(UTC).isoformat())}"
    length = "nullif(extract(epoch FROM ended_at) - extract(epoch FROM began_at), 0)"
    share = (
        f"CASE WHEN began_at >= {moment} THEN 1.0 ELSE"
        f" coalesce((extract(epoch FROM ended_at) - extract(epoch FROM {moment})) / {length}, 1.0) END"
    )
    held, waited = "CASE WHEN kind = 'held' THEN", "CASE WHEN kind = 'waited' THEN"
    of_tenant = f" AND tenant = {quote(tenant)}" if tenant is not None else ""
    # What is paid for moving is paid at the beginning.
    once = f"CASE WHEN began_at >= {moment} THEN"
    return (
        f"SELECT {_KEY[by]} AS key, sum({held} gpu_hours * {share} END) AS gpu_hours,"
        f" sum({held} usd * {share} END) AS usd, sum({once} egress_gb END) AS egress_gb,"
        f" sum({once} egress_usd END) AS egress_usd, sum({waited} hours * {share} END) AS waited_h"
        f" FROM account WHERE ended_at > {moment}{of_tenant} GROUP BY {_KEY[by]}"
    )


def _open(
    reader: TableReader, by: AccountBy, since: datetime, now: datetime, tenant: str | None
) -> Iterator[_OpenStretch]:
    """Give what has not ended: the copies that are placed, and the tasks that were never placed."""
    of_tenant = f" AND tenant = {quote(tenant)}" if tenant is not None else ""
    copies = reader.dicts(
        "SELECT p.task_id, p.copy, p.epoch, t.tenant, p.region, p.assigned_at, p.cost_usd_per_hour, g.gpus"
        " FROM placements p JOIN tasks t ON p.task_id = t.task_id LEFT JOIN (SELECT task_id, copy, sum(share['gpus'] +"
        " share['gpu_milli'] / 1000.0) AS gpus FROM (SELECT task_id, copy, unnest(nodes) AS share FROM placements)"
        " GROUP BY task_id, copy) g ON g.task_id = p.task_id AND g.copy = p.copy"
        f" WHERE p.state <> 'succeeded'{of_tenant}"
    )
    paid = _paid(reader, copies, since)
    for row in copies:
        egress_usd, request = paid.get((row["task_id"], row["copy"], row["epoch"]), (0.0, None))
        moved = {"egress_usd": egress_usd, "egress_gb": moved_gb(request, row["region"], egress_usd)}
        yield from _cut(by, row | moved, row["assigned_at"], since, now, is_held=True)
    # An array waits by its elements, which have its request.
    no_array = """ AND (coalesce(request, '') NOT LIKE '%"array"%' OR ends_with(task_id, ']'))"""
    waiting = reader.dicts(
        "SELECT task_id, tenant, submitted_at FROM tasks WHERE state = 'waiting' AND coalesce(epoch, 0) = 0"
        + no_array
        + of_tenant
    )
    for row in waiting:
        yield from _cut(by, row | {"region": None}, row["submitted_at"], since, now, is_held=False)


def _paid(
    reader: TableReader, copies: Sequence[Mapping[str, Any]], since: datetime
) -> dict[tuple[str, int, int], tuple[float, str | None]]:
    """US dollars that placed copies paid to have their data moved, and the requests that say how much it is.

    The ledger alone has it, in the row that assigned the copy. What was paid before the report's time does not count.
    """
    began = [row["assigned_at"] for row in copies if row["assigned_at"] >= since]
    if not began:
        return {}
    moment = f"TIMESTAMP {quote(min(began).astimezone(UTC).isoformat())}"
    rows = reader.dicts(
        "SELECT d.task_id, d.copy, d.epoch, d.egress_usd, t.request FROM decisions d"
        " JOIN placements p ON d.task_id = p.task_id AND d.copy = p.copy AND d.epoch = p.epoch"
        " JOIN tasks t ON t.task_id = d.task_id"
        f" WHERE d.transition = 'assigned' AND d.decided_at >= {moment} AND t.request LIKE '%\"data\"%'"
    )
    return {(row["task_id"], row["copy"], row["epoch"]): (row["egress_usd"] or 0.0, row["request"]) for row in rows}


def _cut(
    by: AccountBy, row: Mapping[str, Any], began: datetime, since: datetime, now: datetime, *, is_held: bool
) -> Iterator[_OpenStretch]:
    """Cut a stretch where the report begins, and at midnights where days are told."""
    at, end = max(began, since), now
    is_first = began >= since
    while at < end:
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1)
        until = min(end, midnight) if by is AccountBy.DAY else end
        yield _OpenStretch(
            key=at.date().isoformat() if by is AccountBy.DAY else row[_KEY[by]],
            hours=(until - at).total_seconds() / 3_600,
            gpus=row.get("gpus") or 0.0,
            usd_per_hour=row.get("cost_usd_per_hour") or 0.0,
            is_held=is_held,
            egress_gb=row.get("egress_gb") or 0.0 if is_first else 0.0,
            egress_usd=row.get("egress_usd") or 0.0 if is_first else 0.0,
        )
        at, is_first = until, False


def _shown(key: Any) -> str | None:
    return None if key is None else str(key)
