"""A query's checkpoint, in a folder or on S3: how far it is, whose it is, and how it is set aside.

Spark's part is read only: `metadata` (the query's id), `offsets/N` (planned) and `commits/N` (done). Ours is one file
beside them, `thalweg.json`: what the checkpoint was made with.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.streams.broker.checkpoint_files import CheckpointFiles, LocalFiles
from thalweg.streams.broker.origin import CheckpointOrigin, Place, Standing

MARK: Final = "thalweg.json"


class DamagedCheckpointError(Exception):
    """A checkpoint's newest offsets cannot be read."""


class QueryCheckpoint:
    """One query's place, there or not."""

    def __init__(self, place: Path | CheckpointFiles) -> None:
        """Name the place.

        Args:
            place: a folder, or what does the same elsewhere.
        """
        self._files: CheckpointFiles = LocalFiles(str(place)) if isinstance(place, Path) else place
        self.place = self._files.place

    def standing(self) -> Standing:
        """Read how far it is.

        Raises:
            DamagedCheckpointError: a file is not as Spark writes it: a version line, a JSON line, one line per source.
        """
        planned, done = self._numbers("offsets"), self._numbers("commits")
        if not planned:
            return Standing(query_id=self._query_id())
        ended = max((number for number in planned if number in done), default=None)
        return Standing(
            query_id=self._query_id(),
            batch=max(planned),
            planned=self._ends(max(planned)),
            done={} if ended is None else self._ends(ended),
        )

    def _numbers(self, part: str) -> set[int]:
        return {int(name) for name in self._files.names(part) if name.isdigit()}

    def _ends(self, batch: int) -> dict[Place, int]:
        name = f"offsets/{batch}"
        try:
            version, _, *sources = self._files.read(name).splitlines()
            if not version.startswith("v"):
                raise ValueError(f"version {version!r}")
            return {
                (topic, int(partition)): int(offset)
                for source in sources
                if source.startswith("{")
                for topic, partitions in json.loads(source).items()
                if isinstance(partitions, dict)
                for partition, offset in partitions.items()
            }
        except (OSError, ValueError) as error:
            raise DamagedCheckpointError(f"{self.place}/{name} cannot be read ({error})") from error

    def _query_id(self) -> str | None:
        try:
            found = json.loads(self._files.read("metadata"))
        except (OSError, ValueError):
            return None
        return str(found["id"]) if isinstance(found, dict) and "id" in found else None

    def origin(self) -> CheckpointOrigin | None:
        """Read what it was made with; None if it does not say."""
        try:
            return origin_from(json.loads(self._files.read(MARK)))
        except (OSError, ValueError):
            return None

    def begin(self) -> None:
        """Let there be a checkpoint, before Spark has written anything of it."""
        self._files.begin()

    def write_origin(self, origin: CheckpointOrigin) -> None:
        """Replace what it was made with, as a whole: a kill leaves the old or the new.

        Raises:
            FileNotFoundError: there is no such checkpoint any more.
        """
        self._files.replace(MARK, json.dumps(origin_fields(origin)))

    def set_aside(self) -> str:
        """Move it out of the way, to where it can be looked at, and return where.

        Cut off in the middle, what it was made with is still here, so that the next start sets the rest aside as well.
        """
        return self._files.set_aside(last=MARK)


def origin_fields(origin: CheckpointOrigin) -> dict[str, Any]:
    """Write an origin as JSON has it."""
    return {
        "warehouse_id": origin.warehouse_id,
        "cluster_id": origin.cluster_id,
        "topic_ids": dict(origin.topic_ids),
        "table_version": origin.table_version,
        "begin_at": places_as_tree(origin.begin_at),
        "known_until": places_as_tree(origin.known_until),
    }


def origin_from(fields: Any) -> CheckpointOrigin:
    """Read an origin.

    Raises:
        ValueError: it is none.
    """
    try:
        return CheckpointOrigin(
            warehouse_id=str(fields["warehouse_id"]),
            cluster_id=str(fields["cluster_id"]),
            topic_ids={str(topic): str(topic_id) for topic, topic_id in fields["topic_ids"].items()},
            table_version=int(fields["table_version"]),
            begin_at=places_from_tree(fields.get("begin_at", {})),
            known_until=places_from_tree(fields.get("known_until", {})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an origin: {error}") from error


def places_as_tree(places: Mapping[Place, int]) -> dict[str, dict[str, int]]:
    """Offsets as Spark writes them: `{"topic": {"0": 42}}`."""
    tree: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in sorted(places.items()):
        tree.setdefault(topic, {})[str(partition)] = offset
    return tree


def places_from_tree(tree: Mapping[str, Mapping[str, int]]) -> dict[Place, int]:
    """Read offsets as Spark writes them."""
    return {
        (topic, int(partition)): int(offset) for topic, parts in tree.items() for partition, offset in parts.items()
    }
