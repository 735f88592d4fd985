"""A query's checkpoint in a local folder: how far it is, whose it is, and how it is set aside.

Spark's part is read only: `metadata` (the query's id), `offsets/N` (planned) and `commits/N` (done). Ours is one file
beside them, `thalweg.json`: what the checkpoint was made with.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.streams.broker.origin import CheckpointOrigin, Place, Standing

MARK: Final = "thalweg.json"
ASIDE: Final = "set-aside"


class DamagedCheckpointError(Exception):
    """A checkpoint's newest offsets cannot be read."""


class QueryCheckpoint:
    """One query's folder, there or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        folder = self.folder / part
        return {int(file.name) for file in folder.iterdir() if file.name.isdigit()} if folder.is_dir() else set()

    def _ends(self, batch: int) -> dict[Place, int]:
        file = self.folder / "offsets" / str(batch)
        try:
            version, _, *sources = file.read_text(encoding="utf-8").splitlines()
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
            raise DamagedCheckpointError(f"{file} cannot be read ({error})") from error

    def _query_id(self) -> str | None:
        try:
            found = json.loads((self.folder / "metadata").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return str(found["id"]) if isinstance(found, dict) and "id" in found else None

    def origin(self) -> CheckpointOrigin | None:
        """Read what it was made with; None if it does not say."""
        try:
            return origin_from(json.loads((self.folder / MARK).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def write_origin(self, origin: CheckpointOrigin) -> None:
        """Replace what it was made with, as a whole: a kill leaves the old or the new.

        Raises:
            FileNotFoundError: there is no such checkpoint any more.
        """
        fresh = self.folder / f"{MARK}.new"
        with fresh.open("w", encoding="utf-8") as handle:
            json.dump(origin_fields(origin), handle)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.rename(self.folder / MARK)

    def set_aside(self) -> Path:
        """Move it out of the way, to where it can be looked at, and return where."""
        aside = self.folder.parent / ASIDE
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.glob(f"{self.folder.name}-*")) + 1
        while (target := aside / f"{self.folder.name}-{number}").exists():
            number += 1
        self.folder.rename(target)
        return target


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
