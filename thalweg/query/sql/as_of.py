"""The past: what a table held at a version or at a moment.

Tables are committed several times a second, so their Delta logs reach back hours, not days. A moment is therefore
answered from the rows' own times where they have them: append-only tables by their time column, `tasks` and
`placements` by folding the ledger up to that moment. Only the remaining current-state tables (nodes, links, prices,
records and the like) depend on how far their Delta log reaches, and say so when it does not.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from thalweg.query.sql.sql_statement import QueryRefusedError

TIME_COLUMN: Final = {
    "telemetry": "received_at",
    "decisions": "decided_at",
    "plans": "planned_at",
    "conflicts": "found_at",
    "quarantine": "quarantined_at",
    "account": "ended_at",
    "audit": "at",
    "sync_refused": "at",
    "learning": "at",
    "rollouts": "at",
}
"""For append-only tables: when a row came to be."""

FOLDED: Final = ("tasks", "placements")

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)(?:\s+ago)?")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class LogTooShortError(Exception):
    """A table's Delta log no longer holds the version or moment asked for."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of one table."""

    number: int


AsOf = Version | datetime


def parse_as_of(text: str, now: datetime, option: str = "--as-of") -> AsOf:
    """Read `--as-of`: a version (`17`), a time (`2026-11-21T12:00:00Z`; UTC where it names no zone) or `5m ago`.

    Raises:
        QueryRefusedError: it is none of these, or lies in the future.
    """
    text = text.strip()
    if text.isdigit():
        return Version(int(text))
    try:
        if match := _AGO.fullmatch(text):
            return now - timedelta(seconds=float(match.group(1)) * _UNIT_SECONDS[match.group(2)])
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise QueryRefusedError(
            f"{option} {text!r}: allowed are a version (17), a time (2026-11-21T12:00:00Z) or an age (5m ago)"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise QueryRefusedError(f"{option} {text!r} lies in the future: it is {now.isoformat(timespec='seconds')} now")
    return moment


def load_version(uri: str, name: str, version: Version) -> DeltaTable:
    """Open a table at a version.

    Raises:
        QueryRefusedError: the table has no such version yet.
        LogTooShortError: the log no longer holds it.
    """
    table = DeltaTable(uri)
    if version.number > table.version():
        raise QueryRefusedError(f"table {name!r} has versions up to {table.version()}, seen --as-of {version.number}")
    try:
        table.load_as_version(version.number)
    except (DeltaError, TableNotFoundError):
        raise LogTooShortError(
            f"table {name!r}: version {version.number} is no longer in its log; the newest is "
            f"{DeltaTable(uri).version()}"
        ) from None
    return table


def load_moment(uri: str, name: str, moment: datetime) -> DeltaTable | None:
    """Open a current-state table as it was at a moment; None when it did not exist yet.

    Raises:
        LogTooShortError: the log does not reach back so far.
    """
    table = DeltaTable(uri)
    moment_ms = moment.timestamp() * 1_000
    # Most questions are about a while ago: the whole log is only read for the others. (The engine's own search by time
    # goes by file times, and numbers the history of an older version wrongly.)
    for limit in (128, None):
        commits = table.history(limit)
        before = [commit["version"] for commit in commits if commit["timestamp"] <= moment_ms]
        if before or not commits or commits[-1]["version"] == 0:
            break
    if not before and commits and commits[-1]["version"] == 0:
        return None
    try:
        if before:
            table.load_as_version(before[0])
            return table
    except (DeltaError, TableNotFoundError):
        pass
    raise LogTooShortError(
        f"table {name!r}: its log no longer reaches back to {moment.isoformat(timespec='seconds')}. Ask for a later "
        "moment, or for what happened then: decisions and telemetry keep their rows' own times"
    )
