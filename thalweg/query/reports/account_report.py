"""What tasks have cost: sums over the table `account`, with what is held and waited for at this moment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from thalweg.query.sql.query import TableReader, quote
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
    of_tenant = _of_tenant(tenant)
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
    of_tenant = _of_tenant(tenant)
    yield from _paid(reader, by, since, now, tenant)
    # Days are cut one by one; of anything else the engine sums as many stretches as there are in no time.
    given = _stretches if by is AccountBy.DAY else _sums
    yield from given(reader, by, since, now, of_tenant)


_GPUS: Final = (
    " LEFT JOIN (SELECT task_id, copy, sum(share['gpus'] + share['gpu_milli'] / 1000.0) AS gpus FROM (SELECT task_id,"
    " copy, unnest(nodes) AS share FROM placements) GROUP BY task_id, copy) g ON g.task_id = p.task_id AND g.copy ="
    " p.copy"
)
_NEVER_PLACED: Final = (
    "state = 'waiting' AND coalesce(epoch, 0) = 0"
    # An array waits by its elements, which have its request.
    """ AND (coalesce(request, '') NOT LIKE '%"array"%' OR ends_with(task_id, ']'))"""
)


def _stretches(
    reader: TableReader, _: AccountBy, since: datetime, now: datetime, of_tenant: str
) -> Iterator[_OpenStretch]:
    copies = reader.dicts(
        "SELECT p.task_id, t.tenant, p.region, p.assigned_at, p.cost_usd_per_hour, g.gpus"
        f" FROM placements p JOIN tasks t ON p.task_id = t.task_id{_GPUS} WHERE p.state <> 'succeeded'{of_tenant}"
    )
    for row in copies:
        yield from _cut(row, row["assigned_at"], since, now, is_held=True)
    waiting = reader.dicts(f"SELECT task_id, tenant, submitted_at FROM tasks WHERE {_NEVER_PLACED}{of_tenant}")
    for row in waiting:
        yield from _cut(row | {"region": None}, row["submitted_at"], since, now, is_held=False)


def _sums(reader: TableReader, by: AccountBy, since: datetime, now: datetime, of_tenant: str) -> Iterator[_OpenStretch]:
    """Give one stretch of an hour for all of a key together."""
    key = _KEY[by]

    def hours(began: str) -> str:
        now_s, since_s = now.timestamp(), since.timestamp()
        return f"greatest({now_s!r} - greatest(CAST(extract(epoch FROM {began}) AS DOUBLE), {since_s!r}), 0.0) / 3600.0"

    for row in reader.dicts(
        f"SELECT key, sum(hours * coalesce(gpus, 0.0)) AS gpu_hours, sum(hours * coalesce(rate, 0.0)) AS usd FROM"
        f" (SELECT {'t' if by is AccountBy.TENANT else 'p'}.{key} AS key, {hours('p.assigned_at')} AS hours, g.gpus AS"
        " gpus, p.cost_usd_per_hour AS rate FROM placements p JOIN tasks t ON p.task_id ="
        f" t.task_id{_GPUS} WHERE p.state <> 'succeeded'{of_tenant}) GROUP BY key"
    ):
        yield _OpenStretch(
            key=_shown(row["key"]), hours=1.0, gpus=row["gpu_hours"], usd_per_hour=row["usd"], is_held=True
        )
    whose = "CAST(NULL AS VARCHAR)" if by is AccountBy.REGION else key
    for row in reader.dicts(
        f"SELECT key, sum(hours) AS hours FROM (SELECT {whose} AS key, {hours('submitted_at')} AS hours FROM tasks"
        f" WHERE {_NEVER_PLACED}{of_tenant}) GROUP BY key"
    ):
        yield _OpenStretch(key=_shown(row["key"]), hours=row["hours"], gpus=0.0, usd_per_hour=0.0, is_held=False)


def _paid(
    reader: TableReader, by: AccountBy, since: datetime, now: datetime, tenant: str | None
) -> Iterator[_OpenStretch]:
    """Give what placed copies paid to have their data moved, which the ledger's row that assigned them has alone.

    What was paid before the report's time does not count.
    """
    moment = f"TIMESTAMP {quote(since.astimezone(UTC).isoformat())}"
    began = reader.dicts(
        f"SELECT min(assigned_at) AS began FROM placements WHERE assigned_at >= {moment} AND state <> 'succeeded'"
    )[0]["began"]
    if began is None or began >= now:
        return
    rows = reader.dicts(
        "SELECT p.task_id, t.tenant, p.region, p.assigned_at, d.egress_usd, t.request FROM decisions d"
        " JOIN placements p ON d.task_id = p.task_id AND d.copy = p.copy AND d.epoch = p.epoch"
        " JOIN tasks t ON t.task_id = d.task_id WHERE d.transition = 'assigned' AND d.decided_at >="
        f" TIMESTAMP {quote(began.astimezone(UTC).isoformat())} AND t.request LIKE '%\"data\"%' AND"
        f" p.state <> 'succeeded' AND p.assigned_at >= {moment}{_of_tenant(tenant, 't.')}"
    )
    for row in rows:
        usd = row["egress_usd"] or 0.0
        yield _OpenStretch(
            key=row["assigned_at"].date().isoformat() if by is AccountBy.DAY else row[_KEY[by]],
            hours=0.0,
            gpus=0.0,
            usd_per_hour=0.0,
            is_held=True,
            egress_gb=moved_gb(row["request"], row["region"], usd),
            egress_usd=usd,
        )


def _cut(
    row: Mapping[str, Any], began: datetime, since: datetime, now: datetime, *, is_held: bool
) -> Iterator[_OpenStretch]:
    """Cut a stretch where the report begins, and at midnights."""
    at = max(began, since)
    while at < now:
        until = min(now, datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1))
        yield _OpenStretch(
            key=at.date().isoformat(),
            hours=(until - at).total_seconds() / 3_600,
            gpus=row.get("gpus") or 0.0,
            usd_per_hour=row.get("cost_usd_per_hour") or 0.0,
            is_held=is_held,
        )
        at = until


def _of_tenant(tenant: str | None, table: str = "") -> str:
    return "" if tenant is None else f" AND {table}tenant = {quote(tenant)}"


def _shown(key: Any) -> str | None:
    return None if key is None else str(key)
