"""The mark of a ledger that was put back from a copy: regions may have been told of more than it holds.

It lies beside the tables until a driver has read back what was told (`jobs.placement.read_back`), whatever becomes of
that driver meanwhile.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE_NAME: Final = "place.put-back.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """What is known of it."""

    made_ms: int | None
    """When the copy was made; None where nobody says."""
    sentence: str
    """What was found and what will happen."""

    def as_bytes(self) -> bytes:
        """Write the mark."""
        return json.dumps({"made_ms": self.made_ms, "sentence": self.sentence}).encode()


def put_back_from(content: bytes) -> PutBack:
    """Read a mark. One that is damaged is a mark all the same."""
    try:
        found = json.loads(content)
        return PutBack(made_ms=found["made_ms"], sentence=str(found["sentence"]))
    except (ValueError, KeyError, TypeError):
        return PutBack(made_ms=None, sentence="the ledger was put back from a copy")


def put_back_in(warehouse: Path) -> PutBack | None:
    """Read the mark of a local warehouse; None where it has none."""
    try:
        return put_back_from((warehouse / FILE_NAME).read_bytes())
    except OSError:
        return None
