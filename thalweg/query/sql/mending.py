"""What is wrong with a table on a disk, in words, and what can be done about it."""

from pathlib import Path

from thalweg.query.sql.as_of import FOLDED
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.damage_remedy import NEWEST_ENTRY, is_newest_entry
from thalweg.sync.delta.table_health import log_gap


def gap_words(name: str, uri: str) -> str | None:
    """Say which versions are missing from a table's log, and what can be done; None where none is."""
    log = Path(uri) / "_delta_log"
    if "://" in uri or not log.is_dir() or (gap := log_gap(log)) is None:
        return None
    return f"table {name!r}: {gap.path} {gap.seen}. {mending(name, uri)}"


def mending(name: str, uri: str, damaged: str = "") -> str:
    """Say what can be done about a damaged table, the gentlest first.

    Args:
        name: of the table.
        uri: where it lies.
        damaged: the file that is not as it should be; empty where none is named.
    """
    if damaged and is_newest_entry(damaged):
        otherwise = _mending(name, uri)
        return f"{NEWEST_ENTRY}. If that does not help: {otherwise[0].lower()}{otherwise[1:]}"
    return _mending(name, uri)


def _mending(name: str, uri: str) -> str:
    """A fold is made anew, anything else has to be put back."""
    if name in FOLDED:
        return (
            f"Stop the stack (thalweg down), delete {uri}, and start it again: the table is folded anew from the "
            f"ledger, {DECISIONS.name}"
        )
    if name == DECISIONS.name:
        return (
            "This is the ledger, which nothing else can make anew: stop the stack and restore the table's folder from "
            "a backup, with the checkpoints of the same moment"
        )
    return (
        "Restore the table's folder from a backup; or, to go on without what the file held, stop the jobs and move it "
        "away (of a data file, the log entry that names it; of a gap, the table's whole folder)"
    )
