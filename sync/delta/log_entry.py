"""One entry of a table's log: a line of JSON for each action."""

import json
from collections.abc import Mapping
from typing import Any

from thalweg.sync.delta.store import DamagedTableError

Action = Mapping[str, Any]


def parse_entry(path: str, text: bytes) -> list[Action]:
    """Read an entry's actions.

    Raises:
        DamagedTableError: it is empty or cut off.
    """
    if not text.strip():
        raise DamagedTableError(path, "is empty")
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        raise DamagedTableError(path, "is cut off") from None
