"""What the topic `replica` has told an edge: its two records, desired and reported, and where versions' bytes lie."""

import re
from collections.abc import Mapping
from typing import Any

from thalweg.learning.rollout.plan import NAME
from thalweg.learning.rollout.records import desired_key, reported_key
from thalweg.serving.version_record import ModelVersion, VersionRecordError, read_version, stored_key


class EdgeRecords:
    """Of one model on one edge."""

    def __init__(self, model: str, edge: str) -> None:
        """Begin with none.

        Raises:
            VersionRecordError: model or edge cannot be part of a key.
        """
        for what, name in (("model", model), ("edge", edge)):
            if re.fullmatch(NAME, name) is None:
                raise VersionRecordError(f"{what} {name!r}: allowed are 1 to 180 characters, no blank and no slash")
        self.model, self.edge = model, edge
        self.complete = False
        """Whether all has been read that was there at the beginning: before that, what is desired is not known."""
        self._keys = frozenset((desired_key(model, edge), reported_key(model, edge)))
        self._values: dict[str, Mapping[str, Any]] = {}
        self._stored = stored_key(model)

    def take(self, key: str, value: Mapping[str, Any] | None) -> None:
        """Take a record's value, None where it is deleted; one of another edge is nothing here."""
        if key not in self._keys and not key.startswith(self._stored):
            return
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def read(self, key: str) -> Mapping[str, Any] | None:
        """Return a record's value."""
        return self._values.get(key)

    def stored(self, sha256: str) -> ModelVersion | None:
        """Return where the bytes of this digest lie; None where nobody has said it in words that can be read."""
        value = self._values.get(f"{self._stored}{sha256}")
        try:
            found = None if value is None else read_version(value)
        except VersionRecordError:
            return None
        return found if found is not None and found.sha256 == sha256 else None
