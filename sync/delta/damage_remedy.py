"""What can be done about a damaged file of a table, the gentlest first: the log and `doctor` say the same."""

from pathlib import Path
from typing import Final

NEWEST_ENTRY: Final = (
    "It is the table's newest commit, so without it the table is what it was before: stop the jobs, move the file away "
    "and start again. Only what it was to hold is lost, and comes again where a topic still has it"
)


def is_newest_entry(path: str) -> bool:
    """Tell whether a local file is the last entry of its table's log: nothing that is behind it would be lost."""
    entry = Path(path)
    if "://" in path or entry.parent.name != "_delta_log" or not entry.stem.isdigit():
        return False
    versions = [int(one.stem) for one in entry.parent.glob("*.json") if one.stem.isdigit()]
    return int(entry.stem) == max(versions, default=-1)
