"""What others have committed to a table since its writer last looked, entry by entry.

Housekeeping changes no row: files are merged, swept and listed anew, properties and comments change. A writer goes on
behind it. A commit that changes rows or claims the table (an application transaction) is another writer's, and no
writer goes on behind that. The judgement rests on what every entry in between says, never on its number alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.log_entry import Action, parse_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What an entry means for the table's writer."""

    changes_rows: bool
    """It adds, removes or changes rows, or claims the table."""
    removed: frozenset[str]
    """Files that are no part of the table any more; their rows are in others."""
    metadata: Action | None
    protocol: Action | None
    commit_id: str | None
    """What its writer calls it, if that is one of ours."""


def read_entry(table_uri: str, version: int) -> list[Action] | None:
    """Read a version's entry; None if it is not there.

    Raises:
        DamagedTableError: it is empty or cut off.
    """
    filesystem, folder = folder_of(table_uri)
    path = f"{folder}/_delta_log/{version:020d}.json"
    try:
        with filesystem.open_input_stream(path) as stream:
            text = stream.read()
    except FileNotFoundError:
        return None
    return parse_entry(path, text)


def judge(actions: Iterable[Action]) -> News:
    """Judge an entry. Pure."""
    changes_rows = False
    added: set[str] = set()
    removed: set[str] = set()
    metadata = protocol = commit_id = None
    for action in actions:
        for kind, value in action.items():
            match kind:
                case "add" | "remove":
                    changes_rows = changes_rows or value.get("dataChange", True) or "deletionVector" in value
                    (added if kind == "add" else removed).add(value["path"])
                case "txn" | "cdc":
                    changes_rows = True
                case "metaData":
                    metadata = value
                case "protocol":
                    protocol = value
                case "commitInfo":
                    commit_id = value.get("txnId") or value.get("commit_id")
    return News(
        changes_rows=changes_rows,
        removed=frozenset(removed - added),
        metadata=metadata,
        protocol=protocol,
        commit_id=commit_id,
    )
