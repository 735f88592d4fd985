"""What a rule of the audit is, and the pieces of SQL that rules are made of."""

from dataclasses import dataclass
from typing import Final

GIVEN: Final = """
given AS (
    SELECT position AS since, task_id, copy, epoch, region, transition, event_id,
        LEAD(position) OVER (PARTITION BY task_id, copy ORDER BY position) AS until
    FROM ledger
    WHERE transition IN ('assigned', 'revoked', 'preempted', 'lost', 'evicted', 'failed', 'succeeded')
), placed AS (SELECT * FROM given WHERE transition = 'assigned')
"""
"""What the ledger gave to whom, from which of its rows to which; `until` is null where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRule:
    """One thing that must not be."""

    kind: str
    words: str
    """With the names of the query's columns in braces."""
    sql: str


def peaks(moves: str, by: str, limit: str) -> str:
    """Find where a running sum of moves (`at`, `amount`, what `by` names) rises above a limit; what ends goes first."""
    return f"""
    , moves AS ({moves}), loads AS (
        SELECT {by}, SUM(amount) OVER (
            PARTITION BY {by} ORDER BY at, amount ROWS UNBOUNDED PRECEDING
        ) AS load FROM moves
    ) SELECT {by}, MAX(load) AS load FROM loads GROUP BY {by} HAVING MAX(load) > {limit}"""


def both_ends(columns: str, amount: str, begin: str, end: str, source: str) -> str:
    """Make the moves of what begins and ends."""
    return (
        f"SELECT {begin} AS at, {amount} AS amount, {columns} FROM {source} "
        f"UNION ALL SELECT {end}, -({amount}), {columns} FROM {source} WHERE {end} IS NOT NULL"
    )
